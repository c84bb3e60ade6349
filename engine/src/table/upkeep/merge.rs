//! Sorted files into one sorted file, rows of one key summed into one row, as a stream.
//!
//! Files are in the order of customer, service and minute (`dimension`: service and minute). Of
//! each file one batch is held; the rows of the least key of all heads are taken together, put
//! into the order of the rest of the key, and summed. So memory is that of a batch of each file,
//! of one row group and of the bytes of one outgoing file, however large the files are.
//!
//! The order of a file is checked as it is read. One that is not sorted (another program wrote
//! it) is told to the caller, who may have it sorted in memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::builder::BinaryBuilder;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, interleave, take_record_batch};
use arrow::datatypes::Int64Type;
use arrow::row::{OwnedRow, RowConverter, Rows};

use super::super::encode::{Encoded, Encoder, GROUP_ROWS};
use super::super::error::{CommitError, TableError};
use super::super::scan::Scan;
use super::proof::{Fold, Proof, Sums, converter, histogram, is_maximum};
use crate::slo::histogram::Histogram;

/// Rows of an outgoing batch.
const BATCH_ROWS: usize = 8_192;

/// Decoded bytes after which a row group of long rows (dead letters) ends early.
const GROUP_BYTES: usize = 64 << 20;

/// Bytes after which an outgoing file ends and another begins.
const FILE_BYTES: usize = 128 << 20;

/// Batches held beyond one of each file before what is summed goes out.
const POOL_SPARE: usize = 64;

/// Why a merge ended early.
pub(super) enum MergeError {
    /// The file at this place of the inputs is not in order.
    Unsorted(usize),
    /// Reading or writing failed.
    Failed(CommitError),
}

impl<E: Into<CommitError>> From<E> for MergeError {
    fn from(error: E) -> MergeError {
        MergeError::Failed(error.into())
    }
}

/// Where a finished file goes.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Encoded) -> Result<(), CommitError>;

/// Merges `inputs` into files that `sink` takes, and says what the inputs added up to.
pub(super) fn merge(fold: Fold, inputs: Vec<Source>, sink: Sink<'_>) -> Result<Sums, MergeError> {
    match fold.to.key() {
        Some(_) => Merge::new(fold, inputs)?.run(sink),
        None => concatenate(fold, inputs, sink),
    }
}

/// What one file yields.
pub(super) enum Source {
    /// As it is.
    File(Box<Scan>),
    /// Sorted in memory.
    Sorted(RecordBatch),
}

impl Source {
    /// All rows of a file in the order of its grain.
    pub fn sorted(fold: Fold, scan: Scan) -> Result<Source, TableError> {
        let schema = Arc::clone(scan.schema());
        let batches = scan.collect::<Result<Vec<RecordBatch>, TableError>>()?;
        let all = concat_batches(&schema, &batches).expect("a scan yields one schema");
        let names = fold.to.key().map(|key| key.sorted).unwrap_or_default();
        let columns: Vec<ArrayRef> = names.iter().map(|name| fold.column(&all, name)).collect();
        let rows = converter(fold.to, &names).convert_columns(&columns);
        let rows = rows.expect("the types are those of the grain");
        let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
        order.sort_by(|a, b| rows.row(*a as usize).cmp(&rows.row(*b as usize)));
        let sorted = take_record_batch(&all, &UInt32Array::from(order));
        Ok(Source::Sorted(sorted.expect("the places are those of its rows")))
    }

    fn next(&mut self) -> Result<Option<RecordBatch>, TableError> {
        match self {
            Source::File(scan) => scan.next().transpose(),
            Source::Sorted(batch) if batch.num_rows() == 0 => Ok(None),
            Source::Sorted(batch) => {
                let taken = batch.num_rows().min(BATCH_ROWS);
                let next = batch.slice(0, taken);
                *batch = batch.slice(taken, batch.num_rows() - taken);
                Ok(Some(next))
            }
        }
    }
}

/// Rows one file after the other, for grains whose rows stand for themselves.
fn concatenate(fold: Fold, inputs: Vec<Source>, sink: Sink<'_>) -> Result<Sums, MergeError> {
    let mut proof = Proof::new(fold);
    let mut out = Output::new(fold, false)?;
    for mut input in inputs {
        while let Some(batch) = input.next()? {
            proof.add(&batch)?;
            out.push(batch, sink)?;
        }
    }
    out.finish(sink)?;
    Ok(proof.sums())
}

/// A batch that rows are still taken from, and the rest of their keys.
struct Held {
    batch: RecordBatch,
    rest: Rows,
}

/// One file while it is merged.
struct Input {
    source: Source,
    /// The batch in the pool, if there are rows left.
    held: usize,
    keys: Option<Rows>,
    row: usize,
}

struct Merge {
    fold: Fold,
    key: RowConverter,
    rest: RowConverter,
    key_names: Vec<&'static str>,
    rest_names: Vec<&'static str>,
    inputs: Vec<Input>,
    heads: BinaryHeap<Reverse<(OwnedRow, usize)>>,
    pool: Vec<Held>,
    proof: Proof,
    summed: Summed,
}

