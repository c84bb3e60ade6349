//! The columns of the rollup table: one table, one schema, several grains.
//!
//! Every grain uses a part of one wide, nullable schema; the partition columns `grain` and
//! `day` are not stored in the files. Rows are *partial*: readers sum rows of one key.
//! The page for readers is `docs/format/table.md`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// What one row stands for: the value of the partition column `grain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grain {
    /// One minute of one customer, service and customer dimensions.
    Series,
    /// The counts of one further SLI, keyed as [`Grain::Series`].
    Sli,
    /// One minute of one service and all its dimensions, all customers together.
    Dimension,
    /// Bad events only, with all dimensions and the status.
    Failure,
    /// A live transition of an alert.
    Alert,
    /// A change of an incident.
    Incident,
    /// That a release or a flag has turned out bad, or that this is over.
    Verdict,
    /// That a receiver was told of a live transition, an incident or a verdict.
    Sent,
    /// What somebody has excluded of what was counted before.
    Correction,
    /// For how long nobody is told of some alerts.
    Silence,
    /// A dead letter.
    Dead,
    /// A part of a partition that will never be counted, and that somebody has accepted.
    Gap,
    /// How far one partition was counted by one commit, and what became of its lines.
    Source,
    /// [`Grain::Series`] by the hour and without its partition, for the files that a compaction
    /// has made: a shortcut for whoever reads hours, never more than what those files hold.
    SeriesHour,
    /// The same by the day.
    SeriesDay,
}

/// The columns that rows of one key have in common.
pub(crate) struct Key {
    /// What files are sorted by, in this order.
    pub sorted: Vec<&'static str>,
    /// The rest of the key.
    pub rest: Vec<&'static str>,
}

impl Grain {
    /// Every grain that this version writes.
    pub const ALL: [Grain; 15] = [
        Grain::Series,
        Grain::Sli,
        Grain::Dimension,
        Grain::Failure,
        Grain::Alert,
        Grain::Incident,
        Grain::Verdict,
        Grain::Sent,
        Grain::Correction,
        Grain::Silence,
        Grain::Dead,
        Grain::Gap,
        Grain::Source,
        Grain::SeriesHour,
        Grain::SeriesDay,
    ];

