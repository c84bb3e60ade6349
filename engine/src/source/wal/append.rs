//! Appending: a queue of batches, one thread that writes and syncs them together.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::frame::{Batch, KEY_BYTES_MAX, encode};
use super::keys::{self, KeyHash, Known};
use super::{Segment, Shared, State, Wal, open};
use crate::failpoint;

/// Upper ends of the classes that [`Figures::syncs`](super::Figures::syncs) counts.
pub const SYNC_SECONDS: [f64; 11] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// So much is written between two syncs, if it waits: a sync costs as much as some megabytes.
const GROUP_BYTES: u64 = 8 << 20;

/// A batch that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How many records it had.
    pub count: u32,
    /// Whether it was accepted before, under the same key, so that nothing was written.
    pub repeated: bool,
}

/// Why a batch was not accepted: nothing of it will be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too much waits for a commit.
    #[error(
        "{uncommitted_bytes} bytes wait to be counted, and {bytes} more are above the limit of \
         {max_bytes}"
    )]
    Full {
        /// What waits.
        uncommitted_bytes: u64,
        /// What was to be added.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// Too much waits for the disk.
    #[error(
        "{queued_bytes} bytes wait for the disk, and {bytes} more are above the limit of \
         {max_bytes}"
    )]
    Queue {
        /// What waits.
        queued_bytes: u64,
        /// What was to be added.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The disk refused it. A repetition may succeed.
    #[error(
        "cannot write {bytes} bytes to {path}: {message}; {} bytes are free",
        free_text(free_bytes)
    )]
    Disk {
        /// The file.
        path: PathBuf,
        /// How much was to be written, with what others had queued.
        bytes: u64,
        /// How much room the file system has, where it says so.
        free_bytes: Option<u64>,
        /// What the system says.
        message: String,
    },
    /// The key was used for another batch.
    #[error("the key was used before, for other records")]
    KeyReused,
    /// The log is closed: the process is about to end.
    #[error("the service is about to end")]
    Closed,
}

fn free_text(free_bytes: &Option<u64>) -> String {
    free_bytes.map_or("an unknown number of".to_owned(), |bytes| bytes.to_string())
}

/// Who waits for a batch.
type Waiter = SyncSender<Result<Accepted, Refusal>>;

/// A batch that waits to be written.
struct Pending {
    batch: Batch,
    key: Option<KeyHash>,
    digest: u32,
    /// When it came.
    received: Instant,
    waiter: Waiter,
}

/// Batches that are not durable yet.
#[derive(Default)]
pub(super) struct Queue {
    batches: VecDeque<Pending>,
    /// Bytes of their frames, those that are being written included.
    bytes: u64,
    /// Those with a key, those that are being written included: their digests, and who else
    /// sent the same.
    keyed: HashMap<KeyHash, (u32, Vec<Waiter>)>,
}

impl Queue {
    /// Bytes of the frames that wait or are being written.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether nothing waits, and nothing is being written.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Wal {
    /// Appends a batch and waits until it is durable. One whose key was accepted before is
    /// answered as it was then, also where that is still under way. An empty one is accepted
    /// and leaves no trace.
    ///
    /// # Errors
    /// It is not accepted, as [`Refusal`] says.
    ///
    /// # Panics
    /// If its key is longer than [`KEY_BYTES_MAX`].
    pub fn append(&self, batch: Batch) -> Result<Accepted, Refusal> {
        self.append_received(batch, Instant::now())
    }

    /// The same for a batch that came at some time before.
    ///
    /// # Errors
    /// As [`Wal::append`].
    ///
    /// # Panics
    /// As [`Wal::append`].
    pub fn append_received(&self, batch: Batch, received: Instant) -> Result<Accepted, Refusal> {
        assert!(batch.key.len() <= KEY_BYTES_MAX, "who takes a key bounds it");
        if batch.records.count() == 0 {
            return Ok(Accepted { count: 0, repeated: false });
        }
        let key = (!batch.key.is_empty()).then(|| keys::hash(&batch.key));
        let digest = key.map_or(0, |_| batch.digest());
        let (waiter, answer) = sync_channel(1);
        self.enqueue(Pending { batch, key, digest, received, waiter })?;
        // The writer answers every batch before it ends.
        answer.recv().unwrap_or(Err(Refusal::Closed))
    }

