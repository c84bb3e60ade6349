//! `[[notify]]`: who is told of alerts.

use std::collections::{BTreeMap, HashSet};

use ipnet::IpNet;

use super::kafka::{KafkaOption, options};
use super::reader::Section;
use super::secret::SecretFrom;
use crate::notify::message::{Kind, context, samples};
use crate::notify::outbox::Each;
use crate::notify::template::{JSON, Template};

/// The names of the protocols.
const KINDS: [(&str, Kind); 5] = [
    ("webhook", Kind::Webhook),
    ("alertmanager", Kind::Alertmanager),
    ("pagerduty", Kind::PagerDuty),
    ("kafka", Kind::Kafka),
    ("command", Kind::Command),
];

/// PagerDuty has one address for everybody.
const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";

const NETWORK: &str = "networks such as \"127.0.0.1/32\" or \"10.0.0.0/8\"";

/// How long a receiver may take unless said otherwise: ten seconds.
const TIMEOUT_MS: u64 = 10_000;

/// One `[[notify]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Names it in messages and in the rows of the grain `sent`; unique.
    pub name: String,
    /// The protocol it speaks.
    pub kind: Kind,
    /// Where it is.
    pub to: Destination,
    /// How long it may take for one message, in milliseconds.
    pub timeout_ms: u64,
    /// Signs a webhook; PagerDuty's routing key.
    pub secret: Option<SecretFrom>,
    /// What it is told of.
    pub each: Each,
    /// Severities it wants; empty = all.
    pub severities: Vec<String>,
    /// What prints the body, in the place of our JSON; it has been tried.
    pub template: Option<String>,
    /// What the template prints.
    pub content_type: String,
}

/// Where a receiver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// At an address.
    Http {
        /// `http` or `https`.
        url: String,
        /// Internal networks that it may be in, also without TLS.
        allow: Vec<IpNet>,
    },
    /// A topic.
    Kafka {
        /// Addresses to begin with, as `host:port`; at least one.
        brokers: Vec<String>,
        /// Its name.
        topic: String,
        /// Settings of the client library, by their names there.
        options: BTreeMap<String, KafkaOption>,
    },
    /// A program and its arguments; not empty.
    Command(Vec<String>),
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
    let each = [
        ("incident", Each::Incident),
        ("alert", Each::Alert),
        ("verdict", Each::Verdict),
        ("all", Each::All),
    ];
    let each = section.choice("each", &each).unwrap_or_default();
    let severities = severities(section);
    let timeout_ms = section.duration_ms("timeout", 100..=60_000).unwrap_or(TIMEOUT_MS);
    let to = destination(section, kind);
    let (template, content_type) = template(section, kind, each);
    for key in ["name", "kind"].into_iter().filter(|key| !section.has(key)) {
        section.missing(key, "a text");
    }
    if kind == Some(Kind::PagerDuty) && !section.has("secret") {
        section.missing("secret", "where the routing key is");
    }
    let (name, kind, to) = (name?.to_owned(), kind?, to?);
    Some(Receiver { name, kind, to, timeout_ms, secret, each, severities, template, content_type })
}

