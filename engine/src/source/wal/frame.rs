//! Frames of the write-ahead log, from and to bytes: pure, so that it is fuzzed and simulated.
//!
//! ```text
//! header, 16 bytes   magic "9wal" · length of the body u32 · CRC of the body u32
//!                    · CRC of the log's salt and the twelve bytes before u32
//! body               first offset u64 · arrival time i64 · length of the key u8 · count u32
//!                    · key · length of each record u32 · records
//! ```
//!
//! All numbers are little-endian. The CRC is CRC-32 (IEEE): it finds every flip of two bits and
//! every burst of up to 32, runs on the same instructions as CRC-32C, and is in the program for
//! gzip already. The header has a CRC of its own, so that a frame that was not written to its
//! end is told from one that was damaged. The *salt* is a random number of the log: what a
//! client sends can hold the bytes of a frame, but never of a frame of this log.
//!
//! Invariants: [`decode`] gives back what [`encode`] was given, or says [`Fault`]; the pieces of
//! [`scan`] tile its bytes; neither allocates by what a length field says.

use std::ops::Range;

/// What every frame begins with.
const MAGIC: [u8; 4] = *b"9wal";

/// How long a header is.
pub const HEADER_BYTES: usize = 16;

/// The parts of a body that every frame has.
const FIXED_BYTES: usize = 21;

/// The longest body: a length field that says more is damaged. Batches are far shorter.
pub const BODY_BYTES_MAX: usize = 1 << 29;

/// The longest idempotency key.
pub const KEY_BYTES_MAX: usize = 255;

/// The random number of a log that its headers are sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub u64);

/// Records, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    bytes: Vec<u8>,
    /// Where each ends in `bytes`.
    ends: Vec<u32>,
}

impl Records {
    /// Adds one.
    ///
    /// # Panics
    /// If they are more than [`BODY_BYTES_MAX`] bytes with it: who collects them has a limit.
    pub fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        assert!(self.bytes.len() < BODY_BYTES_MAX, "a batch is bounded by its collector");
        self.ends.push(self.bytes.len() as u32);
    }

    /// The lines of a text; those that are blank or format headers (`#…`) are no records.
    ///
    /// ```
    /// use ninefold_engine::source::wal::Records;
    /// assert_eq!(Records::of_lines(b"#Version: 1.0\na\n\n b \r\nlast").count(), 3);
    /// ```
    pub fn of_lines(text: &[u8]) -> Records {
        let mut records = Records::default();
        let mut start = 0;
        while start < text.len() {
            let rest = &text[start..];
            let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
            start += line.len() + 1;
            if !line.starts_with(b"#") && !line.trim_ascii().is_empty() {
                records.push(line);
            }
        }
        records
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// How many bytes they have together.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// What one frame holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// When it arrived, in epoch milliseconds: the time its records are judged by.
    pub time_ms: i64,
    /// The idempotency key of who sent it; at most [`KEY_BYTES_MAX`] bytes, empty = none.
    pub key: Vec<u8>,
    /// The records.
    pub records: Records,
}

impl Batch {
    /// How long its frame is.
    pub fn frame_bytes(&self) -> u64 {
        let lengths = 4 * self.records.ends.len();
        (HEADER_BYTES + FIXED_BYTES + self.key.len() + lengths + self.records.bytes.len()) as u64
    }

    /// Tells the records of two batches of one key apart.
    pub fn digest(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        self.lengths().for_each(|length| crc.update(&length.to_le_bytes()));
        crc.update(&self.records.bytes);
        crc.finalize()
    }

    fn lengths(&self) -> impl Iterator<Item = u32> {
        let starts = std::iter::once(0).chain(self.records.ends.iter().copied());
        self.records.ends.iter().zip(starts).map(|(end, start)| end - start)
    }
}

