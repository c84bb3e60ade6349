//! Counting a whole file, at the speed of the machine.
//!
//! One thread reads (and inflates) ahead into a bounded queue; the pipeline takes what has
//! come, some chunks at a time, so that all cores decode at once.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use super::{Pipeline, PipelineError, Start, Unit};
use crate::decode::{self, Format};
use crate::source::chunk::Chunk;
use crate::source::file::{FileChunks, Opened, SourceError, chunks_before};

/// How many chunks are decoded at once, for each thread: enough to even out their load.
const CHUNKS_PER_THREAD: usize = 4;

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
        let Opened { partition, mut chunks, offset, tail, .. } = opened;
        let (name, label, unit) = (&*partition, &*label, Unit::Bytes);
        let number = self.partition(Start { name, label, decode, unit, offset, tail })?;
        if is_new && path != Path::new("-") {
            let window = self.options().dedupe_window_bytes;
            self.remember_file(number, path, chunks_before(path, offset, window)?)?;
        }
        let threads = rayon::current_num_threads();
        let (sender, queue) = sync_channel(threads * CHUNKS_PER_THREAD);
        std::thread::scope(|scope| {
            // Ends with the stream, with an error, or when the receiver is gone.
            scope.spawn(move || {
                while let Some(chunk) = chunks.next_chunk().transpose() {
                    let failed = chunk.is_err();
                    if sender.send(chunk).is_err() || failed {
                        break;
                    }
                }
            });
            self.drain(number, path, queue, progress)
        })
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

    fn drain(
        &mut self,
        number: u16,
        path: &Path,
        queue: Receiver<io::Result<Chunk>>,
        progress: &dyn Fn(u64),
    ) -> Result<(), PipelineError> {
        let most = rayon::current_num_threads() * CHUNKS_PER_THREAD;
        let fail = |source| SourceError::Read { path: PathBuf::from(path), source };
        while let Ok(first) = queue.recv() {
            let mut chunks = vec![first.map_err(fail)?];
            while chunks.len() < most
                && let Ok(more) = queue.try_recv()
            {
                chunks.push(more.map_err(fail)?);
            }
            let next = chunks.last().map_or(0, |chunk| chunk.next);
            self.ingest(number, &chunks);
            if self.epoch_is_full() {
                self.commit()?;
            }
            progress(next);
        }
        Ok(())
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
