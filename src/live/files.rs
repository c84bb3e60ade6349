//! Files as sources of the running service: one thread each.
//!
//! Of two paths to one content the second waits until the first has been counted to its end: a
//! partition is read under a claim on its name.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use ninefold_engine::config::Config;
use ninefold_engine::decode;
use ninefold_engine::decode::Format;
use ninefold_engine::pipeline::{Pipeline, Unit};
use ninefold_engine::source::chunk::{ChunkKind, Chunks, Pace};
use ninefold_engine::source::file::{self, Opened};
use ninefold_engine::source::follow::FollowReader;

use super::rivals::Rivals;
use super::{Begin, Claims, Message, RunArgs, Service, send};
use crate::states::{lock, read};
use crate::{Usage, batch};

/// What one source thread reads.
pub struct Source {
    path: PathBuf,
    follow: bool,
    decode: decode::Options,
}

/// The files that are to be read, and how standard input is, where it is one of them.
///
/// # Errors
/// There is nothing to count, or a glob cannot be read.
pub fn sources(
    config: &Config,
    args: &RunArgs,
) -> anyhow::Result<(Vec<Source>, Option<decode::Options>)> {
    let decode = |format: Option<Format>, service: &Option<String>| {
        let mut decode = config.decode.clone();
        decode.format = format.unwrap_or(decode.format);
        decode.service = service.clone().or(decode.service);
        decode
    };
    let (mut files, mut stdin) = (Vec::new(), None);
    for path in batch::expand(&args.files)? {
        if path == Path::new("-") {
            stdin = Some(decode(None, &None));
        } else {
            files.push(Source { path, follow: args.follow, decode: decode(None, &None) });
        }
    }
    if files.is_empty() && stdin.is_none() {
        for file in &config.sources.files {
            for path in batch::expand(&file.paths)? {
                let decode = decode(file.format, &file.service);
                files.push(Source { path, follow: file.follow, decode });
            }
        }
        stdin = config.sources.stdin.as_ref().map(|stdin| decode(stdin.format, &stdin.service));
    }
    let elsewhere = config.sources.http.is_some() || config.sources.kafka.is_some();
    if files.is_empty() && stdin.is_none() && !elsewhere {
        let takes = "name files (or `-` for standard input), give --push, or configure \
                     [[source.file]], [source.http] or [source.kafka]";
        return Err(Usage(format!("nothing to count: {takes}")).into());
    }
    Ok((files, stdin))
}

/// How long a source waits before it looks again at a file that is empty, or that another
/// source is reading.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How long it waits where another instance is counting the file.
const STANDBY_INTERVAL: Duration = Duration::from_secs(1);

/// What a source finds at its path.
enum Found {
    /// Something to count, which is claimed.
    Opened(Opened),
    /// Nothing yet.
    Empty,
    /// Content that another source is reading.
    Taken,
    /// Content that another instance is counting.
    Elsewhere,
}

/// What the thread of a source works with.
pub struct SourceReader {
    source: Source,
    pipeline: Arc<RwLock<Pipeline>>,
    claims: Claims,
    rivals: Rivals,
    stop: Arc<AtomicBool>,
    generation: Arc<AtomicU64>,
    dedupe_window_bytes: u64,
    verbose: bool,
    sender: SyncSender<Message>,
}

impl SourceReader {
    /// Reads `source` for `service`.
    pub fn new(
        source: Source,
        service: &Service,
        verbose: bool,
        sender: SyncSender<Message>,
    ) -> SourceReader {
        SourceReader {
            source,
            pipeline: Arc::clone(&service.pipeline),
            claims: Arc::clone(&service.claims),
            rivals: service.rivals.clone(),
            stop: Arc::clone(&service.stop),
            generation: Arc::clone(&service.generation),
            dedupe_window_bytes: service.config().dedupe_window_bytes,
            verbose,
            sender,
        }
    }

    /// Reads a source to its end; a followed one until a stop, through rotations.
    ///
    /// # Errors
    /// The source cannot be read, or the service has ended.
    pub fn read(&self) -> anyhow::Result<()> {
        let follow = self.source.follow;
        while !self.stop.load(Ordering::Relaxed) {
            let generation = self.generation.load(Ordering::Acquire);
            let mut wait = RETRY_INTERVAL;
            match self.open()? {
                Found::Opened(opened) => {
                    let follow = follow && !file::is_compressed(&self.source.path)?;
                    let ended = self.send(opened, generation, follow)?;
                    if ended && !follow {
                        return Ok(());
                    }
                }
                Found::Empty if !follow => return Ok(()),
                Found::Empty | Found::Taken => {}
                Found::Elsewhere => wait = STANDBY_INTERVAL,
            }
            let waited = Instant::now();
            while waited.elapsed() < wait && !self.stop.load(Ordering::Relaxed) {
                std::thread::sleep(RETRY_INTERVAL);
            }
        }
        Ok(())
    }

    /// Opens the source where its counting goes on, with a claim on its partition.
    fn open(&self) -> anyhow::Result<Found> {
        let Some(first) = self.open_file()? else { return Ok(Found::Empty) };
        if self.rivals.is_counting(&first.partition) {
            return Ok(Found::Elsewhere);
        }
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
    /// service stops. An unterminated last line only where nothing will be added to it. False
    /// where the pipeline was built afresh meanwhile, so that the source has to be opened again.
    fn send(&self, opened: Opened, generation: u64, follow: bool) -> anyhow::Result<bool> {
        let is_old = || self.generation.load(Ordering::Acquire) != generation;
        let Opened { partition, head, mut chunks, offset, tail } = opened;
        let (path, window) = (&self.source.path, self.dedupe_window_bytes);
        if self.verbose {
            eprintln!("ninefold: {}: {partition} from byte {offset}", path.display());
        }
        if follow {
            let (stop, current) = (Arc::clone(&self.stop), Arc::clone(&self.generation));
            let ended = move || {
                stop.load(Ordering::Relaxed) || current.load(Ordering::Acquire) != generation
            };
            let reader = FollowReader::open(path, offset, Box::new(ended))?;
            chunks = Chunks::new(Box::new(reader), Pace::Eager, offset, tail.clone());
        }
        let mut before = file::chunks_before(path, offset, window)?;
        let before = move || Some(before.next_chunk().transpose()?.map_err(Into::into));
        send(
            &self.sender,
            Message::Begin(Box::new(Begin {
                generation,
                unit: Unit::Bytes,
                partition: partition.clone(),
                label: path.display().to_string(),
                decode: self.source.decode.clone(),
                head,
                place: (offset, tail),
                before: Some(Box::new(std::iter::from_fn(before))),
            })),
        )?;
        while let Some(chunk) = chunks.next_chunk()? {
            let arrived = Instant::now();
            if is_old() {
                return Ok(false);
            }
            if chunk.kind != ChunkKind::Unterminated || !follow {
                let partition = partition.clone();
                send(&self.sender, Message::Chunk { generation, partition, chunk, arrived })?;
            }
        }
        send(&self.sender, Message::End { generation, partition })?;
        Ok(!is_old())
    }
}
