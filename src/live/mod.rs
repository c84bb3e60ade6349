//! The running service: sources, the loop that owns the pipeline, the API beside it.
//!
//! Each source has a thread that sends [`Message`]s. What a source has counted is dropped where
//! the table says that somebody else has counted it (*fenced*): the pipeline is built afresh
//! from the table under a new *generation*. Messages of an older generation are thrown away, and
//! every source begins again where the table stands.
//!
//! Source threads send chunks; one loop thread takes them, ticks at least each second, commits
//! at intervals and at once where an alert has changed; the API reads under a shared lock. Only
//! this module reads the wall clock.

mod files;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ninefold_engine::config::Config;
use ninefold_engine::decode;
use ninefold_engine::decode::Format;
use ninefold_engine::pipeline::fold::oldest_minute;
use ninefold_engine::pipeline::replay::settled_decode;
use ninefold_engine::pipeline::{Pipeline, PipelineError, Start, Unit};
use ninefold_engine::query::Health;
use ninefold_engine::source::chunk::{Chunk, Tail};
use ninefold_engine::source::file::FileChunks;
use ninefold_engine::table::{CommitError, Table};
use ninefold_engine::time::{DAY_MINUTES, Minute};

use crate::ask::Asker;
use crate::states::{LiveStates, TableStates, lock, read};
use crate::{Place, batch, limits, serve};
use files::SourceReader;

/// The longest time between two evaluations of the alerts.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// A commit that an alert asks for comes at most so often.
const ALERT_COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// How many chunks may wait for the loop: with full ones some 64 MiB.
const QUEUE_CHUNKS: usize = 32;

/// How many chunks the loop takes at once.
const BATCH_CHUNKS: usize = 16;

/// How much of the past the service keeps in memory: the longest period and a day.
const MEMORY_MINUTES: u32 = 93 * DAY_MINUTES;

/// The arguments of `ninefold run`.
pub struct RunArgs {
    /// Files; `-` is standard input.
    pub files: Vec<String>,
    /// Go on at their ends.
    pub follow: bool,
    /// Where to answer.
    pub listen: Option<SocketAddr>,
    /// Format of the files.
    pub format: Option<Format>,
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
    /// The lines of the dedupe window before that place.
    pub before: Option<FileChunks>,
}

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
    #[expect(dead_code, reason = "no source of the default build sends it yet")]
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
    /// How often the pipeline was built afresh.
    pub generation: Arc<AtomicU64>,
    health: Arc<Mutex<Health>>,
    /// The partitions that a source is reading. Of two paths to one content the second waits
    /// until the loop has taken all of the first.
    claims: Claims,
    config: Config,
    data: PathBuf,
}

/// Names of partitions, shared by the sources and the loop.
type Claims = Arc<Mutex<HashSet<String>>>;

impl Service {
    /// Opens the table and folds it into memory.
    ///
    /// # Errors
    /// The table cannot be opened or read.
    pub fn open(config: Config, data: PathBuf) -> anyhow::Result<Service> {
        let table = Table::open_or_create(&data)?;
        let mut pipeline =
            Pipeline::new(batch::options(&config), table, true, batch::random_seed());
        let budget = limits::budget(&config)?;
        limits::bound(&mut pipeline, &budget, &config);
        let now = Minute::of_ms(clock_ms());
        pipeline.recover(now.minus(MEMORY_MINUTES)..=Minute(u32::MAX))?;
        Ok(Service {
            pipeline: Arc::new(RwLock::new(pipeline)),
            stop: Arc::new(AtomicBool::new(false)),
            generation: Arc::new(AtomicU64::new(0)),
            health: Arc::new(Mutex::new(Health::default())),
            claims: Claims::default(),
            config,
            data,
        })
    }

