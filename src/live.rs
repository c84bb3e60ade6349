//! The running service: sources, the loop that owns the pipeline, the API beside it.
//!
//! Source threads send chunks; one loop thread takes them, ticks at least each second, commits
//! at intervals and at once where an alert has changed; the API reads under a shared lock. Only
//! this module reads the wall clock.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use ninefold_engine::config::Config;
use ninefold_engine::decode;
use ninefold_engine::decode::Format;
use ninefold_engine::pipeline::Pipeline;
use ninefold_engine::pipeline::fold::oldest_minute;
use ninefold_engine::pipeline::replay::settled_decode;
use ninefold_engine::query::Health;
use ninefold_engine::source::chunk::{Chunk, ChunkKind, Chunks, Pace, Tail};
use ninefold_engine::source::file::{self, Opened};
use ninefold_engine::source::follow::FollowReader;
use ninefold_engine::table::Table;
use ninefold_engine::time::{DAY_MINUTES, Minute};

use crate::ask::Asker;
use crate::states::{LiveStates, TableStates, lock, read};
use crate::{Place, batch, serve};

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
    pub format: Option<String>,
}

/// The wall clock in epoch milliseconds.
#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the clock")]
pub fn clock_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// What a source thread tells the loop.
pub enum Message {
    /// A partition begins, or goes on, where the pipeline knows.
    Begin {
        /// Its name.
        partition: String,
        /// Its path, for people.
        label: String,
        /// How it is read; the format may be left to its first bytes.
        decode: decode::Options,
        /// Its first bytes.
        head: Vec<u8>,
        /// Where its chunks begin, and what stands before.
        place: (u64, Tail),
    },
    /// The next chunk of a partition that has begun.
    Chunk {
        /// Which.
        partition: String,
        /// Its bytes.
        chunk: Chunk,
    },
    /// All of the past was sent: what follows is live.
    PastEnded,
    /// A source cannot be read any more.
    Failed(anyhow::Error),
}

/// A service that is running.
pub struct Service {
    /// What the loop owns and answers read.
    pub pipeline: Arc<RwLock<Pipeline>>,
    /// Set to end it.
    pub stop: Arc<AtomicBool>,
    health: Arc<Mutex<Health>>,
    config: Config,
    data: PathBuf,
}

impl Service {
    /// Opens the table and folds it into memory.
    ///
    /// # Errors
    /// The table cannot be opened or read.
    pub fn open(config: Config, data: PathBuf) -> anyhow::Result<Service> {
        let table = Table::open_or_create(&data)?;
        let mut pipeline =
            Pipeline::new(batch::options(&config), table, true, batch::random_seed());
        let now = Minute::of_ms(clock_ms());
        pipeline.recover(now.minus(MEMORY_MINUTES)..=Minute(u32::MAX))?;
        Ok(Service {
            pipeline: Arc::new(RwLock::new(pipeline)),
            stop: Arc::new(AtomicBool::new(false)),
            health: Arc::new(Mutex::new(Health::default())),
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
                pipeline.commit()?;
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
                pipeline.tick(clock_ms(), &self.config.objectives, &self.config.alerts);
                ticked = Instant::now();
            }
            let since = committed.elapsed();
            let alerted = pipeline.has_transitions() && since >= ALERT_COMMIT_INTERVAL;
            if since >= interval || alerted || pipeline.epoch_is_full() || stopping {
                pipeline.commit()?;
                committed = Instant::now();
            }
            drop(pipeline);
            self.note_health(committed.elapsed());
            if stopping {
                return Ok(());
            }
        }
    }

