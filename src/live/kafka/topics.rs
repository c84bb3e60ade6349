//! Topics that the table has never seen: where their counting begins, once and for all.

use anyhow::{Context, bail};
use ninefold_engine::config::KafkaStart;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::group::Id;
use super::{Reader, add};
use crate::kafka::BROKER_LIMIT;

impl Reader {
    /// Begins the topics that are there by now, and subscribes to them with the others.
    ///
    /// # Errors
    /// A group that has counted before has no position in this table.
    pub(super) fn begin_missing_topics(&mut self) -> anyhow::Result<()> {
        let missing = std::mem::take(&mut self.look.missing);
        if missing.is_empty() {
            return Ok(());
        }
        let count = missing.len();
        for topic in missing {
            if !self.begin_topic(&topic)? {
                self.look.missing.push(topic);
            }
        }
        if self.look.missing.len() < count {
            let is_there = |topic: &&String| !self.look.missing.contains(topic);
            let topics: Vec<&str> =
                self.source.topics.iter().filter(is_there).map(String::as_str).collect();
            self.consumer.subscribe(&topics).context("source.kafka.topics")?;
        }
        Ok(())
    }

    /// Begins one topic; false where it is not there, or cannot be asked for now.
    fn begin_topic(&mut self, topic: &str) -> anyhow::Result<bool> {
        match self.places.knows_topic(topic) {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(error) => {
                self.look.note_store(Some(error.to_string()));
                return Ok(false);
            }
        }
        let starts = self.partitions_of(topic).and_then(|partitions| {
            if partitions.is_empty() {
                return Ok(Vec::new());
            }
            let told = self.is_known_to_the_group(&partitions)?;
            Ok(vec![(self.starts(&partitions)?, told)])
        });
        let (starts, told) = match starts {
            Ok(mut starts) => match starts.pop() {
                Some(starts) => starts,
                None => return Ok(false),
            },
            Err(error) => {
                self.look.note_error(format!("{topic}: {error:#}"));
                return Ok(false);
            }
        };
        // Another instance may have begun it since: then its offsets are those of the table.
        if told && !self.places.knows_topic(topic).unwrap_or(true) {
            let group = &self.source.group;
            bail!(
                "the table has no position for group {group} in topic {topic}, but the group has \
                 offsets there: this is not the table that it has counted into. Use that one, or \
                 name a group that is new (source.kafka.group), with start saying where to begin"
            );
        }
        match self.places.begin_topic(topic, &starts) {
            // Where it was not first, somebody else has begun it.
            Ok(_) => Ok(true),
            Err(error) => {
                self.look.note_store(Some(format!("{error:#}")));
                Ok(false)
            }
        }
    }

    /// The partitions that a topic has; none where it is not there.
    fn partitions_of(&self, topic: &str) -> anyhow::Result<Vec<Id>> {
        let metadata = self.consumer.fetch_metadata(Some(topic), BROKER_LIMIT)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(&[][..], |found| found.partitions());
        Ok(partitions.iter().map(|one| (topic.to_owned(), one.id())).collect())
    }

    /// Whether Kafka has offsets of the group in any of these partitions.
    fn is_known_to_the_group(&self, partitions: &[Id]) -> anyhow::Result<bool> {
        let mut list = TopicPartitionList::new();
        partitions.iter().for_each(|id| add(&mut list, id, Offset::Invalid));
        let told = self.consumer.committed_offsets(list, BROKER_LIMIT)?;
        Ok(told.elements().iter().any(|one| matches!(one.offset(), Offset::Offset(_))))
    }

    /// Where each partition begins.
    fn starts(&self, partitions: &[Id]) -> anyhow::Result<Vec<(i32, u64)>> {
        let at_ms = match self.source.start {
            KafkaStart::At(at_ms) => Some(at_ms),
            KafkaStart::Earliest | KafkaStart::Latest => None,
        };
        let by_time = at_ms.map(|at_ms| self.offsets_at(partitions, at_ms)).transpose()?;
        let mut starts = Vec::with_capacity(partitions.len());
        for id in partitions {
            let span = self.span(id)?;
            let start = match (&by_time, self.source.start) {
                (Some(list), _) => {
                    let found = list.find_partition(&id.0, id.1).map(|one| one.offset());
                    match found {
                        Some(Offset::Offset(offset)) => u64::try_from(offset).unwrap_or(span.end),
                        // Nothing is as late as that.
                        _ => span.end,
                    }
                }
                (None, KafkaStart::Latest) => span.end,
                (None, _) => span.begin,
            };
            starts.push((id.1, start));
        }
        Ok(starts)
    }

    fn offsets_at(&self, partitions: &[Id], at_ms: i64) -> anyhow::Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        partitions.iter().for_each(|id| add(&mut list, id, Offset::Offset(at_ms)));
        Ok(self.consumer.offsets_for_times(list, BROKER_LIMIT)?)
    }
}