/// A frame in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Offset of its first record.
    pub first: u64,
    /// When its batch arrived.
    pub time_ms: i64,
    /// Its idempotency key; empty = none.
    pub key: &'a [u8],
    /// Its length with the header.
    pub size_bytes: usize,
    lengths: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// How many records it has.
    pub fn count(&self) -> u32 {
        (self.lengths.len() / 4) as u32
    }

    /// Offset after its last record.
    pub fn next(&self) -> u64 {
        self.first + u64::from(self.count())
    }

    /// Its records with their offsets.
    pub fn records(&self) -> impl Iterator<Item = (u64, &'a [u8])> + use<'a> {
        let mut rest = self.payload;
        let lengths = self.lengths.chunks_exact(4).map(|bytes| number(bytes) as usize);
        (self.first..).zip(lengths.map(move |length| {
            let (record, more) = rest.split_at(length);
            rest = more;
            record
        }))
    }

    /// [`Batch::digest`] of its batch.
    pub fn digest(&self) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(self.lengths);
        crc.update(self.payload);
        crc.finalize()
    }
}

/// Appends the frame of a batch whose first record has the offset `first`.
///
/// # Panics
/// If the key is longer than [`KEY_BYTES_MAX`].
pub fn encode(out: &mut Vec<u8>, salt: Salt, first: u64, batch: &Batch) {
    let key_length = u8::try_from(batch.key.len()).expect("who takes a key bounds it");
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&batch.time_ms.to_le_bytes());
    out.push(key_length);
    out.extend_from_slice(&(batch.records.ends.len() as u32).to_le_bytes());
    out.extend_from_slice(&batch.key);
    batch.lengths().for_each(|length| out.extend_from_slice(&length.to_le_bytes()));
    out.extend_from_slice(&batch.records.bytes);
    let body = &out[start + HEADER_BYTES..];
    let (length, crc) = (body.len() as u32, crc32fast::hash(body));
    let header = &mut out[start..start + HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    let seal = seal(salt, &header[..12]);
    header[12..].copy_from_slice(&seal.to_le_bytes());
}

/// Why bytes do not begin with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They end before it does: so many bytes in all would be needed.
    Torn(usize),
    /// They are something else.
    Damaged,
}

/// The frame that `bytes` begin with.
///
/// # Errors
/// There is none, as [`Fault`] says.
pub fn decode(bytes: &[u8], salt: Salt) -> Result<Frame<'_>, Fault> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(Fault::Torn(HEADER_BYTES));
    };
    if header[..4] != MAGIC || seal(salt, &header[..12]) != number(&header[12..]) {
        return Err(Fault::Damaged);
    }
    let length = number(&header[4..8]) as usize;
    if !(FIXED_BYTES..=BODY_BYTES_MAX).contains(&length) {
        return Err(Fault::Damaged);
    }
    let Some(body) = rest.get(..length) else {
        return Err(Fault::Torn(HEADER_BYTES + length));
    };
    if crc32fast::hash(body) != number(&header[8..12]) {
        return Err(Fault::Damaged);
    }
    decode_body(body).ok_or(Fault::Damaged)
}

/// A body whose CRC is right, so that only a foreign writer can have made it wrong.
fn decode_body(body: &[u8]) -> Option<Frame<'_>> {
    let (first, rest) = body.split_first_chunk::<8>()?;
    let (time_ms, rest) = rest.split_first_chunk::<8>()?;
    let (key_length, rest) = rest.split_first()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (key, rest) = rest.split_at_checked(usize::from(*key_length))?;
    let count = u32::from_le_bytes(*count);
    let (lengths, payload) = rest.split_at_checked(usize::try_from(count).ok()?.checked_mul(4)?)?;
    let sum: u64 = lengths.chunks_exact(4).map(|bytes| u64::from(number(bytes))).sum();
    let first = u64::from_le_bytes(*first);
    first.checked_add(u64::from(count))?;
    let time_ms = i64::from_le_bytes(*time_ms);
    let size_bytes = HEADER_BYTES + body.len();
    (sum == payload.len() as u64).then_some(Frame {
        first,
        time_ms,
        key,
        size_bytes,
        lengths,
        payload,
    })
}

