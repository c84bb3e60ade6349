//! The pure core: objectives, windows, histograms, budget, burn rate and alert states.
//!
//! Nothing here opens a file, asks a clock or starts a thread: time comes in as an argument.
//! - [`objective`] and [`sli`]: what is promised, and how an event is sorted by it.
//! - [`decimal`], [`period`], [`window`]: exact targets, and spans of whole minutes.
//! - [`histogram`]: latency in the layout of HdrHistogram.
//! - [`budget`], [`alert`], [`excess`]: what the counts mean, when they page, what caused them.
//! - [`exclusion`]: minutes whose events count in no ratio.
//! - [`incident`]: what the alerts of many series fold into, and when that wakes somebody.
//! - [`pool`]: who is judged together; [`silent`]: who has fallen silent.
//! - [`verdict`]: whether a release, a flag or any other value made things worse.
pub mod alert;
pub mod budget;
pub mod decimal;
pub mod excess;
pub mod exclusion;
pub mod histogram;
pub mod incident;
pub mod objective;
pub mod period;
pub mod pool;
pub mod silent;
pub mod sli;
pub mod tally;
pub mod verdict;
pub mod window;