    /// The value of the column `grain`.
    pub fn name(self) -> &'static str {
        match self {
            Grain::Series => "series",
            Grain::Sli => "sli",
            Grain::Dimension => "dimension",
            Grain::Failure => "failure",
            Grain::Alert => "alert",
            Grain::Incident => "incident",
            Grain::Verdict => "verdict",
            Grain::Sent => "sent",
            Grain::Correction => "correction",
            Grain::Silence => "silence",
            Grain::Dead => "dead",
            Grain::Gap => "gap",
            Grain::Source => "source",
            Grain::SeriesHour => "series_hour",
            Grain::SeriesDay => "series_day",
        }
    }

    /// The grain of this name; `None` for names of other versions.
    pub fn of_name(name: &str) -> Option<Grain> {
        Grain::ALL.into_iter().find(|grain| grain.name() == name)
    }

    /// What makes rows summable; `None` where each row stands for itself.
    pub(crate) fn key(self) -> Option<Key> {
        let customer = vec!["customer", "service", "minute"];
        let source = ["partition", "rules"];
        let dimensions = [
            "release",
            "cohort",
            "region",
            "route",
            "attribute_1",
            "attribute_2",
            "attribute_3",
            "attribute_4",
        ];
        let (sorted, rest) = match self {
            Grain::Series => (customer, ["release", "cohort"].into_iter().chain(source).collect()),
            Grain::SeriesHour | Grain::SeriesDay => (customer, vec!["release", "cohort", "rules"]),
            Grain::Sli => {
                (customer, ["release", "cohort", "sli"].into_iter().chain(source).collect())
            }
            Grain::Dimension => {
                (vec!["service", "minute"], dimensions.into_iter().chain(source).collect())
            }
            Grain::Failure => {
                (customer, dimensions.into_iter().chain(["status"]).chain(source).collect())
            }
            Grain::Alert
            | Grain::Incident
            | Grain::Verdict
            | Grain::Sent
            | Grain::Correction
            | Grain::Silence
            | Grain::Dead
            | Grain::Gap
            | Grain::Source => return None,
        };
        Some(Key { sorted, rest })
    }

    /// The columns of this grain, in the order of its files.
    pub fn schema(self) -> SchemaRef {
        let minute = || Field::new("minute", timestamp(), true);
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let int = |name: &str| Field::new(name, DataType::Int64, true);
        let customer_key =
            || vec![minute(), text("customer"), text("service"), text("release"), text("cohort")];
        let dimensions = || {
            [
                "service",
                "release",
                "cohort",
                "region",
                "route",
                "attribute_1",
                "attribute_2",
                "attribute_3",
                "attribute_4",
            ]
            .map(text)
        };
        let measures = || {
            let ints =
                ["valid", "bad", "excluded", "timed", "slow", "latency_sum_us", "latency_max_us"];
            let mut fields: Vec<Field> = ints.into_iter().map(int).collect();
            fields.push(Field::new("latency", DataType::Binary, true));
            fields
        };
        let source = || vec![text("partition"), text("rules")];
        let fields = match self {
            Grain::Series => [customer_key(), measures(), source()].concat(),
            Grain::SeriesHour | Grain::SeriesDay => {
                [customer_key(), measures(), vec![text("rules")]].concat()
            }
            Grain::Sli => {
                let counts = vec![text("sli"), int("valid"), int("bad"), int("excluded")];
                [customer_key(), counts, source()].concat()
            }
            Grain::Dimension => {
                [vec![minute()], dimensions().to_vec(), measures(), source()].concat()
            }
            Grain::Failure => {
                let bad = vec![int("status"), int("bad")];
                [vec![minute(), text("customer")], dimensions().to_vec(), bad, source()].concat()
            }
            // `alert` is the transition, the incident or the verdict as JSON, with the keys of the
            // API; or what was sent of it; or the decision. Only a transition has a customer.
            Grain::Alert
            | Grain::Incident
            | Grain::Verdict
            | Grain::Sent
            | Grain::Correction
            | Grain::Silence => [
                vec![minute()],
                ["customer", "service", "id", "fingerprint", "alert"].map(text).to_vec(),
            ]
            .concat(),
            Grain::Dead => vec![
                text("partition"),
                int("offset"),
                text("reason"),
                Field::new("line", DataType::Binary, true),
            ],
            // The minutes are those of which events may be missing: from the newest one that was
            // counted of the partition until somebody accepted the gap.
            Grain::Gap => vec![
                minute(),
                Field::new("minute_last", timestamp(), true),
                text("partition"),
                int("first"),
                int("next"),
                text("reason"),
            ],
            Grain::Source => {
                let ints = [
                    "first",
                    "next",
                    "read",
                    "counted",
                    "events",
                    "dead",
                    "duplicate",
                    "holes",
                    "invalid_latency",
                ];
                let mut fields = vec![text("partition"), text("name")];
                fields.extend(ints.into_iter().map(int));
                // SHA-256 of the last KiB before `next`: tells a grown file from another one.
                fields.push(Field::new("tail", DataType::Binary, true));
                fields
            }
        };
        Arc::new(Schema::new(fields))
    }
}

/// The columns that place a file; they are in its path and in the log, not in the file.
pub const PARTITION_COLUMNS: [&str; 2] = ["grain", "day"];

/// The columns that the log keeps the least and greatest value of, for each file.
pub const STATS_COLUMNS: [&str; 3] = ["minute", "customer", "service"];

/// The one schema of the table: the partition columns, then every column of every grain, in
/// the order in which [`Grain::ALL`] first names it. All are nullable: a file has the columns
/// of its grain alone.
pub fn wide_schema() -> SchemaRef {
    let mut fields =
        vec![Field::new("grain", DataType::Utf8, true), Field::new("day", DataType::Date32, true)];
    for grain in Grain::ALL {
        for field in grain.schema().fields() {
            match fields.iter().find(|known| known.name() == field.name()) {
                Some(known) => assert_eq!(known, field.as_ref(), "one name has one type"),
                None => fields.push(field.as_ref().clone()),
            }
        }
    }
    Arc::new(Schema::new(fields))
}

/// The type of every time column: microseconds, UTC.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wide_schema_has_every_column_of_every_grain_once() {
        let wide = wide_schema();
        for grain in Grain::ALL {
            for field in grain.schema().fields() {
                assert_eq!(wide.field_with_name(field.name()).unwrap(), field.as_ref());
                assert!(!PARTITION_COLUMNS.contains(&field.name().as_str()));
            }
        }
        let mut names: Vec<_> = wide.fields().iter().map(|field| field.name()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), wide.fields().len());
        for name in STATS_COLUMNS {
            assert!(wide.field_with_name(name).is_ok());
        }
    }
}
