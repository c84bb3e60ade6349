//! Files as partitions: who a file is, and where to read on.
//!
//! The identity of a file is the hash of its first min(1 KiB, size at first sight) bytes of
//! plain text and that length, so that a copy elsewhere, a renamed or a compressed one is the
//! same source. It is confirmed by the stored hash of the last KiB before the committed
//! offset: where that differs, the file is another one that begins alike, and gets a number
//! behind its name. The offset is the count of bytes of plain text.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::chunk::{Chunks, Pace, TAIL_BYTES, Tail};
use crate::decode::compress;

/// How many bytes of a file's begin name it.
pub const HEAD_BYTES: usize = 1_024;

/// A partition that was counted before, as the table or this process knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name: `file/<hash>-<length>`, or that with `~2` behind it.
    pub partition: String,
    /// How far it was counted.
    pub next: u64,
    /// Hash of the last KiB before `next`.
    pub tail: [u8; 32],
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file or the stream itself.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It begins like a source that was counted further than it reaches.
    #[error(
        "{path} begins like {partition}, of which {next} bytes were counted, but ends at byte \
         {size}: it was truncated, or is the begin of a copy; give the whole file"
    )]
    Shorter {
        /// Which.
        path: PathBuf,
        /// What it begins like.
        partition: String,
        /// How far that was counted.
        next: u64,
        /// How long the file is.
        size: u64,
    },
}

/// A file that is open at the place where counting goes on.
pub struct Opened {
    /// Its partition.
    pub partition: String,
    /// The first bytes of the file, to tell its format by.
    pub head: Vec<u8>,
    /// The chunks behind what was counted.
    pub chunks: FileChunks,
    /// Where they begin.
    pub offset: u64,
    /// What stands before `offset`.
    pub tail: Tail,
}

/// The chunks of a file's plain text.
pub type FileChunks = Chunks<Box<dyn Read + Send>>;

/// Whether a file is gzip or zstd.
///
/// # Errors
/// The file cannot be read.
pub fn is_compressed(path: &Path) -> Result<bool, SourceError> {
    let fail = |source| SourceError::Read { path: path.to_owned(), source };
    let mut magic = Vec::new();
    let file = File::open(path).map_err(fail)?;
    file.take(compress::MAGIC_BYTES as u64).read_to_end(&mut magic).map_err(fail)?;
    Ok(compress::is_compressed(&magic))
}

/// The first `size` bytes of a file's plain text, in chunks.
///
/// # Errors
/// The file cannot be read.
pub fn chunks_until(path: &Path, size: u64) -> Result<FileChunks, SourceError> {
    let fail = |source| SourceError::Read { path: path.to_owned(), source };
    let reader: Box<dyn Read + Send> = Box::new(plain(path).map_err(fail)?.take(size));
    Ok(Chunks::new(reader, Pace::Full, 0, Tail::default()))
}

/// The whole lines that begin within the `size` bytes of plain text before `next`, in chunks;
/// none where `size` is 0.
///
/// # Errors
/// The file cannot be read.
pub fn chunks_before(path: &Path, next: u64, size: u64) -> Result<FileChunks, SourceError> {
    let fail = |source| SourceError::Read { path: path.to_owned(), source };
    if size == 0 || next == 0 {
        return Ok(Chunks::new(Box::new(io::empty()), Pace::Full, next, Tail::default()));
    }
    let from = next.saturating_sub(size);
    // One byte sooner: where that is a newline, a line begins at `from` itself.
    let mut first = from.saturating_sub(1);
    let reader: Box<dyn Read + Send> = match open_at(path, first).map_err(fail)? {
        Place::At(reader, _) => reader,
        Place::EndsAt(_) => Box::new(io::empty()),
    };
    let mut reader = BufReader::new(reader.take(next - first));
    if from > 0 {
        first += reader.skip_until(b'\n').map_err(fail)? as u64;
    }
    Ok(Chunks::new(Box::new(reader), Pace::Full, first, Tail::default()))
}

/// Opens a file, gzip, zstd or plain, behind what `known` says was counted of it. `None` where
/// the file is empty.
///
/// # Errors
/// The file cannot be read, or is shorter than what was counted of it.
pub fn open(path: &Path, known: &[Known]) -> Result<Option<Opened>, SourceError> {
    let fail = |source| SourceError::Read { path: path.to_owned(), source };
    let head = sample(&mut plain(path).map_err(fail)?).map_err(fail)?;
    if head.is_empty() {
        return Ok(None);
    }
    let mut shorter = None;
    let mut found: Option<(&Known, Box<dyn Read + Send>, Tail)> = None;
    for candidate in known.iter().filter(|one| begins_like(&head, &one.partition)) {
        match open_at(path, candidate.next).map_err(fail)? {
            Place::At(reader, tail) if tail.hash() == candidate.tail => {
                if found.as_ref().is_none_or(|(best, ..)| best.next < candidate.next) {
                    found = Some((candidate, reader, tail));
                }
            }
            Place::At(..) => {}
            Place::EndsAt(size) => shorter = Some((candidate, size)),
        }
    }
    if let Some((known, reader, tail)) = found {
        let chunks = Chunks::new(reader, Pace::Full, known.next, tail.clone());
        let (partition, offset) = (known.partition.clone(), known.next);
        return Ok(Some(Opened { partition, head, chunks, offset, tail }));
    }
    if let Some((known, size)) = shorter {
        let (partition, next) = (known.partition.clone(), known.next);
        return Err(SourceError::Shorter { path: path.to_owned(), partition, next, size });
    }
    let partition = new_name(&head, known);
    let chunks = Chunks::new(plain(path).map_err(fail)?, Pace::Full, 0, Tail::default());
    Ok(Some(Opened { partition, head, chunks, offset: 0, tail: Tail::default() }))
}

