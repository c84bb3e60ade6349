//! The running service: sources, the loop that owns the pipeline, the API beside it.
//!
//! Each source has a thread that sends [`Message`]s. What a source has counted is dropped where
//! the table says that somebody else has counted it (*fenced*): the pipeline is built afresh
//! from the table under a new *generation*. Messages of an older generation are thrown away, and
//! every source begins again where the table stands.
//!
//! Source threads send chunks; one loop thread takes them, ticks at least each second, commits
//! at intervals and at once where an alert has changed, and adds what other instances on the same
//! table have committed; the API reads under a shared lock. Only this module reads the wall
//! clock. How long something took is measured by the monotonic one, so a clock that is set moves
//! labels and nothing else.

mod commits;
mod files;
mod health;
#[cfg(feature = "kafka")]
pub mod kafka;
mod notify;
mod outbox;
mod pace;
mod poison;
pub mod push;
mod reload;
mod remote_write;
mod rivals;
mod snapshot;
#[cfg(feature = "kafka")]
mod topic;
mod transport;
mod turn;
mod verdicts;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Instant;

use anyhow::anyhow;
use ninefold_engine::config::Config;
use ninefold_engine::decode;
use ninefold_engine::decode::Format;
use ninefold_engine::pipeline::{Pipeline, Unit};
use ninefold_engine::query::KafkaHealth;
use ninefold_engine::query::body::AlertTransition;
use ninefold_engine::source::chunk::{CHUNK_BYTES, Chunk, Tail};
use ninefold_engine::table::Table;
use ninefold_engine::time::{DAY_MINUTES, Minute};

use crate::ask::Asker;
use crate::decide::SilenceDesk;
use crate::states::{LiveStates, TableStates, lock};
use crate::{Place, batch, limits, serve, upkeep};
use commits::{Chores, Commits};
use files::SourceReader;
pub use health::Board;
use notify::Notifiers;
pub use outbox::{Outbox, Published};
use pace::Pace;
use push::Push;
pub use reload::Current;
use rivals::Rivals;
use snapshot::Snapshots;
use verdicts::Verdicts;

/// How much of the past the service keeps in memory: the longest period and a day.
const MEMORY_MINUTES: u32 = 93 * DAY_MINUTES;

/// The arguments of `ninefold run`.
#[derive(Clone)]
pub struct RunArgs {
    /// Files; `-` is standard input.
    pub files: Vec<String>,
    /// Go on at their ends.
    pub follow: bool,
    /// Where to answer.
    pub listen: Option<SocketAddr>,
    /// Format of the files.
    pub format: Option<Format>,
    /// Take events by HTTP, as `[source.http]` says.
    pub push: bool,
    /// Say of each source where its counting goes on.
    pub verbose: bool,
}

/// The wall clock in epoch milliseconds.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the clock")]
pub fn clock_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// A partition that begins, or goes on where the pipeline knows.
pub struct Begin {
    /// The generation that its place was looked up in.
    pub generation: u64,
    /// What its offsets are.
    pub unit: Unit,
    /// Its name.
    pub partition: String,
    /// Its path, for people.
    pub label: String,
    /// How it is read; the format may be left to its first bytes.
    pub decode: decode::Options,
    /// Its first bytes.
    pub head: Vec<u8>,
    /// Where its chunks begin, and what stands before.
    pub place: (u64, Tail),
    /// The chunks of the dedupe window before that place.
    pub before: Option<Before>,
}

/// Chunks that were counted before, from an earlier process.
pub type Before = Box<dyn Iterator<Item = anyhow::Result<Chunk>> + Send>;

