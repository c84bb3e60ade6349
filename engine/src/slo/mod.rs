//! The pure core: objectives, windows, histograms, budget, burn rate and alert states.
//!
//! Nothing here opens a file, asks a clock or starts a thread: time comes in as an argument.
pub mod histogram;
pub mod objective;
