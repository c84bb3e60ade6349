//! A real Apache Kafka for tests: one process in KRaft mode on loopback, with its own folder.
//!
//! Its jars are copied by `tests/run tools` to `target/kafka` (or stand where NINEFOLD_KAFKA
//! says). Where they or a Java are missing, [`Broker::start`] prints `skipped: why` and answers
//! nothing. Records carry times of their own, so that nothing depends on the clock.

#![allow(dead_code, reason = "several tests include this module and each uses a part of it")]

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// How long anything of the broker may take; far more than it does.
const DEADLINE: Duration = Duration::from_secs(180);

/// Record times begin here: 2026-11-01 00:00 UTC.
pub const START_MS: i64 = 1_793_491_200_000;

/// A broker, killed when it is dropped.
pub struct Broker {
    folder: PathBuf,
    jars: PathBuf,
    port: u16,
    controller_port: u16,
    child: Option<Child>,
}

/// The jars and a Java, where there are both.
pub fn jars() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kafka");
    let jars = std::env::var_os("NINEFOLD_KAFKA").map_or(default, PathBuf::from);
    let java = Command::new("java").arg("-version").stderr(Stdio::null()).status();
    if !jars.is_dir() || !java.is_ok_and(|status| status.success()) {
        println!("skipped: no Java, or no Kafka in {}", jars.display());
        return None;
    }
    Some(jars)
}

/// A port of the loopback that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("it is bound").port()
}

impl Broker {
    /// A new one with its data under `folder`.
    pub fn start(folder: &Path) -> Option<Broker> {
        let jars = jars()?;
        let folder = folder.join("kafka");
        fs::create_dir_all(&folder).expect("the folder can be made");
        let (port, controller_port) = (free_port(), free_port());
        let mut broker = Broker { folder, jars, port, controller_port, child: None };
        fs::write(broker.config(), broker.properties()).expect("it can be written");
        // 16 bytes in base64, other ones for each cluster.
        let id = format!("bmluZWZvbGQtdGVz{port:05}A");
        let format = ["kafka.tools.StorageTool", "format", "-t", &id, "-c"];
        let output = broker.java().args(format).arg(broker.config()).output().expect("java starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        broker.run();
        Some(broker)
    }

    /// One whose data are under `folder` already.
    pub fn resume(folder: &Path) -> Option<Broker> {
        let jars = jars()?;
        let folder = folder.join("kafka");
        let text = fs::read_to_string(folder.join("server.properties")).expect("its settings");
        let after = |before: &str| {
            let (_, rest) = text.split_once(before).expect("its settings name its ports");
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            rest[..digits].parse().expect("a port")
        };
        let port = after("listeners=PLAINTEXT://127.0.0.1:");
        let controller_port = after("CONTROLLER://127.0.0.1:");
        let mut broker = Broker { folder, jars, port, controller_port, child: None };
        broker.run();
        Some(broker)
    }

    fn config(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn properties(&self) -> String {
        let Broker { folder, port, controller_port, .. } = self;
        let logs = folder.join("logs");
        format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=4\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\ngroup.min.session.timeout.ms=1000\n\
             auto.create.topics.enable=false\nlog.retention.ms=-1\nlog.retention.bytes=-1\n\
             log.segment.bytes=67108864\n\
             log.cleaner.backoff.ms=200\nfile.delete.delay.ms=1000\n\
             num.network.threads=2\nnum.io.threads=2\n",
            logs.display()
        )
    }

    fn java(&self) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg("-cp").arg(self.jars.join("*")).stdin(Stdio::null());
        command
    }

    /// Starts it, where it has been stopped or killed, and waits until it answers.
    pub fn run(&mut self) {
        let out = File::options().create(true).append(true).open(self.folder.join("output"));
        let out = out.expect("it can be written");
        let err = out.try_clone().expect("it can be shared");
        let mut command = self.java();
        command.arg("kafka.Kafka").arg(self.config()).stdout(out).stderr(err);
        self.child = Some(command.spawn().expect("java starts"));
        let client: BaseConsumer = self.client().create().expect("a client");
        let since = Instant::now();
        while client.fetch_metadata(None, Duration::from_secs(1)).is_err() {
            let output = fs::read_to_string(self.folder.join("output")).unwrap_or_default();
            assert!(since.elapsed() < DEADLINE, "the broker does not answer: {output}");
        }
    }

