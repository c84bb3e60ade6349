//! What a log still holds, read beside whoever writes it: for a recount. Nothing is locked, cut
//! or set aside.
//!
//! Records that another segment numbers again were never acknowledged, and are passed over:
//! where a segment ends, the name of the next one says.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::open::{ABOUT, About, parse_about, segments};
use super::{Frame, Piece, WalError, scan};
use crate::source::chunk::{Chunk, ChunkKind, LINE_BYTES_MAX, RecordMark, Tail};

/// A log as it stands on the disk.
pub struct Recorded {
    /// Whose it is, and the format of its records.
    pub about: About,
    /// The first offset that it still holds.
    pub first: u64,
    /// Path, and the offset where the next segment begins.
    segments: VecDeque<(PathBuf, u64)>,
    ready: VecDeque<Chunk>,
}

impl Recorded {
    /// Opens the folder of a log.
    ///
    /// # Errors
    /// It is none, or cannot be read.
    pub fn open(folder: &Path) -> Result<Recorded, WalError> {
        let path = folder.join(ABOUT);
        let text = std::fs::read_to_string(&path).map_err(WalError::io("read", &path))?;
        let about = parse_about(&text).map_err(|what| WalError::About { path, what })?;
        let found = segments(folder)?;
        let first = found.first().map_or(0, |(_, first, _)| *first);
        let ends = found.iter().skip(1).map(|(_, first, _)| *first).chain([u64::MAX]);
        let segments = found.iter().zip(ends).map(|((_, _, path), end)| (path.clone(), end));
        let segments = segments.collect();
        Ok(Recorded { about, first, segments, ready: VecDeque::new() })
    }

    /// Whether a folder is the folder of a log.
    pub fn is_log(folder: &Path) -> bool {
        folder.join(ABOUT).is_file()
    }

    /// The name of its partition.
    pub fn partition(&self) -> String {
        format!("wal/{}", self.about.id)
    }

    /// The next records, one chunk a frame; `None` at the end.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, WalError> {
        while self.ready.is_empty() {
            let Some((path, end)) = self.segments.pop_front() else { return Ok(None) };
            let bytes = std::fs::read(&path).map_err(WalError::io("read", &path))?;
            let frames = scan(&bytes, self.about.salt).filter_map(|piece| match piece {
                Piece::Frame(_, frame) => Some(frame),
                Piece::Damaged(_) | Piece::Torn(_) => None,
            });
            self.ready.extend(frames.filter_map(|frame| chunk(&frame, end)));
        }
        Ok(self.ready.pop_front())
    }
}

/// The records of a frame that stand before `end`; `None` where there are none.
fn chunk(frame: &Frame<'_>, end: u64) -> Option<Chunk> {
    let (mut bytes, mut marks) = (Vec::new(), Vec::new());
    for (offset, record) in frame.records().filter(|(offset, _)| *offset < end) {
        bytes.extend_from_slice(&record[..record.len().min(LINE_BYTES_MAX)]);
        marks.push(RecordMark {
            offset,
            end: bytes.len() as u32,
            length_bytes: record.len() as u64,
            time_ms: Some(frame.time_ms),
        });
    }
    let next = marks.last()?.offset + 1;
    let (first, kind) = (frame.first, ChunkKind::Records(marks));
    Some(Chunk { first, next, kind, bytes, tail: Tail::default() })
}
