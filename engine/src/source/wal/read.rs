//! Reading: chunks of records from an offset on, as far as the log is durable.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use super::frame::{Fault, Frame, decode, resync};
use super::open::set_aside;
use super::{Damage, Kind, Segment, Shared, Wal, WalError};
use crate::source::chunk::{CHUNK_BYTES, Chunk, ChunkKind, LINE_BYTES_MAX, RecordMark, Tail};

/// So much of a segment is read at once, unless a frame is longer.
const WINDOW_BYTES: usize = 1 << 20;

/// What a reader finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The next records.
    Chunk(Chunk),
    /// Records that cannot be read: the next chunk begins behind them.
    Lost {
        /// Which.
        records: Range<u64>,
        /// What was found in their place.
        reason: String,
    },
    /// Nothing yet.
    Nothing,
    /// Nothing any more: the log is closed, or the reader's end is reached.
    Ended,
}

/// Reads a log once, from an offset.
pub struct Reader {
    shared: Arc<Shared>,
    /// Where the next chunk begins.
    offset: u64,
    /// Where it ends.
    until: u64,
    place: Option<Place>,
    /// Cut, not handed out.
    ready: VecDeque<Read>,
    building: Building,
}

/// Where in the files a reader stands.
struct Place {
    segment: Segment,
    file: File,
    /// How far its frames were taken.
    at: u64,
    /// Bytes of it; those before `used` were taken.
    window: Vec<u8>,
    used: usize,
}

/// A chunk that is being filled.
#[derive(Default)]
struct Building {
    bytes: Vec<u8>,
    marks: Vec<RecordMark>,
    tail: Tail,
}

impl Wal {
    /// A reader of the records from `offset` on, up to `until` where that is given.
    pub fn reader(&self, offset: u64, until: Option<u64>) -> Reader {
        Reader {
            shared: Arc::clone(&self.shared),
            offset,
            until: until.unwrap_or(u64::MAX),
            place: None,
            ready: VecDeque::new(),
            building: Building::default(),
        }
    }
}

