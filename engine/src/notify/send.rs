//! Sending a message by HTTP: to an address that was judged, within limits of time and size,
//! without following a redirect.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use ureq::http::Uri;
use ureq::http::uri::Scheme;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use super::address::AddressRule;
use super::message::Message;
use super::outbox::Failure;

/// How much of an answer is read: enough to say why it refuses.
const ANSWER_BYTES_MAX: u64 = 512;

/// As many addresses of one name are tried; ureq holds no more.
const ADDRESSES_MAX: usize = 16;

/// Why a receiver was not told.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The receiver took the message and refused it.
    #[error("{url} answered {status}: {answer}")]
    Refused {
        /// Whom; without its query, which may hold a secret.
        url: String,
        /// HTTP status.
        status: u16,
        /// The begin of its answer.
        answer: String,
        /// How long it asks to be left alone, in milliseconds; 0 = it does not say.
        retry_after_ms: i64,
    },
    /// It was not reached, or must not be.
    #[error("{url}: {source}")]
    Unreached {
        /// Whom; without its query.
        url: String,
        /// Why.
        source: Error,
    },
}

impl SendError {
    /// What did not work: a status of 4xx is about the message, unless it says that the receiver
    /// is busy (408, 425, 429); anything else is about the receiver.
    pub fn failure(&self) -> Failure {
        match self {
            SendError::Refused { status: 408 | 425 | 429, retry_after_ms, .. } => {
                Failure::Receiver(*retry_after_ms)
            }
            SendError::Refused { status: 400..500, .. } => Failure::Message,
            SendError::Refused { retry_after_ms, .. } => Failure::Receiver(*retry_after_ms),
            SendError::Unreached { .. } => Failure::Receiver(0),
        }
    }
}

/// One receiver's connection.
pub struct Sender {
    agent: Agent,
    url: String,
}

impl Sender {
    /// Sends to `url`, and to addresses that `rule` admits alone; a message may take `limit`,
    /// name, connection and answer together.
    pub fn new(url: &str, rule: AddressRule, limit: Duration) -> Sender {
        Sender::resolving_by(url, rule, limit, |name| Ok(name.to_socket_addrs()?.collect()))
    }

    /// As [`Sender::new`], with names resolved by `resolve` from `host:port`.
    pub fn resolving_by(url: &str, rule: AddressRule, limit: Duration, resolve: Resolve) -> Sender {
        let config = Agent::config_builder()
            .timeout_global(Some(limit))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            // Each message resolves and judges anew.
            .max_idle_connections(0)
            .proxy(None)
            .user_agent("ninefold")
            .build();
        let resolver = JudgingResolver { rule, resolve };
        let agent = Agent::with_parts(config, DefaultConnector::default(), resolver);
        Sender { agent, url: url.to_owned() }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The receiver cannot be reached, must not be, or does not answer with a success.
    pub fn send(&self, message: &Message) -> Result<(), SendError> {
        let kind = ("content-type", &*message.content_type);
        let headers = message.headers.iter().map(|(name, value)| (*name, value.as_str()));
        self.post(message.path, std::iter::once(kind).chain(headers), message.body.as_bytes())
    }

    /// Sends a body of any kind to `path` below the URL; an empty one is the URL itself.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn post<'h>(
        &self,
        path: &str,
        headers: impl Iterator<Item = (&'h str, &'h str)>,
        body: &[u8],
    ) -> Result<(), SendError> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let url = if path.is_empty() { &self.url } else { &url };
        let mut request = self.agent.post(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let unreached = |source| SendError::Unreached { url: self.shown(), source };
        let mut response = request.send(body).map_err(unreached)?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(());
        }
        let asked = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        // A date is as good as nothing: the clocks may differ.
        let asked_s = asked.and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(0);
        let retry_after_ms = i64::from(asked_s) * 1_000;
        let answer = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let answer = answer.unwrap_or_default().escape_debug().to_string();
        Err(SendError::Refused { url: self.shown(), status, answer, retry_after_ms })
    }

    /// The URL without what may be secret in it.
    fn shown(&self) -> String {
        let uri: Option<Uri> = self.url.parse().ok();
        let host = uri.as_ref().and_then(|uri| uri.host()).unwrap_or_default();
        host.to_owned()
    }
}

/// Finds the addresses of `host:port`.
pub type Resolve = fn(&str) -> std::io::Result<Vec<SocketAddr>>;

/// Resolves a name and keeps the addresses that may be called; the connection is made to these.
#[derive(Debug)]
struct JudgingResolver {
    rule: AddressRule,
    resolve: Resolve,
}

