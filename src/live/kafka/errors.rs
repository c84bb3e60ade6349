//! Errors of the client: whom they concern, which it mostly does not say, and what is done.

use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use ninefold_engine::source::kafka::place;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Reader;
use super::group::Id;
use super::partition::{Partition, State};
use crate::kafka::span;

/// Brokers that tell twice within this time that a topic is gone are heard once.
const PROVE_INTERVAL: Duration = Duration::from_secs(5);

impl Reader {
    /// Acts on an error of the client.
    pub(super) fn heed(&mut self, error: &KafkaError) -> anyhow::Result<()> {
        use RDKafkaErrorCode as Code;
        if let Some((code, why)) = self.consumer.client().fatal_error() {
            bail!(fatal(code, &why));
        }
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset) => self.find_out_of_range(),
            Some(Code::BadMessage) => self.find_corrupt(),
            Some(
                Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::UnknownTopicId,
            ) => self.prove_all(),
            _ => {
                let told = self.consumer.context().error();
                self.look.note_error(told.unwrap_or_else(|| error.to_string()));
                Ok(())
            }
        }
    }

    /// Some position is not in its log; the client does not say which. So all are compared with
    /// their logs, and those that are fine are fetched again.
    fn find_out_of_range(&mut self) -> anyhow::Result<()> {
        let mut again = Vec::new();
        for id in self.ids(Partition::is_live) {
            let span = match self.span(&id) {
                Ok(span) => span,
                Err(error) => {
                    self.look.note_error(format!("{}/{}: {error}", id.0, id.1));
                    // The client says it once: the place is looked up again.
                    if let Some(partition) = self.partitions.get_mut(&id) {
                        partition.state = State::Waiting;
                    }
                    continue;
                }
            };
            let Some(partition) = self.partitions.get(&id) else { continue };
            let position = partition.position();
            match place::check_span(position, span) {
                Ok(()) => {
                    let from = partition.fetch_from().max(span.begin);
                    self.look.note_expired(&id, from - partition.fetch_from());
                    again.push((id, from));
                }
                Err(obstacle) => self.stop_partition(&id, obstacle.to_string(), Some(position))?,
            }
        }
        self.fetch(&again)
    }

    pub(super) fn span(&self, (topic, number): &Id) -> anyhow::Result<place::Span> {
        span(&*self.consumer, topic, *number)
    }

    /// A topic was gone: what is there now may be another one of its name. Every log is proved.
    fn prove_all(&mut self) -> anyhow::Result<()> {
        if self.proved.is_some_and(|proved| proved.elapsed() < PROVE_INTERVAL) {
            return Ok(());
        }
        self.proved = Some(Instant::now());
        let mut again = Vec::new();
        for id in self.ids(|partition| matches!(partition.state, State::Reading)) {
            self.assignments += 1;
            let generation = self.assignments;
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            let from = partition.prove_again(generation);
            again.push((id, from));
        }
        self.fetch(&again)
    }
}

/// What a fatal error means.
fn fatal(code: RDKafkaErrorCode, why: &str) -> anyhow::Error {
    match code {
        RDKafkaErrorCode::FencedInstanceId => anyhow!(
            "another instance uses the same group.instance.id ({why}); give each its own, or \
             leave the option out"
        ),
        _ => anyhow!("the Kafka client cannot go on: {why}"),
    }
}
