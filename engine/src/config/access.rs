//! Who may ask what: `[[api.token]]`, and on which addresses.
//!
//! The configuration holds hashes alone. Without a token the API listens on the loopback only;
//! with tokens on any address, but on one that others can reach only over TLS, or where
//! `insecure` says that the tokens may travel in the clear, which is right behind a proxy that
//! speaks TLS.

use std::net::SocketAddr;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::reader::Section;
use crate::time::parse_rfc3339;

/// What the bearer of a token may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Ask everything.
    Read,
    /// Send events.
    Ingest,
    /// Ask about this customer.
    Customer(String),
}

/// A bearer token, as far as it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whose it is, for people; unique.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// From when on it is refused, in epoch milliseconds; `None` = never.
    pub expires_ms: Option<i64>,
    /// Requests a second, over time; `None` = any number.
    pub requests_per_second: Option<u64>,
    /// Bytes of events a second once they are inflated, over time; `None` = any number.
    pub bytes_per_second: Option<u64>,
}

/// Where the certificate of the API and its key are, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Who may ask, and on which addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// The tokens; without any, everybody on the loopback may do everything.
    pub tokens: Vec<Token>,
    /// Whether tokens may be sent in the clear to an address that others can reach.
    pub insecure: bool,
    /// Speaks TLS with this certificate; `None` = in the clear.
    pub tls: Option<TlsFiles>,
}

/// An address that may not be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenAddress {
    /// Nobody would need a token.
    #[error(
        "{0} is open to others, who would need no token; listen on a loopback address, with a \
         proxy before it, or configure [[api.token]]"
    )]
    NoToken(SocketAddr),
    /// Tokens would be sent in the clear.
    #[error(
        "{0} is open to others, and tokens would be sent there in the clear; give [api] \
         tls_certificate and tls_key, or set insecure behind a proxy that speaks TLS"
    )]
    Plain(SocketAddr),
}

impl Access {
    /// The address, if it may be listened on, wherever it comes from.
    ///
    /// ```
    /// use ninefold_engine::config::Access;
    /// let access = Access::default();
    /// assert!(access.check_listen("[::1]:8089".parse().unwrap()).is_ok());
    /// assert!(access.check_listen("0.0.0.0:8089".parse().unwrap()).is_err());
    /// ```
    ///
    /// # Errors
    /// It is not loopback, and there is no token, or neither TLS nor leave to do without.
    pub fn check_listen(&self, address: SocketAddr) -> Result<SocketAddr, OpenAddress> {
        if address.ip().is_loopback() {
            return Ok(address);
        }
        match (self.tokens.is_empty(), self.insecure || self.tls.is_some()) {
            (true, _) => Err(OpenAddress::NoToken(address)),
            (false, false) => Err(OpenAddress::Plain(address)),
            (false, true) => Ok(address),
        }
    }
}

/// What is kept of a token.
pub fn token_hash(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// Longest name of a token: it stands before idempotency keys in the log.
const NAME_BYTES_MAX: usize = 64;

const ROLE_TAKES: &str = "admin, read, ingest or customer:ID";

/// Reads `[[api.token]]`, and `insecure`, `tls_certificate` and `tls_key` of `[api]`.
pub(super) fn read(section: &Section<'_>) -> Access {
    let insecure = section.flag("insecure").unwrap_or(false);
    let mut access = Access { tokens: Vec::new(), insecure, tls: read_tls(section) };
    for token in section.sections("token") {
        let read = read_token(&token);
        token.finish();
        let Some(read) = read else { continue };
        if access.tokens.iter().any(|other| other.name == read.name) {
            token.problem("name", format!("{:?} stands twice", read.name), "names are unique");
        } else if access.tokens.iter().any(|other| other.sha256 == read.sha256) {
            token.problem("sha256", "is that of another token", "takes one token for each");
        } else {
            access.tokens.push(read);
        }
    }
    access
}

fn read_tls(section: &Section<'_>) -> Option<TlsFiles> {
    let path = |key| section.name(key, "the path of a PEM file").map(PathBuf::from);
    let (certificate, key) = (path("tls_certificate"), path("tls_key"));
    for (one, other) in [("tls_certificate", "tls_key"), ("tls_key", "tls_certificate")] {
        if section.has(other) && !section.has(one) {
            section.missing(one, format!("a path where {other} is given"));
        }
    }
    Some(TlsFiles { certificate: certificate?, key: key? })
}

fn read_token(section: &Section<'_>) -> Option<Token> {
    let name = section.name("name", "a name");
    let role = section.name("role", ROLE_TAKES);
    let sha256 = section.name("sha256", "64 hexadecimal digits");
    let expires = section.text("expires", "an RFC 3339 time");
    let requests_per_second = section.whole("requests_per_second", 1..=1_000_000);
    let bytes_per_second = section.size_bytes("bytes_per_second", 1 << 10..=1 << 40);
    for key in ["name", "role", "sha256"].into_iter().filter(|key| !section.has(key)) {
        section.missing(key, "name, role and sha256; `ninefold token` writes all three");
    }
    if let Some(name) = name.filter(|name| name.len() > NAME_BYTES_MAX) {
        let what = format!("has {} bytes", name.len());
        section.problem("name", what, format!("takes at most {NAME_BYTES_MAX}"));
    }
    let role = role.and_then(|text| {
        let role = parse_role(text);
        if role.is_none() {
            section.problem("role", format!("{text:?} is no role"), format!("takes {ROLE_TAKES}"));
        }
        role
    });
    let sha256 = sha256.and_then(|text| {
        let hash = parse_hash(text);
        if hash.is_none() {
            section.problem("sha256", "is no SHA-256", "takes 64 hexadecimal digits");
        }
        hash
    });
    let expires_ms = expires.map(|text| {
        let ms = parse_rfc3339(text.as_bytes());
        if ms.is_none() {
            let takes = "takes an RFC 3339 time such as 2027-01-01T00:00:00Z";
            section.problem("expires", format!("{text:?} is no time"), takes);
        }
        ms
    });
    Some(Token {
        name: name?.to_owned(),
        role: role?,
        sha256: sha256?,
        // One that cannot be read is no token without an end.
        expires_ms: expires_ms.map_or(Some(None), |ms| ms.map(Some))?,
        requests_per_second,
        bytes_per_second,
    })
}

fn parse_role(text: &str) -> Option<Role> {
    match text {
        "admin" => Some(Role::Admin),
        "read" => Some(Role::Read),
        "ingest" => Some(Role::Ingest),
        _ => {
            let customer = text.strip_prefix("customer:").filter(|id| !id.is_empty())?;
            Some(Role::Customer(customer.to_owned()))
        }
    }
}

fn parse_hash(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let is_hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (byte, at) in hash.iter_mut().zip((0..text.len()).step_by(2)).filter(|_| is_hex) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    is_hex.then_some(hash)
}