/// A part of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A frame, and where it begins.
    Frame(usize, Frame<'a>),
    /// Bytes that are no frame, with a frame or nothing behind them.
    Damaged(Range<usize>),
    /// The begin of a frame whose writing did not end, or the zeros of one.
    Torn(Range<usize>),
}

/// Takes a segment apart. Behind damage it goes on with the next frame that is whole.
///
/// ```
/// use ninefold_engine::source::wal::{Batch, Piece, Records, Salt, encode, scan};
/// let records = Records::of_lines(b"a\nb\n");
/// let mut bytes = Vec::new();
/// encode(&mut bytes, Salt(7), 40, &Batch { time_ms: 1, key: vec![], records });
/// bytes.extend_from_slice(b"9wal");
/// let pieces: Vec<Piece> = scan(&bytes, Salt(7)).collect();
/// let [Piece::Frame(0, frame), Piece::Torn(torn)] = &pieces[..] else { panic!("{pieces:?}") };
/// assert_eq!((frame.first, frame.next(), torn.len()), (40, 42, 4));
/// ```
pub fn scan(bytes: &[u8], salt: Salt) -> impl Iterator<Item = Piece<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let piece = match decode(rest, salt) {
            Ok(frame) => Piece::Frame(at, frame),
            Err(fault) => match resync(rest, salt) {
                None if is_torn(fault, rest) => Piece::Torn(at..bytes.len()),
                found => Piece::Damaged(at..at + found.unwrap_or(rest.len())),
            },
        };
        at = match &piece {
            Piece::Frame(at, frame) => at + frame.size_bytes,
            Piece::Damaged(range) | Piece::Torn(range) => range.end,
        };
        Some(piece)
    })
}

/// Where the next whole frame begins behind a place that has none.
pub(super) fn resync(bytes: &[u8], salt: Salt) -> Option<usize> {
    let mut candidates = memchr::memmem::find_iter(bytes, &MAGIC);
    candidates.find(|at| *at > 0 && decode(&bytes[*at..], salt).is_ok())
}

/// Whether the rest of a segment is what a write leaves that was interrupted: the begin of a
/// frame, or space that was set aside for one and never filled.
fn is_torn(fault: Fault, rest: &[u8]) -> bool {
    matches!(fault, Fault::Torn(_)) || rest.iter().all(|byte| *byte == 0)
}

fn seal(salt: Salt, header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&salt.0.to_le_bytes());
    crc.update(header);
    crc.finalize()
}

