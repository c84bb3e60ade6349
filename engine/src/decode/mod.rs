//! From bytes to events: one line in, one event, one refusal or nothing out.

use crate::model::Event;

/// What one line (without its newline) turned out to be.
#[derive(Debug, PartialEq)]
pub enum Line<'a> {
    /// A request.
    Event(Event<'a>),
    /// Blank, or a header of the format (`#Version: 1.0`): neither read nor dead.
    Skip,
    /// A dead letter, with the reason in a few words that name the field and what it takes.
    Dead(String),
}