    /// Queues a batch, or answers what is known about it already.
    fn enqueue(&self, pending: Pending) -> Result<(), Refusal> {
        let mut state = self.shared.lock();
        let Pending { key, digest, .. } = pending;
        if let Some(key) = key {
            if let Some(known) = state.keys.get(&key) {
                let accepted = Accepted { count: known.count, repeated: true };
                if known.digest != digest {
                    return Err(Refusal::KeyReused);
                }
                // It has room for one.
                let _ = pending.waiter.send(Ok(accepted));
                return Ok(());
            }
            if let Some((same, waiters)) = state.queue.keyed.get_mut(&key) {
                if *same != digest {
                    return Err(Refusal::KeyReused);
                }
                waiters.push(pending.waiter);
                return Ok(());
            }
        }
        if state.closed {
            return Err(Refusal::Closed);
        }
        let bytes = pending.batch.frame_bytes();
        let uncommitted_bytes = state.uncommitted_bytes() + state.queue.bytes;
        let max_bytes = self.shared.options.uncommitted_bytes_max;
        if uncommitted_bytes + bytes > max_bytes {
            return Err(Refusal::Full { uncommitted_bytes, bytes, max_bytes });
        }
        let (queued_bytes, max_bytes) = (state.queue.bytes, self.shared.options.queue_bytes_max);
        if queued_bytes > 0 && queued_bytes + bytes > max_bytes {
            return Err(Refusal::Queue { queued_bytes, bytes, max_bytes });
        }
        state.queue.bytes += bytes;
        if let Some(key) = key {
            state.queue.keyed.insert(key, (digest, Vec::new()));
        }
        state.queue.batches.push_back(pending);
        self.shared.changed.notify_all();
        Ok(())
    }
}

/// What the writer does to the disk; tests have one that fails.
pub(super) trait Disk: Send {
    /// Makes a file that was not there; its name is durable before anything stands in it.
    fn create(&self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let folder = path.parent().expect("a segment lies in the folder of its log");
        if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
            // Nothing stands in it yet; where it stays, the next segment says that it is empty.
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(file)
    }

    /// Writes all of `bytes` at a place.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    /// Makes durable what was written.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Gives back the room behind a place.
    fn cut(&self, file: &File, size_bytes: u64) -> io::Result<()> {
        file.set_len(size_bytes)
    }
}

/// The one that there is.
pub(super) struct RealDisk;

impl Disk for RealDisk {}

/// The file that is being written.
struct Active {
    file: File,
    path: PathBuf,
    /// How much of it is durable.
    size_bytes: u64,
}

/// The writer: takes what has queued up, until the log is closed and the queue is empty.
fn write_all(shared: &Shared, disk: &dyn Disk) {
    let mut active: Option<Active> = None;
    let mut bytes = Vec::new();
    while let Some((group, first)) = next_group(shared) {
        bytes.clear();
        // A large batch is rare: its room is given back.
        bytes.shrink_to(GROUP_BYTES as usize);
        let mut next = first;
        for pending in &group {
            encode(&mut bytes, shared.about.salt, next, &pending.batch);
            next += pending.batch.records.count() as u64;
        }
        let written = write_group(shared, disk, &mut active, first, &bytes);
        settle(shared, group, written.map(|path| (path, bytes.len() as u64)));
    }
}

/// Waits for batches; `None` where none will come.
fn next_group(shared: &Shared) -> Option<(Vec<Pending>, u64)> {
    let mut state = shared.lock();
    while state.queue.batches.is_empty() {
        if state.closed {
            return None;
        }
        state = shared.changed.wait(state).expect("nobody panics while holding it");
    }
    let (mut group, mut bytes) = (Vec::new(), 0);
    while let Some(pending) = state.queue.batches.front()
        && (group.is_empty() || bytes + pending.batch.frame_bytes() <= GROUP_BYTES)
    {
        bytes += pending.batch.frame_bytes();
        group.extend(state.queue.batches.pop_front());
    }
    Some((group, state.next))
}