/// What a source thread tells the loop.
pub enum Message {
    /// A partition begins, or goes on.
    Begin(Box<Begin>),
    /// The next chunk of a partition that has begun.
    Chunk {
        /// The generation of its begin.
        generation: u64,
        /// Which.
        partition: String,
        /// Its bytes.
        chunk: Chunk,
        /// When they came to this process, the oldest of them.
        arrived: Instant,
    },
    /// Records of a partition that has begun cannot be read, and nobody else has them: from
    /// where it stands up to an offset it is not counted.
    Gap {
        /// The generation of its begin.
        generation: u64,
        /// Which.
        partition: String,
        /// The first offset that is counted again.
        next: u64,
        /// Why: it is kept with the gap.
        reason: String,
        /// Told whether that has landed in the table; where not, it has to be asked again.
        done: SyncSender<bool>,
    },
    /// Records of the dedupe window of a partition that has begun: their ids are remembered.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "files give theirs at once"))]
    Remember {
        /// The generation of its begin.
        generation: u64,
        /// Which.
        partition: String,
        /// Its records.
        chunk: Chunk,
    },
    /// A partition has no more chunks for now; another source may go on with it.
    End {
        /// The generation of its begin.
        generation: u64,
        /// Which.
        partition: String,
    },
    /// Partitions go to another instance: what was counted of them is committed, and they are
    /// let go.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "files are never taken away"))]
    Revoke {
        /// Which.
        partitions: Vec<String>,
        /// Whether they are gone already: then what is not committed is dropped.
        lost: bool,
        /// Told when that is done.
        done: SyncSender<()>,
    },
    /// All of the past was sent: what follows is live.
    PastEnded,
    /// A source cannot be read any more.
    Failed(anyhow::Error),
}

impl Message {
    /// How many bytes of events it holds.
    fn bytes(&self) -> usize {
        match self {
            Message::Chunk { chunk, .. } | Message::Remember { chunk, .. } => chunk.bytes.len(),
            _ => 0,
        }
    }
}

/// Sends a message to the loop.
///
/// # Errors
/// The loop has ended.
pub fn send(sender: &SyncSender<Message>, message: Message) -> anyhow::Result<()> {
    sender.send(message).map_err(|_| anyhow!("the service has ended"))
}

/// A service that is running.
pub struct Service {
    /// What the loop owns and answers read.
    pub pipeline: Arc<RwLock<Pipeline>>,
    /// Set to end it.
    pub stop: Arc<AtomicBool>,
    /// What was found to be damaged in what was sent to us, for people.
    pub damages: Arc<Mutex<Vec<String>>>,
    /// How often the pipeline was built afresh.
    pub generation: Arc<AtomicU64>,
    /// How the Kafka source is.
    pub kafka: Arc<Mutex<KafkaHealth>>,
    /// What a source holds that has to say good-bye to others (a group, say) before the process
    /// ends: the loop waits for it, within limits, and drops it there as the last thing.
    pub leaving: Arc<()>,
    /// Held while a commit is made: a source that has to be seen to hang as long as the disk does
    /// waits for it.
    pub committing: Arc<Mutex<()>>,
    /// Where alert transitions go.
    pub outbox: Outbox,
    /// Who tells people of them.
    notifiers: Arc<Notifiers>,
    /// Begins the upkeep of the table; only the judge does it.
    pub upkeep: Option<Upkeep>,
    /// The verdict on what is new.
    verdicts: Verdicts,
    board: Board,
    rivals: Rivals,
    /// The partitions that a source is reading. Of two paths to one content the second waits
    /// until the loop has taken all of the first.
    claims: Claims,
    config: Current,
    reread: Option<reload::Read>,
    /// Set to read the configuration again.
    reload: Arc<AtomicBool>,
    data: PathBuf,
}

/// Begins the upkeep of the table in a folder, until the flag is set.
pub type Upkeep = fn(PathBuf, Arc<AtomicBool>) -> std::thread::JoinHandle<()>;

/// Names of partitions, shared by the sources and the loop.
type Claims = Arc<Mutex<HashSet<String>>>;

/// What whoever handles signals needs of a service.
pub struct Handle {
    /// Set to end it.
    pub stop: Arc<AtomicBool>,
    /// Set to read the configuration again.
    pub reload: Arc<AtomicBool>,
    /// Whether there is a configuration to read again.
    pub can_reload: bool,
    /// How it is.
    pub board: Board,
    /// What it was told.
    pub config: Current,
}

