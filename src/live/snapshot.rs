//! When snapshots of memory are written: `DIR/snapshot`, beside the table.
//!
//! A round takes the parts of memory one after the other, each at a commit boundary, where memory
//! is what the table says. The loop copies a part; a thread writes it. Small parts go together,
//! so a small service is written at one boundary, and a large one is held up by one part at a
//! time. At a stop what has changed since is written at once.
//!
//! Only the judge writes: instances on one table hold the same memory. That two write at a change
//! of the role does no harm: parts of two do not fit together, and then the next start folds the
//! table. So does whatever else goes wrong here; it is told once and never ends the service.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ninefold_engine::pipeline::Pipeline;
use ninefold_engine::pipeline::snapshot::{Image, Restored};
use ninefold_engine::state::snapshot::PARTS;

/// Parts are copied at one commit boundary until they are so large: some milliseconds.
const BATCH_BYTES: usize = 16 << 20;

/// The snapshots of a service.
pub(super) struct Snapshots {
    dir: PathBuf,
    /// Of each part the version in its file, as far as is known.
    versions: Vec<Option<u64>>,
    /// The part that the round takes next; [`PARTS`] where it is over.
    next: usize,
    /// When the round began, or the service with a snapshot.
    began: Option<Instant>,
    writing: Option<Writing>,
    told: String,
}

/// A thread that writes parts, and gives those that it has written, with their versions.
type Writing = JoinHandle<std::io::Result<Vec<(usize, u64)>>>;

impl Snapshots {
    /// Beside the table in `rollups`.
    pub fn new(rollups: &Path) -> Snapshots {
        Snapshots {
            dir: dir_of(rollups),
            versions: vec![None; PARTS],
            next: PARTS,
            began: None,
            writing: None,
            told: String::new(),
        }
    }

    /// Says where memory is from, after it was read.
    pub fn note(&mut self, restored: &Restored) {
        match restored {
            Restored::Nothing => {}
            Restored::From { versions, .. } => {
                self.versions = versions.iter().copied().map(Some).collect();
                self.began = Some(Instant::now());
            }
            Restored::Refused(doubt) => {
                eprintln!("ninefold: the snapshot is not used, the table was read: {doubt}");
            }
        }
    }

    /// At a commit boundary: goes on with a round, or begins the next one where it is time.
    pub fn turn(&mut self, pipeline: &Pipeline, interval: Duration) {
        if self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        self.join();
        if interval.is_zero() || !pipeline.is_judge() {
            return;
        }
        if self.next == PARTS && self.began.is_none_or(|began| began.elapsed() >= interval) {
            (self.next, self.began) = (0, Some(Instant::now()));
        }
        self.write(pipeline);
    }

    /// At the end of the service, when everything is committed: writes what has changed.
    pub fn finish(&mut self, pipeline: &Pipeline, interval: Duration, limit: Duration) {
        self.join();
        let began = Instant::now();
        if interval.is_zero() || !pipeline.is_judge() {
            return;
        }
        self.next = 0;
        while self.next < PARTS && began.elapsed() < limit {
            self.write(pipeline);
            if self.writing.is_none() {
                break;
            }
            self.join();
        }
    }

    /// Copies the next parts and has them written.
    fn write(&mut self, pipeline: &Pipeline) {
        let version = pipeline.table().version();
        let (mut images, mut bytes): (Vec<Image>, usize) = (Vec::new(), 0);
        while self.next < PARTS && bytes < BATCH_BYTES {
            let part = self.next;
            self.next += 1;
            if self.versions[part] == Some(version) {
                continue;
            }
            match pipeline.image(part) {
                Ok(Some(image)) => {
                    bytes += image.bytes();
                    images.push(image);
                }
                // Not a boundary after all: at the next one.
                Ok(None) => {
                    self.next = part;
                    break;
                }
                Err(error) => self.tell(&error.to_string()),
            }
        }
        if images.is_empty() {
            return;
        }
        let dir = self.dir.clone();
        self.writing = Some(std::thread::spawn(move || {
            let write = |image: &Image| image.write(&dir).map(|()| (image.part, image.version));
            images.iter().map(write).collect()
        }));
    }

    /// Waits for the thread that writes, where there is one.
    fn join(&mut self) {
        let Some(writing) = self.writing.take() else { return };
        match writing.join() {
            Ok(Ok(written)) => {
                written.into_iter().for_each(|(part, at)| self.versions[part] = Some(at));
                self.told.clear();
            }
            Ok(Err(error)) => self.tell(&format!("{}: {error}", self.dir.display())),
            Err(_) => self.tell("the thread that writes it has panicked"),
        }
    }

    /// Tells of a failure once.
    fn tell(&mut self, what: &str) {
        if self.told != what {
            eprintln!("ninefold: no snapshot: {what}; only the next start takes longer");
            what.clone_into(&mut self.told);
        }
    }
}

/// Where the snapshots of the table in `rollups` are.
pub(super) fn dir_of(rollups: &Path) -> PathBuf {
    rollups.with_file_name("snapshot")
}
