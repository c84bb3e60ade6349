//! The Kafka source against a cluster that answers with errors: coordinators that move, fetches
//! that fail.
//!
//! The cluster is the client library's own mock, in this process: it has groups, but neither
//! retention nor transactions, so that nothing is claimed here but that counting goes on. What
//! is exactly once, `tests/kafka.rs` shows.

#[path = "common/broker.rs"]
mod broker;
#[path = "common/chaos.rs"]
mod chaos;

use std::path::Path;

use broker::START_MS;
use chaos::{Instance, until, write_config};
use ninefold_engine::table::Table;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, ClientContext};

/// Sends events to the partitions of a topic in turn.
fn send(producer: &BaseProducer, topic: &str, partitions: i32, count: u64) {
    for n in 0..count {
        let payload = format!("{{\"ts\":{START_MS},\"customer\":\"c\",\"status\":200,\"n\":{n}}}");
        let partition = (n % partitions as u64) as i32;
        let record: BaseRecord<'_, (), _> =
            BaseRecord::to(topic).partition(partition).payload(&payload).timestamp(START_MS);
        producer.send(record).map_err(|(error, _)| error).expect("there is room");
    }
    producer.flush(std::time::Duration::from_secs(30)).expect("the cluster takes it");
}

/// How many offsets the table has counted.
fn counted(data: &Path) -> u64 {
    let table = Table::open(&data.join("rollups")).expect("readable");
    table.map_or(0, |table| table.offsets().values().sum())
}

fn inject<C: ClientContext>(
    cluster: &MockCluster<'_, C>,
    api: RDKafkaApiKey,
    error: RDKafkaRespErr,
) {
    cluster.request_errors(api, &[error; 3]);
}

#[test]
fn counting_goes_on_through_errors_of_every_kind_and_coordinators_that_move() {
    use RDKafkaApiKey as Api;
    use RDKafkaRespErr as Error;
    let cluster = MockCluster::new(3).expect("a cluster");
    cluster.create_topic("mocked", 4, 3).expect("a topic");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let brokers = cluster.bootstrap_servers();
    let brokers: Vec<&str> = brokers.split(',').collect();
    let config = write_config(folder.path(), brokers[0], &["mocked"], "group = \"mocked\"");
    let mut settings = ClientConfig::new();
    let producer: BaseProducer =
        settings.set("bootstrap.servers", brokers.join(",")).create().expect("a client");
    let mut sent = 0;
    let mut send_more = || {
        send(&producer, "mocked", 4, 200);
        sent += 200;
        sent
    };
    let expect = send_more();
    let program = Path::new(env!("CARGO_BIN_EXE_ninefold"));
    let mut instance = Instance::start(program, &config, &data, &folder.path().join("log"));
    until("the first events", || counted(&data) == expect);

    for (api, error) in [
        (Api::Fetch, Error::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        (Api::Fetch, Error::RD_KAFKA_RESP_ERR_UNKNOWN),
        (Api::Fetch, Error::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART),
        (Api::Heartbeat, Error::RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::Heartbeat, Error::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID),
        (Api::Heartbeat, Error::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS),
        (Api::OffsetCommit, Error::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION),
        (Api::Metadata, Error::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE),
    ] {
        inject(&cluster, api, error);
        let expect = send_more();
        until(&format!("what came with {error:?}"), || counted(&data) == expect);
        assert!(!instance.has_ended(), "{}", instance.said());
    }
    for broker in 1..=3 {
        cluster.coordinator(MockCoordinator::Group("mocked".to_owned()), broker).expect("it moves");
        let expect = send_more();
        until("what came with a new coordinator", || counted(&data) == expect);
    }
    instance.stop();
}