/// Opens a stream that cannot go back, such as standard input, as [`open`] does a file.
///
/// # Errors
/// As [`open`]. A stream that begins like several known sources is taken for the one that was
/// counted least far, since it can be read only once.
pub fn open_stream(
    stream: impl Read + Send + 'static,
    pace: Pace,
    known: &[Known],
) -> Result<Option<Opened>, SourceError> {
    let path = PathBuf::from("-");
    let fail = |source| SourceError::Read { path: path.clone(), source };
    let mut reader = compress::plain(BufReader::with_capacity(1 << 16, stream)).map_err(fail)?;
    let head = match pace {
        Pace::Full => sample(&mut reader),
        Pace::Eager => first_lines(&mut reader),
    };
    let head = head.map_err(fail)?;
    if head.is_empty() {
        return Ok(None);
    }
    let mut reader: Box<dyn Read + Send> = Box::new(io::Cursor::new(head.clone()).chain(reader));
    let alike = known.iter().filter(|one| begins_like(&head, &one.partition));
    let (partition, offset, tail) = match alike.min_by_key(|one| one.next) {
        None => (new_name(&head, known), 0, Tail::default()),
        Some(candidate) => {
            let next = candidate.next;
            let tail = skip(&mut reader, next).map_err(fail)?;
            let partition = candidate.partition.clone();
            match tail {
                Ok(tail) if tail.hash() == candidate.tail => (partition, next, tail),
                Ok(_) => {
                    let mismatch = format!(
                        "begins like {partition}, but differs before byte {next}: give it as a file"
                    );
                    return Err(fail(io::Error::other(mismatch)));
                }
                Err(size) => return Err(SourceError::Shorter { path, partition, next, size }),
            }
        }
    };
    let chunks = Chunks::new(reader, pace, offset, tail.clone());
    Ok(Some(Opened { partition, head, chunks, offset, tail }))
}

/// How much of a source's begin is looked at to tell its format.
const SAMPLE_BYTES: usize = 64 << 10;

/// A place in a file.
enum Place {
    /// There, and what stands before it.
    At(Box<dyn Read + Send>, Tail),
    /// The file has only so many bytes of plain text.
    EndsAt(u64),
}

/// The plain text of a file.
fn plain(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    compress::plain(BufReader::with_capacity(1 << 16, File::open(path)?))
}