impl Service {
    /// Opens the table and folds it into memory, from a snapshot on where there is a good one.
    ///
    /// # Errors
    /// The table cannot be opened or read.
    pub fn open(config: Config, data: PathBuf) -> anyhow::Result<Service> {
        let table = Table::open_or_create(&data)?.with_reserve(config.reserve_bytes);
        let mut pipeline =
            Pipeline::new(batch::options(&config), table, true, batch::random_seed());
        let budget = limits::budget(&config)?;
        limits::bound(&mut pipeline, &budget, &config);
        if config.snapshot_interval_ms > 0 {
            pipeline.keep_snapshots(snapshot::dir_of(&data));
        }
        let now = Minute::of_ms(clock_ms());
        pipeline.recover(now.minus(MEMORY_MINUTES)..=Minute(u32::MAX))?;
        let outbox = Outbox::default();
        let config = Current::new(config);
        let notifiers = Arc::new(Notifiers::start(&config, &data, pipeline.table())?);
        let kafka = Arc::default();
        Ok(Service {
            notifiers,
            pipeline: Arc::new(RwLock::new(pipeline)),
            stop: Arc::new(AtomicBool::new(false)),
            damages: Arc::default(),
            generation: Arc::new(AtomicU64::new(0)),
            kafka: Arc::clone(&kafka),
            leaving: Arc::new(()),
            committing: Arc::default(),
            board: Board::new(outbox.clone(), kafka),
            outbox,
            verdicts: Verdicts::default(),
            upkeep: None,
            rivals: Rivals::default(),
            claims: Claims::default(),
            config,
            reread: None,
            reload: Arc::default(),
            data,
        })
    }

    /// What it was told.
    pub fn config(&self) -> Arc<Config> {
        self.config.get()
    }

    /// For whoever handles signals.
    pub fn handle(&self) -> Handle {
        Handle {
            stop: Arc::clone(&self.stop),
            reload: Arc::clone(&self.reload),
            can_reload: self.reread.is_some(),
            board: self.board.clone(),
            config: self.config.clone(),
        }
    }

    /// Answers questions about it.
    ///
    /// # Errors
    /// The table cannot be opened a second time, for reading.
    pub fn answers(&self) -> anyhow::Result<Asker<LiveStates>> {
        let table = crate::states::open_table(&self.data)?;
        let past = TableStates::new(table, self.config.clone(), clock_ms);
        let (pipeline, board) = (Arc::clone(&self.pipeline), self.board.clone());
        let states = LiveStates::new(pipeline, past, clock_ms, board);
        Ok(Asker::new(states, self.config.clone()))
    }

    /// Keeps silences, and tells the notifiers of them at once.
    ///
    /// # Errors
    /// The table cannot be opened a second time.
    pub fn silences(&self) -> anyhow::Result<SilenceDesk> {
        let notifiers = Arc::clone(&self.notifiers);
        SilenceDesk::open(&self.data, Box::new(move |silences| notifiers.set_silences(silences)))
    }

    /// Counts what comes until the past has ended, and commits it: no ticks, no pages meanwhile.
    ///
    /// # Errors
    /// As [`Service::run`].
    pub fn count_until_end(&self, messages: &Receiver<Message>) -> anyhow::Result<()> {
        Loop::new(self)?.count_until_end(messages)
    }

    /// The loop: ends when all sources have ended, or at a stop; then all is committed.
    ///
    /// # Errors
    /// A source fails, or the table in a way that waiting does not mend; what was committed
    /// stays.
    pub fn run(&self, messages: &Receiver<Message>) -> anyhow::Result<()> {
        Loop::new(self)?.run(messages)
    }

