//! One live data file as the log describes it, and whether a filter can leave it out.
//!
//! Statistics are bounds: a file without them, or with ones that cannot be read, is kept. A
//! bound may be longer or shorter than the value that it bounds (other writers cut strings),
//! which is why it is only ever compared.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, AsArray, MapArray, RecordBatch};
use arrow::datatypes::Int64Type;

use super::error::TableError;
use super::log::Add as NewFile;
use super::scan::Filter;
use super::schema::Grain;
use crate::delta::{Add, Stats, parse_day, relative};
use crate::time::{Day, Minute};

/// The tag of an `add` with the hash of the file.
pub(crate) const TAG_SHA256: &str = "sha256";

/// The tag of an `add` that a compaction made: 1 by hours, 2 by the day.
pub(crate) const TAG_LEVEL: &str = "level";

/// The tag of a coarse file's `add`: the path of the file of minutes that it sums.
pub(crate) const TAG_COVERS: &str = "covers";

/// A file that the log adds and has not removed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LiveFile {
    /// Relative to the table, decoded, without `..`.
    pub path: String,
    /// Its value of the partition column `grain`.
    pub grain: String,
    /// Its value of the partition column `day`.
    pub day: Option<Day>,
    /// Bytes.
    pub size: u64,
    /// Rows, where the log says so.
    pub rows: Option<u64>,
    /// When it was written, in epoch milliseconds; 0 where that is not known.
    pub modified_ms: i64,
    /// Hex of the hash of the whole file, where the log says so.
    pub sha256: Option<String>,
    /// How often its rows were compacted: 0 as committed, 1 by hours, 2 by the day.
    pub level: u8,
    /// Of a coarse file: the path of the file of minutes that it sums.
    pub covers: Option<String>,
    /// The least and the greatest minute of its rows, or beyond them, where the log says so.
    pub minutes: Option<(Minute, Minute)>,
    customers: Option<(String, String)>,
}

impl LiveFile {
    /// A file that was written a moment ago and is in no log yet, to read it back.
    pub fn written(add: &NewFile) -> LiveFile {
        LiveFile {
            path: add.path.clone(),
            grain: add.grain.name().to_owned(),
            day: Some(add.day),
            size: add.size,
            rows: None,
            modified_ms: 0,
            sha256: add.tags.get(TAG_SHA256).cloned(),
            level: 0,
            covers: None,
            minutes: None,
            customers: None,
        }
    }

    /// Appends the selected rows of one batch of the kernel's scan metadata to `files`. Rows
    /// past the end of `selected` are selected.
    pub fn read_all(
        batch: &RecordBatch,
        selected: &[bool],
        files: &mut Vec<LiveFile>,
    ) -> Result<(), TableError> {
        let column = |name: &str| batch.column_by_name(name).expect("the kernel's scan row");
        let paths = column("path").as_string::<i32>();
        let sizes = column("size").as_primitive::<Int64Type>();
        let modified = column("modificationTime").as_primitive::<Int64Type>();
        let stats = column("stats").as_string::<i32>();
        let deletions = column("deletionVector");
        let constants = column("fileConstantValues").as_struct();
        let map = |name: &str| constants.column_by_name(name).map(|column| column.as_map());
        let (partition_values, tags) = (map("partitionValues"), map("tags"));
        for row in 0..batch.num_rows() {
            if !selected.get(row).copied().unwrap_or(true) || paths.is_null(row) {
                continue;
            }
            let path = paths.value(row);
            let path =
                relative(path).ok_or_else(|| TableError::FilePath { found: path.to_owned() })?;
            if deletions.is_valid(row) {
                let found = format!("a deletion vector on {path}");
                return Err(TableError::Unsupported { path: path.into(), found });
            }
            let value = |name| partition_values.and_then(|values| entry(values, row, name));
            let tag = |name| tags.and_then(|tags| entry(tags, row, name));
            let stats = if stats.is_valid(row) { stats.value(row) } else { "" };
            let Stats { rows, minutes, customers } = Stats::parse(stats);
            files.push(LiveFile {
                grain: value("grain").unwrap_or_default(),
                day: value("day").and_then(|day| parse_day(&day)),
                size: sizes.value(row).try_into().unwrap_or(0),
                rows,
                modified_ms: if modified.is_valid(row) { modified.value(row) } else { 0 },
                sha256: tag(TAG_SHA256),
                level: tag(TAG_LEVEL).and_then(|level| level.parse().ok()).unwrap_or(0),
                covers: tag(TAG_COVERS),
                minutes,
                customers,
                path,
            });
        }
        Ok(())
    }

    /// A file as a log entry adds it.
    pub fn of_add(add: Add) -> Result<LiveFile, TableError> {
        let Add { path, grain, day, size, sha256, deletion_vector, stats, .. } = add;
        if deletion_vector {
            let found = format!("a deletion vector on {path}");
            return Err(TableError::Unsupported { path: path.into(), found });
        }
        let Stats { rows, minutes, customers } = stats;
        let (modified_ms, level, covers) = (0, 0, None);
        Ok(LiveFile {
            path,
            grain,
            day,
            size,
            rows,
            modified_ms,
            sha256,
            level,
            covers,
            minutes,
            customers,
        })
    }

