//! What a receiver gets: the bodies of the generic receivers, of Alertmanager and of PagerDuty.
//!
//! Identity stands in keys that never change (labels, `dedup_key`), values stand beside them
//! (annotations, details): a changed value must not make another alert. Pure.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::notice::{ALERT, Notice, SILENCE, VERDICT};
use super::outbox::{Bundle, Each, Notification, Packing};
use super::template::{JSON, Template, TemplateError};
use crate::query::body::{AlertTransition, AlertWindow, Verdict, VerdictTest};
use crate::query::judgement::{self, Change, Name};
use crate::slo::sli::hex;
use crate::slo::verdict;
use crate::time::rfc3339;

/// How often Alertmanager is told again of what fires: it forgets what is not repeated.
const ALERTMANAGER_RESEND_MS: i64 = 60_000;

/// Which protocol a receiver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP, our own JSON or a template, signed where there is a secret.
    Webhook,
    /// Alertmanager's API v2.
    Alertmanager,
    /// PagerDuty's Events API v2; the secret is the routing key.
    PagerDuty,
    /// Records of a topic, our own JSON or a template.
    Kafka,
    /// A program, with our own JSON or a template as its standard input.
    Command,
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where to, below the receiver's URL: empty, or a path.
    pub path: &'static str,
    /// Headers beside `content-type`.
    pub headers: Vec<(&'static str, String)>,
    /// What the body is.
    pub content_type: String,
    /// Names what is told: the same for a repetition.
    pub idempotency_key: String,
    /// The text.
    pub body: String,
}

/// How one receiver is written to.
#[derive(Debug)]
pub struct Writer {
    /// Its protocol.
    pub kind: Kind,
    /// Signs a webhook (see [`signature`]), and is PagerDuty's routing key; empty = none.
    pub secret: String,
    /// What the body is; [`JSON`] unless a template prints something else.
    pub content_type: String,
    /// Prints the body in the place of our JSON.
    pub template: Option<Template>,
}

impl Kind {
    /// How often a firing alert is told again.
    pub fn resend_ms(self) -> Option<i64> {
        (self == Kind::Alertmanager).then_some(ALERTMANAGER_RESEND_MS)
    }

    /// Whether a route may have it told again. Not so PagerDuty: an incident that somebody has
    /// closed by hand would be opened again.
    pub fn repeats(self) -> bool {
        !matches!(self, Kind::Alertmanager | Kind::PagerDuty)
    }

    /// How it takes several notices.
    pub fn packing(self) -> Packing {
        match self {
            Kind::Alertmanager => Packing::All,
            Kind::PagerDuty => Packing::One,
            Kind::Webhook | Kind::Kafka | Kind::Command => Packing::Group,
        }
    }
}

impl Writer {
    /// The message that tells `bundle` at `now_ms`, and what is wrong with the template where it
    /// could not print it: then the message is our JSON.
    pub fn message(&self, bundle: &Bundle, now_ms: i64) -> (Message, Option<TemplateError>) {
        let idempotency_key = idempotency_key(bundle);
        let plain = |path, body: Value| Message {
            path,
            headers: Vec::new(),
            content_type: JSON.to_owned(),
            idempotency_key: idempotency_key.clone(),
            body: body.to_string(),
        };
        match self.kind {
            Kind::Alertmanager => {
                let of_one = |one: &Notification| alertmanager(one, now_ms);
                (plain("/api/v2/alerts", bundle.notifications.iter().map(of_one).collect()), None)
            }
            Kind::PagerDuty => (plain("", pagerduty(&bundle.notifications[0], &self.secret)), None),
            Kind::Webhook | Kind::Kafka | Kind::Command => {
                let context = context(bundle);
                let printed = self.template.as_ref().map(|template| template.render(&context));
                let (text, error) = match printed {
                    Some(Ok(text)) => (Some(text), None),
                    Some(Err(error)) => (None, Some(error)),
                    None => (None, None),
                };
                let mut message = plain("", context);
                if let Some(text) = text {
                    (message.body, message.content_type) = (text, self.content_type.clone());
                }
                if self.kind == Kind::Webhook {
                    message.headers = self.headers(&message, now_ms);
                }
                (message, error)
            }
        }
    }