/// The begin of a text.
fn sample(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    reader.take(SAMPLE_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The begin of a text that may pause: no more than it takes to have a whole line.
fn first_lines(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = vec![0; SAMPLE_BYTES];
    let mut filled = 0;
    while filled < head.len() && !head[..filled].contains(&b'\n') {
        match reader.read(&mut head[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    head.truncate(filled);
    Ok(head)
}

/// Opens a file at an offset of its plain text: by a seek where it is not compressed.
fn open_at(path: &Path, offset: u64) -> io::Result<Place> {
    let mut file = File::open(path)?;
    let mut magic = Vec::new();
    (&mut file).take(compress::MAGIC_BYTES as u64).read_to_end(&mut magic)?;
    if compress::is_compressed(&magic) {
        let mut reader = plain(path)?;
        return Ok(match skip(&mut reader, offset)? {
            Ok(tail) => Place::At(reader, tail),
            Err(size) => Place::EndsAt(size),
        });
    }
    let size = file.metadata()?.len();
    if size < offset {
        return Ok(Place::EndsAt(size));
    }
    file.seek(SeekFrom::Start(offset.saturating_sub(TAIL_BYTES as u64)))?;
    let mut before = vec![0; offset.min(TAIL_BYTES as u64) as usize];
    file.read_exact(&mut before)?;
    let mut tail = Tail::default();
    tail.push(&before);
    Ok(Place::At(Box::new(file), tail))
}

/// Reads over `offset` bytes: what stands before there, or where the text ends sooner.
fn skip(reader: &mut impl Read, offset: u64) -> io::Result<Result<Tail, u64>> {
    let (mut tail, mut at) = (Tail::default(), 0);
    let mut bytes = vec![0; 1 << 16];
    while at < offset {
        let wanted = (offset - at).min(bytes.len() as u64) as usize;
        match reader.read(&mut bytes[..wanted]) {
            Ok(0) => return Ok(Err(at)),
            Ok(count) => {
                tail.push(&bytes[..count]);
                at += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Ok(tail))
}

/// The name of a source that begins with `head`.
pub fn name_of(head: &[u8]) -> String {
    let hash: [u8; 32] = Sha256::digest(head).into();
    let hex: String = hash[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("file/{hex}-{}", head.len())
}

/// Whether a partition's name says that its source begins as `head` does.
fn begins_like(head: &[u8], partition: &str) -> bool {
    let base = partition.split('~').next().unwrap_or(partition);
    let length = base.rsplit('-').next().and_then(|length| length.parse::<usize>().ok());
    length.is_some_and(|length| length <= head.len() && name_of(&head[..length]) == base)
}

/// A name that no known partition has, for a source that is none of them.
fn new_name(head: &[u8], known: &[Known]) -> String {
    let base = name_of(&head[..head.len().min(HEAD_BYTES)]);
    let taken = |name: &str| known.iter().any(|one| one.partition == name);
    let numbered = (2..).map(|number| format!("{base}~{number}"));
    let mut names = std::iter::once(base.clone()).chain(numbered);
    names.find(|name| !taken(name)).expect("the numbers do not end")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn known(partition: &str, counted: &[u8]) -> Known {
        let mut tail = Tail::default();
        tail.push(counted);
        Known { partition: partition.into(), next: counted.len() as u64, tail: tail.hash() }
    }

    fn write(folder: &Path, name: &str, text: &[u8]) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("the temporary folder can be written");
        path
    }

    fn lines(from: u32, to: u32) -> Vec<u8> {
        (from..to).flat_map(|n| format!("line {n} of the log\n").into_bytes()).collect()
    }

    #[test]
    fn copies_and_compressed_copies_are_the_same_source_and_grown_ones_go_on() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = lines(0, 1_000);
        let first = open(&write(folder.path(), "a.log", &text), &[]);
        let first = first.expect("readable").expect("not empty");
        assert_eq!(first.offset, 0);
        let counted = [known(&first.partition, &text)];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).expect("memory can be written");
        let zipped = gzip.finish().expect("memory can be written");
        let grown = lines(0, 1_500);
        for (name, bytes) in [("b.log", &text), ("c.gz", &zipped), ("d.log", &grown)] {
            let again = open(&write(folder.path(), name, bytes), &counted);
            let again = again.expect("readable").expect("not empty");
            assert_eq!(
                (again.partition, again.offset),
                (first.partition.clone(), text.len() as u64)
            );
        }
    }

    #[test]
    fn a_file_that_only_begins_alike_is_another_source() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (one, other) = (lines(0, 1_000), [lines(0, 900), lines(5_000, 6_000)].concat());
        let first = open(&write(folder.path(), "a", &one), &[]).expect("readable").expect("text");
        let mut counted = vec![known(&first.partition, &one)];
        let path = write(folder.path(), "b", &other);
        let second = open(&path, &counted).expect("readable").expect("not empty");
        assert_eq!((second.partition, second.offset), (format!("{}~2", first.partition), 0));
        counted.push(known(&format!("{}~2", first.partition), &other));
        let again = open(&path, &counted).expect("readable").expect("not empty");
        assert_eq!(again.offset, other.len() as u64);
    }

    #[test]
    fn a_small_file_is_known_again_when_it_has_grown() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let small = lines(0, 3);
        let first = open(&write(folder.path(), "a", &small), &[]).expect("readable").expect("text");
        let counted = [known(&first.partition, &small)];
        let grown = open(&write(folder.path(), "a", &lines(0, 900)), &counted);
        assert_eq!(grown.expect("readable").expect("not empty").offset, small.len() as u64);
    }

    #[test]
    fn what_stands_before_an_offset_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = write(folder.path(), "a", b"one\ntwo\nthree\nfour\n");
        let check = |next, size, expect: Option<(u64, &str)>| {
            let mut chunks = chunks_before(&path, next, size).expect("readable");
            let chunk = chunks.next_chunk().expect("readable");
            let found = chunk.as_ref().map(|chunk| (chunk.first, chunk.bytes.as_slice()));
            assert_eq!(found, expect.map(|(first, text)| (first, text.as_bytes())), "{size}");
        };
        check(14, 0, None);
        check(14, 5, None);
        check(14, 6, Some((8, "three\n")));
        check(14, 9, Some((8, "three\n")));
        check(14, 10, Some((4, "two\nthree\n")));
        check(14, 14, Some((0, "one\ntwo\nthree\n")));
        check(14, 1_000, Some((0, "one\ntwo\nthree\n")));
    }

    #[test]
    fn a_truncated_copy_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let text = lines(0, 1_000);
        let first = open(&write(folder.path(), "a", &text), &[]).expect("readable").expect("text");
        let counted = [known(&first.partition, &text)];
        let short = open(&write(folder.path(), "b", &text[..text.len() / 2]), &counted);
        assert!(matches!(short, Err(SourceError::Shorter { .. })));
    }
}
