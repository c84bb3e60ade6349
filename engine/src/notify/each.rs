//! What a receiver hears of: incidents, or the alerts of every series.

use crate::query::body::AlertTransition;

/// What one notification is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Each {
    /// An incident: what fires in one service at once is one thing.
    #[default]
    Incident,
    /// An alert of one series, however many fire at once.
    Alert,
}

impl Each {
    /// Whether that is something the receiver hears of.
    pub fn hears_of(self, transition: &AlertTransition) -> bool {
        transition.incident.is_some() == (self == Each::Incident)
    }
}
