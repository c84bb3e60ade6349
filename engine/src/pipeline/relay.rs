//! Rows of the table on their way to other people's logs: dead letters and alert transitions, as
//! key and body.
//!
//! What was sent is a version of the table, under an application id of its own in the log: every
//! row of the entries up to it has arrived. So what is to be sent is what the table holds, and
//! neither a crash nor a receiver that is away for days loses a row. A row may arrive again,
//! under the same key.

use serde::Serialize;

use super::watch::Stored;
use crate::table::schema::Grain;
use crate::table::{Filter, RELAY, Table, TableError};

/// Which rows are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// Dead letters: the key is `PARTITION/OFFSET`, the body what the grain `dead` holds.
    Dead,
    /// Live alert transitions: the key is the fingerprint, the body that of `/v1/alerts`.
    Alerts,
}

/// A dead letter as JSON.
#[derive(Serialize)]
struct Dead<'a> {
    /// The partition that it was read from.
    source: &'a str,
    /// Where in it.
    offset: u64,
    reason: &'a str,
    /// Its first 4 KiB; what is no UTF-8 in it is U+FFFD.
    line: &'a str,
}

impl Relayed {
    /// The application id of what was sent to a topic.
    ///
    /// ```
    /// use ninefold_engine::pipeline::relay::Relayed;
    /// assert_eq!(Relayed::Alerts.position("pages"), "relay/alert/pages");
    /// ```
    pub fn position(self, topic: &str) -> String {
        let grain = match self {
            Relayed::Dead => Grain::Dead,
            Relayed::Alerts => Grain::Alert,
        };
        format!("{RELAY}{}/{topic}", grain.name())
    }

    /// Visits key and body of every row that passes a filter.
    ///
    /// # Errors
    /// The table cannot be read, or a row in it is damaged.
    pub fn for_each(
        self,
        table: &Table,
        filter: &Filter,
        mut visit: impl FnMut(&str, &[u8]),
    ) -> Result<(), TableError> {
        let json = |body: Result<Vec<u8>, _>| body.expect("it is plain data");
        let mut damaged = None;
        match self {
            Relayed::Dead => {
                table.for_each_dead(filter, |row| {
                    let (source, offset, reason) = (row.partition, row.offset, row.reason);
                    let line = &String::from_utf8_lossy(row.line);
                    let body = serde_json::to_vec(&Dead { source, offset, reason, line });
                    visit(&format!("{source}/{offset}"), &json(body));
                })?;
            }
            Relayed::Alerts => {
                table.for_each_alert(filter, |row| {
                    match serde_json::from_str::<Stored>(row.alert) {
                        Ok(stored) => {
                            visit(row.fingerprint, &json(serde_json::to_vec(&stored.transition)));
                        }
                        Err(error) => damaged = Some(format!("{}: {error}", row.id)),
                    }
                })?;
            }
        }
        let error =
            |found| TableError::Value { grain: Grain::Alert.name(), column: "alert", found };
        damaged.map_or(Ok(()), |found| Err(error(found)))
    }
}
