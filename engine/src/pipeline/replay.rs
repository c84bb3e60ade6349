//! Counting a whole file, at the speed of the machine.
//!
//! One thread reads (and inflates) ahead, some decode, one counts and commits, all at once
//! (`pipeline/overlap`).

use std::io;
use std::path::Path;
use std::sync::mpsc::channel;

use super::overlap::Made;
use super::{Decoding, Pipeline, PipelineError, Start, Unit};
use crate::decode::{self, Format};
use crate::source::chunk::Chunk;
use crate::source::file::{FileChunks, Opened, SourceError, chunks_before};

/// How many chunks are read and not counted, for each thread: about as many as are decoded beside
/// a commit.
const AHEAD_PER_THREAD: usize = 32;

impl Pipeline {
    /// Counts an opened source to its end, and commits whenever an epoch is full; the last one
    /// stays open for the caller. `progress` is told the offset from time to time.
    ///
    /// # Errors
    /// The source or the table fails; what was committed stays.
    pub fn replay(
        &mut self,
        path: &Path,
        opened: Opened,
        progress: &dyn Fn(u64),
    ) -> Result<(), PipelineError> {
        let label = path.display().to_string();
        let decode = self.options().decode.clone();
        let decode = settled_decode(&label, decode, &opened.head)?;
        let is_new = self.number_of(&opened.partition).is_none();
        let Opened { partition, chunks, offset, tail, .. } = opened;
        let (name, label, unit) = (&*partition, &*label, Unit::Bytes);
        let number = self.partition(Start { name, label, decode, unit, offset, tail })?;
        if is_new && path != Path::new("-") {
            let window = self.options().dedupe_window_bytes;
            self.remember_file(number, path, chunks_before(path, offset, window)?)?;
        }
        let fail = |source| SourceError::Read { path: path.to_owned(), source };
        // Of its own, since the pipeline changes while chunks are decoded.
        let options = self.options().clone();
        let (decode, seed) =
            (self.partitions[usize::from(number)].decode.clone(), self.state.seed());
        let decoding = Decoding { options: &options, decode: &decode, number, seed };
        let (back, spares) = channel();
        let mut chunks = chunks.reusing(spares);
        let make = |tools: &mut _, chunk: io::Result<Chunk>| {
            let chunk = chunk.map_err(fail)?;
            let block = decoding.block(tools, &chunk);
            let is_moved = block.next == chunk.next;
            // Nobody reads any more at the end.
            let _ = back.send(chunk.bytes);
            Ok(Some((block, is_moved.then_some(chunk.tail))))
        };
        self.drain(
            (std::iter::from_fn(move || chunks.next_chunk().transpose()), AHEAD_PER_THREAD),
            |rooms| decoding.tools(rooms),
            make,
            |pipeline, made| {
                let next = made.last().map(|(block, _)| block.next);
                pipeline.count_made(number, made);
                next.into_iter().for_each(progress);
            },
        )
    }

    /// Reads the dedupe window of a partition that an earlier process has left, in chunks of
    /// [`chunks_before`] its offset, before anything more of it is counted.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn remember_file(
        &mut self,
        number: u16,
        path: &Path,
        mut before: FileChunks,
    ) -> Result<(), PipelineError> {
        let fail = |source| SourceError::Read { path: path.to_owned(), source };
        while let Some(chunk) = before.next_chunk().map_err(fail)? {
            self.remember(number, &[chunk]);
        }
        Ok(())
    }

    /// Counts blocks of the partition of a file, in their order.
    fn count_made(&mut self, number: u16, made: Vec<Made>) {
        let (blocks, tails): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        let tails: Vec<_> = tails.iter().map(Option::as_ref).collect();
        let blocks = self.take_lines(number, blocks, &tails);
        self.state.apply(blocks);
    }
}

/// `decode` with a certain format: the one it names, or the one that the source's begin tells.
///
/// # Errors
/// It is none that is known.
pub fn settled_decode(
    path: &str,
    mut decode: decode::Options,
    head: &[u8],
) -> Result<decode::Options, PipelineError> {
    if decode.format == Format::Auto {
        let fail = |source| PipelineError::Format { path: path.to_owned(), source };
        decode.format = decode::detect(head, &decode).map_err(fail)?;
    }
    Ok(decode)
}