    /// Takes what has come; true where the past has ended.
    fn take(&self, first: Message, messages: &Receiver<Message>) -> anyhow::Result<bool> {
        let mut pipeline = self.pipeline.write().expect("nobody has panicked with it");
        let mut waiting: Option<(u16, Vec<Chunk>)> = None;
        let mut ended = false;
        let more = std::iter::from_fn(|| messages.try_recv().ok()).take(BATCH_CHUNKS);
        for message in std::iter::once(first).chain(more) {
            match message {
                Message::Failed(error) => return Err(error),
                Message::PastEnded => ended = true,
                Message::Begin { partition, label, decode, head, place } => {
                    if let Some((number, chunks)) = waiting.take() {
                        pipeline.ingest(number, &chunks);
                    }
                    let decode = settled_decode(&label, decode, &head)?;
                    let (begun, offset) = (pipeline.number_of(&partition).is_some(), place.0);
                    let number = pipeline.partition(&partition, &label, decode, place)?;
                    if !begun {
                        pipeline.remember(number, Path::new(&label), offset)?;
                    }
                }
                Message::Chunk { partition, chunk } => {
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
        *lock(&self.health) = Health {
            ready: true,
            notes: Vec::new(),
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
        };
    }
}

/// `ninefold run`.
pub fn run(place: &Place, args: RunArgs) -> anyhow::Result<ExitCode> {
    let mut config = batch::load(place)?;
    batch::set_format(&mut config, args.format.as_deref())?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    let data = batch::table_dir(place, &config)?;
    let sources = sources(&config, &args)?;
    let listen = config.listen;
    let service = Service::open(config, data)?;
    let (sender, messages) = sync_channel(QUEUE_CHUNKS);
    for source in sources {
        let (sender, stop) = (sender.clone(), Arc::clone(&service.stop));
        let pipeline = Arc::clone(&service.pipeline);
        std::thread::spawn(move || {
            if let Err(error) = read_source(&source, &pipeline, &sender, &stop) {
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

/// What one source thread reads.
struct Source {
    path: PathBuf,
    follow: bool,
    decode: decode::Options,
}

fn sources(config: &Config, args: &RunArgs) -> anyhow::Result<Vec<Source>> {
    let decode = |format: Option<Format>, service: &Option<String>| {
        let mut decode = config.decode.clone();
        decode.format = format.unwrap_or(decode.format);
        decode.service = service.clone().or(decode.service);
        decode
    };
    let mut sources = Vec::new();
    for path in batch::expand(&args.files)? {
        sources.push(Source { path, follow: args.follow, decode: decode(None, &None) });
    }
    if !sources.is_empty() {
        return Ok(sources);
    }
    for file in &config.sources.files {
        for path in batch::expand(&file.paths)? {
            let decode = decode(file.format, &file.service);
            sources.push(Source { path, follow: file.follow, decode });
        }
    }
    if let Some(stdin) = &config.sources.stdin {
        let decode = decode(stdin.format, &stdin.service);
        sources.push(Source { path: PathBuf::from("-"), follow: false, decode });
    }
    anyhow::ensure!(
        !sources.is_empty(),
        "nothing to count: name files (or `-` for standard input), or configure [[source.file]]"
    );
    Ok(sources)
}

fn read_source(
    source: &Source,
    pipeline: &RwLock<Pipeline>,
    sender: &SyncSender<Message>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<()> {
    loop {
        let known = read(pipeline).known()?;
        let opened = if source.path == Path::new("-") {
            file::open_stream(std::io::stdin(), Pace::Eager, &known)?
        } else {
            file::open(&source.path, &known)?
        };
        let ended = match opened {
            Some(opened) if source.follow => follow(source, opened, sender, stop)?,
            Some(opened) => {
                send_all(source, opened, sender, true)?;
                true
            }
            None => !source.follow,
        };
        if ended || stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Follows a file until it is rotated away (false) or the service stops (true).
fn follow(
    source: &Source,
    opened: Opened,
    sender: &SyncSender<Message>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<bool> {
    let reader = FollowReader::open(&source.path, opened.offset, Arc::clone(stop))?;
    let chunks: file::FileChunks =
        Chunks::new(Box::new(reader), Pace::Eager, opened.offset, opened.tail.clone());
    send_all(source, Opened { chunks, ..opened }, sender, false)?;
    Ok(stop.load(Ordering::Relaxed))
}

/// Sends a source's chunks to its end; an unterminated last line only where `whole` says that
/// nothing will be added to it.
fn send_all(
    source: &Source,
    opened: Opened,
    sender: &SyncSender<Message>,
    whole: bool,
) -> anyhow::Result<()> {
    let Opened { partition, head, mut chunks, offset, tail } = opened;
    let label = source.path.display().to_string();
    let (decode, place) = (source.decode.clone(), (offset, tail));
    sender.send(Message::Begin { partition: partition.clone(), label, decode, head, place })?;
    while let Some(chunk) = chunks.next_chunk()? {
        if chunk.kind != ChunkKind::Unterminated || whole {
            sender.send(Message::Chunk { partition: partition.clone(), chunk })?;
        }
    }
    Ok(())
}
