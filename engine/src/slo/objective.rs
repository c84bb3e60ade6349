//! What is promised: SLIs that sort events, and objectives on them, inherited by scope.

use crate::model::{Event, Outcome};

/// An exact decimal in 0..=10^9 with at most 9 digits after the point: `value = units / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// The number without its point.
    pub units: u64,
    /// How many digits stand behind the point, at most 9.
    pub scale: u8,
}

/// How an SLI sorts events.
#[derive(Clone, Debug, PartialEq)]
pub struct Sli {
    /// Unique name, as objectives call it.
    pub name: String,
    /// What it judges.
    pub kind: SliKind,
    /// Services it covers; empty = all. An event of another service is outside this SLI.
    pub services: Vec<String>,
    /// Route patterns it covers, `*` matches any text; empty = all.
    pub routes: Vec<String>,
}

/// What an SLI judges.
#[derive(Clone, Debug, PartialEq)]
pub enum SliKind {
    /// By status; an event's own `outcome` wins.
    Availability {
        /// Inclusive ranges of bad statuses; `500..=599` by default.
        bad: Vec<(u16, u16)>,
        /// Inclusive ranges of statuses that count in no ratio; status 0 always does.
        excluded: Vec<(u16, u16)>,
    },
    /// Good events (of the default availability SLI) that carry a latency; bad = slower.
    Latency {
        /// Slower than this is bad, in microseconds.
        threshold_us: u32,
    },
}

/// The time over which an objective is to hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// The last so many days, whole minutes: `30d`, `28d`, `7d`.
    RollingDays(u32),
    /// The running calendar month in this IANA zone.
    Month(String),
    /// The running calendar quarter in this IANA zone.
    Quarter(String),
}

/// One promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Its name, unique per scope; one of the same name further in replaces it.
    pub name: String,
    /// Name of the SLI it is on.
    pub sli: String,
    /// The target ratio, 0 < target < 1.
    pub target: Decimal,
    /// Over what time.
    pub period: Period,
    /// Alert tiers that are switched off (`page_1h`), or have their own factor or `min_bad`.
    pub tiers: Vec<TierOverride>,
}

/// A change to one alert tier of one objective.
#[derive(Clone, Debug, PartialEq)]
pub struct TierOverride {
    /// `rollout_5m`, `page_1h`, `page_6h`, `ticket_1d` or `ticket_3d`.
    pub tier: String,
    /// `false` switches it off.
    pub enabled: bool,
    /// Its own factor.
    pub factor: Option<Decimal>,
    /// Its own `min_bad`.
    pub min_bad: Option<u64>,
}

/// All objectives, by scope: default, then tier, then customer, then customer and service.
/// An objective of an inner scope replaces the one of the same name further out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objectives {
    /// For everyone.
    pub default: Vec<Objective>,
    /// By customer tier (`enterprise`).
    pub tiers: std::collections::BTreeMap<String, Vec<Objective>>,
    /// The tier of a customer.
    pub tier_of: std::collections::BTreeMap<String, String>,
    /// By customer.
    pub customers: std::collections::BTreeMap<String, Vec<Objective>>,
    /// By customer and service.
    pub services: std::collections::BTreeMap<(String, String), Vec<Objective>>,
}

/// How the SLIs sorted one event. Bit `2k` says that further SLI `k` holds the event valid,
/// bit `2k + 1` that it holds it bad; both clear and `excluded_bits` set: excluded by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// By the default availability SLI.
    pub availability: Option<Outcome>,
    /// Good and carrying a latency.
    pub timed: bool,
    /// Timed and slower than the first latency SLI's threshold.
    pub slow: bool,
    /// Further SLIs, see above.
    pub further: u16,
    /// Further SLIs that exclude it: bit `k`.
    pub further_excluded: u8,
}

/// How many SLIs there may be beside the default availability SLI and the first latency SLI.
pub const FURTHER_SLIS_MAX: usize = 8;

/// The checked SLIs: the default availability SLI, the first latency SLI, and the further ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Slis {
    /// Named `availability`; covers everything.
    pub availability: Sli,
    /// The first latency SLI (column `slow`), named `latency` unless configured otherwise.
    pub latency: Sli,
    /// At most [`FURTHER_SLIS_MAX`] more.
    pub further: Vec<Sli>,
}

impl Slis {
    /// Sorts `event` by every SLI.
    pub fn classify(&self, event: &Event<'_>) -> Class {
        let _ = event;
        unimplemented!()
    }
}