    fn headers(&self, message: &Message, now_ms: i64) -> Vec<(&'static str, String)> {
        let timestamp = (now_ms / 1_000).to_string();
        let mut headers = vec![("idempotency-key", message.idempotency_key.clone())];
        if !self.secret.is_empty() {
            let signature = signature(&self.secret, &timestamp, &message.body);
            headers.push(("x-ninefold-signature", signature));
        }
        headers.push(("x-ninefold-timestamp", timestamp));
        headers
    }
}

/// What our JSON says of a bundle, and a template is given: the keys of its first notice, and
/// `notices` with the same keys of each.
pub fn context(bundle: &Bundle) -> Value {
    let of_one = |one: &Notification| {
        let Notification { notice, since, uncommitted } = one;
        let Notice { subject, summary, state, details, fingerprint, id, .. } = notice;
        let mut value = json!({
            "subject": subject,
            "fingerprint": fingerprint,
            "id": id,
            "state": state,
            "severity": notice.scope.severity,
            "summary": summary,
            "since": since,
            "uncommitted": uncommitted,
        });
        value[*subject] = details.clone();
        value
    };
    let notices: Vec<Value> = bundle.notifications.iter().map(of_one).collect();
    let mut context = notices.first().cloned().expect("a bundle is not empty");
    let firing = bundle.notifications.iter().filter(|one| one.notice.is_firing()).count();
    let group: serde_json::Map<String, Value> =
        bundle.group.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let parts = [
        ("version", json!(1)),
        ("group", Value::Object(group)),
        ("firing", json!(firing)),
        ("over", json!(notices.len() - firing)),
        ("notices", Value::Array(notices)),
    ];
    for (key, value) in parts {
        context[key] = value;
    }
    context
}

/// Of one notice its name, of several a hash of theirs in any order.
fn idempotency_key(bundle: &Bundle) -> String {
    let mut names: Vec<String> =
        bundle.notifications.iter().map(|one| one.notice.name().to_string()).collect();
    names.sort_unstable();
    match &*names {
        [name] => name.clone(),
        _ => hex(&Sha256::digest(names.join("\n"))[..16]),
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

fn alertmanager(notification: &Notification, now_ms: i64) -> Value {
    let Notification { notice, since, uncommitted } = notification;
    let Notice { scope, summary, values, fingerprint, subject, .. } = notice;
    let name = match *subject {
        ALERT if scope.tier == SILENCE => "NinefoldSilence",
        ALERT => "NinefoldErrorBudgetBurn",
        VERDICT => "NinefoldVerdict",
        _ => "NinefoldIncident",
    };
    let mut labels = json!({ "alertname": name, "fingerprint": fingerprint });
    for label in super::matcher::LABELS {
        // An empty label is none to Alertmanager.
        if !scope.label(label).is_empty() {
            labels[label] = json!(scope.label(label));
        }
    }
    let mut annotations = json!({ "summary": summary, "uncommitted": uncommitted.to_string() });
    for (name, value) in values {
        annotations[*name] = json!(value);
    }
    let mut alert = json!({ "labels": labels, "annotations": annotations });
    if let Some(since) = since {
        alert["startsAt"] = json!(since);
    }
    // While it fires, the end lies ahead: it ends by itself where we are gone for good.
    let ends_ms = if notice.is_firing() {
        now_ms + 4 * ALERTMANAGER_RESEND_MS
    } else {
        notice.at_ms().min(now_ms).max(0)
    };
    alert["endsAt"] = json!(rfc3339(ends_ms));
    alert
}

/// One event. It never says `acknowledge`: what somebody has acknowledged stays so, since a
/// further trigger under the same key changes nothing of that.
fn pagerduty(notification: &Notification, routing_key: &str) -> Value {
    let Notice { scope, summary, details, fingerprint, at, .. } = &notification.notice;
    let firing = notification.notice.is_firing();
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": if firing { "trigger" } else { "resolve" },
        "dedup_key": fingerprint,
    });
    if firing {
        event["payload"] = json!({
            // Longer ones are refused.
            "summary": summary.chars().take(1_024).collect::<String>(),
            "source": "ninefold",
            "severity": if scope.severity == "page" { "critical" } else { "warning" },
            "timestamp": at,
            "component": scope.service,
            "group": scope.customer,
            "class": scope.tier,
            "custom_details": details,
        });
    }
    event
}

