//! Verdicts as they are stored and told: that a release or a flag has turned out bad, and that
//! this is over.
//!
//! One body for the rows of the grain `verdict` and for what receivers get. They are told of it as
//! of an alert ([`notice`]): `firing` while the verdict is bad, then `resolved`. `fingerprint` is
//! the key for ever; `id` names one time that it was bad, and depends on how often it was so
//! before and on nothing that is measured, so that a decision that is made twice because a commit
//! was lost has the same one.

use serde::{Deserialize, Serialize};

use crate::query::body::{AlertTransition, AlertWindow, Verdict};
use crate::slo::alert::hash_of;
use crate::slo::verdict::Verdict::Bad;
use crate::time::rfc3339;

/// The tier under which receivers hear of verdicts.
pub const TIER: &str = "verdict";

/// The severity under which they do: a person who has to be woken is by the incident.
const SEVERITY: &str = "ticket";

/// Who is judged: a value of a dimension in one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Which component.
    pub service: String,
    /// `release`, or the name of an attribute.
    pub dimension: String,
    /// The value.
    pub value: String,
}

/// Why a verdict is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It has turned out bad.
    Bad,
    /// It was bad, and is proven good.
    Good,
    /// It was bad, and serves nothing any more.
    Gone,
}

/// A change of a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Names this time that it is bad.
    pub id: String,
    /// Names the candidate: a hash of `verdict`, service, dimension and value.
    pub fingerprint: String,
    /// How often it was bad before.
    pub ordinal: u64,
    /// What has changed.
    pub change: Change,
    /// When.
    pub at: String,
    /// One line for people.
    pub summary: String,
    /// The verdict that changed it; of one that is gone, the one that it was.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Name {
    /// What receivers know it by.
    pub fn fingerprint(&self) -> String {
        hash_of(&[TIER, &self.service, &self.dimension, &self.value])
    }

    /// The judgement that it is bad, after so many others.
    pub fn bad(&self, ordinal: u64, verdict: Verdict, at_ms: i64) -> Judgement {
        let fingerprint = self.fingerprint();
        let id = hash_of(&[&fingerprint, &ordinal.to_string()]);
        let summary = String::new();
        let judgement = Judgement {
            id,
            fingerprint,
            ordinal,
            change: Change::Bad,
            at: rfc3339(at_ms),
            summary,
            verdict,
        };
        judgement.summed_up()
    }
}

impl Judgement {
    /// Who was judged.
    pub fn name(&self) -> Name {
        Name {
            service: self.verdict.service.clone().unwrap_or_default(),
            dimension: self.verdict.dimension.clone(),
            value: self.verdict.value.clone(),
        }
    }

    /// Whether it is bad from now on.
    pub fn is_bad(&self) -> bool {
        self.change == Change::Bad
    }

    /// The judgement that this one is over.
    pub fn over(&self, change: Change, verdict: Verdict, at_ms: i64) -> Judgement {
        let at = rfc3339(at_ms);
        Judgement { change, at, verdict, ..self.clone() }.summed_up()
    }

    /// `api: release=r42 is bad: 513 of 2021 requests bad since …, 509 more than to be expected,
    /// most of it since …; 12 customers hit`.
    fn summed_up(self) -> Judgement {
        let Verdict { dimension, value, errors, latency, from, customers_hit, .. } = &self.verdict;
        let service = self.verdict.service.as_deref().unwrap_or_default();
        let change = match self.change {
            Change::Bad => "is bad",
            Change::Good => "is good again",
            Change::Gone => "was bad, and serves nothing any more",
        };
        let (test, what) = match latency {
            Some(latency) if latency.verdict == Bad && errors.verdict != Bad => (latency, "slow"),
            _ => (errors, "bad"),
        };
        let mut summary = format!(
            "{service}: {dimension}={value} {change}: {} of {} requests {what} since {from}",
            test.bad, test.valid
        );
        if self.is_bad() {
            let more = test.excess.max(0.0);
            summary += &format!(", {more:.0} more than to be expected");
            if test.bad_from != *from {
                summary += &format!(", most of it since {}", test.bad_from);
            }
            if let Some(hit) = customers_hit {
                summary += &format!("; {hit} customers hit");
            }
        }
        Judgement { summary, ..self }
    }
}

/// What receivers are told of a judgement: as of an alert of the tier [`TIER`] without a customer.
pub fn notice(judgement: &Judgement) -> AlertTransition {
    let window = || AlertWindow {
        window: TIER.to_owned(),
        valid: judgement.verdict.errors.valid,
        bad: judgement.verdict.errors.bad,
        burn_rate: judgement.verdict.budget_consumed,
    };
    AlertTransition {
        id: judgement.id.clone(),
        fingerprint: judgement.fingerprint.clone(),
        customer: String::new(),
        pool: None,
        service: judgement.verdict.service.clone().unwrap_or_default(),
        objective: String::new(),
        tier: TIER.to_owned(),
        severity: SEVERITY.to_owned(),
        state: if judgement.is_bad() { "firing" } else { "resolved" }.to_owned(),
        basis: "live".to_owned(),
        at: judgement.at.clone(),
        long: window(),
        short: window(),
        factor: 0.0,
        incident: None,
        verdict: Some(Box::new(judgement.clone())),
    }
}
