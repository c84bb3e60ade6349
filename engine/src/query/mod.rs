//! Questions and their answers: pure functions from series and rows to the bodies of [`body`].
//!
//! [`Answers`] is what the API and the command line ask; a live service and a table at rest
//! both implement it, so that there is one code path for `--json` and for HTTP.

pub mod alerts;
pub mod attribution;
pub mod backtest;
pub mod body;
pub mod burn;
pub mod column;
pub mod excluded;
pub mod fleet;
pub mod gauges;
pub mod hit;
pub mod impact;
pub mod incident;
pub mod judgement;
pub mod objectives;
pub mod pools;
pub mod review;
pub mod risks;
pub mod rules;
pub mod silent;
pub mod sla;
pub mod timeseries;
pub mod top;
#[cfg(feature = "table")]
pub mod verdict;
#[cfg(feature = "table")]
pub mod young;

use std::sync::Arc;

use crate::report::CreditStep;
use crate::slo::alert::AlertOptions;
use crate::slo::objective::{Objectives, Slis};
use crate::time::Minute;

/// What is promised to whom, and how it is judged: the part of the configuration that answers
/// depend on.
#[derive(Clone, Copy, Debug)]
pub struct Promise<'a> {
    /// How events were sorted.
    pub slis: &'a Slis,
    /// The promises, by scope.
    pub objectives: &'a Objectives,
    /// How sure an alert has to be.
    pub alerts: &'a AlertOptions,
    /// What is owed for a broken month; empty = no ladder.
    pub credits: &'a [CreditStep],
    /// The IANA zone of months where a question names none.
    pub zone: &'a str,
}

/// By what `top` sorts, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Burn rate over the last hour.
    Burn,
    /// Least budget left.
    Budget,
    /// Most bad events in the period.
    Bad,
    /// Most valid events in the period.
    Valid,
}

/// Which transitions of alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// What was known then, as it was stored.
    Live,
    /// From final counts, at each minute's end.
    Settled,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing is known by that name.
    #[error("unknown {what} {name:?}")]
    Unknown {
        /// What kind of thing: `customer`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// An argument cannot be used.
    #[error("{field}: {problem}")]
    Argument {
        /// Its name as the caller wrote it.
        field: &'static str,
        /// What is wrong and what it takes.
        problem: String,
    },
    /// The table could not be read.
    #[error("{0}")]
    Table(String),
}

/// # Errors
/// [`AskError::Argument`] where a range ends before it begins.
pub fn check_order(from: Minute, to: Minute) -> Result<(), AskError> {
    if to < from {
        let problem = format!("{to} is before from, {from}");
        return Err(AskError::Argument { field: "to", problem });
    }
    Ok(())
}

/// The state of the service for `/healthz`, `/readyz` and `/metrics`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Health {
    /// Whether answers are complete.
    pub ready: bool,
    /// Why not, or what else an operator should know.
    pub notes: Vec<String>,
    /// Newest counted minute.
    pub as_of: Option<String>,
    /// Lines since the start.
    pub read: u64,
    /// Lines counted.
    pub counted: u64,
    /// Lines refused.
    pub dead: u64,
    /// Lines dropped by the dedupe window.
    pub duplicate: u64,
    /// Series in memory.
    pub series: u64,
    /// Epochs committed since the start.
    pub commits: u64,
    /// Version of the table.
    pub table_version: Option<u64>,
    /// Age of the oldest uncommitted line in milliseconds.
    pub uncommitted_age_ms: u64,
    /// Lines that no commit has taken.
    pub uncommitted_lines: u64,
    /// Commits that failed since the start, each of which was tried again.
    pub commit_failures: u64,
    /// Names this process in the history of the table; empty where nothing is counted.
    pub instance: String,
    /// `judge` where this instance decides what spans series, else `member`; empty where nothing
    /// is counted.
    pub role: String,
    /// The partitions that this instance counts, by name.
    pub partitions: Vec<String>,
    /// From the arrival of events to the alert that they caused; only in `/metrics`.
    #[serde(skip)]
    pub event_to_alert: Delays,
    /// Series with failures that several partitions of Kafka have rows of; only in `/metrics`,
    /// but for its note.
    #[serde(skip)]
    pub split_customers: u64,
    /// The Kafka source; only in `/metrics`, but for its notes.
    #[serde(skip)]
    pub kafka: KafkaHealth,
    /// What is sent by remote-write; `None` where nothing is. Only in `/metrics`, but for its
    /// note.
    #[serde(skip)]
    pub remote_write: Option<RemoteWriteHealth>,
    /// What is held in memory.
    pub memory: MemoryUse,
}

