//! Chunks: what a source hands out. Streams of plain text are cut into chunks of whole lines
//! here; logs that count records, not bytes, hand out chunks of records.
//!
//! Invariants: chunks tile their partition: each begins at the offset where the one before
//! ended; a chunk of lines ends behind a newline; memory is bounded by [`CHUNK_BYTES`] and
//! [`LINE_BYTES_MAX`] whatever the stream holds.

use std::io::{self, Read};
use std::sync::mpsc::Receiver;

use sha2::{Digest, Sha256};

/// How much is read at a time: enough that a chunk keeps a core busy for some ten
/// milliseconds, little enough that the chunks in work stay near the cache.
pub const CHUNK_BYTES: usize = 2 << 20;

/// How much longer a chunk's memory is: most lines are shorter.
const SPARE_BYTES: usize = 4 << 10;

/// A longer line is not looked at: it becomes a dead letter.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// How many bytes before an offset are hashed to know the place again.
pub const TAIL_BYTES: usize = 1_024;

/// What a chunk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// Whole lines, the last newline included.
    Lines,
    /// The unterminated end of the stream: counts only if it decodes.
    Unterminated,
    /// The first [`LINE_BYTES_MAX`] bytes of one line that is longer than that.
    Overlong,
    /// Records of a log that numbers them, one event each; their payloads stand in `bytes` one
    /// after the other. An offset of the chunk that no record has is a hole.
    Records(Vec<RecordMark>),
}

/// One record of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordMark {
    /// Its offset.
    pub offset: u64,
    /// Where its payload ends in the bytes of its chunk; it begins where the one before ends.
    pub end: u32,
    /// How long its payload is. Where that is more than what stands in the chunk, the source
    /// has cut it at [`LINE_BYTES_MAX`].
    pub length_bytes: u64,
    /// When the log took it, in epoch milliseconds: the time by which an event's age is judged.
    /// `None` where the log does not say.
    pub time_ms: Option<i64>,
}

/// A piece of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Offset of its first byte.
    pub first: u64,
    /// Offset after the last byte it stands for.
    pub next: u64,
    /// What it holds.
    pub kind: ChunkKind,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The last bytes before `next`.
    pub tail: Tail,
}

/// The last [`TAIL_BYTES`] bytes before an offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail(Vec<u8>);

impl Tail {
    /// Moves on over `bytes`.
    pub fn push(&mut self, bytes: &[u8]) {
        let keep = TAIL_BYTES.saturating_sub(bytes.len()).min(self.0.len());
        self.0.drain(..self.0.len() - keep);
        self.0.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
    }

    /// The tail of a log of records: its last record.
    pub fn of_record(offset: u64, time_ms: Option<i64>, payload: &[u8]) -> Tail {
        let mut bytes = Vec::with_capacity(17 + payload.len().min(TAIL_BYTES));
        bytes.extend_from_slice(&offset.to_le_bytes());
        bytes.push(u8::from(time_ms.is_some()));
        bytes.extend_from_slice(&time_ms.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&payload[payload.len().saturating_sub(TAIL_BYTES)..]);
        Tail(bytes)
    }

    /// What is stored with an offset.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

/// When a chunk is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// When it is full: for speed.
    Full,
    /// As soon as it has a whole line: for streams that pause.
    Eager,
}

/// Reads a stream in chunks.
pub struct Chunks<R> {
    reader: R,
    pace: Pace,
    offset: u64,
    /// Read, but not handed out: the begin of a line.
    carry: Vec<u8>,
    tail: Tail,
    ended: bool,
    /// Bytes of chunks that nobody needs any more.
    spares: Option<Receiver<Vec<u8>>>,
}

impl<R: Read> Chunks<R> {
    /// Reads on from `offset`, before which `tail` stands.
    pub fn new(reader: R, pace: Pace, offset: u64, tail: Tail) -> Chunks<R> {
        Chunks { reader, pace, offset, carry: Vec::new(), tail, ended: false, spares: None }
    }

    /// The same, reading into the bytes of chunks that come back by `spares`: memory that stands
    /// in the cache and need not be cleared.
    pub fn reusing(self, spares: Receiver<Vec<u8>>) -> Chunks<R> {
        Chunks { spares: Some(spares), ..self }
    }

    /// The next chunk; `None` at the end of the stream.
    ///
    /// # Errors
    /// What the stream says; the chunks handed out before stay valid.
    pub fn next_chunk(&mut self) -> io::Result<Option<Chunk>> {
        while !self.ended {
            let mut bytes = self.carried();
            self.fill(&mut bytes)?;
            match memchr::memrchr(b'\n', &bytes) {
                Some(last) => {
                    self.carry = bytes.split_off(last + 1);
                    return Ok(Some(self.hand_out(ChunkKind::Lines, bytes)));
                }
                None if bytes.len() > LINE_BYTES_MAX => return self.overlong(bytes).map(Some),
                None => self.carry = bytes,
            }
        }
        let mut bytes = std::mem::take(&mut self.carry);
        if bytes.is_empty() {
            return Ok(None);
        }
        // Behind an overlong line whole lines may have been kept when the stream ended.
        let kind = match memchr::memrchr(b'\n', &bytes) {
            Some(last) => {
                self.carry = bytes.split_off(last + 1);
                ChunkKind::Lines
            }
            None => ChunkKind::Unterminated,
        };
        Ok(Some(self.hand_out(kind, bytes)))
    }

