//! What is sent or piped to us: durable in a write-ahead log first, then counted from there.
//!
//! A log is a partition like any other: one thread reads it from where the table stands, sends
//! its chunks, begins again under a new generation, and frees what the table has. Each log that
//! no process holds is read to its end, whoever wrote it: what was acknowledged is counted.
//!
//! - HTTP has one log, which the next process goes on with.
//! - Standard input gets a log for itself, of its own format; it is removed once it is counted.
//!   A line that was read is acknowledged by reading on, and a full log or disk by not doing so.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use ninefold_api::{Coding, Ingest, IngestFigures, Intake, Media, Refusal, Upload};
use ninefold_engine::config::{Config, HttpSource};
use ninefold_engine::decode::{self, Decoder, Format, Line};
use ninefold_engine::pipeline::replay::settled_decode;
use ninefold_engine::pipeline::{Pipeline, Unit};
use ninefold_engine::source::body::{self, BodyFault};
use ninefold_engine::source::chunk::{Chunk, ChunkKind, LINE_BYTES_MAX, Pace, Tail};
use ninefold_engine::source::file;
use ninefold_engine::source::wal::{
    self, Batch, Damage, Folder, Kind, Read, Records, SYNC_SECONDS, Wal,
};

use super::{Before, Begin, Message, Service, clock_ms, send};
use crate::states::{lock, read};

/// How long a reader waits for records before it looks whether something else has changed.
const POLL: Duration = Duration::from_millis(200);

/// How often the table's offset is told to a log.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// How long standard input waits before it tries again what the log has refused.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How long the end of the process waits for standard input's log to be removed.
const STDIN_END: Duration = Duration::from_millis(500);

/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Memory for all bodies together, at least: four of the default size, inflated.
const ROOM_BYTES_MIN: u64 = 128 << 20;

/// What readers of logs need of the service.
#[derive(Clone)]
struct Desk {
    pipeline: Arc<RwLock<Pipeline>>,
    stop: Arc<AtomicBool>,
    generation: Arc<AtomicU64>,
    decode: decode::Options,
    options: wal::Options,
    /// The folder of all logs.
    root: PathBuf,
    verbose: bool,
    damages: Arc<Mutex<Vec<String>>>,
    sender: SyncSender<Message>,
}

/// The logs of a running service.
pub struct Push {
    http: Option<(Arc<Wal>, HttpSource)>,
    feeds: Vec<JoinHandle<()>>,
    stdin: Option<JoinHandle<()>>,
}

impl Push {
    /// Opens every log that no process holds, one to take events where that is configured, and
    /// starts to read them; with `stdin`, standard input as well, as it says.
    ///
    /// # Errors
    /// A log cannot be opened.
    pub fn start(
        service: &Service,
        stdin: Option<decode::Options>,
        verbose: bool,
        sender: &SyncSender<Message>,
    ) -> anyhow::Result<Push> {
        let config = service.config();
        let desk = Desk {
            pipeline: Arc::clone(&service.pipeline),
            stop: Arc::clone(&service.stop),
            generation: Arc::clone(&service.generation),
            decode: config.decode.clone(),
            options: config.wal,
            root: root(&config, &service.data),
            verbose,
            damages: Arc::clone(&service.damages),
            sender: sender.clone(),
        };
        let mut push = Push { http: None, feeds: Vec::new(), stdin: None };
        let mut folders = Folder::unlocked(&desk.root)?;
        let is_http = |folder: &Folder| folder.about().kind == Kind::Http;
        if let Some(http) = &config.sources.http {
            let found = folders.iter().position(is_http).map(|index| folders.remove(index));
            let folder = match found {
                Some(folder) => folder,
                None => Folder::create(&desk.root, Kind::Http, Format::Ndjson.name())?,
            };
            let wal = desk.open(folder)?;
            push.http = Some((Arc::clone(&wal), http.clone()));
            push.feeds.push(desk.feed(wal)?);
        }
        for folder in folders {
            let wal = desk.open(folder)?;
            wal.close();
            push.feeds.push(desk.feed(wal)?);
        }
        push.stdin = stdin.map(|decode| std::thread::spawn(move || desk.read_stdin(decode)));
        Ok(push)
    }

    /// What the API needs to take events, where any are taken.
    pub fn intake(&self) -> Option<Intake> {
        let (wal, http) = self.http.as_ref()?;
        let decoded_bytes_max = http.decoded_bytes_max;
        Some(Intake {
            ingest: Arc::new(HttpIngest { wal: Arc::clone(wal), decoded_bytes_max }),
            body_bytes_max: http.body_bytes_max,
            // One body that is inflated and split is there at least.
            room_bytes: ROOM_BYTES_MIN.max(http.body_bytes_max + 2 * decoded_bytes_max),
            body_timeout: BODY_TIMEOUT,
        })
    }