/// What became of the samples of remote-write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteWriteHealth {
    /// Samples that were taken.
    pub samples_sent: u64,
    /// Samples dropped because the receiver refused them for good.
    pub samples_refused: u64,
    /// Samples dropped because too many batches waited.
    pub samples_overflowed: u64,
    /// Attempts that failed, each of which was made again.
    pub failures: u64,
    /// Batches that wait to be taken.
    pub batches_waiting: u64,
    /// Why the last attempt failed, where it did.
    pub complaint: Option<String>,
}

/// The state of the Kafka source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KafkaHealth {
    /// What is wrong, for an operator.
    pub notes: Vec<String>,
    /// How often the group has changed the partitions of this instance.
    pub rebalances: u64,
    /// Records taken.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that the guards have dropped: of an old assignment, or counted before.
    pub dropped: u64,
    /// Offsets without a record.
    pub holes: u64,
    /// Whether fetching pauses because the loop is slow.
    pub is_paused: bool,
    /// The partitions of this instance.
    pub partitions: Vec<KafkaPartition>,
}

/// One partition that the group has given to this instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KafkaPartition {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub number: i32,
    /// The next offset to be counted.
    pub position: u64,
    /// How many offsets its log is ahead of that; `None` before the broker has told.
    pub lag: Option<u64>,
    /// Whether it is not read until somebody has looked.
    pub is_stopped: bool,
    /// Whether its log grows and it does not move.
    pub is_stuck: bool,
}

/// What is held in memory, and what became of what is not.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct MemoryUse {
    /// What each part takes.
    pub parts: Vec<MemoryPart>,
    /// How often a customer was evicted, for others.
    pub evicted: u64,
    /// Those of them that might have come to fire without a further bad event.
    pub evicted_hot: u64,
    /// How often a customer was loaded again to be judged.
    pub loaded: u64,
    /// Ids that left a dedupe window before its end.
    pub ids_forgotten: u64,
    /// New customers over the last minute, those that came back included.
    pub new_customers_per_minute: u64,
    /// Above how many it is said so; 0 = never.
    pub new_customers_bound: u64,
}

/// One part of the memory.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct MemoryPart {
    /// Its key of `[memory]`.
    pub name: &'static str,
    /// What it takes, in bytes: about, since allocators add to it.
    pub used: u64,
    /// Its bound, in bytes, where it has one.
    pub bound: Option<u64>,
}

impl MemoryUse {
    /// What an operator should know.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let (rate, bound) = (self.new_customers_per_minute, self.new_customers_bound);
        if bound > 0 && rate > bound {
            notes.push(format!(
                "cardinality: {rate} new customers over the last minute, more than {bound} \
                 ([memory] new_customers_per_minute)"
            ));
        }
        if self.evicted_hot > 0 {
            notes.push(format!(
                "memory: {} customers with recent failures were evicted; their alerts may come \
                 with their next failure only: raise [memory] series",
                self.evicted_hot
            ));
        }
        if self.ids_forgotten > 0 {
            notes.push(format!(
                "dedupe: {} ids were forgotten before the end of the window; later repetitions \
                 of them counted: raise [memory] dedupe",
                self.ids_forgotten
            ));
        }
        notes
    }
}

/// How often something took how long.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delays {
    /// By place in [`Delays::BOUNDS_S`], and one for what took longer.
    counts: [u64; Delays::BOUNDS_S.len() + 1],
    sum_s: f64,
}

impl Delays {
    /// The bounds of the buckets in seconds, each included in its bucket.
    pub const BOUNDS_S: [f64; 9] = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

    /// Counts one that took so many seconds.
    pub fn observe(&mut self, seconds: f64) {
        self.counts[Delays::BOUNDS_S.partition_point(|bound| *bound < seconds)] += 1;
        self.sum_s += seconds;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long they took together, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum_s
    }

