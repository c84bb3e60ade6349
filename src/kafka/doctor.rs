//! What `ninefold doctor` looks at in Kafka: brokers, topics and their partitions against the
//! table, and the group.

use std::collections::HashMap;
use std::path::Path;

use ninefold_engine::audit::{Advice, Level};
use ninefold_engine::config::{Config, KafkaSource};
use ninefold_engine::source::kafka::place::{Obstacle, Span, check_cluster, check_span};
use ninefold_engine::source::kafka::{client, cluster_of, name, split};
use ninefold_engine::table::Table;
use rdkafka::consumer::Consumer;

use super::{BROKER_LIMIT, Counted, Topics, newest_rows};

/// A partition of which retention has left so little behind the offset is told, in percent of
/// its log.
const NEAR_PERCENT: u64 = 10;

/// Looks at the brokers of a source, and at its topics against the table under `dir`.
pub fn advice(config: &Config, source: &KafkaSource, dir: &Path) -> Vec<Advice> {
    let topics = match Topics::reach(source) {
        Ok(topics) => topics,
        Err(error) => {
            let remedy = "look at the addresses, at [source.kafka.options], and at the brokers";
            return vec![Advice::new(Level::Error, "kafka", format!("{error:#}"), remedy)];
        }
    };
    let found = format!("{} brokers of cluster {} answer", topics.brokers, topics.cluster);
    let mut advice = vec![Advice::ok("kafka", found)];
    // What cannot be read of the table was told before.
    let table = Table::open(dir).ok().flatten();
    let rows = table.as_ref().and_then(|table| newest_rows(table).ok()).unwrap_or_default();
    let offsets = table.map(|table| table.offsets()).unwrap_or_default();
    for topic in &source.topics {
        let known = offsets.iter().filter_map(|(name, offset)| match split(name) {
            Some((of, number)) if of == topic => Some((number, *offset)),
            _ => None,
        });
        let look =
            Look { topics: &topics, topic, rows: &rows, window: config.dedupe_window_records };
        advice.extend(look.at_topic(known.collect()));
    }
    advice.push(group(&topics, source));
    advice
}

/// What one topic is looked at with.
struct Look<'a> {
    topics: &'a Topics,
    topic: &'a str,
    rows: &'a HashMap<String, Counted>,
    /// Records of the dedupe window.
    window: u64,
}