impl Reader {
    /// The next chunk; waits so long for one.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn next_chunk(&mut self, wait: Duration) -> Result<Read, WalError> {
        if self.ready.is_empty() && !self.fill()? {
            if self.is_ended() {
                return Ok(Read::Ended);
            }
            self.wait(wait);
            self.fill()?;
        }
        Ok(self.ready.pop_front().unwrap_or(Read::Nothing))
    }

    fn is_ended(&self) -> bool {
        let state = self.shared.lock();
        let is_done = state.closed && state.queue.is_empty() && self.offset >= state.next;
        is_done || self.offset >= self.until
    }

    fn wait(&self, wait: Duration) {
        let state = self.shared.lock();
        let has_nothing = |state: &mut super::State| state.next <= self.offset && !state.closed;
        // Whether it was for nothing is seen by who looks.
        let _ = self.shared.changed.wait_timeout_while(state, wait, has_nothing);
    }

    /// Cuts at least one chunk from what is durable; false where nothing is.
    fn fill(&mut self) -> Result<bool, WalError> {
        while self.ready.is_empty() && self.offset < self.until && self.take_frame()? {}
        if self.ready.is_empty() && !self.building.marks.is_empty() {
            self.cut();
        }
        Ok(!self.ready.is_empty())
    }

    /// Takes the next frame; false where there is none yet.
    fn take_frame(&mut self) -> Result<bool, WalError> {
        let Some(mut place) = self.next_place()? else { return Ok(false) };
        let salt = self.shared.about.salt;
        while let Err(Fault::Torn(size)) = decode(place.rest(), salt)
            && place.load(size.max(WINDOW_BYTES))?
        {}
        let found = decode(place.rest(), salt);
        let size = match found {
            Ok(frame) => {
                self.take_lost(frame.first);
                self.take_records(&frame);
                frame.size_bytes
            }
            Err(_) => self.skip_damage(&mut place)?,
        };
        place.used += size;
        place.at += size as u64;
        self.place = Some(place);
        Ok(true)
    }

    /// The segment to read from, with something left in it.
    fn next_place(&mut self) -> Result<Option<Place>, WalError> {
        let segment = {
            let state = self.shared.lock();
            let is_left = |segment: &&Segment| match &self.place {
                Some(place) if segment.path == place.segment.path => place.at < segment.size_bytes,
                Some(place) => {
                    segment.first >= place.segment.next && segment.next > self.position()
                }
                None => segment.next > self.offset,
            };
            state.segments.iter().find(is_left).cloned()
        };
        let Some(segment) = segment else { return Ok(None) };
        let same = self.place.take().filter(|place| place.segment.path == segment.path);
        if let Some(place) = same {
            return Ok(Some(Place { segment, ..place }));
        }
        let file = File::open(&segment.path).map_err(WalError::io("open", &segment.path))?;
        Ok(Some(Place { segment, file, at: 0, window: Vec::new(), used: 0 }))
    }

    /// Offset after what was taken.
    fn position(&self) -> u64 {
        let last = self.building.marks.last();
        last.map_or(self.offset, |mark| mark.offset + 1)
    }

    fn take_records(&mut self, frame: &Frame<'_>) {
        let position = self.position();
        // A pipe carries logs of any age, as a file does.
        let is_timed = self.shared.about.kind == Kind::Http;
        let time_ms = is_timed.then_some(frame.time_ms);
        for (offset, record) in frame.records() {
            if offset < position || offset >= self.until {
                continue;
            }
            let kept = &record[..record.len().min(LINE_BYTES_MAX)];
            if self.building.bytes.len() + kept.len() > CHUNK_BYTES {
                self.cut();
            }
            let building = &mut self.building;
            building.bytes.extend_from_slice(kept);
            building.marks.push(RecordMark {
                offset,
                end: building.bytes.len() as u32,
                length_bytes: record.len() as u64,
                time_ms,
            });
            building.tail = Tail::of_record(offset, time_ms, kept);
        }
    }

    /// Hands out what was filled, if anything.
    fn cut(&mut self) {
        let Building { bytes, marks, tail } = std::mem::take(&mut self.building);
        let Some(last) = marks.last() else { return };
        let next = last.offset + 1;
        let (first, kind) = (std::mem::replace(&mut self.offset, next), ChunkKind::Records(marks));
        self.ready.push_back(Read::Chunk(Chunk { first, next, kind, bytes, tail }));
    }

    /// Says that the records up to `next` cannot be read, where some before it were not.
    fn take_lost(&mut self, next: u64) {
        let records = self.position()..next.min(self.until);
        if records.is_empty() {
            return;
        }
        self.cut();
        self.offset = records.end;
        let reason = self.shared.lock().reason_of(&records);
        self.ready.push_back(Read::Lost { records, reason });
    }

    /// Sets aside what is no frame and says how long it is.
    fn skip_damage(&mut self, place: &mut Place) -> Result<usize, WalError> {
        place.load(usize::MAX)?;
        let (rest, salt) = (place.rest(), self.shared.about.salt);
        let size = resync(rest, salt).unwrap_or(rest.len());
        let next = decode(&rest[size..], salt).map_or(place.segment.next, |frame| frame.first);
        let position = self.position();
        let bytes = place.at..place.at + size as u64;
        let damage = set_aside(&place.segment.path, bytes, position..next.max(position))?;
        self.shared.lock().note_damage(damage);
        self.take_lost(next);
        Ok(size)
    }
}

impl super::State {
    /// What was found in the place of records.
    fn reason_of(&self, lost: &Range<u64>) -> String {
        let meets = |damage: &&Damage| match damage {
            Damage::Bytes { records, .. } | Damage::Missing { records, .. } => {
                records.start < lost.end && lost.start < records.end
            }
            Damage::Torn { .. } => false,
        };
        let found = self.known_damages.iter().find(meets);
        found.map_or("they are in no segment".to_owned(), ToString::to_string)
    }
}

impl Place {
    /// What was read and not taken.
    fn rest(&self) -> &[u8] {
        &self.window[self.used..]
    }

    /// Reads up to `size` bytes from where it stands; whether there are more than before.
    fn load(&mut self, size: usize) -> Result<bool, WalError> {
        let left = usize::try_from(self.segment.size_bytes - self.at).unwrap_or(usize::MAX);
        self.window.drain(..std::mem::take(&mut self.used));
        let (before, size) = (self.window.len(), size.min(left));
        if size <= before {
            return Ok(false);
        }
        self.window.resize(size, 0);
        let fail = WalError::io("read", &self.segment.path);
        let at = self.at + before as u64;
        self.file.read_exact_at(&mut self.window[before..], at).map_err(fail)?;
        Ok(true)
    }
}
