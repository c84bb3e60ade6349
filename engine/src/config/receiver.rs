//! `[[notify]]`: who is told of alerts.

use std::collections::HashSet;

use ipnet::IpNet;

use super::reader::Section;
use super::secret::SecretFrom;
use crate::notify::each::Each;
use crate::notify::message::Kind;

/// The names of the protocols.
const KINDS: [(&str, Kind); 3] = [
    ("webhook", Kind::Webhook),
    ("alertmanager", Kind::Alertmanager),
    ("pagerduty", Kind::PagerDuty),
];

/// What one notification is of.
const EACH: [(&str, Each); 2] = [("incident", Each::Incident), ("alert", Each::Alert)];

/// PagerDuty has one address for everybody.
const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";

const NETWORK: &str = "networks such as \"127.0.0.1/32\" or \"10.0.0.0/8\"";

/// One `[[notify]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Names it in messages and in the rows of the grain `sent`; unique.
    pub name: String,
    /// The protocol it speaks.
    pub kind: Kind,
    /// Where it is.
    pub url: String,
    /// Signs a webhook; PagerDuty's routing key.
    pub secret: Option<SecretFrom>,
    /// Severities it wants; empty = all.
    pub severities: Vec<String>,
    /// Whether it hears of incidents, or of the alerts of each series.
    pub each: Each,
    /// Internal networks that it may be in, also without TLS.
    pub allow: Vec<IpNet>,
}

/// Reads all of them.
pub(super) fn receivers(root: &Section<'_>) -> Vec<Receiver> {
    let mut names = HashSet::new();
    let mut receivers = Vec::new();
    for section in root.sections("notify") {
        let receiver = receiver(&section);
        section.finish();
        let Some(receiver) = receiver else { continue };
        if !names.insert(receiver.name.clone()) {
            section.problem("name", format!("{:?} is taken", receiver.name), "names are unique");
        }
        receivers.push(receiver);
    }
    receivers
}

fn receiver(section: &Section<'_>) -> Option<Receiver> {
    let name = section.name("name", "a name");
    let kind = section.choice("kind", &KINDS);
    let secret = SecretFrom::of(section, "secret");
    let severities = severities(section);
    let each = section.choice("each", &EACH).unwrap_or_default();
    let allow = networks(section);
    let url = url(section, kind);
    for key in ["name", "kind"].into_iter().filter(|key| !section.has(key)) {
        section.missing(key, "a text");
    }
    if kind == Some(Kind::PagerDuty) && !section.has("secret") {
        section.missing("secret", "where the routing key is");
    }
    let (name, kind, url) = (name?.to_owned(), kind?, url?);
    Some(Receiver { name, kind, url, secret, severities, each, allow })
}

fn url(section: &Section<'_>, kind: Option<Kind>) -> Option<String> {
    let takes = "an address such as \"https://hooks.example/ninefold\"";
    let Some(text) = section.name("url", takes) else {
        if kind == Some(Kind::PagerDuty) {
            return Some(PAGERDUTY_URL.to_owned());
        }
        if !section.has("url") {
            section.missing("url", takes);
        }
        return None;
    };
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.map_or("", |rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    // A name and a password in it would be shown wherever the address is.
    let fits = !host.is_empty() && !host.contains('@') && !text.contains(char::is_whitespace);
    if !fits {
        section.problem("url", "is no http or https address", format!("takes {takes}"));
    }
    fits.then(|| text.to_owned())
}

fn severities(section: &Section<'_>) -> Vec<String> {
    let names = section.names("severities", "severities").unwrap_or_default();
    if let Some(name) = names.iter().find(|name| !["page", "ticket"].contains(name)) {
        section.problem("severities", format!("{name:?} is unknown"), "takes page and ticket");
    }
    names.into_iter().map(str::to_owned).collect()
}

fn networks(section: &Section<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in section.names("allow", NETWORK).unwrap_or_default() {
        match text.parse() {
            Ok(network) => networks.push(network),
            Err(_) => {
                let what = format!("{text:?} is no network");
                section.problem("allow", what, format!("takes {NETWORK}"));
            }
        }
    }
    networks
}
