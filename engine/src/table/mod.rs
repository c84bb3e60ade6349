//! The rollup table.
pub mod schema;