    /// Stops it in order.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        signal(child.id(), "TERM");
        child.wait().expect("a child");
    }

    /// Kills it.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a child");
        child.wait().expect("a child");
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where the segments of a partition are.
    pub fn log_folder(&self, topic: &str, partition: i32) -> PathBuf {
        self.folder.join("logs").join(format!("{topic}-{partition}"))
    }

    /// Settings of a client of it.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address());
        config
    }

    /// Calls the admin client, again until it succeeds.
    fn admin<T>(
        &self,
        what: &str,
        call: impl AsyncFn(&AdminClient<DefaultClientContext>, &AdminOptions) -> Result<T, KafkaError>,
    ) -> T {
        let client: AdminClient<_> = self.client().create().expect("a client");
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let since = Instant::now();
        loop {
            match runtime.block_on(call(&client, &options)) {
                Ok(answer) => return answer,
                Err(error) => assert!(since.elapsed() < DEADLINE, "{what}: {error}"),
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Creates a topic.
    pub fn create_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        self.admin(topic, async |client, options| {
            let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
            for (key, value) in settings {
                new = new.set(key, value);
            }
            one(client.create_topics([&new], options).await?)
        });
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, topic: &str) {
        self.admin(topic, async |client, options| {
            one(client.delete_topics(&[topic], options).await?)
        });
    }

    /// Gives a topic more partitions.
    pub fn add_partitions(&self, topic: &str, partitions: usize) {
        self.admin(topic, async |client, options| {
            let new = NewPartitions::new(topic, partitions);
            one(client.create_partitions([&new], options).await?)
        });
    }

    /// Sets a setting of a topic.
    pub fn alter_topic(&self, topic: &str, key: &str, value: &str) {
        self.admin(topic, async |client, options| {
            let new = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
            let done = client.alter_configs([&new], options).await?;
            done.into_iter().next().expect("one answer").map_err(|(_, code)| failed(code)).map(drop)
        });
    }

    /// Deletes the records of a partition that stand before an offset.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("an offset");
        self.admin(topic, async |client, options| client.delete_records(&list, options).await);
    }

    /// Deletes a group with its offsets; it has to be without members.
    pub fn delete_group(&self, group: &str) {
        self.admin(group, async |client, options| {
            one(client.delete_groups(&[group], options).await?)
        });
    }

    /// Commits an offset of a group, as an admin tool does.
    pub fn commit_offset(&self, group: &str, topic: &str, partition: i32, offset: i64) {
        let mut config = self.client();
        config.set("group.id", group);
        let consumer: BaseConsumer = config.create().expect("a client");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        consumer.assign(&list).expect("it can be assigned");
        let since = Instant::now();
        while let Err(error) = consumer.commit(&list, CommitMode::Sync) {
            assert!(since.elapsed() < DEADLINE, "commit: {error}");
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// The offset that a group has committed.
    pub fn committed_offset(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let mut config = self.client();
        config.set("group.id", group);
        let consumer: BaseConsumer = config.create().expect("a client");
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let told = consumer.committed_offsets(list, DEADLINE).expect("it answers");
        told.elements()[0].offset().to_raw().filter(|offset| *offset >= 0)
    }

    /// One past the last offset of a partition.
    pub fn end(&self, topic: &str, partition: i32) -> u64 {
        let client: BaseConsumer = self.client().create().expect("a client");
        let (_, end) = client.fetch_watermarks(topic, partition, DEADLINE).expect("it answers");
        u64::try_from(end).expect("an offset")
    }

    /// Visits the payload of every record of a partition that has only plain ones.
    pub fn for_each(&self, topic: &str, partition: i32, mut visit: impl FnMut(&[u8])) {
        self.for_each_keyed(topic, partition, |_, payload| visit(payload));
    }

    /// The same with the keys.
    pub fn for_each_keyed(&self, topic: &str, partition: i32, mut visit: impl FnMut(&[u8], &[u8])) {
        let mut config = self.client();
        config.set("group.id", "recount").set("queued.max.messages.kbytes", "65536");
        let consumer: BaseConsumer = config.create().expect("a client");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        consumer.assign(&list).expect("it can be assigned");
        let end = self.end(topic, partition);
        let mut next = 0;
        let mut heard = Instant::now();
        while next < end {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    assert_eq!(message.offset(), next as i64, "{topic}/{partition}: no holes");
                    let key = message.key().unwrap_or_default();
                    visit(key, message.payload().unwrap_or_default());
                    next += 1;
                    heard = Instant::now();
                }
                _ => assert!(heard.elapsed() < DEADLINE, "{topic}/{partition} ends at {next}"),
            }
        }
    }

    /// A producer; a transactional one where it has a name.
    pub fn producer(&self, transactional: Option<&str>) -> Writer {
        let mut config = self.client();
        config.set("linger.ms", "5").set("queue.buffering.max.messages", "1000000");
        config.set("enable.idempotence", "true");
        // Partitions that are added are sent to soon.
        config.set("topic.metadata.refresh.interval.ms", "500");
        if let Some(name) = transactional {
            config.set("transactional.id", name);
        }
        let producer: BaseProducer = config.create().expect("a client");
        if transactional.is_some() {
            producer.init_transactions(DEADLINE).expect("the broker has transactions");
        }
        Writer(producer)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Sends a signal by name.
pub fn signal(id: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &id.to_string()]).status();
    assert!(status.expect("there is kill").success(), "kill -{name} {id}");
}

fn failed(code: RDKafkaErrorCode) -> KafkaError {
    KafkaError::AdminOp(code)
}

fn one(answers: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<(), KafkaError> {
    answers.into_iter().next().expect("one answer").map(drop).map_err(|(_, code)| failed(code))
}

/// A producer.
pub struct Writer(BaseProducer);

impl Writer {
    /// Sends one record with its time; waits where the client is full.
    pub fn send(&self, topic: &str, partition: i32, key: &str, payload: &[u8], time_ms: i64) {
        let record = BaseRecord::to(topic).partition(partition).key(key).payload(payload);
        let mut record = record.timestamp(time_ms);
        let since = Instant::now();
        while let Err((error, same)) = self.0.send(record) {
            assert!(since.elapsed() < DEADLINE, "{topic}: {error}");
            self.0.poll(Duration::from_millis(20));
            record = same;
        }
    }

    /// Waits until everything is on the broker.
    pub fn flush(&self) {
        self.0.flush(DEADLINE).expect("the broker takes it");
    }

    /// Begins a transaction.
    pub fn begin(&self) {
        self.0.begin_transaction().expect("it is transactional");
    }

    /// Ends a transaction.
    pub fn commit(&self) {
        self.flush();
        self.0.commit_transaction(DEADLINE).expect("it is committed");
    }

    /// Takes a transaction back.
    pub fn abort(&self) {
        self.flush();
        self.0.abort_transaction(DEADLINE).expect("it is aborted");
    }
}