    /// Frees what the last commit has taken, once the service's loop has ended.
    pub fn finish(self) {
        for feed in self.feeds {
            // A panic of it was told where it happened.
            let _ = feed.join();
        }
        // At a stop it may stand in a read for ever: its log is left to the next start.
        let since = Instant::now();
        while self.stdin.as_ref().is_some_and(|stdin| !stdin.is_finished())
            && since.elapsed() < STDIN_END
        {
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// The folder of all logs: `wal` beside the table, unless configured.
pub fn root(config: &Config, table: &Path) -> PathBuf {
    let beside = || table.parent().unwrap_or(table).join("wal");
    config.wal_dir.clone().unwrap_or_else(beside)
}

impl Desk {
    fn open(&self, folder: Folder) -> anyhow::Result<Arc<Wal>> {
        let committed = self.offset(&folder.partition())?;
        let wal = Wal::open(folder, committed, self.options)?;
        tell_damage(&wal, &self.damages);
        Ok(Arc::new(wal))
    }

    /// How far the table has counted a partition.
    fn offset(&self, partition: &str) -> anyhow::Result<u64> {
        Ok(read(&self.pipeline).table().offset(partition)?.unwrap_or(0))
    }

    /// Starts the thread that reads a log.
    fn feed(&self, wal: Arc<Wal>) -> anyhow::Result<JoinHandle<()>> {
        let format = &wal.about().format;
        let format = format.parse().with_context(|| format!("{}", wal.folder().display()))?;
        let decode = decode::Options { format, ..self.decode.clone() };
        let feed = Feed { wal, decode, desk: self.clone(), said_failure: None };
        Ok(std::thread::spawn(move || feed.run()))
    }

    /// Reads standard input into a log of its own.
    fn read_stdin(self, decode: decode::Options) {
        let sender = self.sender.clone();
        let feed = self.pipe(decode).unwrap_or_else(|error| {
            // The loop may be gone already; then there is nobody to tell.
            let _ = sender.send(Message::Failed(error));
            None
        });
        // The loop ends with its senders; the feed only then knows that all is committed.
        drop(sender);
        if let Some(feed) = feed {
            // A panic of it was told where it happened.
            let _ = feed.join();
        }
    }

    /// Reads standard input to its end; what still reads its log.
    fn pipe(mut self, decode: decode::Options) -> anyhow::Result<Option<JoinHandle<()>>> {
        let Some(opened) = file::open_stream(std::io::stdin(), Pace::Eager, &[])? else {
            return Ok(None);
        };
        self.decode = settled_decode("-", decode, &opened.head)?;
        let folder = Folder::create(&self.root, Kind::Stdin, self.decode.format.name())?;
        let wal = self.open(folder)?;
        let feed = self.feed(Arc::clone(&wal))?;
        let mut chunks = opened.chunks;
        while let Some(chunk) = chunks.next_chunk()? {
            let records = records_of(&chunk, &self.decode);
            if !self.append(&wal, records) {
                break;
            }
        }
        wal.close();
        Ok(Some(feed))
    }

    /// Appends records, however long the log refuses them; false where the service ends first.
    fn append(&self, wal: &Wal, records: Records) -> bool {
        let batch = Batch { time_ms: clock_ms(), key: Vec::new(), records };
        loop {
            match wal.append(batch.clone()) {
                Ok(_) => return true,
                Err(wal::Refusal::Closed) => return false,
                Err(_) if self.stop.load(Ordering::Relaxed) => return false,
                // The feed tells it.
                Err(_) => std::thread::sleep(RETRY_INTERVAL),
            }
        }
    }
}

/// The lines of a chunk of standard input.
fn records_of(chunk: &Chunk, decode: &decode::Options) -> Records {
    match chunk.kind {
        ChunkKind::Lines | ChunkKind::Records(_) => Records::of_lines(&chunk.bytes),
        // Counts only if it decodes: the writer may have ended in the middle of it.
        ChunkKind::Unterminated => {
            let mut decoder = Decoder::new(decode, decode.format);
            let is_event = matches!(decoder.decode(&chunk.bytes), Line::Event(_));
            if is_event { Records::of_lines(&chunk.bytes) } else { Records::default() }
        }
        ChunkKind::Overlong => {
            let mut record = chunk.bytes.clone();
            // Longer than what is looked at, so that it is told as such.
            record.resize(LINE_BYTES_MAX + 1, b' ');
            let mut records = Records::default();
            records.push(&record);
            records
        }
    }
}

/// What reads one log.
struct Feed {
    wal: Arc<Wal>,
    decode: decode::Options,
    desk: Desk,
    /// What was said of a disk that refuses.
    said_failure: Option<String>,
}

/// How reading ended.
#[derive(PartialEq, Eq)]
enum Fed {
    /// All of a log was sent that takes nothing more, or the service ends.
    All,
    /// The pipeline was built afresh.
    Again,
}

impl Feed {
    fn run(mut self) {
        if let Err(error) = self.feed()
            && !self.desk.stop.load(Ordering::Relaxed)
        {
            // The loop may be gone already; then there is nobody to tell.
            let _ = self.desk.sender.send(Message::Failed(error));
        }
        self.end();
    }

    fn feed(&mut self) -> anyhow::Result<()> {
        let is_stopped = |feed: &Feed| feed.desk.stop.load(Ordering::Relaxed);
        while !is_stopped(self) {
            let generation = self.desk.generation.load(Ordering::Acquire);
            let offset = read(&self.desk.pipeline).place_of(&self.wal.partition())?;
            self.begin(generation, offset)?;
            if self.send_from(generation, offset)? == Fed::All {
                break;
            }
        }
        Ok(())
    }

    fn begin(&self, generation: u64, offset: u64) -> anyhow::Result<()> {
        let partition = self.wal.partition();
        let label = match self.wal.about().kind {
            Kind::Http => "POST /v1/events",
            Kind::Stdin => "standard input",
        };
        if self.desk.verbose {
            eprintln!("ninefold: {label}: {partition} from record {offset}");
        }
        let begin = Begin {
            generation,
            unit: Unit::Records,
            partition,
            label: label.to_owned(),
            decode: self.decode.clone(),
            head: Vec::new(),
            // No chunk is committed without a tail of its own.
            place: (offset, Tail::default()),
            before: Some(self.before(offset)),
        };
        send(&self.desk.sender, Message::Begin(Box::new(begin)))
    }

    /// The records of the dedupe window.
    fn before(&self, offset: u64) -> Before {
        let first = offset.saturating_sub(self.desk.options.keep_records);
        let mut reader = self.wal.reader(first, Some(offset));
        let chunks = std::iter::from_fn(move || match reader.next_chunk(Duration::ZERO) {
            Ok(Read::Chunk(chunk)) => Some(Some(Ok(chunk))),
            // What the window lacks is no more than a repetition that counts.
            Ok(Read::Lost { .. }) => Some(None),
            Ok(Read::Nothing | Read::Ended) => None,
            Err(error) => Some(Some(Err(error.into()))),
        });
        Box::new(chunks.flatten())
    }

    /// Has it accepted that records up to `next` cannot be read, however often the store
    /// refuses; false where the service ends, or the pipeline is built afresh, before that.
    fn give_up(&self, generation: u64, next: u64, reason: String) -> anyhow::Result<bool> {
        loop {
            let (done, accepted) = sync_channel(1);
            let (partition, reason) = (self.wal.partition(), reason.clone());
            let gap = Message::Gap { generation, partition, next, reason, done };
            send(&self.desk.sender, gap)?;
            // A loop that has ended answers nothing.
            if accepted.recv().unwrap_or(false) {
                return Ok(true);
            }
            let is_old = self.desk.generation.load(Ordering::Acquire) != generation;
            if is_old || self.desk.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    /// Tells what was found to be damaged.
    fn tell_damage(&self) {
        tell_damage(&self.wal, &self.desk.damages);
    }

    fn send_from(&mut self, generation: u64, offset: u64) -> anyhow::Result<Fed> {
        let mut reader = self.wal.reader(offset, None);
        let partition = self.wal.partition();
        let mut kept = Instant::now();
        loop {
            if self.desk.generation.load(Ordering::Acquire) != generation {
                return Ok(Fed::Again);
            }
            // At a stop, what is there is still sent.
            let is_last = self.desk.stop.load(Ordering::Relaxed);
            let partition = partition.clone();
            match reader.next_chunk(if is_last { Duration::ZERO } else { POLL })? {
                Read::Chunk(chunk) => {
                    let arrived = self.wal.received(chunk.next).unwrap_or_else(Instant::now);
                    let message = Message::Chunk { generation, partition, chunk, arrived };
                    send(&self.desk.sender, message)?;
                }
                Read::Lost { records, reason } => {
                    self.tell_damage();
                    if !self.give_up(generation, records.end, reason)? && is_last {
                        return Ok(Fed::All);
                    }
                }
                Read::Nothing if is_last => return Ok(Fed::All),
                Read::Nothing => {}
                Read::Ended => {
                    send(&self.desk.sender, Message::End { generation, partition })?;
                    return Ok(Fed::All);
                }
            }
            if kept.elapsed() >= HOUSEKEEPING_INTERVAL {
                self.keep_house()?;
                kept = Instant::now();
            }
        }
    }

    /// Frees what the table has, and tells what is wrong.
    fn keep_house(&mut self) -> anyhow::Result<()> {
        self.tell_damage();
        let failure = self.wal.figures().failure;
        match (&failure, &self.said_failure) {
            (Some(failure), None) => {
                eprintln!("ninefold: {failure}; nothing is accepted meanwhile")
            }
            (None, Some(_)) => eprintln!("ninefold: the log can be written again"),
            _ => {}
        }
        self.said_failure = failure;
        let offset = self.desk.offset(&self.wal.partition())?;
        if let Err(error) = self.wal.committed(offset, clock_ms()) {
            // It only takes room longer than it should.
            eprintln!("ninefold: {error}");
        }
        Ok(())
    }

    /// Waits until all that was sent is committed, or the service has ended, and removes a log
    /// that nobody goes on with. The loop is not kept waiting: it ends with its senders.
    fn end(mut self) {
        let (unused, _) = sync_channel(0);
        self.desk.sender = unused;
        loop {
            let is_last = self.desk.stop.load(Ordering::Relaxed);
            if let Err(error) = self.keep_house() {
                eprintln!("ninefold: {error}");
            }
            if is_last || self.wal.is_committed() {
                break;
            }
            std::thread::park_timeout(POLL);
        }
        let is_over = self.wal.about().kind == Kind::Stdin && self.wal.is_committed();
        // Where its writer still holds it, the next start removes it.
        if let Some(wal) = Arc::into_inner(self.wal).filter(|_| is_over)
            && let Err(error) = wal.remove()
        {
            eprintln!("ninefold: {error}");
        }
    }
}

/// Says what was found to be damaged, and keeps it for the notes of the service, but for a write
/// that did not end: nobody was told that it had.
fn tell_damage(wal: &Wal, damages: &Mutex<Vec<String>>) {
    for damage in wal.take_damages() {
        eprintln!("ninefold: {damage}");
        if !matches!(damage, Damage::Torn { .. }) {
            lock(damages).push(damage.to_string());
        }
    }
}

/// Takes events that are sent, into a log.
struct HttpIngest {
    wal: Arc<Wal>,
    decoded_bytes_max: u64,
}

impl Ingest for HttpIngest {
    fn take(&self, upload: Upload) -> Result<u64, Refusal> {
        let Upload { key, media, coding, body, received, mut held, meter } = upload;
        let coding = match coding {
            Coding::Identity => body::Coding::Identity,
            Coding::Gzip => body::Coding::Gzip,
            Coding::Zstd => body::Coding::Zstd,
        };
        let media = match media {
            Media::Lines => body::Media::Lines,
            Media::Array => body::Media::Array,
        };
        let mut room = |bytes| held.grow(bytes);
        let text = body::inflate(body, coding, self.decoded_bytes_max, &mut room);
        let text = text.map_err(refusal)?;
        meter.charge(text.len() as u64)?;
        // The records are a second copy of the text while they are cut out of it.
        if !held.grow(text.len() as u64) {
            return Err(refusal(BodyFault::Room));
        }
        let records = body::records(&text, media).map_err(refusal)?;
        drop(text);
        let batch = Batch { time_ms: clock_ms(), key, records };
        let appended = self.wal.append_received(batch, received);
        appended.map(|accepted| u64::from(accepted.count)).map_err(|refusal| match refusal {
            wal::Refusal::Full { .. } | wal::Refusal::Queue { .. } => {
                Refusal::Full(refusal.to_string())
            }
            wal::Refusal::Disk { .. } | wal::Refusal::Closed => Refusal::Log(refusal.to_string()),
            wal::Refusal::KeyReused => Refusal::KeyReused,
        })
    }

    fn figures(&self) -> IngestFigures {
        let figures = self.wal.figures();
        let ends = SYNC_SECONDS.into_iter().chain([f64::MAX]);
        IngestFigures {
            wal_bytes: figures.bytes,
            wal_uncommitted_bytes: figures.uncommitted_bytes,
            keys: figures.keys,
            damages: figures.damages,
            failures: figures.failures,
            syncs: ends.zip(figures.syncs).collect(),
            sync_seconds: figures.sync_seconds,
        }
    }
}

fn refusal(fault: BodyFault) -> Refusal {
    let detail = fault.to_string();
    match fault {
        BodyFault::Long(_) | BodyFault::Ratio | BodyFault::Many => Refusal::Large(detail),
        BodyFault::Broken(_) => Refusal::Broken(detail),
        BodyFault::Room => Refusal::Full(detail),
    }
}