    /// Which rows of one batch of the kernel's scan metadata are live and named by `paths`.
    pub fn selected(batch: &RecordBatch, selected: &[bool], paths: &HashSet<String>) -> Vec<bool> {
        let column = batch.column_by_name("path").expect("the kernel's scan row");
        let column = column.as_string::<i32>();
        let named = |row: usize| {
            column.is_valid(row)
                && relative(column.value(row)).is_some_and(|path| paths.contains(&path))
        };
        let rows = 0..batch.num_rows();
        rows.map(|row| selected.get(row).copied().unwrap_or(true) && named(row)).collect()
    }

    /// Notes the `remove` actions of one batch: paths and epoch milliseconds. Batches come
    /// newest first; an action without a time counts as of the epoch.
    pub fn read_removed(
        batch: &RecordBatch,
        removed: &mut HashMap<String, i64>,
    ) -> Result<(), TableError> {
        let Some(remove) = batch.column_by_name("remove").and_then(|found| found.as_struct_opt())
        else {
            return Ok(());
        };
        let column = |name: &str| remove.column_by_name(name).expect("the schema asked for it");
        let paths = column("path").as_string::<i32>();
        let times = column("deletionTimestamp").as_primitive::<Int64Type>();
        for row in (0..batch.num_rows()).filter(|row| remove.is_valid(*row)) {
            let time_ms = if times.is_valid(row) { times.value(row) } else { 0 };
            let path = paths.value(row);
            let path =
                relative(path).ok_or_else(|| TableError::FilePath { found: path.to_owned() })?;
            removed.entry(path).or_insert(time_ms);
        }
        Ok(())
    }

    /// Whether the file may hold a row of `grain` that passes `filter`.
    pub fn may_hold(&self, grain: Grain, filter: &Filter) -> bool {
        self.grain == grain.name()
            && filter.file.as_ref().is_none_or(|file| *file == self.path)
            && meets(&filter.days, self.day.map(|day| (day, day)))
            && meets(&filter.minutes, self.minutes)
            && self.customers.as_ref().is_none_or(|(least, greatest)| {
                filter.may_hold_customer(Some(least.as_bytes()), Some(greatest.as_bytes()))
            })
    }
}

/// Whether `wanted` and the bounds have a value in common, as far as is known.
fn meets<T: PartialOrd + Copy>(
    wanted: &Option<std::ops::RangeInclusive<T>>,
    bounds: Option<(T, T)>,
) -> bool {
    match (wanted, bounds) {
        (Some(wanted), Some((least, greatest))) => {
            *wanted.start() <= greatest && least <= *wanted.end()
        }
        _ => true,
    }
}

fn entry(map: &MapArray, row: usize, name: &str) -> Option<String> {
    if map.is_null(row) {
        return None;
    }
    let entries = map.value(row);
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
    let values = values.as_string::<i32>();
    let at = (0..keys.len()).find(|at| keys.value(*at) == name)?;
    values.is_valid(at).then(|| values.value(at).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_rfc3339;

    #[test]
    fn a_file_is_left_out_only_where_its_bounds_say_so() {
        let stats = Stats::parse(
            r#"{"minValues": {"minute": "2026-11-01T00:05:00.000Z", "customer": "b"},
                "maxValues": {"minute": "2026-11-01T00:10:00Z", "customer": "d"}}"#,
        );
        let start = Minute::of_ms(parse_rfc3339(b"2026-11-01T00:00:00Z").unwrap());
        let file = LiveFile {
            path: "f".into(),
            grain: "series".into(),
            day: parse_day("2026-11-01"),
            size: 1,
            rows: None,
            modified_ms: 0,
            sha256: None,
            level: 0,
            covers: None,
            minutes: stats.minutes,
            customers: stats.customers,
        };
        let minute = |offset: u32| Minute(start.0 + offset);
        let check = |filter: Filter, expect: bool| {
            assert_eq!(file.may_hold(Grain::Series, &filter), expect, "{filter:?}");
        };
        let (none, day) = (Filter::default(), start.day());
        check(none.clone(), true);
        check(Filter { minutes: Some(minute(0)..=minute(4)), ..none.clone() }, false);
        check(Filter { minutes: Some(minute(0)..=minute(5)), ..none.clone() }, true);
        check(Filter { minutes: Some(minute(10)..=minute(20)), ..none.clone() }, true);
        check(Filter { minutes: Some(minute(11)..=minute(20)), ..none.clone() }, false);
        check(Filter { customer: Some("a".into()), ..none.clone() }, false);
        check(Filter { customer: Some("c".into()), ..none.clone() }, true);
        check(Filter { customer: Some("da".into()), ..none.clone() }, false);
        check(Filter { days: Some(day..=day), ..none.clone() }, true);
        check(Filter { days: Some(Day(day.0 + 1)..=Day(day.0 + 9)), ..none.clone() }, false);
        assert!(!file.may_hold(Grain::Sli, &none));
        let unknown = LiveFile { minutes: None, customers: None, day: None, ..file.clone() };
        assert!(unknown.may_hold(
            Grain::Series,
            &Filter { customer: Some("z".into()), minutes: Some(minute(0)..=minute(1)), ..none }
        ));
    }
}
