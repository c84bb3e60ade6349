//! What a receiver gets: the bodies of the generic webhook, of Alertmanager and of PagerDuty.
//!
//! Identity stands in keys that never change (labels, `dedup_key`), values stand beside them
//! (annotations, details): a changed value must not make another alert. Pure.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::outbox::Notification;
use crate::query::body::{AlertTransition, AlertWindow};
use crate::time::{parse_rfc3339, rfc3339};

/// Which protocol a receiver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Our own JSON, signed where there is a secret.
    Webhook,
    /// Alertmanager's API v2.
    Alertmanager,
    /// PagerDuty's Events API v2; the secret is the routing key.
    PagerDuty,
}

/// An HTTP request that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to, below the receiver's URL: empty, or a path.
    pub path: &'static str,
    /// Headers beside `content-type`.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
}

impl Kind {
    /// How often a firing alert is told again: Alertmanager forgets what is not repeated.
    pub fn resend_ms(self) -> Option<i64> {
        match self {
            Kind::Alertmanager => Some(60_000),
            Kind::Webhook | Kind::PagerDuty => None,
        }
    }

    /// The message that tells `notification` at `now_ms`. `secret` signs a webhook (see
    /// [`signature`]) and is PagerDuty's routing key.
    pub fn message(self, notification: &Notification, now_ms: i64, secret: &str) -> Message {
        match self {
            Kind::Webhook => webhook(notification, now_ms, secret),
            Kind::Alertmanager => Message {
                path: "/api/v2/alerts",
                headers: Vec::new(),
                body: json!([alertmanager(notification, now_ms)]).to_string(),
            },
            Kind::PagerDuty => Message {
                path: "",
                headers: Vec::new(),
                body: pagerduty(notification, secret).to_string(),
            },
        }
    }
}

