//! Decisions of people: corrections and silences, each committed by itself as a row.
//!
//! They move no offset, so nothing fences them and they fence nobody: they land beside whatever
//! is being counted, and a running service finds them in the log. A commit that fails without a
//! word may have landed; who repeats it makes a second row that says the same.

use arrow::array::ArrayRef;
use uuid::Uuid;

use super::{batches, file_of};
use crate::notify::silence::{Silence, merged};
use crate::table::correction::Correction;
use crate::table::schema::Grain;
use crate::table::{CommitError, Epoch, Filter, Table, TableError};
use crate::time::{Day, Minute, parse_rfc3339};

/// A name for a further decision.
pub fn new_id() -> String {
    Uuid::new_v4().to_string()
}

/// Commits a correction; returns the version that it made.
///
/// # Errors
/// It did not land.
///
/// # Panics
/// If its times are none.
pub fn correct(table: &mut Table, correction: &Correction) -> Result<u64, CommitError> {
    let from = parse_rfc3339(correction.from.as_bytes()).expect("its times are times");
    let json = serde_json::to_string(correction).expect("it is plain data");
    let info = format!("correction {}: {}", correction.id, correction.reason);
    commit(table, Grain::Correction, (Minute::of_ms(from), &correction.id, &json), info)
}

/// Commits a silence, or its end; returns the version that it made.
///
/// # Errors
/// It did not land.
pub fn silence(table: &mut Table, silence: &Silence) -> Result<u64, CommitError> {
    let from = parse_rfc3339(silence.from.as_bytes()).expect("its times are times");
    let json = serde_json::to_string(silence).expect("it is plain data");
    let info = format!("silence {} until {}", silence.id, silence.to);
    commit(table, Grain::Silence, (Minute::of_ms(from), &silence.id, &json), info)
}

fn commit(
    table: &mut Table,
    grain: Grain,
    (minute, id, json): (Minute, &str, &str),
    info: String,
) -> Result<u64, CommitError> {
    let text = |text: &str| -> ArrayRef { batches::texts(std::iter::once(text)) };
    let minute = batches::minutes(std::iter::once(minute));
    let columns = vec![minute, text(""), text(""), text(id), text(""), text(json)];
    let files = vec![file_of(grain, Day(0), columns)];
    table.commit(Epoch { files, moves: Vec::new(), info })
}

/// The silences of a table, ended ones too; each once, in the order in which they begin.
///
/// # Errors
/// The table cannot be read, or a row in it is damaged.
pub fn stored_silences(table: &Table) -> Result<Vec<Silence>, TableError> {
    let (mut rows, mut damaged) = (Vec::new(), None);
    table.for_each_silence(&Filter::default(), |row| match serde_json::from_str(row.alert) {
        Ok(silence) => rows.push(silence),
        Err(error) => damaged = Some(format!("{}: {error}", row.id)),
    })?;
    let error = |found| TableError::Value { grain: Grain::Silence.name(), column: "alert", found };
    damaged.map_or(Ok(merged(rows)), |found| Err(error(found)))
}
