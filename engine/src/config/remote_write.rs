//! `[metrics]` and `[remote_write]`: what Prometheus gets, and where it is sent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;

use super::reader::{Section, Written};
use super::receiver::{checked_url, networks};
use super::secret::{Secret, SecretError, SecretFrom};

/// How often samples are sent: as often as Prometheus scrapes unless told otherwise.
const INTERVAL_MS: u64 = 15_000;

/// Headers that the protocol or HTTP itself sets.
const OURS: [&str; 7] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "x-prometheus-remote-write-version",
];

/// `[remote_write]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteWrite {
    /// Where to: `https://prometheus.example/api/v1/write`.
    pub url: String,
    /// How often, in milliseconds.
    pub interval_ms: u64,
    /// Headers of every request.
    pub headers: BTreeMap<String, HeaderValue>,
    /// Labels of every series.
    pub labels: BTreeMap<String, String>,
    /// Internal networks that it may be in, also without TLS.
    pub allow: Vec<IpNet>,
}

/// The value of a header, or where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// Itself.
    Text(String),
    /// Elsewhere.
    Secret(SecretFrom),
}

impl HeaderValue {
    /// The value, fetched where it is a secret.
    ///
    /// # Errors
    /// The secret is not in its place.
    pub fn fetch(&self) -> Result<Secret, SecretError> {
        match self {
            HeaderValue::Text(text) => Ok(Secret::known(text)),
            HeaderValue::Secret(place) => place.fetch(),
        }
    }
}

/// Reads `[remote_write]`; `None` where it is not written, or cannot be used.
pub(super) fn remote_write(section: &Section<'_>) -> Option<RemoteWrite> {
    if !section.is_present() {
        return None;
    }
    let interval_ms = section.duration_ms("interval", 1_000..=600_000).unwrap_or(INTERVAL_MS);
    let headers = headers(section);
    let labels = labels(section);
    let allow = networks(section);
    let takes = "an address such as \"http://127.0.0.1:9090/api/v1/write\"";
    let Some(url) = section.name("url", takes) else {
        if !section.has("url") {
            section.missing("url", takes);
        }
        return None;
    };
    let url = checked_url(section, url)?;
    Some(RemoteWrite { url, interval_ms, headers, labels, allow })
}

fn headers(section: &Section<'_>) -> BTreeMap<String, HeaderValue> {
    let mut headers = BTreeMap::new();
    for (name, written) in section.settings("headers") {
        let lower = name.to_ascii_lowercase();
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if lower.is_empty() || !lower.bytes().all(is_token) {
            section.problem("headers", format!("{name:?} is no header"), "takes names of headers");
        } else if OURS.contains(&&*lower) {
            let takes = "takes headers of your own";
            section.problem("headers", format!("{name:?} is set by Ninefold"), takes);
        } else if lower == "authorization" && matches!(written, Written::Text(_)) {
            let takes = "takes { env = \"NAME\" } or { file = \"path\" } for a secret";
            section.problem("headers", format!("{name:?} is a secret in plain sight"), takes);
        } else {
            let value = match written {
                Written::Text(text) => HeaderValue::Text(text),
                Written::Env(name) => HeaderValue::Secret(SecretFrom::Env(name.to_owned())),
                Written::File(path) => HeaderValue::Secret(SecretFrom::File(PathBuf::from(path))),
            };
            headers.insert(lower, value);
        }
    }
    headers
}

fn labels(section: &Section<'_>) -> BTreeMap<String, String> {
    let takes = "takes labels such as { job = \"ninefold\" }";
    let mut labels = BTreeMap::new();
    for (name, written) in section.settings("labels") {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let starts = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        if !starts || name.starts_with("__") || !name.bytes().all(fits) {
            section.problem("labels", format!("{name:?} is no label"), takes);
        } else if let Written::Text(text) = written {
            labels.insert(name.to_owned(), text);
        } else {
            section.problem("labels", format!("{name:?} is no text"), takes);
        }
    }
    labels
}