impl Merge {
    fn new(fold: Fold, sources: Vec<Source>) -> Result<Merge, MergeError> {
        let names = fold.to.key().expect("rows without a key are not merged");
        let input = |source| Input { source, held: 0, keys: None, row: 0 };
        let mut merge = Merge {
            fold,
            key: converter(fold.to, &names.sorted),
            rest: converter(fold.to, &names.rest),
            key_names: names.sorted,
            rest_names: names.rest,
            inputs: sources.into_iter().map(input).collect(),
            heads: BinaryHeap::new(),
            pool: Vec::new(),
            proof: Proof::new(fold),
            summed: Summed::new(fold),
        };
        for at in 0..merge.inputs.len() {
            if merge.load(at)? {
                merge.push_head(at);
            }
        }
        Ok(merge)
    }

    fn run(mut self, sink: Sink<'_>) -> Result<Sums, MergeError> {
        let mut out = Output::new(self.fold, true)?;
        let mut group: Vec<(usize, usize)> = Vec::new();
        while let Some(Reverse((least, _))) = self.heads.peek() {
            let least = least.clone();
            group.clear();
            while self.heads.peek().is_some_and(|Reverse((key, _))| *key == least) {
                let Some(Reverse((_, at))) = self.heads.pop() else { break };
                self.take_equal(at, &least, &mut group)?;
            }
            self.sum(&mut group)?;
            if self.summed.rows() >= BATCH_ROWS || self.pool.len() > self.inputs.len() + POOL_SPARE
            {
                self.flush(&mut out, sink)?;
            }
        }
        self.flush(&mut out, sink)?;
        out.finish(sink)?;
        Ok(self.proof.sums())
    }

    /// Reads the next batch of a file into the pool; false at its end.
    fn load(&mut self, at: usize) -> Result<bool, MergeError> {
        let input = &mut self.inputs[at];
        (input.keys, input.row) = (None, 0);
        let Some(batch) = input.source.next()? else { return Ok(false) };
        self.proof.add(&batch)?;
        let columns = |names: &[&str]| -> Vec<ArrayRef> {
            names.iter().map(|name| self.fold.column(&batch, name)).collect()
        };
        let keys = self.key.convert_columns(&columns(&self.key_names));
        let rest = self.rest.convert_columns(&columns(&self.rest_names));
        input.keys = Some(keys.expect("the types are those of the grain"));
        input.held = self.pool.len();
        self.pool.push(Held { batch, rest: rest.expect("the types are those of the grain") });
        Ok(true)
    }

    fn push_head(&mut self, at: usize) {
        let input = &self.inputs[at];
        if let Some(keys) = &input.keys {
            self.heads.push(Reverse((keys.row(input.row).owned(), at)));
        }
    }

    /// Takes the rows of one file that have this key, which its head has.
    fn take_equal(
        &mut self,
        at: usize,
        key: &OwnedRow,
        group: &mut Vec<(usize, usize)>,
    ) -> Result<(), MergeError> {
        loop {
            let input = &mut self.inputs[at];
            let Some(keys) = &input.keys else { return Ok(()) };
            while input.row < keys.num_rows() && keys.row(input.row) == key.row() {
                group.push((input.held, input.row));
                input.row += 1;
            }
            if input.row < keys.num_rows() {
                if keys.row(input.row) < key.row() {
                    return Err(MergeError::Unsorted(at));
                }
                self.push_head(at);
                return Ok(());
            }
            if !self.load(at)? {
                return Ok(());
            }
        }
    }

    /// Sums rows of one key but for its rest.
    fn sum(&mut self, group: &mut [(usize, usize)]) -> Result<(), MergeError> {
        let rest = |place: &(usize, usize)| self.pool[place.0].rest.row(place.1);
        group.sort_by(|a, b| rest(a).cmp(&rest(b)).then(a.cmp(b)));
        for same in group.chunk_by(|a, b| rest(a) == rest(b)) {
            self.summed.push(&self.pool, same)?;
        }
        Ok(())
    }

    /// Hands out what is summed, and lets the batches go that no row is left in.
    fn flush(&mut self, out: &mut Output, sink: Sink<'_>) -> Result<(), MergeError> {
        if self.summed.rows() > 0 {
            let batch = self.summed.take(&self.pool);
            out.push(batch, sink)?;
        }
        let mut old: Vec<Option<Held>> = self.pool.drain(..).map(Some).collect();
        for input in self.inputs.iter_mut().filter(|input| input.keys.is_some()) {
            let held = old[input.held].take().expect("each batch is held by one file");
            input.held = self.pool.len();
            self.pool.push(held);
        }
        Ok(())
    }
}

/// Outgoing rows: where in the pool their keys stand, and their sums.
struct Summed {
    fold: Fold,
    measures: Vec<&'static str>,
    places: Vec<(usize, usize)>,
    values: Vec<Vec<i64>>,
    latency: BinaryBuilder,
    bytes: Vec<u8>,
}

impl Summed {
    fn new(fold: Fold) -> Summed {
        let measures = fold.measures();
        let values = vec![Vec::new(); measures.len()];
        let latency = BinaryBuilder::new();
        Summed { fold, measures, places: Vec::new(), values, latency, bytes: Vec::new() }
    }