/// A bundle of one firing alert and of one that is over, to try a template on; of a verdict, where
/// the receiver is told of these alone.
pub fn samples(each: Each) -> [Bundle; 2] {
    if each == Each::Verdict { verdicts() } else { alerts() }
}

fn bundle(transition: &AlertTransition, customer_tier: &str) -> Bundle {
    let notice = Notice::of_alert(transition, customer_tier);
    let since = notice.is_firing().then(|| transition.at.clone());
    Bundle {
        group: vec![("service".to_owned(), "api".to_owned())],
        notifications: vec![Notification { notice, since, uncommitted: false }],
    }
}

fn verdicts() -> [Bundle; 2] {
    let from = "2026-11-01T00:00:00Z".to_owned();
    let test = VerdictTest {
        verdict: verdict::Verdict::Bad,
        control: verdict::Control::OwnHistory,
        valid: 1_000,
        bad: 200,
        rest_valid: 4_000,
        rest_bad: 8,
        e_bad: 1e20,
        bad_from: from.clone(),
        e_good: 0.0,
        e_kept: Some(0.0),
        ratio: Some(100.0),
        ratio_low: Some(50.0),
        ratio_high: Some(200.0),
        ratio_before: Some(1.0),
        ratio_allowed: 1.5,
        dispersion: 1.0,
        excess: 198.0,
    };
    let verdict = Verdict {
        dimension: "release".to_owned(),
        // Names are taken as they are: markup, too.
        value: "<b>\"r42\"".to_owned(),
        service: Some("api".to_owned()),
        from: from.clone(),
        to: from.clone(),
        as_of: from.clone(),
        history_from: from,
        one_in: None,
        verdict: verdict::Verdict::Bad,
        customers_hit: Some(12),
        budget_consumed: Some(0.25),
        errors: test.clone(),
        latency: Some(VerdictTest { e_kept: None, ..test }),
    };
    let [service, dimension] = ["api", "release"].map(str::to_owned);
    let name = Name { service, dimension, value: verdict.value.clone() };
    let bad = name.bad(0, verdict.clone(), 1_793_491_200_000);
    let gone = bad.over(Change::Gone, verdict, 1_793_491_800_000);
    [bad, gone].map(|judgement| bundle(&judgement::notice(&judgement), ""))
}