    /// What it was told.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Answers questions about it.
    ///
    /// # Errors
    /// The table cannot be opened a second time, for reading.
    pub fn answers(&self) -> anyhow::Result<Asker<LiveStates>> {
        let table = crate::states::open_table(&self.data)?;
        let memory_from = Minute::of_ms(clock_ms()).minus(MEMORY_MINUTES);
        let older = oldest_minute(&table)?.is_some_and(|oldest| oldest < memory_from);
        let memory_from = if older { memory_from } else { Minute(0) };
        let (slis, values_max) = (self.config.slis.clone(), self.config.dimension_values_max);
        let past = TableStates::new(table, slis, values_max, clock_ms);
        let (pipeline, health) = (Arc::clone(&self.pipeline), Arc::clone(&self.health));
        let states = LiveStates::new(pipeline, past, memory_from, clock_ms, health);
        Ok(Asker::new(states, self.config.clone()))
    }

    /// Counts what comes until the past has ended, and commits it: no ticks, no pages meanwhile.
    ///
    /// # Errors
    /// As [`Service::run`].
    pub fn count_until_end(&self, messages: &Receiver<Message>) -> anyhow::Result<()> {
        while let Ok(first) = messages.recv() {
            let ended = self.take(first, messages)?;
            let mut pipeline = self.pipeline.write().expect("nobody has panicked with it");
            if ended || pipeline.epoch_is_full() {
                self.commit(&mut pipeline)?;
            }
            if ended {
                break;
            }
        }
        Ok(())
    }

