//! What the client library tells between records: rebalances, statistics, errors.
//!
//! Its callbacks only write down what they are told; the thread that polls acts on it, so that
//! there is one place where partitions come and go. The library waits for the answer to a
//! rebalance, whenever it comes. Only when the consumer is closed, and nobody polls any more,
//! are partitions let go in the callback itself.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::states::lock;

/// A topic and the number of one of its partitions.
pub type Id = (String, i32);

/// A change of the partitions that the group gives to this instance.
#[derive(Clone, Debug)]
pub enum Change {
    /// These are ours from now on.
    Assigned(Vec<Id>),
    /// These are to be given back; `lost` where others may have them already.
    Revoked {
        /// Which.
        partitions: Vec<Id>,
        /// Whether they are gone already.
        lost: bool,
    },
}

/// The notes of the callbacks.
#[derive(Default)]
pub struct Group {
    changes: Mutex<VecDeque<Change>>,
    statistics: Mutex<Option<Statistics>>,
    error: Mutex<Option<String>>,
    closing: AtomicBool,
}

impl Group {
    /// The oldest change that was not acted on.
    pub fn next_change(&self) -> Option<Change> {
        lock(&self.changes).pop_front()
    }

    /// The newest statistics, once.
    pub fn statistics(&self) -> Option<Statistics> {
        lock(&self.statistics).take()
    }

    /// The newest error of the client, once.
    pub fn error(&self) -> Option<String> {
        lock(&self.error).take()
    }

    /// From now on partitions are let go at once.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

impl ClientContext for Group {
    fn stats(&self, statistics: Statistics) {
        *lock(&self.statistics) = Some(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        *lock(&self.error) = Some(format!("{error}: {reason}"));
    }

    /// Errors are told by [`Group::error`]; the rest is for who debugs the library.
    fn log(&self, _level: rdkafka::config::RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

impl ConsumerContext for Group {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let partitions: Vec<Id> = ids(list);
        if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            lock(&self.changes).push_back(Change::Assigned(partitions));
            return;
        }
        if self.closing.load(Ordering::Acquire) {
            // What fails here is not ours any more.
            let held = consumer.assignment().unwrap_or_else(|_| TopicPartitionList::new());
            let _ = consumer.incremental_unassign(&held);
            return;
        }
        let lost = consumer.assignment_lost();
        lock(&self.changes).push_back(Change::Revoked { partitions, lost });
    }
}

/// The partitions of a list.
fn ids(list: &TopicPartitionList) -> Vec<Id> {
    list.elements().iter().map(|one| (one.topic().to_owned(), one.partition())).collect()
}