impl Look<'_> {
    fn at_topic(&self, mut known: HashMap<i32, u64>) -> Vec<Advice> {
        let about = format!("topic {}", self.topic);
        let error = |found: String, remedy: &str| Advice::new(Level::Error, &about, found, remedy);
        let partitions = match self.topics.partitions(self.topic) {
            Ok(partitions) if partitions.is_empty() => {
                let remedy = "create it, or mend its name in [source.kafka] topics; `run` waits";
                return vec![error("the brokers have no such topic".to_owned(), remedy)];
            }
            Ok(partitions) => partitions,
            Err(other) => return vec![error(format!("{other:#}"), "")],
        };
        let mut advice = Vec::new();
        let (mut behind, mut most, mut new) = (0, (0, 0), 0);
        for number in &partitions {
            let span = match self.topics.span(self.topic, *number) {
                Ok(span) => span,
                Err(other) => {
                    advice.push(error(format!("partition {number}: {other:#}"), ""));
                    continue;
                }
            };
            let Some(offset) = known.remove(number) else {
                new += 1;
                continue;
            };
            let lag = span.end.saturating_sub(offset);
            behind += lag;
            most = most.max((lag, *number));
            advice.extend(self.at_partition(*number, offset, span));
        }
        for number in known.keys() {
            let found = format!("the table has counted partition {number}, which is not there");
            advice.push(error(found, "the topic was created again: give it a new name or table"));
        }
        let mut found = format!("{} partitions, {behind} records behind", partitions.len());
        if behind > 0 {
            found.push_str(&format!(" in all, at most {} in partition {}", most.0, most.1));
        }
        if new > 0 {
            found.push_str(&format!("; {new} not counted yet"));
        }
        advice.push(Advice::ok(&about, found));
        advice
    }

    /// One partition that the table has counted up to `offset`.
    fn at_partition(&self, number: i32, offset: u64, span: Span) -> Option<Advice> {
        let about = format!("partition {}", name(self.topic, number));
        let row = self.rows.get(&name(self.topic, number));
        let cluster = row.and_then(|row| cluster_of(&row.label, self.topic, number));
        let error = |obstacle: Obstacle, remedy: &str| {
            Some(Advice::new(Level::Error, &about, obstacle.to_string(), remedy))
        };
        if let Err(obstacle) = check_cluster(cluster, &self.topics.cluster) {
            // It says itself what to do.
            return error(obstacle, "");
        }
        if let Err(obstacle) = check_span(offset, span) {
            let skip = "compare the log with the table, then `ninefold source skip`; lengthen the \
                        topic's retention";
            return error(obstacle, skip);
        }
        if let Some(row) = row.filter(|row| row.next == offset)
            && self.is_other(number, row).is_some_and(|is_other| is_other)
        {
            let remedy = "for a new topic take a new name or a new table; after an unclean \
                          election compare the log with the table, then `ninefold source skip`";
            return error(Obstacle::Changed { offset: offset - 1 }, remedy);
        }
        let kept = offset - span.begin;
        let warn =
            |found: String, remedy: &str| Some(Advice::new(Level::Warning, &about, found, remedy));
        if kept < self.window && span.begin > 0 {
            let found = format!(
                "the brokers have {kept} records before offset {offset}, and [dedupe] \
                 window_records is {}: after a restart repetitions of older ones count again",
                self.window
            );
            return warn(found, "lengthen the topic's retention, or make the window shorter");
        }
        if offset < span.end
            && kept * 100 < (span.end - span.begin) * NEAR_PERCENT
            && span.begin > 0
        {
            let found = format!(
                "counting stands at offset {offset}, the log begins at {} and ends at {}: \
                 retention comes near",
                span.begin, span.end
            );
            return warn(found, "lengthen the topic's retention, or let more instances count");
        }
        None
    }

    /// Whether the record before the newest range is another one than was counted; `None` where
    /// that cannot be told.
    fn is_other(&self, number: i32, row: &Counted) -> Option<bool> {
        let (last, tail) = (row.next.checked_sub(1)?, row.tail?);
        let mut records = self.topics.records(self.topic, number, last, row.next).ok()?;
        // A record that compaction has removed proves nothing.
        let chunk = records.next()?.ok()?;
        Some(chunk.tail.hash() != tail)
    }
}

fn group(topics: &Topics, source: &KafkaSource) -> Advice {
    let group = &source.group;
    let about = format!("group {group}");
    let told = match topics.consumer.fetch_group_list(Some(group), BROKER_LIMIT) {
        Ok(told) => told,
        Err(error) => {
            let remedy = "the coordinator of the group may be moving: look again";
            return Advice::new(Level::Warning, &about, error.to_string(), remedy);
        }
    };
    let told = told.groups().iter().find(|one| one.name() == group);
    let Some(told) = told.filter(|told| !told.members().is_empty()) else {
        return Advice::ok(&about, "nobody is in it");
    };
    let (members, protocol) = (told.members().len(), told.protocol());
    let found = format!("{members} members, {}", told.state());
    if !protocol.is_empty() && protocol != client::STRATEGY {
        let found = format!("{found}; it shares partitions by {protocol}");
        let remedy = "others than Ninefold are in it: name a group of its own, and give it a start";
        return Advice::new(Level::Error, &about, found, remedy);
    }
    if told.state() != "Stable" {
        let remedy = "look again: where it stays so, members come and go; their messages say why";
        return Advice::new(Level::Warning, &about, found, remedy);
    }
    Advice::ok(&about, found)
}