/// `sha256=` and the hex of HMAC-SHA256 under `secret` of `timestamp`, a dot and `body`: with
/// the time inside, an old message cannot be sent again by somebody else.
///
/// ```
/// use ninefold_engine::notify::message::signature;
/// let signed = signature("key", "1764547200", "{}");
/// assert!(signed.starts_with("sha256=") && signed.len() == 7 + 64);
/// assert_ne!(signed, signature("key", "1764547201", "{}"));
/// ```
pub fn signature(secret: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length is a key");
    for part in [timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    let bytes = mac.finalize().into_bytes();
    bytes.iter().fold("sha256=".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn webhook(notification: &Notification, now_ms: i64, secret: &str) -> Message {
    let Notification { transition, since, uncommitted } = notification;
    let body = json!({
        "version": 1,
        "summary": summary(transition),
        "since": since,
        "uncommitted": uncommitted,
        "alert": transition,
    });
    let body = body.to_string();
    let timestamp = (now_ms / 1_000).to_string();
    let mut headers = vec![("idempotency-key", format!("{}-{}", transition.id, transition.state))];
    if !secret.is_empty() {
        headers.push(("x-ninefold-signature", signature(secret, &timestamp, &body)));
    }
    headers.push(("x-ninefold-timestamp", timestamp));
    Message { path: "", headers, body }
}

fn alertmanager(notification: &Notification, now_ms: i64) -> Value {
    let Notification { transition, since, uncommitted } = notification;
    let mut alert = json!({
        "labels": {
            "alertname": "NinefoldErrorBudgetBurn",
            "severity": transition.severity,
            "customer": transition.customer,
            "service": transition.service,
            "objective": transition.objective,
            "tier": transition.tier,
            "fingerprint": transition.fingerprint,
        },
        "annotations": {
            "summary": summary(transition),
            "long": window(&transition.long),
            "short": window(&transition.short),
            "uncommitted": uncommitted.to_string(),
        },
    });
    if let Some(since) = since {
        alert["startsAt"] = json!(since);
    }
    // While it fires, the end lies ahead: it ends by itself where we are gone for good.
    let ends_ms = match transition.state.as_str() {
        "firing" => now_ms + 4 * Kind::Alertmanager.resend_ms().unwrap_or_default(),
        _ => parse_rfc3339(transition.at.as_bytes()).unwrap_or(now_ms),
    };
    alert["endsAt"] = json!(rfc3339(ends_ms));
    alert
}

fn pagerduty(notification: &Notification, routing_key: &str) -> Value {
    let transition = &notification.transition;
    let firing = transition.state == "firing";
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": if firing { "trigger" } else { "resolve" },
        "dedup_key": transition.fingerprint,
    });
    if firing {
        event["payload"] = json!({
            "summary": summary(transition),
            "source": "ninefold",
            "severity": if transition.severity == "page" { "critical" } else { "warning" },
            "timestamp": transition.at,
            "component": transition.service,
            "group": transition.customer,
            "custom_details": transition,
        });
    }
    event
}

/// One line for a person who was just woken.
fn summary(transition: &AlertTransition) -> String {
    if let Some(incident) = &transition.incident {
        return format!("{} ({}, {})", incident.summary, incident.severity, transition.state);
    }
    let AlertTransition { customer, service, objective, tier, state, long, .. } = transition;
    format!("{customer} / {service}: {objective} {state} ({tier}): {}", window(long))
}

fn window(AlertWindow { window, valid, bad, burn_rate }: &AlertWindow) -> String {
    let burn_rate = burn_rate.map_or("nothing".to_owned(), |rate| format!("{rate:.1} x budget"));
    format!("{bad} of {valid} requests bad in {window}, burning {burn_rate}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The alert of a customer whose name is markup, since names are taken as they are.
    fn notification(state: &str) -> Notification {
        let window = |window: &str| {
            let (window, burn_rate) = (window.to_owned(), Some(50.0));
            AlertWindow { window, valid: 1_000, bad: 100, burn_rate }
        };
        let transition = AlertTransition {
            id: "i".into(),
            fingerprint: "f".into(),
            customer: "<b>\"acme\"".into(),
            service: "api".into(),
            objective: "availability".into(),
            tier: "page_1h".into(),
            severity: "page".into(),
            state: state.into(),
            basis: "live".into(),
            at: "2026-11-01T00:00:00Z".into(),
            long: window("1h"),
            short: window("5m"),
            factor: 14.4,
            incident: None,
        };
        let since = (state == "firing").then(|| transition.at.clone());
        Notification { transition, since, uncommitted: false }
    }

    fn body(kind: Kind, state: &str) -> Value {
        let message = kind.message(&notification(state), 1_793_491_200_000, "secret");
        assert!(!message.body.contains("secret") || kind == Kind::PagerDuty);
        serde_json::from_str(&message.body).unwrap()
    }

    #[test]
    fn alertmanager_gets_identity_as_labels_and_values_as_annotations() {
        let (firing, over) =
            (body(Kind::Alertmanager, "firing"), body(Kind::Alertmanager, "resolved"));
        assert_eq!(firing[0]["labels"], over[0]["labels"]);
        assert_eq!(firing[0]["labels"]["customer"], "<b>\"acme\"");
        assert_eq!(firing[0]["startsAt"], "2026-11-01T00:00:00Z");
        assert_eq!(firing[0]["endsAt"], "2026-11-01T00:04:00Z");
        assert_eq!(over[0]["endsAt"], "2026-11-01T00:00:00Z");
        assert!(!firing[0]["labels"].to_string().contains("100"));
        assert!(firing[0]["annotations"]["long"].as_str().unwrap().contains("100 of 1000"));
    }

    #[test]
    fn pagerduty_gets_one_key_for_trigger_and_resolve() {
        let (trigger, resolve) = (body(Kind::PagerDuty, "firing"), body(Kind::PagerDuty, "stale"));
        assert_eq!(
            (&trigger["event_action"], &resolve["event_action"]),
            (&json!("trigger"), &json!("resolve"))
        );
        assert_eq!((&trigger["dedup_key"], &resolve["dedup_key"]), (&json!("f"), &json!("f")));
        assert_eq!(trigger["payload"]["severity"], "critical");
        assert_eq!(trigger["routing_key"], "secret");
        assert!(resolve.get("payload").is_none());
    }

    #[test]
    fn a_webhook_is_signed_over_time_and_body() {
        let message = Kind::Webhook.message(&notification("firing"), 1_793_491_200_123, "secret");
        let header = |name| &message.headers.iter().find(|(other, _)| *other == name).unwrap().1;
        assert_eq!(header("x-ninefold-timestamp"), "1793491200");
        assert_eq!(
            *header("x-ninefold-signature"),
            signature("secret", "1793491200", &message.body)
        );
        assert_eq!(header("idempotency-key"), "i-firing");
        // RFC 4231, test case 2, of the plain construction.
        let mut mac = Hmac::<Sha256>::new_from_slice(b"Jefe").unwrap();
        mac.update(b"what do ya want for nothing?");
        let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert!(hex.starts_with("5bdcc146bf60754e6a042426089575c7"));
    }
}