    /// Every source begins again where the pipeline stands.
    fn restart_sources(&self) {
        lock(&self.claims).clear();
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// The loop of a service: what it alone knows. Its parts are in [`turn`] (taking and ticking),
/// [`pace`], [`commits`] and [`reload`].
struct Loop<'a> {
    service: &'a Service,
    commits: Commits,
    chores: Chores,
    started: Instant,
    pace: Pace,
    /// When the table was last followed.
    followed: Instant,
    /// When the oldest events came to this process that were counted since the last tick.
    arrived: Option<Instant>,
    poison: poison::Note,
    snapshots: Snapshots,
    /// When the board was last written.
    noted: Option<Instant>,
    /// Why the configuration was not read again, where it was refused.
    refused: Option<String>,
    /// Why evicted customers could not be loaded at the last tick.
    unloaded: Option<String>,
    /// Series with failures in several partitions of Kafka, as of the last tick.
    split_customers: u64,
}

/// `ninefold run`.
pub fn run(place: &Place, args: RunArgs) -> anyhow::Result<ExitCode> {
    let config = configured(place, &args)?;
    let data = batch::table_dir(place, &config)?;
    let (files, stdin) = files::sources(&config, &args)?;
    let listen = config.listen;
    let mut service = Service::open(config, data.clone())?;
    service.upkeep = Some(upkeep::beside);
    if place.config.is_some() {
        let (place, args) = (place.clone(), args.clone());
        service.reread = Some(Box::new(move || configured(&place, &args)));
    }
    let queue = limits::budget(&service.config())?.queue / CHUNK_BYTES as u64;
    let (sender, messages) = sync_channel(usize::try_from(queue).unwrap_or(usize::MAX).max(2));
    let verbose = args.verbose;
    service.outbox.send_to(notify::sink(Arc::clone(&service.notifiers), move |published| {
        if verbose {
            tell(published);
        }
    }));
    for source in files {
        let reader = SourceReader::new(source, &service, args.verbose, sender.clone());
        let sender = sender.clone();
        std::thread::spawn(move || {
            if let Err(error) = reader.read() {
                // The loop may be gone already; then there is nobody to tell.
                let _ = sender.send(Message::Failed(error));
            }
        });
    }
    if args.files.is_empty() {
        start_kafka(&service, &data, &sender)?;
    }
    let push = Push::start(&service, stdin, args.verbose, &sender)?;
    drop(sender);
    let announce = |url: &str| {
        eprintln!("ninefold: {url}");
        Ok(())
    };
    let intake = push.intake();
    let _writing = remote_write::start(&service)?;
    serve::beside(&service, listen, "", intake, announce, || service.run(&messages))?;
    push.finish();
    Ok(ExitCode::SUCCESS)
}

/// Starts the Kafka source, where one is configured.
#[cfg(feature = "kafka")]
fn start_kafka(service: &Service, data: &Path, sender: &SyncSender<Message>) -> anyhow::Result<()> {
    kafka::start(service, &service.config(), data.to_owned(), sender.clone())
}

#[cfg(not(feature = "kafka"))]
fn start_kafka(
    service: &Service,
    _data: &Path,
    _sender: &SyncSender<Message>,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        service.config().sources.kafka.is_none(),
        "[source.kafka] is configured, and this ninefold was built without the feature kafka"
    );
    Ok(())
}

/// The configuration, with what the command line says put over it.
fn configured(place: &Place, args: &RunArgs) -> anyhow::Result<Config> {
    let mut config = batch::load(place)?;
    batch::set_format(&mut config, args.format);
    config.listen = args.listen.unwrap_or(config.listen);
    if args.push {
        config.sources.http.get_or_insert_default();
    }
    Ok(config)
}

/// Says on standard error what was published.
fn tell(published: &Published) {
    let Published { transition, uncommitted } = published;
    let AlertTransition { state, tier, customer, service, at, .. } = transition;
    let mark = if *uncommitted { " (uncommitted)" } else { "" };
    if let Some(incident) = &transition.incident {
        return eprintln!("ninefold: incident {state}: {}, at {at}{mark}", incident.summary);
    }
    if let Some(judgement) = &transition.verdict {
        return eprintln!("ninefold: verdict {state}: {}, at {at}{mark}", judgement.summary);
    }
    eprintln!("ninefold: {tier} {state}: {customer:?}, service {service:?}, at {at}{mark}");
}