/// The number of four bytes.
fn number(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("callers cut four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SALT: Salt = Salt(0x1234_5678_9abc_def0);

    fn batch() -> impl Strategy<Value = Batch> {
        let records = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20);
        (any::<i64>(), prop::collection::vec(any::<u8>(), 0..=KEY_BYTES_MAX), records).prop_map(
            |(time_ms, key, list)| {
                let mut records = Records::default();
                list.iter().for_each(|record| records.push(record));
                Batch { time_ms, key, records }
            },
        )
    }

    fn encoded(batches: &[Batch]) -> Vec<u8> {
        let (mut bytes, mut first) = (Vec::new(), 100);
        for batch in batches {
            encode(&mut bytes, SALT, first, batch);
            first += batch.records.count() as u64;
        }
        bytes
    }

    fn frames<'a>(pieces: &[Piece<'a>]) -> Vec<Frame<'a>> {
        let frame = |piece: &Piece<'a>| match piece {
            Piece::Frame(_, frame) => Some(*frame),
            _ => None,
        };
        pieces.iter().filter_map(frame).collect()
    }

    proptest! {
        #[test]
        fn a_frame_gives_back_its_batch(batch in batch()) {
            let bytes = encoded(std::slice::from_ref(&batch));
            let frame = decode(&bytes, SALT).unwrap();
            prop_assert_eq!(bytes.len() as u64, batch.frame_bytes());
            prop_assert_eq!(frame.digest(), batch.digest());
            let mut records = Records::default();
            frame.records().for_each(|(_, record)| records.push(record));
            let offsets: Vec<u64> = frame.records().map(|(offset, _)| offset).collect();
            prop_assert_eq!(offsets, (frame.first..frame.next()).collect::<Vec<_>>());
            let key = frame.key.to_vec();
            prop_assert_eq!(Batch { time_ms: frame.time_ms, key, records }, batch);
            prop_assert_eq!(decode(&bytes, Salt(1)), Err(Fault::Damaged));
        }

        #[test]
        fn a_cut_leaves_the_frames_before_it(
            batches in prop::collection::vec(batch(), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = encoded(&batches);
            let all: Vec<Piece> = scan(&bytes, SALT).collect();
            prop_assert_eq!(all.len(), batches.len());
            let cut = cut.index(bytes.len() + 1);
            let pieces: Vec<Piece> = scan(&bytes[..cut], SALT).collect();
            let whole = frames(&all);
            let kept = frames(&pieces);
            let kept_bytes: usize = kept.iter().map(|frame| frame.size_bytes).sum();
            prop_assert_eq!(&kept[..], &whole[..kept.len()]);
            match pieces.get(kept.len()) {
                None => prop_assert_eq!(kept_bytes, cut),
                Some(torn) => prop_assert_eq!(torn, &Piece::Torn(kept_bytes..cut)),
            }
        }

        #[test]
        fn a_flipped_bit_costs_its_frame_and_is_told(
            batches in prop::collection::vec(batch(), 1..6),
            bit in any::<prop::sample::Index>(),
        ) {
            let mut bytes = encoded(&batches);
            let intact = bytes.clone();
            let whole: Vec<Piece> = scan(&intact, SALT).collect();
            let bit = bit.index(8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            let pieces: Vec<Piece> = scan(&bytes, SALT).collect();
            for piece in &whole {
                let Piece::Frame(at, frame) = piece else { panic!("{piece:?}") };
                let range = *at..at + frame.size_bytes;
                if range.contains(&(bit / 8)) {
                    prop_assert!(pieces.contains(&Piece::Damaged(range)), "{:?}", pieces);
                } else {
                    prop_assert!(pieces.contains(piece), "{:?}", pieces);
                }
            }
        }

        #[test]
        fn any_bytes_are_taken_apart_into_pieces_that_tile(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            batch in batch(),
        ) {
            let mixed = [&bytes[..], &encoded(&[batch]), &bytes].concat();
            let mut at = 0;
            for piece in scan(&mixed, SALT) {
                let range = match piece {
                    Piece::Frame(at, frame) => at..at + frame.size_bytes,
                    Piece::Damaged(range) | Piece::Torn(range) => range,
                };
                prop_assert!(range.start == at && range.end > at);
                at = range.end;
            }
            prop_assert_eq!(at, mixed.len());
        }
    }

    #[test]
    fn zeros_at_the_end_are_a_torn_write() {
        let batch = Batch { time_ms: 0, key: vec![], records: Records::of_lines(b"a") };
        let bytes = [encoded(&[batch]), vec![0; 4_096]].concat();
        let last = scan(&bytes, SALT).last();
        assert!(matches!(last, Some(Piece::Torn(range)) if range.len() == 4_096));
    }

    #[test]
    fn a_frame_inside_a_record_is_never_taken_for_one() {
        // Whoever sends records does not know the salt.
        let mut forged = Vec::new();
        let inner = Batch { time_ms: 0, key: vec![], records: Records::of_lines(b"forged") };
        encode(&mut forged, Salt(1), 0, &inner);
        let mut records = Records::default();
        records.push(&forged);
        let mut bytes = encoded(&[Batch { time_ms: 0, key: vec![], records }]);
        bytes[0] ^= 1;
        assert!(frames(&scan(&bytes, SALT).collect::<Vec<_>>()).is_empty());
    }
}
