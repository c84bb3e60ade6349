//! Records that the client library has fetched, taken many at a time.
//!
//! The consumer itself hands out one record a call, with two locks, three looks at the clock and
//! an allocation for each. Here the partitions' queues are led into one of our own, and all that
//! waits in it is taken by one call. Changes of the group and what the client tells stay in the
//! consumer's queue, which must be polled as ever.
//!
//! Invariants:
//! - Records of a partition come in their order. Before its first assignment a partition must be
//!   led here, or some may come by the consumer's queue.
//! - The library ends the lead when it stops to fetch a partition, at a moment that it does not
//!   tell. What it fetches afterwards waits in the partition's queue, and comes when the
//!   partition is led again: [`Fetched::lead`] is to be called for each of them, often.
//! - A record lives no longer than the queue, and the queue no longer than its consumer.
#![expect(unsafe_code, reason = "the library has no safe interface to take many records at once")]

use std::ffi::{CStr, CString};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::group::{Group, Id};

/// The queue that records come in.
pub struct Fetched {
    consumer: Arc<BaseConsumer<Group>>,
    queue: NonNull<native::rd_kafka_queue_t>,
}

// SAFETY: queues of the library may be used by any thread, and by many at once.
unsafe impl Send for Fetched {}
// SAFETY: as above.
unsafe impl Sync for Fetched {}

impl Fetched {
    /// An empty one, into which nothing is led.
    pub fn new(consumer: Arc<BaseConsumer<Group>>) -> Fetched {
        // SAFETY: the consumer lives, and outlives the queue, which keeps it.
        let queue = unsafe { native::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Fetched { consumer, queue: NonNull::new(queue).expect("the library makes a queue") }
    }

    /// From now on records of this partition come here, until the library stops to fetch it.
    pub fn lead(&self, (topic, number): &Id) {
        let topic = CString::new(topic.as_str()).expect("the broker's names hold no zero");
        let client = self.consumer.client().native_ptr();
        // SAFETY: client and name live during the calls. The handle of the partition's queue is
        // ours to destroy; the queue behind it is the library's, and keeps ours where it needs it.
        unsafe {
            let partition = native::rd_kafka_queue_get_partition(client, topic.as_ptr(), *number);
            let partition = NonNull::new(partition).expect("a consumer has queues of partitions");
            native::rd_kafka_queue_forward(partition.as_ptr(), self.queue.as_ptr());
            native::rd_kafka_queue_destroy(partition.as_ptr());
        }
    }

    /// Up to `max` records, and errors that concern a partition, in their order. Where there are
    /// none it waits so long for the first.
    pub fn take(&self, max: usize, wait: Duration) -> Vec<Record<'_>> {
        let mut records = Vec::with_capacity(max);
        self.fill(&mut records, max, Duration::ZERO);
        if records.is_empty() {
            self.fill(&mut records, 1, wait);
        }
        records
    }

    /// Waits until there are `max` records, or the time is over: the library does.
    fn fill(&self, records: &mut Vec<Record<'_>>, max: usize, wait: Duration) {
        let wait_ms = i32::try_from(wait.as_millis()).expect("nobody waits for weeks");
        assert!(records.is_empty() && max <= records.capacity(), "there is room for what is asked");
        // SAFETY: there is room for `max` records, each a non-null pointer, as `Record` is, and
        // the library tells how many of them it has written, or -1. They are ours to destroy.
        unsafe {
            let taken = native::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                wait_ms,
                records.as_mut_ptr().cast(),
                max,
            );
            records.set_len(usize::try_from(taken).unwrap_or(0));
        }
    }
}

impl Drop for Fetched {
    fn drop(&mut self) {
        // SAFETY: nobody uses the queue any more, and the consumer still lives. The library drops
        // the records in it, and those that are led here later.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) }
    }
}

/// A record, or an error of its partition.
#[repr(transparent)]
pub struct Record<'a> {
    message: NonNull<native::rd_kafka_message_t>,
    queue: PhantomData<&'a Fetched>,
}