    fn rows(&self) -> usize {
        self.places.len()
    }

    /// Appends the sum of rows of one key.
    fn push(&mut self, pool: &[Held], same: &[(usize, usize)]) -> Result<(), TableError> {
        self.places.push(same[0]);
        for (at, name) in self.measures.iter().enumerate() {
            let mut total = 0_i64;
            for (held, row) in same {
                let column = pool[*held].batch.column_by_name(name);
                let column = column.expect("a measure is a column of its grain");
                let column = column.as_primitive::<Int64Type>();
                let value = if column.is_valid(*row) { column.value(*row) } else { 0 };
                total = if is_maximum(name) {
                    total.max(value)
                } else {
                    total.checked_add(value).ok_or_else(|| overflow(self.fold, name))?
                };
            }
            self.values[at].push(total);
        }
        self.push_latency(pool, same)
    }

    /// Appends the sum of the histograms; a single one as it is.
    fn push_latency(&mut self, pool: &[Held], same: &[(usize, usize)]) -> Result<(), TableError> {
        let bytes_at = |(held, row): &(usize, usize)| {
            let column = pool[*held].batch.column_by_name("latency")?.as_binary::<i32>();
            (column.is_valid(*row) && !column.value(*row).is_empty()).then(|| column.value(*row))
        };
        let mut found = same.iter().filter_map(bytes_at);
        let Some(first) = found.next() else {
            self.latency.append_null();
            return Ok(());
        };
        let Some(second) = found.next() else {
            self.latency.append_value(first);
            return Ok(());
        };
        let mut total: Histogram = histogram(self.fold.from, first)?;
        for bytes in std::iter::once(second).chain(found) {
            total.merge(&histogram(self.fold.from, bytes)?);
        }
        if i64::try_from(total.count()).is_err() {
            return Err(overflow(self.fold, "latency"));
        }
        self.bytes.clear();
        total.encode_v2(&mut self.bytes);
        self.latency.append_value(&self.bytes);
        Ok(())
    }

    /// The rows as a batch of the outgoing grain.
    fn take(&mut self, pool: &[Held]) -> RecordBatch {
        let schema = self.fold.to.schema();
        let columns = schema.fields().iter().map(|field| -> ArrayRef {
            let name = field.name().as_str();
            if let Some(at) = self.measures.iter().position(|measure| *measure == name) {
                return Arc::new(Int64Array::from(std::mem::take(&mut self.values[at])));
            }
            if name == "latency" {
                return Arc::new(self.latency.finish());
            }
            let arrays: Vec<ArrayRef> =
                pool.iter().map(|held| self.fold.column(&held.batch, name)).collect();
            let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
            interleave(&arrays, &self.places).expect("one column has one type")
        });
        let columns = columns.collect();
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns);
        self.places.clear();
        batch.expect("the columns are those of the grain")
    }
}

fn overflow(fold: Fold, column: &'static str) -> TableError {
    let (grain, found) = (fold.from.name(), "counts whose sum leaves 63 bits".to_owned());
    TableError::Value { grain, column, found }
}

/// Outgoing files, one after the other.
struct Output {
    fold: Fold,
    sorted: bool,
    encoder: Option<Encoder>,
    group: Vec<RecordBatch>,
    group_rows: usize,
    group_bytes: usize,
}

impl Output {
    fn new(fold: Fold, sorted: bool) -> Result<Output, MergeError> {
        let (encoder, group) = (None, Vec::new());
        Ok(Output { fold, sorted, encoder, group, group_rows: 0, group_bytes: 0 })
    }

    fn push(&mut self, batch: RecordBatch, sink: Sink<'_>) -> Result<(), MergeError> {
        self.group_rows += batch.num_rows();
        self.group_bytes += batch.get_array_memory_size();
        self.group.push(batch);
        if self.group_rows >= GROUP_ROWS || self.group_bytes >= GROUP_BYTES {
            self.end_group()?;
        }
        if self.encoder.as_ref().is_some_and(|encoder| encoder.size() >= FILE_BYTES) {
            self.finish(sink)?;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<(), MergeError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let grain = self.fold.to;
        let failed = |source| TableError::parquet(std::path::Path::new(grain.name()), source);
        if self.encoder.is_none() {
            self.encoder = Some(Encoder::new(grain, GROUP_ROWS, self.sorted).map_err(failed)?);
        }
        let encoder = self.encoder.as_mut().expect("it was begun above");
        encoder.push(&self.group).map_err(failed)?;
        self.group.clear();
        (self.group_rows, self.group_bytes) = (0, 0);
        Ok(())
    }

    /// Ends the file that is begun, if any.
    fn finish(&mut self, sink: Sink<'_>) -> Result<(), MergeError> {
        self.end_group()?;
        if let Some(encoder) = self.encoder.take() {
            let grain = self.fold.to.name();
            let failed = |source| TableError::parquet(std::path::Path::new(grain), source);
            sink(encoder.finish().map_err(failed)?)?;
        }
        Ok(())
    }
}