/// Writes and syncs one group; the path of its segment. After a failure the file is left alone.
fn write_group(
    shared: &Shared,
    disk: &dyn Disk,
    active: &mut Option<Active>,
    first: u64,
    bytes: &[u8],
) -> Result<PathBuf, Refusal> {
    if active.as_ref().is_some_and(|one| one.size_bytes >= shared.options.segment_bytes) {
        *active = None;
    }
    let is_new = active.is_none();
    let mut segment = match active.take() {
        Some(segment) => segment,
        None => {
            let path = shared.folder.join(open::segment_name(next_number(shared), first));
            let file = disk.create(&path).map_err(|error| refusal(&path, bytes, &error))?;
            failpoint::reach("wal.rotate");
            Active { file, path, size_bytes: 0 }
        }
    };
    let started = Instant::now();
    failpoint::reach("wal.write");
    let written = disk.write(&segment.file, bytes, segment.size_bytes);
    failpoint::reach("wal.sync");
    if let Err(error) = written.and_then(|()| disk.sync(&segment.file)) {
        abandon(disk, &segment, is_new);
        return Err(refusal(&segment.path, bytes, &error));
    }
    failpoint::reach("wal.reply");
    note_sync(&mut shared.lock(), started.elapsed().as_secs_f64());
    segment.size_bytes += bytes.len() as u64;
    let path = segment.path.clone();
    *active = Some(segment);
    Ok(path)
}

fn next_number(shared: &Shared) -> u64 {
    let mut state = shared.lock();
    state.number += 1;
    state.number - 1
}

/// Gives back the room of what was not acknowledged. What stays is void all the same: the next
/// segment begins where this one was durable.
fn abandon(disk: &dyn Disk, segment: &Active, is_new: bool) {
    let _ = if is_new {
        std::fs::remove_file(&segment.path)
    } else {
        disk.cut(&segment.file, segment.size_bytes)
    };
}

fn refusal(path: &Path, bytes: &[u8], error: &io::Error) -> Refusal {
    let folder = path.parent().unwrap_or(path);
    let free = rustix::fs::statvfs(folder).ok();
    Refusal::Disk {
        path: path.to_owned(),
        bytes: bytes.len() as u64,
        free_bytes: free.map(|free| free.f_bavail * free.f_frsize),
        message: error.to_string(),
    }
}

fn note_sync(state: &mut State, seconds: f64) {
    let class = SYNC_SECONDS.iter().position(|end| seconds <= *end);
    state.figures.syncs[class.unwrap_or(SYNC_SECONDS.len())] += 1;
    state.figures.sync_seconds += seconds;
}

/// Tells everybody what became of a group.
fn settle(shared: &Shared, group: Vec<Pending>, written: Result<(PathBuf, u64), Refusal>) {
    let mut state = shared.lock();
    if let Ok((path, bytes)) = &written {
        extend_segment(&mut state, path, &group, *bytes);
    }
    state.figures.failures += u64::from(written.is_err());
    state.figures.failure = written.as_ref().err().map(ToString::to_string);
    let mut answers = Vec::new();
    for Pending { batch, key, digest, waiter, .. } in group {
        state.queue.bytes -= batch.frame_bytes();
        let count = batch.records.count() as u32;
        let answer = |repeated| match &written {
            Ok(_) => Ok(Accepted { count, repeated }),
            Err(refusal) => Err(refusal.clone()),
        };
        if let Some(key) = key {
            let (_, others) = state.queue.keyed.remove(&key).unwrap_or_default();
            answers.extend(others.into_iter().map(|other| (other, answer(true))));
            if written.is_ok() {
                state.keys.insert(batch.time_ms, key, Known { count, digest });
            }
        }
        answers.push((waiter, answer(false)));
    }
    drop(state);
    shared.changed.notify_all();
    for (waiter, answer) in answers {
        // Who has given up finds the answer under its key.
        let _ = waiter.send(answer);
    }
}

/// Makes a group readable.
fn extend_segment(state: &mut State, path: &Path, group: &[Pending], bytes: u64) {
    if state.segments.back().is_none_or(|segment| segment.path != path) {
        state.segments.push_back(Segment {
            path: path.to_owned(),
            first: state.next,
            next: state.next,
            size_bytes: 0,
            time_ms: i64::MIN,
            keyed: false,
        });
    }
    let count: u64 = group.iter().map(|pending| pending.batch.records.count() as u64).sum();
    state.next += count;
    state.written_bytes += bytes;
    let next = state.next;
    let segment = state.segments.back_mut().expect("it was pushed where there was none");
    segment.next = next;
    segment.size_bytes += bytes;
    for Pending { batch, key, .. } in group {
        segment.time_ms = segment.time_ms.max(batch.time_ms);
        segment.keyed |= key.is_some();
    }
    state.mark(next);
    if let Some(oldest) = group.iter().map(|pending| pending.received).min() {
        state.note_received(next, oldest);
    }
}

/// Starts the thread that writes.
pub(super) fn start(shared: &Arc<Shared>, disk: impl Disk + 'static) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || write_all(&shared, &disk))
}