impl Record<'_> {
    fn message(&self) -> &native::rd_kafka_message_t {
        // SAFETY: the library has handed it out, and it lives until it is dropped.
        unsafe { self.message.as_ref() }
    }

    /// What the library has to tell in place of a record.
    pub fn error(&self) -> Option<KafkaError> {
        let error = self.message().err;
        (error != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR)
            .then(|| KafkaError::MessageConsumption(error.into()))
    }

    /// Whether this is of the same partition as `other`, without a look at their names.
    pub fn is_beside(&self, other: &Record<'_>) -> bool {
        let (one, other) = (self.message(), other.message());
        (one.rkt, one.partition) == (other.rkt, other.partition)
    }

    /// Its partition; not of an error, which may have none.
    pub fn id(&self) -> Id {
        // SAFETY: a record has a topic, which lives as long as the record, with a name that ends
        // in a zero.
        let topic = unsafe { CStr::from_ptr(native::rd_kafka_topic_name(self.message().rkt)) };
        (topic.to_str().expect("the broker's names are ASCII").to_owned(), self.message().partition)
    }

    /// Its offset; negative only where this is an error.
    pub fn offset(&self) -> i64 {
        self.message().offset
    }

    /// When it was made or taken by the broker, as the topic is set up.
    pub fn time_ms(&self) -> Option<i64> {
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: both pointers are valid during the call.
        let time_ms =
            unsafe { native::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) };
        let is_told = kind != native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        (is_told && time_ms != -1).then_some(time_ms)
    }

    /// What it holds; empty where it holds nothing.
    pub fn payload(&self) -> &[u8] {
        let message = self.message();
        if message.payload.is_null() {
            return &[];
        }
        // SAFETY: the library has written so many bytes there, which live as long as the record.
        unsafe { slice::from_raw_parts(message.payload.cast(), message.len) }
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        // SAFETY: it is ours, and this is the last use of it.
        unsafe { native::rd_kafka_message_destroy(self.message.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use rdkafka::{ClientConfig, Offset, TopicPartitionList};

    use super::*;

    const TOPIC: &str = "requests";
    const LIMIT: Duration = Duration::from_secs(60);

    /// A cluster with two partitions of so many records each, that hold their offsets.
    fn cluster(records: i64) -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 2, 1).unwrap();
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", cluster.bootstrap_servers());
        let producer: BaseProducer = settings.create().unwrap();
        for offset in 0..records {
            for partition in 0..2 {
                let payload = offset.to_string();
                let record = BaseRecord::<(), _>::to(TOPIC).payload(&payload);
                producer.send(record.partition(partition).timestamp(7)).unwrap();
            }
        }
        producer.flush(LIMIT).unwrap();
        cluster
    }

    /// A client of these partitions, from these offsets.
    fn fetched(servers: &str, places: &[(i32, i64)]) -> Fetched {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", servers).set("group.id", "g");
        settings.set("auto.offset.reset", "error");
        let consumer = settings.create_with_context(Group::default()).unwrap();
        let fetched = Fetched::new(Arc::new(consumer));
        lead(&fetched);
        fetched.consumer.assign(&list(places)).unwrap();
        fetched
    }

    fn lead(fetched: &Fetched) {
        (0..2).for_each(|partition| fetched.lead(&(TOPIC.to_owned(), partition)));
    }

    fn list(places: &[(i32, i64)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            list.add_partition_offset(TOPIC, *partition, Offset::Offset(*offset)).unwrap();
        }
        list
    }

    /// The next `count` records, each partition led again before each look.
    fn next(fetched: &Fetched, count: usize) -> Vec<(i32, i64)> {
        let mut taken = Vec::new();
        let since = std::time::Instant::now();
        while taken.len() < count {
            assert!(since.elapsed() < LIMIT, "{} of {count} records came", taken.len());
            assert!(fetched.consumer.poll(Duration::ZERO).is_none(), "all are led past it");
            lead(fetched);
            for record in fetched.take(count - taken.len(), Duration::from_millis(20)) {
                assert!(record.error().is_none());
                assert_eq!((record.id().0.as_str(), record.time_ms()), (TOPIC, Some(7)));
                assert_eq!(record.payload(), record.offset().to_string().as_bytes());
                taken.push((record.id().1, record.offset()));
            }
        }
        taken
    }

    fn of_partition(taken: &[(i32, i64)], partition: i32) -> Vec<i64> {
        taken.iter().filter(|(of, _)| *of == partition).map(|(_, offset)| *offset).collect()
    }

    #[test]
    fn records_come_in_their_order_also_after_an_assignment_afresh() {
        let cluster = cluster(500);
        let fetched = fetched(&cluster.bootstrap_servers(), &[(0, 0), (1, 100)]);
        let taken = next(&fetched, 900);
        assert_eq!(of_partition(&taken, 0), (0..500).collect::<Vec<_>>());
        assert_eq!(of_partition(&taken, 1), (100..500).collect::<Vec<_>>());
        for from in [490, 3, 250] {
            fetched.consumer.incremental_unassign(&list(&[(0, 0)])).unwrap();
            fetched.consumer.incremental_assign(&list(&[(0, from)])).unwrap();
            let taken = next(&fetched, 500 - from as usize);
            assert_eq!(of_partition(&taken, 0), (from..500).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_of_a_partition_comes_in_place_of_records() {
        let cluster = cluster(1);
        let fetched = fetched(&cluster.bootstrap_servers(), &[(0, 1_000)]);
        let since = std::time::Instant::now();
        let error = loop {
            assert!(since.elapsed() < LIMIT, "an error comes");
            drop(fetched.consumer.poll(Duration::ZERO));
            if let Some(record) = fetched.take(10, Duration::from_millis(20)).first() {
                break record.error().expect("there is no such record");
            }
        };
        let code = error.rdkafka_error_code();
        assert_eq!(code, Some(rdkafka::error::RDKafkaErrorCode::AutoOffsetReset), "{error}");
    }

    #[test]
    fn a_client_ends_while_records_wait() {
        let cluster = cluster(500);
        let fetched = fetched(&cluster.bootstrap_servers(), &[(0, 0), (1, 0)]);
        assert_eq!(next(&fetched, 10).len(), 10);
        fetched.consumer.incremental_unassign(&list(&[(0, 0), (1, 0)])).unwrap();
        drop(fetched.consumer.poll(Duration::from_millis(300)));
        lead(&fetched);
        let (ended, has_ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(fetched);
            ended.send(()).unwrap();
        });
        assert!(has_ended.recv_timeout(LIMIT).is_ok(), "the client waits for records");
    }
}