    /// What was carried over, in memory that has room for what is read next.
    fn carried(&mut self) -> Vec<u8> {
        let carry = std::mem::take(&mut self.carry);
        let has_room = |spare: &Vec<u8>| spare.capacity() >= carry.len() + CHUNK_BYTES;
        let spare = self.spares.as_ref().and_then(|spares| spares.try_recv().ok());
        match spare.filter(has_room) {
            Some(mut spare) => {
                spare.clear();
                spare.extend_from_slice(&carry);
                spare
            }
            None => carry,
        }
    }

    /// Appends up to [`CHUNK_BYTES`] of the stream to `bytes`; less at its end or, if eager, sooner.
    fn fill(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let before = bytes.len();
        if self.pace == Pace::Full {
            // Into memory that nobody has to write zeros to first, with room for a line that is
            // carried over when it is used again.
            if bytes.capacity() < bytes.len() + CHUNK_BYTES {
                bytes.reserve_exact(CHUNK_BYTES + SPARE_BYTES);
            }
            let filled = self.reader.by_ref().take(CHUNK_BYTES as u64).read_to_end(bytes)?;
            self.ended = filled < CHUNK_BYTES;
            return Ok(());
        }
        bytes.resize(before + CHUNK_BYTES, 0);
        let filled = loop {
            match self.reader.read(&mut bytes[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                filled => break filled?,
            }
        };
        self.ended = filled == 0;
        bytes.truncate(before + filled);
        Ok(())
    }

    fn hand_out(&mut self, kind: ChunkKind, bytes: Vec<u8>) -> Chunk {
        let first = self.offset;
        self.offset += bytes.len() as u64;
        self.tail.push(&bytes);
        Chunk { first, next: self.offset, kind, bytes, tail: self.tail.clone() }
    }

    /// Skips to the end of a line that is too long to be looked at.
    fn overlong(&mut self, mut bytes: Vec<u8>) -> io::Result<Chunk> {
        let first = self.offset;
        self.offset += bytes.len() as u64;
        self.tail.push(&bytes);
        bytes.truncate(LINE_BYTES_MAX);
        let mut more = Vec::new();
        while !self.ended {
            more.clear();
            self.fill(&mut more)?;
            let newline = memchr::memchr(b'\n', &more);
            let line = newline.map_or(more.len(), |at| at + 1);
            self.offset += line as u64;
            self.tail.push(&more[..line]);
            if newline.is_some() {
                self.carry = more.split_off(line);
                break;
            }
        }
        let (next, tail) = (self.offset, self.tail.clone());
        Ok(Chunk { first, next, kind: ChunkKind::Overlong, bytes, tail })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(text: &[u8]) -> Vec<Chunk> {
        let mut chunks = Chunks::new(text, Pace::Full, 0, Tail::default());
        std::iter::from_fn(|| chunks.next_chunk().expect("a slice can be read")).collect()
    }

    #[test]
    fn chunks_tile_the_stream_and_end_behind_newlines() {
        let line = [b'x'; 99_999];
        let text = [line.as_slice(), b"\n"].concat().repeat(50);
        let mut offset = 0;
        for chunk in chunks(&[text.as_slice(), b"end"].concat()) {
            assert_eq!(chunk.first, offset);
            let whole = chunk.bytes.ends_with(b"\n");
            assert_eq!(whole, chunk.kind == ChunkKind::Lines);
            offset = chunk.next;
        }
        assert_eq!(offset, text.len() as u64 + 3);
    }

    #[test]
    fn chunks_are_the_same_in_memory_that_is_used_again() {
        let lines = (0..200_000).map(|n: u64| format!("{}\n", "x".repeat((n * n % 97) as usize)));
        let text = lines.collect::<String>() + "end";
        let (back, spares) = std::sync::mpsc::channel();
        let new = |text| Chunks::new(text, Pace::Full, 0, Tail::default());
        let mut reusing = new(text.as_bytes()).reusing(spares);
        let mut places = std::collections::HashSet::new();
        for expected in chunks(text.as_bytes()) {
            let chunk = reusing.next_chunk().unwrap().expect("as many as without");
            assert_eq!(chunk, expected);
            places.insert(chunk.bytes.as_ptr());
            back.send(chunk.bytes).unwrap();
        }
        assert!(reusing.next_chunk().unwrap().is_none());
        assert!(places.len() <= 3, "one for whole chunks, and those of the end");
    }

    #[test]
    fn an_overlong_line_is_skipped_and_its_neighbours_are_kept() {
        let overlong = vec![b'x'; 3 * CHUNK_BYTES];
        let text = [b"first\n", overlong.as_slice(), b"\nshort\nend"].concat();
        let chunks = chunks(&text);
        let kinds: Vec<ChunkKind> = chunks.iter().map(|chunk| chunk.kind.clone()).collect();
        let (lines, end) = (ChunkKind::Lines, ChunkKind::Unterminated);
        assert_eq!(kinds, [lines.clone(), ChunkKind::Overlong, lines, end]);
        assert_eq!(chunks[1].bytes.len(), LINE_BYTES_MAX);
        assert_eq!(chunks[2].bytes, b"short\n");
        assert_eq!((chunks[3].bytes.as_slice(), chunks[3].next), (&b"end"[..], text.len() as u64));
    }

    #[test]
    fn a_tail_is_the_last_bytes_however_they_came() {
        let text: Vec<u8> = (0..5_000_u32).map(|n| n as u8).collect();
        for step in [1, 7, 1_023, 1_024, 1_025, 5_000] {
            let mut tail = Tail::default();
            text.chunks(step).for_each(|bytes| tail.push(bytes));
            assert_eq!(tail.0, text[text.len() - TAIL_BYTES..], "step {step}");
        }
    }
}
