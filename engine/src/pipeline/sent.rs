//! What receivers were told: rows of the grain `sent`, which the next commit takes.
//!
//! Invariant: a row is committed after its receiver has taken the notification, so that a crash
//! between the two repeats it and never loses it.

use std::collections::BTreeMap;

use super::{Pipeline, batches};
use crate::notify::outbox::Sent;
use crate::table::schema::Grain;
use crate::table::{DataFile, Filter, Table, TableError};
use crate::time::{Day, Minute, parse_rfc3339};

impl Pipeline {
    /// Takes note of what a receiver was told; the next commit stores it.
    pub fn note_sent(&mut self, sent: Sent) {
        self.sent.push(sent);
    }

    /// The rows since the last commit, by day.
    pub(super) fn sent_files(&self) -> Vec<DataFile> {
        let mut days: BTreeMap<Day, Vec<(Minute, &Sent)>> = BTreeMap::new();
        for sent in &self.sent {
            let at_ms = parse_rfc3339(sent.at.as_bytes()).expect("an outbox writes RFC 3339");
            let minute = Minute::of_ms(at_ms);
            days.entry(minute.day()).or_default().push((minute, sent));
        }
        let file = |(day, rows): (Day, Vec<(Minute, &Sent)>)| {
            let nobody = || batches::texts(rows.iter().map(|_| ""));
            let json: Vec<String> = rows
                .iter()
                .map(|(_, sent)| serde_json::to_string(sent).expect("it is plain data"))
                .collect();
            let columns = vec![
                batches::minutes(rows.iter().map(|(minute, _)| *minute)),
                nobody(),
                nobody(),
                batches::texts(rows.iter().map(|(_, sent)| sent.id.as_str())),
                batches::texts(rows.iter().map(|(_, sent)| sent.fingerprint.as_str())),
                batches::texts(json.iter().map(String::as_str)),
            ];
            let batches = vec![batches::batch(Grain::Sent, columns)];
            DataFile { grain: Grain::Sent, day, batches }
        };
        days.into_iter().map(file).collect()
    }
}

/// What receivers were told in some minutes, oldest first.
///
/// # Errors
/// The table cannot be read, or a row in it is damaged.
pub fn stored_sent(table: &Table, filter: &Filter) -> Result<Vec<Sent>, TableError> {
    let (mut found, mut damaged) = (Vec::new(), None);
    table.for_each_sent(filter, |row| match serde_json::from_str::<Sent>(row.alert) {
        Ok(sent) => found.push(sent),
        Err(error) => damaged = Some(format!("{}: {error}", row.id)),
    })?;
    if let Some(found) = damaged {
        return Err(TableError::Value { grain: Grain::Sent.name(), column: "alert", found });
    }
    found.sort_by_key(|sent| parse_rfc3339(sent.at.as_bytes()));
    Ok(found)
}
