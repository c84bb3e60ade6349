//! The running service: sources, the loop that owns the pipeline, the API beside it.
//!
//! Source threads send chunks; one loop thread takes them, ticks at least each second, commits
//! at intervals and at once where an alert has changed; the API reads under a shared lock. Only
//! this module reads the wall clock.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ninefold_engine::config::Config;
use ninefold_engine::decode;
use ninefold_engine::decode::Format;
use ninefold_engine::pipeline::Pipeline;
use ninefold_engine::pipeline::fold::oldest_minute;
use ninefold_engine::pipeline::replay::settled_decode;
use ninefold_engine::query::Health;
use ninefold_engine::source::chunk::{Chunk, ChunkKind, Chunks, Pace, Tail};
use ninefold_engine::source::file::{self, FileChunks, Opened};
use ninefold_engine::source::follow::FollowReader;
use ninefold_engine::table::Table;
use ninefold_engine::time::{DAY_MINUTES, Minute};

use crate::ask::Asker;
use crate::states::{LiveStates, TableStates, lock, read};
use crate::{Place, Usage, batch, serve};

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
        /// The lines of the dedupe window before that place.
        before: Option<FileChunks>,
    },
    /// The next chunk of a partition that has begun.
    Chunk {
        /// Which.
        partition: String,
        /// Its bytes.
        chunk: Chunk,
    },
    /// A partition has no more chunks for now; another source may go on with it.
    End {
        /// Which.
        partition: String,
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
        let now = Minute::of_ms(clock_ms());
        pipeline.recover(now.minus(MEMORY_MINUTES)..=Minute(u32::MAX))?;
        Ok(Service {
            pipeline: Arc::new(RwLock::new(pipeline)),
            stop: Arc::new(AtomicBool::new(false)),
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
                Message::Begin { partition, label, decode, head, place, before } => {
                    if let Some((number, chunks)) = waiting.take() {
                        pipeline.ingest(number, &chunks);
                    }
                    let decode = settled_decode(&label, decode, &head)?;
                    let is_new = pipeline.number_of(&partition).is_none();
                    let number = pipeline.partition(&partition, &label, decode, place)?;
                    if is_new && let Some(before) = before {
                        pipeline.remember_file(number, Path::new(&label), before)?;
                    }
                }
                Message::End { partition } => {
                    if let Some((number, chunks)) = waiting.take() {
                        pipeline.ingest(number, &chunks);
                    }
                    lock(&self.claims).remove(&partition);
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
    batch::set_format(&mut config, args.format);
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    let data = batch::data(place, &config)?;
    let sources = sources(&config, &args)?;
    let listen = config.listen;
    let service = Service::open(config, data)?;
    let (sender, messages) = sync_channel(QUEUE_CHUNKS);
    for source in sources {
        let reader = SourceReader {
            source,
            pipeline: Arc::clone(&service.pipeline),
            claims: Arc::clone(&service.claims),
            stop: Arc::clone(&service.stop),
            dedupe_window_bytes: service.config.dedupe_window_bytes,
            verbose: args.verbose,
            sender: sender.clone(),
        };
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
    if sources.is_empty() {
        let takes = "name files (or `-` for standard input), or configure [[source.file]]";
        return Err(Usage(format!("nothing to count: {takes}")).into());
    }
    Ok(sources)
}

/// How long a source waits before it looks again at a file that is empty, or that another
/// source is reading.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What a source finds at its path.
enum Found {
    /// Something to count, which is claimed.
    Opened(Opened),
    /// Nothing yet.
    Empty,
    /// Content that another source is reading.
    Taken,
}

/// What the thread of a source works with.
struct SourceReader {
    source: Source,
    pipeline: Arc<RwLock<Pipeline>>,
    claims: Claims,
    stop: Arc<AtomicBool>,
    dedupe_window_bytes: u64,
    verbose: bool,
    sender: SyncSender<Message>,
}

impl SourceReader {
    /// Reads a source to its end; a followed one until a stop, through rotations.
    fn read(&self) -> anyhow::Result<()> {
        let follow = self.source.follow && !self.is_stdin();
        while !self.stop.load(Ordering::Relaxed) {
            match self.open()? {
                Found::Opened(opened) => {
                    let follow = follow && !file::is_compressed(&self.source.path)?;
                    self.send(opened, follow)?;
                    if !follow {
                        return Ok(());
                    }
                }
                Found::Empty if !follow => return Ok(()),
                Found::Empty | Found::Taken => {}
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
        Ok(())
    }

    fn is_stdin(&self) -> bool {
        self.source.path == Path::new("-")
    }

    /// Opens the source where its counting goes on, with a claim on its partition.
    fn open(&self) -> anyhow::Result<Found> {
        if self.is_stdin() {
            let known = read(&self.pipeline).known()?;
            let Some(opened) = file::open_stream(std::io::stdin(), Pace::Eager, &known)? else {
                return Ok(Found::Empty);
            };
            let label = "standard input is a log that another source is reading";
            anyhow::ensure!(self.claim(&opened.partition), label);
            return Ok(Found::Opened(opened));
        }
        let Some(first) = self.open_file()? else { return Ok(Found::Empty) };
        if !self.claim(&first.partition) {
            return Ok(Found::Taken);
        }
        // Who had the claim before may have counted on since: only with it the place stands.
        match self.open_file() {
            Ok(Some(opened)) if opened.partition == first.partition => Ok(Found::Opened(opened)),
            other => {
                lock(&self.claims).remove(&first.partition);
                other.map(|_| Found::Taken)
            }
        }
    }

    fn open_file(&self) -> anyhow::Result<Option<Opened>> {
        let known = read(&self.pipeline).known()?;
        let opened = file::open(&self.source.path, &known)?;
        // The begin of a growing file is its name: half a line of it would name others as well.
        let is_begun = |opened: &Opened| !self.source.follow || opened.head.contains(&b'\n');
        Ok(opened.filter(is_begun))
    }

    /// Takes a partition for this source, unless another one has it.
    fn claim(&self, partition: &str) -> bool {
        lock(&self.claims).insert(partition.to_owned())
    }

    /// Sends the chunks of an opened source: to its end, or until it is rotated away or the
    /// service stops. An unterminated last line only where nothing will be added to it.
    fn send(&self, opened: Opened, follow: bool) -> anyhow::Result<()> {
        let Opened { partition, head, mut chunks, offset, tail } = opened;
        let (path, window) = (&self.source.path, self.dedupe_window_bytes);
        if self.verbose {
            eprintln!("ninefold: {}: {partition} from byte {offset}", path.display());
        }
        if follow {
            let reader = FollowReader::open(path, offset, Arc::clone(&self.stop))?;
            chunks = Chunks::new(Box::new(reader), Pace::Eager, offset, tail.clone());
        }
        let before =
            if self.is_stdin() { None } else { Some(file::chunks_before(path, offset, window)?) };
        send(
            &self.sender,
            Message::Begin {
                partition: partition.clone(),
                label: path.display().to_string(),
                decode: self.source.decode.clone(),
                head,
                place: (offset, tail),
                before,
            },
        )?;
        while let Some(chunk) = chunks.next_chunk()? {
            if chunk.kind != ChunkKind::Unterminated || !follow {
                send(&self.sender, Message::Chunk { partition: partition.clone(), chunk })?;
            }
        }
        send(&self.sender, Message::End { partition })
    }
}
