//! Typed rows.
