//! The engine of Ninefold: exact per-customer SLOs from request events.
//!
//! Data runs one way: `source` → `decode` → `slo` (classify) → `state` → `table`.
//! `query` and `report` answer from the state; `pipeline` is the one loop that joins them.
//! `audit` proves a table from itself.
//! The modules `model`, `time`, `delta` and `slo` are pure: no I/O, no clock, no threads.
//!
//! Without the feature `table` there is no `table`, `pipeline`, `audit` and no Parquet, without
//! `kafka` no Kafka: what is left builds in seconds, for fuzzing.

#[cfg(feature = "table")]
pub mod audit;
pub mod config;
pub mod decode;
pub mod delta;
pub mod failpoint;
pub mod leb128;
pub mod model;
pub mod notify;
#[cfg(feature = "table")]
pub mod pipeline;
pub mod query;
pub mod report;
pub mod short;
pub mod slo;
pub mod source;
pub mod state;
pub mod synth;
#[cfg(feature = "table")]
pub mod table;
pub mod time;