impl Resolver for JudgingResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &ureq::config::Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let refused = || Error::BadUri(format!("{uri} is no http or https address"));
        let (scheme, authority) = (uri.scheme().ok_or_else(refused)?, uri.authority());
        let authority = authority.ok_or_else(refused)?;
        let name = DefaultResolver::host_and_port(scheme, authority).ok_or_else(refused)?;
        let found = (self.resolve)(&name)?;
        let admitted = self.rule.judge(found.iter().copied(), *scheme == Scheme::HTTPS);
        if admitted.is_empty() {
            let found: Vec<String> = found.iter().map(|one| one.ip().to_string()).collect();
            let (name, found) = (authority.host(), found.join(", "));
            let what = format!(
                "{name} is {found}, which is internal or without TLS; name its network in `allow` \
                 if that is meant"
            );
            return Err(Error::Other(what.into()));
        }
        let mut addresses = self.empty();
        admitted.into_iter().take(ADDRESSES_MAX).for_each(|one| addresses.push(one));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn message() -> Message {
        Message {
            path: "",
            headers: vec![("x-key", "v".into())],
            content_type: super::super::template::JSON.to_owned(),
            idempotency_key: String::new(),
            body: "{}".into(),
        }
    }

    fn here() -> AddressRule {
        AddressRule { allow: vec!["127.0.0.1/32".parse().unwrap()] }
    }

    /// Answers one request with `answer`, and gives what was asked.
    fn receiver(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook?token=hidden", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"{}") && stream.read(&mut byte).unwrap() > 0 {
                asked.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (url, asked)
    }

    #[test]
    fn a_receiver_that_may_be_called_is_told() {
        let (url, asked) = receiver("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
        Sender::new(&url, here(), LIMIT).send(&message()).unwrap();
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("POST /hook?token=hidden HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("x-key: v\r\n"), "{asked}");
    }

    #[test]
    fn a_redirect_is_a_refusal_and_no_secret_is_shown() {
        let answer = "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
        let (url, asked) = receiver(answer);
        let error = Sender::new(&url, here(), LIMIT).send(&message()).unwrap_err().to_string();
        assert!(error.contains("307") && !error.contains("hidden"), "{error}");
        asked.join().unwrap();
    }

    #[test]
    fn a_status_says_whether_the_message_or_the_receiver_is_the_matter() {
        let failure = |status: &str, header: &str| {
            let answer = format!("HTTP/1.1 {status} X\r\n{header}content-length: 0\r\n\r\n");
            let (url, asked) = receiver(answer.leak());
            let error = Sender::new(&url, here(), LIMIT).send(&message()).unwrap_err();
            asked.join().unwrap();
            error.failure()
        };
        assert_eq!(failure("400", ""), Failure::Message);
        assert_eq!(failure("503", ""), Failure::Receiver(0));
        assert_eq!(failure("429", "retry-after: 7\r\n"), Failure::Receiver(7_000));
        let date = "retry-after: Fri, 31 Dec 1999 23:59:59 GMT\r\n";
        assert_eq!(failure("503", date), Failure::Receiver(0));
        assert_eq!(failure("307", "location: http://127.0.0.1/\r\n"), Failure::Receiver(0));
    }

    #[test]
    fn one_that_takes_too_long_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let limit = Duration::from_millis(50);
        let error = Sender::new(&url, here(), limit).send(&message()).unwrap_err();
        assert_eq!(error.failure(), Failure::Receiver(0));
        assert!(error.to_string().contains("timeout"), "{error}");
    }

    #[test]
    fn a_name_is_judged_anew_for_each_message() {
        let (url, asked) = receiver("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        let port = url.split(['/', ':']).nth(4).unwrap().parse::<u16>().unwrap();
        thread_local! {
            static FOUND: std::cell::Cell<SocketAddr> =
                const { std::cell::Cell::new(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0)) };
        }
        let named = format!("http://hooks.example:{port}/");
        let sender = Sender::resolving_by(&named, here(), LIMIT, |_| Ok(vec![FOUND.get()]));
        FOUND.set(SocketAddr::from(([127, 0, 0, 1], port)));
        sender.send(&message()).unwrap();
        asked.join().unwrap();
        FOUND.set(SocketAddr::from(([127, 0, 0, 2], port)));
        let error = sender.send(&message()).unwrap_err().to_string();
        assert!(error.contains("is internal or without TLS"), "{error}");
    }

    #[test]
    fn internal_addresses_are_refused_by_number_and_by_name() {
        let refused = |url: &str, resolve: Resolve| {
            let sender = Sender::resolving_by(url, AddressRule::default(), LIMIT, resolve);
            let error = sender.send(&message()).unwrap_err().to_string();
            assert!(error.contains("is internal or without TLS"), "{error}");
        };
        refused("https://169.254.169.254/latest", |name| Ok(name.to_socket_addrs()?.collect()));
        refused("https://[::ffff:127.0.0.1]/", |name| Ok(name.to_socket_addrs()?.collect()));
        refused("http://hooks.example/", |_| Ok(vec!["1.1.1.1:80".parse().unwrap()]));
        refused("https://rebound.example/", |_| Ok(vec!["127.0.0.1:443".parse().unwrap()]));
    }
}