/// Reads what says where it is. Every key is asked for, so that one of another kind is told so.
fn destination(section: &Section<'_>, kind: Option<Kind>) -> Option<Destination> {
    let is_http = |kind| matches!(kind, Kind::Webhook | Kind::Alertmanager | Kind::PagerDuty);
    let allow = networks(section);
    let names = |key, takes| -> Option<Vec<String>> {
        Some(section.names(key, takes)?.into_iter().map(str::to_owned).collect())
    };
    let brokers = names("brokers", "addresses such as \"kafka-1:9092\"");
    let topic = section.name("topic", "the name of a topic").map(str::to_owned);
    let options = options(section);
    let argv = names("command", "a program and its arguments");
    let url = section.name("url", URL_TAKES);
    let kind = kind?;
    let belongs: [(&[&'static str], bool, &str); 3] = [
        (&["url", "allow"], is_http(kind), "webhook, alertmanager and pagerduty"),
        (&["brokers", "topic", "options"], kind == Kind::Kafka, "kafka"),
        (&["command"], kind == Kind::Command, "command"),
    ];
    for (keys, is_right, kinds) in belongs {
        for key in keys.iter().filter(|key| section.has(key)) {
            if !is_right {
                section.problem(key, "has no meaning here", format!("belongs to {kinds}"));
            }
        }
    }
    let missing = |key: &'static str, takes: &str| {
        if !section.has(key) {
            section.missing(key, takes);
        }
    };
    match kind {
        Kind::Kafka => {
            missing("brokers", "a list of addresses such as \"kafka-1:9092\"");
            missing("topic", "the name of a topic");
            let brokers = non_empty(section, "brokers", brokers?)?;
            Some(Destination::Kafka { brokers, topic: topic?, options })
        }
        Kind::Command => {
            missing("command", "a list such as [\"/usr/local/bin/roll-back\", \"--now\"]");
            Some(Destination::Command(non_empty(section, "command", argv?)?))
        }
        Kind::PagerDuty if url.is_none() => {
            Some(Destination::Http { url: PAGERDUTY_URL.to_owned(), allow })
        }
        Kind::Webhook | Kind::Alertmanager | Kind::PagerDuty => {
            missing("url", URL_TAKES);
            Some(Destination::Http { url: checked_url(section, url?)?, allow })
        }
    }
}

const URL_TAKES: &str = "an address such as \"https://hooks.example/ninefold\"";

fn non_empty(section: &Section<'_>, key: &'static str, list: Vec<String>) -> Option<Vec<String>> {
    if list.is_empty() {
        section.problem(key, "is empty", "takes one name at least");
    }
    Some(list).filter(|list| !list.is_empty())
}

/// An address that may be called and shown.
pub(super) fn checked_url(section: &Section<'_>, text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.map_or("", |rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    // A name and a password in it would be shown wherever the address is.
    let fits = !host.is_empty() && !host.contains('@') && !text.contains(char::is_whitespace);
    if !fits {
        section.problem("url", "is no http or https address", format!("takes {URL_TAKES}"));
    }
    fits.then(|| text.to_owned())
}

/// The template and what it prints, tried on an alert that fires and on one that is over, or on
/// such verdicts.
fn template(section: &Section<'_>, kind: Option<Kind>, each: Each) -> (Option<String>, String) {
    let content_type = section.name("content_type", "a media type such as \"text/plain\"");
    let content_type = content_type.unwrap_or(JSON).to_owned();
    if content_type.contains(|letter: char| !letter.is_ascii_graphic() && letter != ' ') {
        section.problem("content_type", "is no media type", "takes one such as \"text/plain\"");
    }
    let text = section.name("template", "a text with {{ summary }}");
    for key in ["template", "content_type"].into_iter().filter(|key| section.has(key)) {
        if matches!(kind, Some(Kind::Alertmanager | Kind::PagerDuty)) {
            section.problem(key, "has no meaning here", "belongs to webhook, kafka and command");
        }
    }
    if let Some(text) = text {
        let tried = Template::new(text, &content_type).and_then(|template| {
            let samples = samples(each);
            samples.iter().try_for_each(|bundle| template.render(&context(bundle)).map(drop))
        });
        if let Err(error) = tried {
            section.problem("template", format!("cannot be used: {error}"), "takes Jinja");
        }
    }
    (text.map(str::to_owned), content_type)
}

fn severities(section: &Section<'_>) -> Vec<String> {
    let names = section.names("severities", "severities").unwrap_or_default();
    if let Some(name) = names.iter().find(|name| !["page", "ticket"].contains(name)) {
        section.problem("severities", format!("{name:?} is unknown"), "takes page and ticket");
    }
    names.into_iter().map(str::to_owned).collect()
}

pub(super) fn networks(section: &Section<'_>) -> Vec<IpNet> {
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
