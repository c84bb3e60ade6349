//! The engine of Ninefold: exact per-customer SLOs from request events.
//!
//! Data runs one way: `source` → `decode` → `slo` (classify) → `state` → `table`.
//! `query` and `report` answer from the state; `pipeline` is the one loop that joins them.
//! The modules `model`, `time` and `slo` are pure: no I/O, no clock, no threads.

pub mod config;
pub mod decode;
pub mod model;
pub mod notify;
pub mod pipeline;
pub mod query;
pub mod report;
pub mod slo;
pub mod source;
pub mod state;
pub mod synth;
pub mod table;
pub mod time;
