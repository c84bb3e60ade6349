//! Notifications: whom to tell of an alert, what, and how to reach them.
//!
//! `notice` is what can be told; `route` says to whom and in what company, `matcher` is what
//! routes and `silence`s pick by; `outbox` says what a receiver has still to be told, `message`
//! how it is told, `template` how users want it told; `address` says what may be called, `send`
//! does it by HTTP, `command` by running a program. All but the last two are pure; `send` is
//! left out without the feature `table`, as everything that needs many crates.

pub mod address;
pub mod command;
pub mod matcher;
pub mod message;
pub mod notice;
pub mod outbox;
pub mod remote_write;
pub mod route;
#[cfg(feature = "table")]
pub mod send;
pub mod silence;
pub mod template;
