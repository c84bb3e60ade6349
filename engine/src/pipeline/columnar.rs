//! Parquet files as partitions: their offset is the count of rows, and their identity covers
//! their end as well, where the footer tells one file from another that begins alike.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Options, Pipeline, PipelineError, Start, Unit};
use crate::decode::{self, Format, Line, parquet};
use crate::source::chunk::Tail;
use crate::source::file::{HEAD_BYTES, SourceError, name_of};
use crate::state::block::{Block, BlockBuilder};

/// How many rows are handed to the shards at once.
const BLOCK_ROWS: u64 = 65_536;

/// What every Parquet file begins with.
const MAGIC: [u8; 4] = *b"PAR1";

impl Pipeline {
    /// Whether a file is Parquet, by its first bytes or by what was configured.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_parquet(&self, path: &Path) -> Result<bool, PipelineError> {
        Ok(is_parquet(&self.options().decode, path)?)
    }

    /// Counts the rows of a Parquet file that were not counted before; its partition.
    ///
    /// # Errors
    /// The file is not to be read as events, or the table fails.
    pub fn replay_parquet(&mut self, path: &Path) -> Result<String, PipelineError> {
        let label = path.display().to_string();
        let name = partition_of(path)?;
        let known = self.known()?;
        let counted = known.iter().find(|one| one.partition == name).map_or(0, |one| one.next);
        let options = decode::Options { format: Format::Parquet, ..self.options().decode.clone() };
        let is_new = self.number_of(&name).is_none();
        let number = self.partition(Start {
            name: &name,
            label: &label,
            decode: options.clone(),
            unit: Unit::Bytes,
            offset: counted,
            tail: Tail::default(),
        })?;
        let fail = |source| SourceError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(fail)?;
        let slis = self.options().slis.clone();
        let window = self.options().dedupe_window_bytes;
        // An earlier process has left its dedupe window behind: here in rows, as offsets are.
        let first = if is_new { counted.saturating_sub(window) } else { counted };
        let mut builder = BlockBuilder::new(self.state.seed(), window > 0);
        builder.begin(number, first);
        let mut next = first;
        let mut failed = None;
        let outcome = parquet::for_each(file, &options, first, |row, line| {
            match line {
                Line::Event(event) => builder.push(&event, &slis, row),
                Line::Dead(reason) => builder.push_dead(row, reason, b"", None),
                Line::Skip => {}
            }
            next = row + 1;
            if (next == counted || next % BLOCK_ROWS == 0) && failed.is_none() {
                let block = builder.finish(next);
                builder.begin(number, next);
                if next <= counted {
                    self.remember_blocks(number, vec![block]);
                } else {
                    failed = self.take_rows(number, block).err();
                }
            }
        });
        outcome.map_err(|source| PipelineError::Parquet { path: label, source })?;
        if let Some(error) = failed {
            return Err(error);
        }
        self.take_rows(number, builder.finish(next))?;
        Ok(name)
    }

    fn take_rows(&mut self, number: u16, block: Block) -> Result<(), PipelineError> {
        self.take(number, vec![block], &[None]);
        if self.epoch_is_full() {
            self.commit()?;
        }
        Ok(())
    }
}

/// As [`Pipeline::is_parquet`].
pub(super) fn is_parquet(decode: &decode::Options, path: &Path) -> Result<bool, SourceError> {
    if path == Path::new("-") {
        return Ok(false);
    }
    let begins = || Ok(ends(path)?.starts_with(&MAGIC));
    Ok(decode.format == Format::Parquet || (decode.format == Format::Auto && begins()?))
}

/// The name of a Parquet file's partition.
pub(super) fn partition_of(path: &Path) -> Result<String, SourceError> {
    Ok(name_of(&ends(path)?))
}

/// Visits the first `rows` rows of a Parquet file as blocks.
pub(super) fn for_each_block(
    options: &Options,
    path: &Path,
    rows: u64,
    mut visit: impl FnMut(Block),
) -> Result<(), PipelineError> {
    let fail = |source| SourceError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(fail)?;
    let mut builder = BlockBuilder::new(0, options.dedupe_window_bytes > 0);
    builder.begin(0, 0);
    let outcome = parquet::for_each(file, &options.decode, 0, |row, line| {
        if row >= rows {
            return;
        }
        match line {
            Line::Event(event) => builder.push(&event, &options.slis, row),
            Line::Dead(reason) => builder.push_dead(row, reason, b"", None),
            Line::Skip => {}
        }
        if (row + 1) % BLOCK_ROWS == 0 || row + 1 == rows {
            visit(builder.finish(row + 1));
            builder.begin(0, row + 1);
        }
    });
    let label = path.display().to_string();
    outcome.map(drop).map_err(|source| PipelineError::Parquet { path: label, source })
}

/// The first and the last bytes of a file.
fn ends(path: &Path) -> Result<Vec<u8>, SourceError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut ends = Vec::new();
        (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut ends)?;
        file.seek(SeekFrom::Start(size.saturating_sub(HEAD_BYTES as u64)))?;
        file.read_to_end(&mut ends)?;
        Ok(ends)
    };
    read().map_err(|source| SourceError::Read { path: path.to_owned(), source })
}