fn alerts() -> [Bundle; 2] {
    let window = |window: &str| AlertWindow {
        window: window.to_owned(),
        valid: 1_000,
        bad: 100,
        burn_rate: Some(50.0),
    };
    let of_state = |state: &str| {
        let transition = AlertTransition {
            id: "i".into(),
            fingerprint: "f".into(),
            // Names are taken as they are: markup, too.
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
            pool: None,
            incident: None,
            verdict: None,
        };
        bundle(&transition, "gold")
    };
    ["firing", "resolved"].map(of_state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(kind: Kind) -> Writer {
        let (secret, content_type) = ("secret".to_owned(), JSON.to_owned());
        Writer { kind, secret, content_type, template: None }
    }

    fn bodies(kind: Kind) -> [Value; 2] {
        samples(Each::Alert).map(|bundle| {
            let (message, _) = writer(kind).message(&bundle, 1_793_491_200_000);
            assert!(!message.body.contains("secret") || kind == Kind::PagerDuty);
            serde_json::from_str(&message.body).unwrap()
        })
    }

    #[test]
    fn alertmanager_gets_identity_as_labels_and_values_as_annotations() {
        let [firing, over] = bodies(Kind::Alertmanager);
        assert_eq!(firing[0]["labels"], over[0]["labels"]);
        assert_eq!(firing[0]["labels"]["customer"], "<b>\"acme\"");
        assert_eq!(firing[0]["labels"]["customer_tier"], "gold");
        assert_eq!(firing[0]["startsAt"], "2026-11-01T00:00:00Z");
        assert_eq!(firing[0]["endsAt"], "2026-11-01T00:04:00Z");
        assert_eq!(over[0]["endsAt"], "2026-11-01T00:00:00Z");
        assert!(!firing[0]["labels"].to_string().contains("100"));
        assert!(firing[0]["annotations"]["long"].as_str().unwrap().contains("100 of 1000"));
    }

    #[test]
    fn pagerduty_gets_one_key_for_trigger_and_resolve() {
        let [trigger, resolve] = bodies(Kind::PagerDuty);
        let actions = (&trigger["event_action"], &resolve["event_action"]);
        assert_eq!(actions, (&json!("trigger"), &json!("resolve")));
        assert_eq!((&trigger["dedup_key"], &resolve["dedup_key"]), (&json!("f"), &json!("f")));
        assert_eq!(trigger["payload"]["severity"], "critical");
        assert_eq!(trigger["routing_key"], "secret");
        assert!(resolve.get("payload").is_none());
        assert!(!Kind::PagerDuty.repeats() && Kind::PagerDuty.resend_ms().is_none());
    }

    #[test]
    fn a_webhook_is_signed_over_time_and_body() {
        let [bundle, _] = samples(Each::Alert);
        let (message, _) = writer(Kind::Webhook).message(&bundle, 1_793_491_200_123);
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
        let hex = hex(&mac.finalize().into_bytes());
        assert!(hex.starts_with("5bdcc146bf60754e6a042426089575c7"));
    }

    #[test]
    fn a_bundle_shows_the_worst_notice_and_all_of_them() {
        let [firing, over] = samples(Each::Alert);
        let notifications = [firing.notifications, over.notifications].concat();
        let both = Bundle { notifications, ..firing };
        let context = context(&both);
        assert_eq!(context["alert"], context["notices"][0]["alert"]);
        assert_eq!((&context["firing"], &context["over"]), (&json!(1), &json!(1)));
        assert_eq!(context["group"], json!({ "service": "api" }));
        let key = idempotency_key(&both);
        let turned = both.notifications.iter().rev().cloned().collect();
        assert_eq!(key, idempotency_key(&Bundle { notifications: turned, ..both }));
    }

    #[test]
    fn a_template_prints_the_body_and_where_it_cannot_our_json_goes_out() {
        let [bundle, _] = samples(Each::Alert);
        let of = |text: &str| {
            let template = Some(Template::new(text, JSON).unwrap());
            Writer { template, ..writer(Kind::Webhook) }.message(&bundle, 0)
        };
        let (message, error) = of("{\"text\": {{ alert.customer }}}");
        assert_eq!((message.body.as_str(), error), (r#"{"text": "<b>\"acme\""}"#, None));
        let (message, error) = of("{{ incident.id }}");
        assert!(error.is_some() && message.body.contains("\"version\":1"));
    }

    #[test]
    fn every_protocol_tells_of_a_verdict_under_one_key_from_its_begin_to_its_end() {
        let [bad, over] = samples(Each::Verdict);
        let of = |kind, bundle| {
            let (message, _) = writer(kind).message(bundle, 1_793_491_200_000);
            serde_json::from_str::<Value>(&message.body).unwrap()
        };
        let fingerprint = &bad.notifications[0].notice.fingerprint;
        for kind in [Kind::Webhook, Kind::Kafka, Kind::Command] {
            let (body, end) = (of(kind, &bad), of(kind, &over));
            assert_eq!((&body["subject"], &body["state"]), (&json!("verdict"), &json!("firing")));
            assert_eq!(body["verdict"]["value"], "<b>\"r42\"");
            assert_eq!(body["verdict"]["verdict"], "bad");
            assert_eq!(
                (&end["state"], &end["verdict"]["change"]),
                (&json!("resolved"), &json!("gone"))
            );
            assert_eq!((&body["id"], &body["fingerprint"]), (&end["id"], &json!(fingerprint)));
        }
        let [alert] = of(Kind::Alertmanager, &bad).as_array().unwrap().clone().try_into().unwrap();
        assert_eq!(alert["labels"]["alertname"], "NinefoldVerdict");
        assert_eq!(alert["annotations"]["candidate"], "release=<b>\"r42\"");
        let event = of(Kind::PagerDuty, &bad);
        assert_eq!(
            (&event["dedup_key"], &event["event_action"]),
            (&json!(fingerprint), &json!("trigger"))
        );
        assert_eq!(event["payload"]["severity"], "warning", "nobody is woken by it");
        let text = "{\"release\": {{ verdict.value }}, \"service\": {{ verdict.service }}}";
        let template = Some(Template::new(text, JSON).unwrap());
        let (message, error) =
            Writer { template, ..writer(Kind::Command) }.message(&bad, 1_793_491_200_000);
        assert_eq!(message.body, r#"{"release": "<b>\"r42\"", "service": "api"}"#);
        assert!(error.is_none(), "{error:?}");
    }
}
