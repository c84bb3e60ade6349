//! Records of one partition on their way into a chunk.
//!
//! Invariant: chunks tile the partition: a chunk begins where the one before ended, which is
//! one past its last record. Holes between its records, and before its first one, need nothing
//! else: they are the offsets that no record has.

use super::super::chunk::{Chunk, ChunkKind, LINE_BYTES_MAX, RecordMark, Tail};

/// So many bytes are handed out at once, little enough that many partitions can wait.
pub const BATCH_BYTES: usize = 512 << 10;

/// So many records are handed out at once.
pub const BATCH_RECORDS: usize = 8_192;

/// Records that wait to be handed out.
#[derive(Debug)]
pub struct Batch {
    first: u64,
    next: u64,
    marks: Vec<RecordMark>,
    bytes: Vec<u8>,
    /// For how many records and bytes there is room at once: the next chunk will be like the last.
    room: (usize, usize),
    /// Of the last record that was handed out, or that was cut; `None` before the first record.
    tail: Option<Tail>,
    /// Whether that is the tail of the newest record.
    is_cut: bool,
}

impl Batch {
    /// An empty one, whose first chunk begins at `offset`.
    pub fn new(offset: u64) -> Batch {
        Batch {
            first: offset,
            next: offset,
            marks: Vec::new(),
            bytes: Vec::new(),
            room: (0, 0),
            tail: None,
            is_cut: false,
        }
    }

    /// Takes the next record. What of its payload is longer than [`LINE_BYTES_MAX`] is cut.
    ///
    /// # Panics
    /// If a later record was taken before.
    pub fn push(&mut self, offset: u64, time_ms: Option<i64>, payload: &[u8]) {
        assert!(offset >= self.next, "records come in their order");
        let kept = &payload[..payload.len().min(LINE_BYTES_MAX)];
        if self.marks.is_empty() {
            self.marks.reserve(self.room.0);
            self.bytes.reserve(self.room.1);
        }
        self.bytes.extend_from_slice(kept);
        let end = u32::try_from(self.bytes.len()).expect("a batch is handed out long before");
        self.marks.push(RecordMark { offset, end, length_bytes: payload.len() as u64, time_ms });
        self.is_cut = kept.len() < payload.len();
        if self.is_cut {
            self.tail = Some(Tail::of_record(offset, time_ms, payload));
        }
        self.next = offset + 1;
    }

    /// One past the last record that it took, or where it begins.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The hash of the last record that it took.
    pub fn tail_hash(&self) -> Option<[u8; 32]> {
        self.tail().as_ref().map(Tail::hash)
    }

    /// The tail of the last record that it took, made when it is asked for: once a chunk.
    fn tail(&self) -> Option<Tail> {
        match self.marks.as_slice() {
            [before @ .., last] if !self.is_cut => {
                let start = before.last().map_or(0, |mark| mark.end as usize);
                Some(Tail::of_record(last.offset, last.time_ms, &self.bytes[start..]))
            }
            _ => self.tail.clone(),
        }
    }

    /// Moves on to `next`, over offsets that no record has: a chunk without records says so.
    ///
    /// # Panics
    /// If it holds records, or stands behind `next`.
    pub fn pass(&mut self, next: u64) -> Chunk {
        assert!(self.marks.is_empty() && next > self.next, "it passes nothing but a hole");
        let (kind, tail) = (ChunkKind::Records(Vec::new()), self.tail.clone());
        let chunk = Chunk {
            first: self.first,
            next,
            kind,
            bytes: Vec::new(),
            tail: tail.unwrap_or_default(),
        };
        (self.first, self.next) = (next, next);
        chunk
    }

    /// Hands out what it holds where it is full, or where `is_due`.
    pub fn take_if(&mut self, is_due: bool) -> Option<Chunk> {
        if is_due || self.is_full() { self.take() } else { None }
    }

    /// Whether it should be handed out, whatever its age.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES || self.marks.len() >= BATCH_RECORDS
    }

    /// Hands out what it holds; `None` where that is nothing.
    pub fn take(&mut self) -> Option<Chunk> {
        if self.marks.is_empty() {
            return None;
        }
        self.tail = self.tail();
        // An eighth more: what does not fit moves everything to twice the room.
        self.room = (self.marks.len() * 9 / 8, self.bytes.len() * 9 / 8);
        let chunk = Chunk {
            first: self.first,
            next: self.next,
            kind: ChunkKind::Records(std::mem::take(&mut self.marks)),
            bytes: std::mem::take(&mut self.bytes),
            tail: self.tail.clone().expect("it holds a record"),
        };
        self.first = self.next;
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_tile_the_partition_and_holes_are_offsets_without_a_record() {
        let mut batch = Batch::new(10);
        assert_eq!(batch.take(), None);
        batch.push(10, Some(1), b"ab");
        batch.push(13, None, b"");
        let chunk = batch.take().unwrap();
        assert_eq!((chunk.first, chunk.next, &*chunk.bytes), (10, 14, &b"ab"[..]));
        let ChunkKind::Records(marks) = &chunk.kind else { panic!("{chunk:?}") };
        assert_eq!(marks.iter().map(|mark| mark.offset).collect::<Vec<_>>(), [10, 13]);
        assert_eq!(chunk.tail, Tail::of_record(13, None, b""));
        batch.push(20, None, b"c");
        let chunk = batch.take().unwrap();
        assert_eq!((chunk.first, chunk.next), (14, 21));
    }

    #[test]
    fn a_hole_that_is_passed_is_a_chunk_without_records() {
        let mut batch = Batch::new(4);
        batch.push(4, None, b"a");
        batch.take().unwrap();
        let chunk = batch.pass(7);
        assert_eq!((chunk.first, chunk.next, chunk.kind), (5, 7, ChunkKind::Records(Vec::new())));
        assert_eq!(chunk.tail, Tail::of_record(4, None, b"a"));
        batch.push(7, None, b"b");
        assert_eq!(batch.take().unwrap().first, 7);
    }

    #[test]
    fn a_long_payload_is_cut_and_its_length_kept() {
        let mut batch = Batch::new(0);
        let long = vec![b'x'; LINE_BYTES_MAX + 7];
        batch.push(0, None, &long);
        assert!(batch.is_full());
        let chunk = batch.take().unwrap();
        let ChunkKind::Records(marks) = &chunk.kind else { panic!("{chunk:?}") };
        assert_eq!(marks[0].length_bytes, long.len() as u64);
        assert_eq!(chunk.bytes.len(), LINE_BYTES_MAX);
        assert_eq!(chunk.tail, Tail::of_record(0, None, &long));
        batch.push(1, None, b"short");
        assert_eq!(batch.take().unwrap().tail, Tail::of_record(1, None, b"short"));
    }
}