    /// The loop: ends when all sources have ended, or at a stop; then all is committed.
    ///
    /// # Errors
    /// The table or a source fails; what was committed stays.
    pub fn run(&self, messages: &Receiver<Message>) -> anyhow::Result<()> {
        let interval = Duration::from_millis(self.config.commit_interval_ms);
        let (mut committed, mut ticked) = (Instant::now(), Instant::now());
        loop {
            let wait = TICK_INTERVAL.saturating_sub(ticked.elapsed());
            let ended = match messages.recv_timeout(wait) {
                Ok(first) => self.take(first, messages).map(|_| false)?,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            let stopping = ended || self.stop.load(Ordering::Relaxed);
            let mut pipeline = self.pipeline.write().expect("nobody has panicked with it");
            if ticked.elapsed() >= TICK_INTERVAL || stopping {
                pipeline.load_evicted()?;
                pipeline.tick(clock_ms(), &self.config.objectives, &self.config.alerts);
                ticked = Instant::now();
            }
            let since = committed.elapsed();
            let alerted = pipeline.has_transitions() && since >= ALERT_COMMIT_INTERVAL;
            if since >= interval || alerted || pipeline.epoch_is_full() || stopping {
                self.commit(&mut pipeline)?;
                committed = Instant::now();
            }
            drop(pipeline);
            self.note_health(committed.elapsed());
            if stopping {
                return Ok(());
            }
        }
    }

    /// Commits what was counted, or drops it where others have counted it.
    fn commit(&self, pipeline: &mut Pipeline) -> anyhow::Result<()> {
        match pipeline.commit() {
            Ok(_) => Ok(()),
            Err(PipelineError::Commit(error @ CommitError::Fenced { .. })) => {
                eprintln!("ninefold: {error}; counting on from where the table stands");
                self.rebuild(pipeline)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Builds the pipeline afresh from the table, under a new generation.
    fn rebuild(&self, pipeline: &mut Pipeline) -> anyhow::Result<()> {
        let now = Minute::of_ms(clock_ms());
        pipeline.rebuild(now.minus(MEMORY_MINUTES)..=Minute(u32::MAX))?;
        lock(&self.claims).clear();
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Lets partitions go, as [`Message::Revoke`] says.
    fn revoke(
        &self,
        pipeline: &mut Pipeline,
        partitions: &[String],
        lost: bool,
    ) -> anyhow::Result<()> {
        let is_uncommitted = |pipeline: &Pipeline| {
            partitions.iter().any(|partition| pipeline.is_uncommitted(partition))
        };
        if is_uncommitted(pipeline) && !lost {
            self.commit(pipeline)?;
        }
        if is_uncommitted(pipeline) {
            return self.rebuild(pipeline);
        }
        partitions.iter().for_each(|partition| pipeline.release(partition));
        Ok(())
    }

    /// Takes what has come; true where the past has ended.
    fn take(&self, first: Message, messages: &Receiver<Message>) -> anyhow::Result<bool> {
        let mut pipeline = self.pipeline.write().expect("nobody has panicked with it");
        let mut waiting: Option<(u16, Vec<Chunk>)> = None;
        let mut ended = false;
        let more = std::iter::from_fn(|| messages.try_recv().ok()).take(BATCH_CHUNKS);
        for message in std::iter::once(first).chain(more) {
            if !matches!(message, Message::Chunk { .. })
                && let Some((number, chunks)) = waiting.take()
            {
                pipeline.ingest(number, &chunks);
            }
            let current = self.generation.load(Ordering::Acquire);
            match message {
                Message::Failed(error) => return Err(error),
                Message::PastEnded => ended = true,
                Message::Begin(begin) if begin.generation == current => {
                    begin_partition(&mut pipeline, *begin)?;
                }
                Message::End { generation, partition } if generation == current => {
                    lock(&self.claims).remove(&partition);
                }
                Message::Chunk { generation, partition, chunk } if generation == current => {
                    let number = pipeline.number_of(&partition).context("it has begun")?;
                    match &mut waiting {
                        Some((same, chunks)) if *same == number => chunks.push(chunk),
                        other => {
                            if let Some((before, chunks)) = other.replace((number, vec![chunk])) {
                                pipeline.ingest(before, &chunks);
                            }
                        }
                    }
                }
                // Of before the pipeline was built afresh: it will be read again.
                Message::Begin(_) | Message::End { .. } | Message::Chunk { .. } => {}
                Message::Revoke { partitions, lost, done } => {
                    self.revoke(&mut pipeline, &partitions, lost)?;
                    // Who asked may have given up waiting.
                    let _ = done.send(());
                }
            }
        }
        if let Some((number, chunks)) = waiting {
            pipeline.ingest(number, &chunks);
        }
        Ok(ended)
    }

    fn note_health(&self, uncommitted: Duration) {
        let pipeline = read(&self.pipeline);
        let lines = pipeline.lines();
        let memory = pipeline.memory_use();
        *lock(&self.health) = Health {
            ready: true,
            notes: memory.notes(),
            as_of: pipeline.state.newest().map(|minute| minute.to_string()),
            read: lines.read,
            counted: lines.counted,
            dead: lines.dead,
            duplicate: lines.duplicate,
            series: pipeline.state.series_count(),
            commits: pipeline.commits(),
            table_version: Some(pipeline.table().version()),
            uncommitted_age_ms: if pipeline.state.pending() == 0 {
                0
            } else {
                uncommitted.as_millis() as u64
            },
            memory,
        };
    }
}

/// Takes a partition that begins, or that goes on.
fn begin_partition(pipeline: &mut Pipeline, begin: Begin) -> anyhow::Result<()> {
    let Begin { unit, partition, label, decode, head, place, before, .. } = begin;
    let decode = settled_decode(&label, decode, &head)?;
    let is_new = pipeline.number_of(&partition).is_none();
    let (name, label, (offset, tail)) = (&*partition, &*label, place);
    let number = pipeline.partition(Start { name, label, decode, unit, offset, tail })?;
    if is_new && let Some(before) = before {
        pipeline.remember_file(number, Path::new(label), before)?;
    }
    Ok(())
}

/// `ninefold run`.
pub fn run(place: &Place, args: RunArgs) -> anyhow::Result<ExitCode> {
    let mut config = batch::load(place)?;
    batch::set_format(&mut config, args.format);
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    let data = batch::table_dir(place, &config)?;
    let sources = files::sources(&config, &args)?;
    let listen = config.listen;
    let service = Service::open(config, data)?;
    let (sender, messages) = sync_channel(QUEUE_CHUNKS);
    for source in sources {
        let reader = SourceReader::new(source, &service, args.verbose, sender.clone());
        let sender = sender.clone();
        std::thread::spawn(move || {
            if let Err(error) = reader.read() {
                // The loop may be gone already; then there is nobody to tell.
                let _ = sender.send(Message::Failed(error));
            }
        });
    }
    drop(sender);
    let announce = |address| {
        eprintln!("ninefold: http://{address}/");
        Ok(())
    };
    serve::beside(&service, listen, "", announce, || service.run(&messages))?;
    Ok(ExitCode::SUCCESS)
}
