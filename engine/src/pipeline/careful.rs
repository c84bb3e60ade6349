//! What made the program panic, and how it is counted all the same.
//!
//! A panic is a bug of ours, and no input may end the service for good by one. Where counting
//! chunks panics, their place is told to who runs the pipeline, who notes it outside of the table
//! and ends the process: what was half applied is gone with it. In its next life the noted place
//! is taken record by record. The record whose decoding panics again, or which panicked alone
//! before, becomes a dead letter; those around it are counted as ever.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::{Deserialize, Serialize};

use super::{Decoded, Pipeline};
use crate::source::chunk::{Chunk, ChunkKind, Tail};
use crate::state::block::{Block, BlockBuilder};

/// Why such a record is a dead letter.
pub const REASON: &str = "made the program panic";

/// A place that has made the program panic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poison {
    /// The partition.
    pub partition: String,
    /// The first offset of the chunks that were being counted.
    pub first: u64,
    /// One past the last.
    pub next: u64,
    /// Whether it was one record alone: it will not be counted again.
    pub is_record: bool,
    /// What the panic said.
    pub message: String,
}

impl Poison {
    fn meets(&self, partition: &str, chunk: &Chunk) -> bool {
        self.partition == partition && self.first < chunk.next && chunk.first < self.next
    }
}

impl Pipeline {
    /// The places that are to be taken record by record.
    pub fn set_poison(&mut self, poison: Vec<Poison>) {
        self.poison = poison;
    }

    /// Decodes chunks of several partitions, which changes nothing: the first step of
    /// [`Pipeline::ingest_all`], but a panic is an answer: a place for each of the partitions,
    /// since it is not known which of them it was.
    ///
    /// # Errors
    /// It panicked: the process has to end, so that the places are taken record by record.
    pub fn try_decode_all(&self, work: &[(u16, Vec<Chunk>)]) -> Result<Decoded, Vec<Poison>> {
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode_all(work)));
        decoded.map_err(|panic| self.poisons(&places(work), false, panic.as_ref()))
    }

    /// Counts chunks that were decoded, the second step, in the same way.
    ///
    /// # Errors
    /// It panicked: memory is not to be trusted any more, and the process has to end.
    pub fn try_count_all(
        &mut self,
        work: &[(u16, Vec<Chunk>)],
        decoded: Decoded,
    ) -> Result<(), Vec<Poison>> {
        self.alone = None;
        // What is half applied is never looked at again: `distrust` says so to all who ask.
        let counted = catch_unwind(AssertUnwindSafe(|| self.count_all(work, decoded)));
        counted.map_err(|panic| {
            self.distrust();
            let places = self.alone.map_or_else(|| places(work), |alone| vec![alone]);
            self.poisons(&places, self.alone.is_some(), panic.as_ref())
        })
    }

    fn poisons(
        &self,
        places: &[(u16, u64, u64)],
        is_record: bool,
        panic: &(dyn Any + Send),
    ) -> Vec<Poison> {
        let message = said(panic);
        let poison = |(number, first, next): &(u16, u64, u64)| Poison {
            partition: self.partitions[usize::from(*number)].name.clone(),
            first: *first,
            next: *next,
            is_record,
            message: message.clone(),
        };
        places.iter().map(poison).collect()
    }

    /// Whether something of the chunks has made the program panic before.
    pub(super) fn is_poisoned(&self, number: u16, chunks: &[Chunk]) -> bool {
        let name = &self.partitions[usize::from(number)].name;
        let meets = |chunk: &Chunk| self.poison.iter().any(|one| one.meets(name, chunk));
        !self.poison.is_empty() && chunks.iter().any(meets)
    }

    /// Counts a chunk record by record.
    pub(super) fn ingest_carefully(&mut self, number: u16, chunk: &Chunk) {
        let partition = &self.partitions[usize::from(number)];
        let (name, tail) = (partition.name.clone(), partition.tail.clone());
        for piece in pieces(chunk, tail) {
            let panicked_alone =
                self.poison.iter().any(|one| one.is_record && one.meets(&name, &piece));
            let decoded = if panicked_alone {
                None
            } else {
                // Decoding changes nothing but its own block.
                catch_unwind(AssertUnwindSafe(|| self.decode(number, std::slice::from_ref(&piece))))
                    .ok()
            };
            let dead = || vec![dead_block((number, self.state.seed()), &piece)];
            let blocks = decoded.unwrap_or_else(dead);
            self.alone = Some((number, piece.first, piece.next));
            let blocks = self.take_chunks(number, blocks, &[piece]);
            self.state.apply(blocks);
            self.alone = None;
        }
    }
}

/// Number of the partition, first offset and one past the last of all that is being counted.
fn places(work: &[(u16, Vec<Chunk>)]) -> Vec<(u16, u64, u64)> {
    let place = |(number, chunks): &(u16, Vec<Chunk>)| {
        Some((*number, chunks.first()?.first, chunks.last()?.next))
    };
    work.iter().filter_map(place).collect()
}

/// The records of a chunk, each as a chunk of its own; `tail` stands before it.
fn pieces(chunk: &Chunk, mut tail: Tail) -> Vec<Chunk> {
    let mut pieces = Vec::new();
    match &chunk.kind {
        ChunkKind::Unterminated | ChunkKind::Overlong => pieces.push(chunk.clone()),
        ChunkKind::Lines => {
            let mut first = chunk.first;
            for line in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
                tail.push(line);
                let (next, kind, bytes) =
                    (first + line.len() as u64, ChunkKind::Lines, line.to_vec());
                pieces.push(Chunk { first, next, kind, bytes, tail: tail.clone() });
                first = next;
            }
        }
        ChunkKind::Records(marks) => {
            let (mut first, mut start) = (chunk.first, 0);
            for (index, mark) in marks.iter().enumerate() {
                let bytes = chunk.bytes[start..mark.end as usize].to_vec();
                start = mark.end as usize;
                let is_last = index + 1 == marks.len();
                let next = if is_last { chunk.next } else { mark.offset + 1 };
                let tail = Tail::of_record(mark.offset, mark.time_ms, &bytes);
                let mut alone = *mark;
                alone.end = bytes.len() as u32;
                let kind = ChunkKind::Records(vec![alone]);
                pieces.push(Chunk { first, next, kind, bytes, tail });
                first = next;
            }
            if marks.is_empty() {
                pieces.push(chunk.clone());
            }
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.tail.clone_from(&chunk.tail);
    }
    pieces
}

/// One record as a dead letter.
fn dead_block((number, seed): (u16, u64), piece: &Chunk) -> Block {
    let mut builder = BlockBuilder::new(seed, false);
    builder.begin(number, piece.first);
    let (offset, time_ms) = match &piece.kind {
        ChunkKind::Records(marks) => {
            marks.first().map_or((piece.first, None), |mark| (mark.offset, mark.time_ms))
        }
        _ => (piece.first, None),
    };
    let line = piece.bytes.strip_suffix(b"\n").unwrap_or(&piece.bytes);
    builder.push_dead(offset, REASON.to_owned(), line, time_ms);
    builder.finish(piece.next)
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
