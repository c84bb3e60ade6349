//! What is held in memory: series of minute cells.
pub mod series;