    /// How many took longer than the bound before and at most this one, infinity at last.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = Delays::BOUNDS_S.into_iter().chain([f64::INFINITY]);
        bounds.zip(self.counts).collect()
    }
}

/// Everything that can be asked. `now_ms` is the wall clock of who asks.
pub trait Answers: Send + Sync {
    /// Windows, budget, burn and quantiles of one customer.
    fn sla(
        &self,
        customer: &str,
        service: Option<&str>,
        at: Option<Minute>,
    ) -> Result<body::Sla, AskError>;
    /// The [body](body::json) of [`Answers::sla`], where that takes less than a millisecond or so
    /// and waits for nothing: no lock, no file; else `None`, and it has to be asked there.
    fn sla_at_once(
        &self,
        _customer: &str,
        _service: Option<&str>,
        _at: Option<Minute>,
    ) -> Option<Result<Arc<[u8]>, AskError>> {
        None
    }
    /// As [`Answers::sla`] of all services now, of several customers; latencies may be left out,
    /// and those who are unknown are.
    fn slas(&self, customers: &[String]) -> Result<Vec<body::Sla>, AskError> {
        let mut all = Vec::with_capacity(customers.len());
        for customer in customers {
            match self.sla(customer, None, None) {
                Ok(sla) => all.push(sla),
                Err(AskError::Unknown { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }
    /// Counts by step; `customer` `None` = the fleet.
    fn timeseries(
        &self,
        customer: Option<&str>,
        from: Minute,
        to: Minute,
        step_minutes: u32,
    ) -> Result<body::Timeseries, AskError>;
    /// The monthly statement; `tz` `None` = the zone of the configuration, UTC by default.
    fn report(
        &self,
        month: &str,
        tz: Option<&str>,
        customer: Option<&str>,
    ) -> Result<body::Report, AskError>;
    /// Who was hit, and what caused it; both ends included.
    fn impact(&self, from: Minute, to: Minute) -> Result<body::Impact, AskError>;
    /// Whether a value of a dimension made things worse; `name` is `release`, `cohort`, `region`,
    /// `route` or an attribute. From its first minute in the day before `to` unless told.
    fn verdict(
        &self,
        name: &str,
        value: &str,
        service: Option<&str>,
        from: Option<Minute>,
        to: Option<Minute>,
    ) -> Result<body::Verdict, AskError>;
    /// Alert history, oldest first.
    fn alerts(
        &self,
        from: Option<Minute>,
        to: Option<Minute>,
        basis: Basis,
    ) -> Result<body::Alerts, AskError>;
    /// The incidents that were open in a range of minutes: open ones first, then the newest.
    fn incidents(
        &self,
        from: Option<Minute>,
        to: Option<Minute>,
    ) -> Result<body::Incidents, AskError>;
    /// One incident with what happened to it and who is in it.
    fn incident(&self, id: &str) -> Result<body::IncidentStatus, AskError>;
    /// What an incident was: timeline, impact, causes and budget by cause, from the table.
    fn review(&self, id: &str) -> Result<review::Review, AskError>;
    /// What has spent the budget, by cause: of a quarter such as `2026-Q4`, or of the UTC days of a
    /// range, which begins with the running quarter and ends with the newest counted day unless
    /// told.
    fn risks(
        &self,
        quarter: Option<&str>,
        from: Option<Minute>,
        to: Option<Minute>,
    ) -> Result<risks::Risks, AskError>;
    /// The worst customers; `cursor` is the `next` of the page before.
    fn top(
        &self,
        by: By,
        at: Option<Minute>,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<body::Top, AskError>;
    /// The customers with the most valid events, the largest first; who that is may be as old as
    /// finding it out is costly.
    fn largest(&self, count: usize) -> Result<Vec<String>, AskError>;
    /// What burns now.
    fn burn(&self) -> Result<body::Burn, AskError>;
    /// How the pools fare now.
    fn pools(&self) -> Result<body::Pools, AskError>;
    /// Who has fallen silent.
    fn silent(&self, at: Option<Minute>) -> Result<body::Silent, AskError>;
    /// The first page.
    fn fleet(&self, now_ms: i64) -> Result<body::Fleet, AskError>;
    /// The objectives in force, by scope, as JSON.
    fn objectives(&self) -> serde_json::Value;
    /// For `/healthz`, `/readyz` and `/metrics`.
    fn health(&self) -> Health;
}
