//! Notifications: whom to tell of an alert, what, and how to reach them.
//!
//! `outbox` says what a receiver has still to be told, `message` how it is told, `address` where
//! it may be, `send` does it. All but `send` are pure; it is left out with
//! the feature `table`, as everything that needs many crates.

pub mod address;
pub mod each;
pub mod message;
pub mod outbox;
#[cfg(feature = "table")]
pub mod send;
