//! Parquet files as partitions: their offset is the count of rows, and their identity covers
//! their end as well, where the footer tells one file from another that begins alike.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::{Options, Pipeline, PipelineError, Start, Unit};
use crate::decode::parquet::{ParquetFault, Reader, Rows, Taken};
use crate::decode::{self, Format, Line};
use crate::slo::sli::Slis;
use crate::source::chunk::Tail;
use crate::source::file::{HEAD_BYTES, SourceError, name_of};
use crate::state::block::{Block, BlockBuilder};
use crate::time::{Day, Minute};

/// How many rows become one block.
const BLOCK_ROWS: u64 = 16_384;

/// How many blocks are read and not counted, for each thread: about as many as are made beside a
/// commit.
const AHEAD_PER_THREAD: usize = 24;

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
        // An earlier process has left its dedupe window behind: here in rows, as offsets are.
        let window = self.options().dedupe_window_bytes;
        let first = counted.saturating_sub(window);
        if is_new && first < counted {
            let before = Piece { path, options: &options, number, rows: first..counted };
            self.for_blocks(&before, |pipeline, blocks| {
                pipeline.remember_blocks(number, blocks);
            })?;
        }
        let rest = Piece { path, options: &options, number, rows: counted..u64::MAX };
        self.for_blocks(&rest, |pipeline, blocks| {
            let tails = vec![None; blocks.len()];
            let blocks = pipeline.take(number, blocks, &tails);
            pipeline.state.apply(blocks);
        })?;
        Ok(name)
    }

    /// Calls `f` with blocks of rows in their order, some at a time. One thread reads ahead; all
    /// cores make blocks of what it has read.
    fn for_blocks(
        &mut self,
        piece: &Piece<'_>,
        mut f: impl FnMut(&mut Pipeline, Vec<Block>),
    ) -> Result<(), PipelineError> {
        let Piece { path, options, number, rows } = piece;
        let fail = |source| SourceError::Read { path: (*path).to_owned(), source };
        let broken = |source| PipelineError::Parquet { path: path.display().to_string(), source };
        let file = File::open(path).map_err(fail)?;
        let count = (rows.end < u64::MAX).then(|| rows.end - rows.start);
        let mut reader = Reader::open(file, options, rows.start, count).map_err(broken)?;
        let keep_ids = self.options().dedupe_window_bytes > 0;
        let (seed, slis) = (self.state.seed(), self.options().slis.clone());
        let make = |builder: &mut BlockBuilder, group: Result<Vec<Rows>, ParquetFault>| {
            let block = group.and_then(|group| block_of(builder, *number, &slis, &group));
            Ok(block.map_err(broken)?.map(|block| (block, None)))
        };
        let groups = std::iter::from_fn(move || match next_group(&mut reader) {
            Ok(rows) if rows.is_empty() => None,
            group => Some(group),
        });
        self.drain(
            (groups, AHEAD_PER_THREAD),
            |rooms| BlockBuilder::new(seed, keep_ids).expecting(rooms),
            make,
            |pipeline, made| f(pipeline, made.into_iter().map(|(block, _)| block).collect()),
        )
    }
}

/// Rows of a file, as blocks of a partition.
struct Piece<'a> {
    path: &'a Path,
    options: &'a decode::Options,
    number: u16,
    rows: Range<u64>,
}

/// The rows of the next block; none at the end.
fn next_group(reader: &mut Reader) -> Result<Vec<Rows>, ParquetFault> {
    let mut group: Vec<Rows> = Vec::new();
    let size = |group: &[Rows]| group.iter().map(|rows| rows.next() - rows.first()).sum::<u64>();
    while size(&group) < BLOCK_ROWS
        && let Some(rows) = reader.next_rows()?
    {
        group.push(rows);
    }
    Ok(group)
}

/// The block that rows become; `None` of none.
fn block_of(
    builder: &mut BlockBuilder,
    number: u16,
    slis: &Slis,
    group: &[Rows],
) -> Result<Option<Block>, ParquetFault> {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(None) };
    builder.begin(number, first.first());
    for rows in group {
        let rows = rows.numbered()?;
        // By number among these rows: the number in the block, for the day that was seen last.
        let mut tuples: Vec<Option<(Day, u32)>> = vec![None; rows.tuples()];
        rows.for_each(|row, taken| match taken {
            Taken::Event(event, number) => {
                let day = Minute::of_ms(event.ts_ms).day();
                let known = tuples[number].filter(|(of, _)| *of == day);
                let (_, tuple) =
                    known.unwrap_or_else(|| (day, builder.tuple(&rows.example(number), slis, day)));
                tuples[number] = Some((day, tuple));
                builder.push_bare(&event, tuple, slis, row);
            }
            Taken::Line(line) => push_line(builder, slis, row, line),
        });
    }
    Ok(Some(builder.finish(last.next())))
}

fn push_line(builder: &mut BlockBuilder, slis: &Slis, row: u64, line: Line<'_>) {
    match line {
        Line::Event(event) => builder.push(&event, slis, row),
        Line::Dead(reason) => builder.push_dead(row, reason, b"", None),
        Line::Skip => {}
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
    let label = path.display().to_string();
    let broken = |source| PipelineError::Parquet { path: label.clone(), source };
    let mut builder = BlockBuilder::new(0, options.dedupe_window_bytes > 0);
    let mut reader = Reader::open(file, &options.decode, 0, Some(rows)).map_err(broken)?;
    loop {
        let group = next_group(&mut reader).map_err(broken)?;
        match block_of(&mut builder, 0, &options.slis, &group).map_err(broken)? {
            Some(block) => visit(block),
            None => return Ok(()),
        }
    }
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

#[cfg(test)]
mod tests;
