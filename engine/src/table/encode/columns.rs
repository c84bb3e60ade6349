//! The columns that we put into pages ourselves: texts that come as numbers, minutes, numbers, and
//! bytes.
//!
//! The library looks each value of a row up in a dictionary that it makes, though a text has come
//! as a number of one and a minute is as good as a number; it packs differences value by value.
//! Here a page is made at a time. What is read from it is the same, which the tests hold against
//! the library's own; all else, as well as what has bounds that would have to be cut, is left to
//! the library.

use std::borrow::Cow;
use std::iter::repeat_n;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, StringArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt32Type};
use parquet::basic::Encoding;
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::properties::{
    BloomFilterProperties, DEFAULT_COLUMN_INDEX_TRUNCATE_LENGTH, EnabledStatistics,
    WriterProperties,
};
use parquet::schema::types::ColumnDescPtr;

use super::packed;
use super::pages::{Bound, Bounds, Chunk, PAGE_ROWS, Pages, Written};
use crate::time;

/// One column of a row group, of which `parts` are some rows each. `None` if it is none of ours.
///
/// # Errors
/// If zstd fails, or a page is longer than the format can say.
pub(super) fn encode(
    parts: &[&ArrayRef],
    descriptor: &ColumnDescPtr,
    properties: &WriterProperties,
) -> Result<Option<Chunk>, ParquetError> {
    if parts.iter().all(|part| part.is_empty()) {
        return Ok(None);
    }
    let path = descriptor.path();
    let compression = properties.compression(path);
    let statistics = properties.statistics_enabled(path);
    let pages = |encoding| Pages::new(descriptor, compression, encoding);
    if properties.dictionary_enabled(path) {
        let pages = pages(Encoding::RLE_DICTIONARY);
        if let Some(minutes) = Numbered::of_minutes(parts) {
            return minutes.encode(pages, statistics).map(Some);
        }
        let longest = properties.column_dictionary_page_size_limit(path);
        let texts = Numbered::of_texts(parts, statistics, longest);
        return texts.map(|texts| texts.encode(pages, statistics)).transpose();
    }
    match properties.encoding(path) {
        Some(encoding @ Encoding::DELTA_BYTE_ARRAY) => {
            let Some(runs) = pages_of_runs(parts) else { return Ok(None) };
            let bloom_filter = properties.bloom_filter_properties(path);
            encode_runs(&runs, pages(encoding), statistics, bloom_filter).map(Some)
        }
        _ => match Piece::of(parts, descriptor, properties)? {
            Some(piece) => piece.close(statistics).map(Some),
            None => Ok(None),
        },
    }
}

/// Whether pages of a column can be made of their own rows alone, and so before all rows of the
/// row group are there: those of numbers and of bytes.
pub(super) fn comes_in_pieces(descriptor: &ColumnDescPtr, properties: &WriterProperties) -> bool {
    let path = descriptor.path();
    !properties.dictionary_enabled(path)
        && matches!(
            properties.encoding(path),
            Some(Encoding::DELTA_BINARY_PACKED | Encoding::PLAIN)
        )
}

/// Some rows of a column that [`comes_in_pieces`], as pages.
pub(super) struct Piece {
    pages: Written,
    /// Of each page; none of bytes, since nobody asks for them.
    bounds: Vec<Bounds<i64>>,
}

impl Piece {
    /// The rows of `parts`. `None` if they are no numbers that are all there, nor bytes of which
    /// every page is short enough.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn of(
        parts: &[&ArrayRef],
        descriptor: &ColumnDescPtr,
        properties: &WriterProperties,
    ) -> Result<Option<Piece>, ParquetError> {
        let path = descriptor.path();
        let encoding = properties.encoding(path);
        let pages = |encoding| Pages::new(descriptor, properties.compression(path), encoding);
        match encoding {
            Some(encoding @ Encoding::DELTA_BINARY_PACKED) => {
                let Some(values) = integers(parts) else { return Ok(None) };
                Piece::of_integers(&values, pages(encoding)).map(Some)
            }
            Some(encoding @ Encoding::PLAIN) => {
                assert_eq!(properties.statistics_enabled(path), EnabledStatistics::None);
                let longest = properties.column_data_page_size_limit(path);
                let Some(slices) = pages_of_bytes(parts, longest) else { return Ok(None) };
                Piece::of_bytes(&slices, pages(encoding)).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The rows of `next` stand behind these, which are whole pages.
    pub fn append(&mut self, next: Piece) {
        self.pages.append(next.pages);
        self.bounds.extend(next.bounds);
    }

    /// The column of a row group, of which this is all rows.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn close(self, statistics: EnabledStatistics) -> Result<Chunk, ParquetError> {
        self.pages.close(statistics, &self.bounds, None)
    }

    fn of_integers(values: &[i64], mut pages: Pages) -> Result<Piece, ParquetError> {
        let mut bounds = Vec::new();
        for values in values.chunks(PAGE_ROWS) {
            pages.page(values.len(), None, |page| packed::deltas(values, page))?;
            let range = values.iter().min().copied().zip(values.iter().max().copied());
            bounds.push(Bounds { range, nulls: 0 });
        }
        Ok(Piece { pages: pages.written()?, bounds })
    }

    fn of_bytes(
        pages_of_bytes: &[Vec<BinaryArray>],
        mut pages: Pages,
    ) -> Result<Piece, ParquetError> {
        let mut levels = Vec::new();
        for slices in pages_of_bytes {
            let nulls: usize = slices.iter().map(|slice| slice.null_count()).sum();
            levels.clear();
            for slice in slices.iter().filter(|_| nulls > 0) {
                levels.extend((0..slice.len()).map(|row| u32::from(slice.is_valid(row))));
            }
            let rows = slices.iter().map(|slice| slice.len()).sum();
            pages.page(rows, (nulls > 0).then_some(&levels), |page| {
                slices.iter().for_each(|slice| push_bytes(slice, page));
            })?;
        }
        Ok(Piece { pages: pages.written()?, bounds: Vec::new() })
    }
}

/// The values of a column of integers or times that are all there.
fn integers<'a>(parts: &[&'a ArrayRef]) -> Option<Cow<'a, [i64]>> {
    let values = parts.iter().map(|part| {
        let times = || Some(&part.as_primitive_opt::<TimestampMicrosecondType>()?.values()[..]);
        let values = part.as_primitive_opt::<Int64Type>().map(|part| &part.values()[..]);
        values.or_else(times).filter(|_| part.null_count() == 0)
    });
    let values: Vec<&[i64]> = values.collect::<Option<_>>()?;
    Some(match values[..] {
        [values] => Cow::Borrowed(values),
        _ => Cow::Owned(values.concat()),
    })
}

/// Microseconds between minutes.
const MINUTE_US: u64 = time::MINUTE_US as u64;

/// So many minutes are worth a look at each: a file has those of a day.
const MINUTES_MAX: u64 = 1 << 16;

/// Stands for an absent value among places.
const ABSENT: u32 = u32::MAX;

/// A column by number of one dictionary.
struct Numbered<B> {
    /// The values that occur, in their order, so that a place bounds as its value does.
    values: Vec<B>,
    /// The place of each row's value, or [`ABSENT`].
    places: Vec<u32>,
}

impl Numbered<i64> {
    /// Times that are whole minutes from one another and all there. `None` of others, and of such
    /// that lie more than [`MINUTES_MAX`] apart.
    fn of_minutes(parts: &[&ArrayRef]) -> Option<Numbered<i64>> {
        let times = integers(parts)?;
        let first = *times.iter().min()?;
        let minutes = times.iter().max()?.abs_diff(first) / MINUTE_US + 1;
        if minutes > MINUTES_MAX {
            return None;
        }
        let mut rest = 0;
        let minute = |time: &i64| {
            let since = time.abs_diff(first);
            rest |= since % MINUTE_US;
            (since / MINUTE_US) as u32
        };
        let mut places: Vec<u32> = times.iter().map(minute).collect();
        if rest != 0 {
            return None;
        }
        let mut stands = vec![false; minutes as usize];
        places.iter().for_each(|minute| stands[*minute as usize] = true);
        let (mut values, mut of_minute) = (Vec::new(), Vec::with_capacity(stands.len()));
        for (minute, stands) in (0..).zip(stands) {
            if stands {
                values.push(first.wrapping_add_unsigned(minute * MINUTE_US));
            }
            // The first one stands, so that there is a value from there on.
            of_minute.push(values.len() as u32 - 1);
        }
        places.iter_mut().for_each(|place| *place = of_minute[*place as usize]);
        Some(Numbered { values, places })
    }
}

impl<'a> Numbered<&'a str> {
    /// `None` if there is more than one dictionary or one longer than `longest`, or if a text is
    /// too long to be a bound.
    fn of_texts(
        parts: &[&'a ArrayRef],
        statistics: EnabledStatistics,
        longest: usize,
    ) -> Option<Numbered<&'a str>> {
        let numbers = parts.iter().map(|part| part.as_dictionary_opt::<UInt32Type>());
        let numbers: Vec<_> = numbers.collect::<Option<_>>()?;
        let dictionary = numbers.first()?.values();
        if !numbers.iter().all(|part| Arc::ptr_eq(part.values(), dictionary)) {
            return None;
        }
        let dictionary = texts_of(dictionary)?;
        let mut stands = vec![false; dictionary.len()];
        for keys in numbers.iter().map(|part| part.keys()) {
            match (keys.null_count(), &mut stands[..]) {
                // Few columns are neither there nor absent as a whole, and some have one text.
                (0, [stands]) => *stands |= !keys.is_empty(),
                (0, stands) => {
                    keys.values().iter().for_each(|number| stands[*number as usize] = true);
                }
                (nulls, _) if nulls == keys.len() => {}
                (_, stands) => {
                    keys.iter().flatten().for_each(|number| stands[number as usize] = true);
                }
            }
        }
        let standing = (0..dictionary.len()).filter(|number| stands[*number]);
        let texts = standing.map(|number| (dictionary.value(number), number));
        let mut texts: Vec<(&str, usize)> = texts.collect();
        texts.sort_unstable();
        let mut of_number = vec![ABSENT; dictionary.len()];
        for (place, (_, number)) in (0..).zip(&texts) {
            of_number[*number] = place;
        }
        let mut places = Vec::with_capacity(numbers.iter().map(|part| part.len()).sum());
        for keys in numbers.iter().map(|part| part.keys()) {
            let place = |number: u32| of_number[number as usize];
            match (keys.null_count(), &of_number[..]) {
                (0, [place]) => places.extend(repeat_n(*place, keys.len())),
                (0, _) => places.extend(keys.values().iter().map(|number| place(*number))),
                (nulls, _) if nulls == keys.len() => places.extend(repeat_n(ABSENT, nulls)),
                _ => places.extend(keys.iter().map(|number| number.map_or(ABSENT, place))),
            }
        }
        let values: Vec<&str> = texts.into_iter().map(|(text, _)| text).collect();
        let bounded =
            statistics == EnabledStatistics::None || values.iter().all(|text| is_bound(text));
        let bytes = values.iter().map(|text| text.len() + size_of::<u32>()).sum::<usize>();
        (bounded && bytes <= longest).then_some(Numbered { values, places })
    }
}

impl<B: Bound> Numbered<B> {
    fn encode(
        &self,
        mut pages: Pages,
        statistics: EnabledStatistics,
    ) -> Result<Chunk, ParquetError> {
        pages.dictionary(&self.values)?;
        let width = packed::width(self.values.len().saturating_sub(1) as u64);
        let mut bounds = Vec::new();
        let (mut levels, mut some) = (Vec::new(), Vec::new());
        for places in self.places.chunks(PAGE_ROWS) {
            let nulls = places.iter().filter(|place| **place == ABSENT).count();
            let mut there = places;
            if nulls > 0 {
                levels.clear();
                levels.extend(places.iter().map(|place| u32::from(*place != ABSENT)));
                some.clear();
                some.extend(places.iter().copied().filter(|place| *place != ABSENT));
                there = &some;
            }
            pages.page(places.len(), (nulls > 0).then_some(&levels[..]), |page| {
                page.push(width as u8);
                packed::runs(there, width, page);
            })?;
            if statistics != EnabledStatistics::None {
                let value = |place: Option<&u32>| place.map(|place| self.values[*place as usize]);
                let range = value(there.iter().min()).zip(value(there.iter().max()));
                bounds.push(Bounds { range, nulls });
            }
        }
        pages.written()?.close(statistics, &bounds, None)
    }
}

/// Rows of one page that follow each other and have one text.
struct Run<'a> {
    text: &'a str,
    rows: usize,
}

/// The pages of a text column by number in which rows of one text follow each other. `None` if a
/// text is absent, or too long to be a bound.
fn pages_of_runs<'a>(parts: &[&'a ArrayRef]) -> Option<Vec<Vec<Run<'a>>>> {
    let mut pages: Vec<Vec<Run>> = Vec::new();
    let mut room = 0;
    for part in parts {
        let part = part.as_dictionary_opt::<UInt32Type>().filter(|part| part.null_count() == 0)?;
        let texts = texts_of(part.values())?;
        for same in part.keys().values().chunk_by(|a, b| a == b) {
            let text = texts.value(same[0] as usize);
            if !is_bound(text) {
                return None;
            }
            let mut left = same.len();
            while left > 0 {
                if room == 0 {
                    pages.push(Vec::new());
                    room = PAGE_ROWS;
                }
                let rows = left.min(room);
                pages.last_mut().expect("one was pushed").push(Run { text, rows });
                left -= rows;
                room -= rows;
            }
        }
    }
    Some(pages)
}

fn encode_runs(
    pages_of_runs: &[Vec<Run>],
    mut pages: Pages,
    statistics: EnabledStatistics,
    bloom_filter: Option<&BloomFilterProperties>,
) -> Result<Chunk, ParquetError> {
    let mut bounds = Vec::new();
    let (mut shared, mut own, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for runs in pages_of_runs {
        shared.clear();
        own.clear();
        ends.clear();
        let mut last = "";
        for Run { text, rows } in runs {
            let same = last.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
            shared.push(same as i64);
            own.push((text.len() - same) as i64);
            ends.extend_from_slice(&text.as_bytes()[same..]);
            // The others share all of it.
            shared.extend(repeat_n(text.len() as i64, rows - 1));
            own.extend(repeat_n(0, rows - 1));
            last = text;
        }
        pages.page(shared.len(), None, |page| {
            packed::deltas(&shared, page);
            packed::deltas(&own, page);
            page.extend_from_slice(&ends);
        })?;
        let texts = || runs.iter().map(|run| run.text);
        bounds.push(Bounds { range: texts().min().zip(texts().max()), nulls: 0 });
    }
    let filter = |properties: &BloomFilterProperties| {
        let texts = || pages_of_runs.iter().flatten().map(|run| run.text);
        let mut filter = Sbbf::new_with_ndv_fpp(texts().count() as u64, properties.fpp())?;
        texts().for_each(|text| filter.insert(text));
        Ok::<_, ParquetError>(filter)
    };
    pages.written()?.close(statistics, &bounds, bloom_filter.map(filter).transpose()?)
}

/// The pages of a column of bytes. `None` if one would be longer than `longest`.
fn pages_of_bytes(parts: &[&ArrayRef], longest: usize) -> Option<Vec<Vec<BinaryArray>>> {
    let mut pages: Vec<Vec<BinaryArray>> = Vec::new();
    let (mut room, mut length) = (0, 0);
    for part in parts {
        let part = part.as_binary_opt::<i32>()?;
        let mut from = 0;
        while from < part.len() {
            if room == 0 {
                pages.push(Vec::new());
                (room, length) = (PAGE_ROWS, 0);
            }
            let slice = part.slice(from, room.min(part.len() - from));
            from += slice.len();
            room -= slice.len();
            let ends = slice.value_offsets();
            length += (ends[slice.len()] - ends[0]) as usize + slice.len() * size_of::<u32>();
            if length > longest {
                return None;
            }
            pages.last_mut().expect("one was pushed").push(slice);
        }
    }
    Some(pages)
}

/// Appends the values of a column of bytes, as PLAIN has them.
fn push_bytes(slice: &BinaryArray, page: &mut Vec<u8>) {
    /// Most histograms are shorter: so many bytes are copied without asking how many.
    const SHORT: usize = 64;
    let (bytes, ends) = (slice.value_data(), slice.value_offsets());
    page.reserve(slice.len() * size_of::<u32>() + (ends[slice.len()] - ends[0]) as usize + SHORT);
    for row in (0..slice.len()).filter(|row| slice.is_valid(*row)) {
        let (from, to) = (ends[row] as usize, ends[row + 1] as usize);
        page.extend_from_slice(&((to - from) as u32).to_le_bytes());
        match bytes[from..].first_chunk::<SHORT>() {
            Some(more) if to - from <= SHORT => {
                let end = page.len() + to - from;
                page.extend_from_slice(more);
                page.truncate(end);
            }
            _ => page.extend_from_slice(&bytes[from..to]),
        }
    }
}

/// The texts of a dictionary that lacks none.
fn texts_of(values: &ArrayRef) -> Option<&StringArray> {
    values.as_string_opt().filter(|texts: &&StringArray| texts.null_count() == 0)
}

/// Whether a text is short enough to be a bound as it is.
fn is_bound(text: &str) -> bool {
    DEFAULT_COLUMN_INDEX_TRUNCATE_LENGTH.is_none_or(|most| text.len() <= most)
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        DictionaryArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array,
    };
    use arrow::compute::{cast, concat_batches};
    use arrow::datatypes::{DataType, Field};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::{
        ArrowReaderOptions, ParquetRecordBatchReaderBuilder as Reader,
    };
    use parquet::arrow::arrow_writer::ArrowWriterOptions;
    use parquet::basic::BoundaryOrder;
    use parquet::file::metadata::PageIndexPolicy;
    use parquet::file::page_index::column_index::ColumnIndexMetaData;

    use super::super::{Encoder, bounds_of, properties, writer_of};
    use super::*;
    use crate::synth::random::Random;
    use crate::table::schema::{Grain, timestamp};

    /// Texts of which one is empty, one not ASCII, and one, if wanted, too long to be a bound.
    fn texts(random: &mut Random, long: bool) -> ArrayRef {
        let text = |n: u64| match n {
            0 => String::new(),
            1 => "größer".to_owned(),
            2 if long => "x".repeat(65),
            _ => format!("{}", n * 7 % 1_000),
        };
        Arc::new(StringArray::from_iter_values((0..1 + random.below(300)).map(text)))
    }

    /// A column of random values, all of them, some or none there, each for some rows or one.
    fn column(random: &mut Random, field: &Field, rows: usize, texts: &ArrayRef) -> ArrayRef {
        let (absent, run) = (random.below(3), 1 + random.below(40));
        let mask = u64::MAX.checked_shr(random.below(65) as u32).unwrap_or(0);
        let mut value = random.bits();
        let values: Vec<u64> = (0..rows)
            .map(|_| {
                if random.below(run) == 0 {
                    value = random.bits();
                }
                value & mask
            })
            .collect();
        let there: Vec<bool> =
            (0..rows).map(|_| absent == 0 || absent == 1 && random.below(3) > 0).collect();
        let some = || values.iter().zip(&there).map(|(value, there)| there.then_some(*value));
        let number = |value: u64| (value % texts.len() as u64) as u32;
        match (field.data_type(), field.name().as_str()) {
            (DataType::Utf8, "customer") => {
                let numbers = UInt32Array::from_iter_values(values.iter().copied().map(number));
                Arc::new(DictionaryArray::new(numbers, Arc::clone(texts)))
            }
            (DataType::Utf8, _) => {
                let numbers = some().map(|value| value.map(number)).collect();
                Arc::new(DictionaryArray::<UInt32Type>::new(numbers, Arc::clone(texts)))
            }
            (DataType::Int64, "slow") => {
                Arc::new(some().map(|value| Some(value? as i64)).collect::<Int64Array>())
            }
            (DataType::Int64, _) => {
                Arc::new(Int64Array::from_iter_values(values.iter().map(|value| *value as i64)))
            }
            (DataType::Timestamp(..), _) => {
                // Minutes of up to some days, and other times.
                let minutes = random.below(4) > 0;
                let time = |value: u64| match minutes {
                    true => ((value >> 30) % 5_000 * MINUTE_US + 7) as i64,
                    false => value as i64,
                };
                let times = values.iter().copied().map(time);
                let times = TimestampMicrosecondArray::from_iter_values(times);
                Arc::new(times.with_data_type(timestamp()))
            }
            _ => {
                let bytes = |value: u64| value.to_le_bytes().repeat((value % 20) as usize);
                Arc::new(some().map(|value| value.map(bytes)).collect::<BinaryArray>())
            }
        }
    }

    fn parts(random: &mut Random, grain: Grain, texts: &ArrayRef) -> Vec<RecordBatch> {
        let part = |random: &mut Random| {
            let rows = [0, 1, 4_095, 4_096, 4_097, 9_000][random.below(6) as usize];
            let schema = grain.schema();
            let columns = schema.fields().iter();
            RecordBatch::try_from_iter_with_nullable(
                columns.map(|field| (field.name(), column(random, field, rows, texts), true)),
            )
        };
        (0..1 + random.below(4)).map(|_| part(random).unwrap()).collect()
    }

    /// A file as the library writes it, of texts that are no numbers.
    fn library(grain: Grain, parts: &[RecordBatch]) -> Vec<u8> {
        let schema = grain.schema();
        let options = ArrowWriterOptions::new()
            .with_skip_arrow_metadata(true)
            .with_properties(properties(&schema, 100_000, None));
        let mut writer =
            ArrowWriter::try_new_with_options(Vec::new(), Arc::clone(&schema), options).unwrap();
        for part in parts {
            let columns = part.columns().iter().zip(schema.fields());
            let columns = columns.map(|(column, field)| cast(column, field.data_type()).unwrap());
            writer
                .write(&RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap())
                .unwrap();
        }
        writer.into_inner().unwrap()
    }

    fn open(bytes: &Bytes) -> Reader<Bytes> {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        Reader::try_new_with_options(bytes.clone(), options).unwrap()
    }

    fn read(bytes: &Bytes) -> RecordBatch {
        let file = open(bytes);
        let schema = Arc::clone(file.schema());
        let rows: Vec<RecordBatch> = file.build().unwrap().map(Result::unwrap).collect();
        concat_batches(&schema, &rows).unwrap()
    }

    /// A bound as bytes in its order.
    type Ordered = Option<Vec<u8>>;

    fn of_time(value: i64) -> Vec<u8> {
        (value as u64 ^ (1 << 63)).to_be_bytes().to_vec()
    }

    /// What an index says of each page.
    fn found(index: &ColumnIndexMetaData, pages: usize) -> Vec<(Ordered, Ordered)> {
        let of_page = |at| match index {
            ColumnIndexMetaData::INT64(index) => {
                [index.min_value(at), index.max_value(at)].map(|time| Some(of_time(*time?)))
            }
            ColumnIndexMetaData::BYTE_ARRAY(index) => {
                [index.min_value(at), index.max_value(at)].map(|text| Some(text?.to_vec()))
            }
            other => panic!("{other:?} is no index of texts or times"),
        };
        (0..pages).map(|at| of_page(at).into()).collect()
    }

    /// The same, from the rows.
    fn counted(pages: &[ArrayRef]) -> Vec<(Ordered, Ordered)> {
        let ordered = |bound: ArrayRef| match bound.as_string_opt::<i32>() {
            _ if bound.is_null(0) => None,
            Some(text) => Some(text.value(0).as_bytes().to_vec()),
            None => Some(of_time(bound.as_primitive::<TimestampMicrosecondType>().value(0))),
        };
        let of_page = |page| {
            let (least, greatest) = bounds_of(&[page]);
            (ordered(least), ordered(greatest))
        };
        pages.iter().map(of_page).collect()
    }

    fn check_index(index: &ColumnIndexMetaData, pages: &[ArrayRef], what: &str) {
        let bounds = counted(pages);
        assert_eq!(found(index, pages.len()), bounds, "{what}");
        let nulls: Vec<i64> = pages.iter().map(|page| page.null_count() as i64).collect();
        assert_eq!(index.null_counts(), Some(&nulls), "{what}");
        for (at, bounds) in bounds.iter().enumerate() {
            assert_eq!(index.is_null_page(at), bounds.0.is_none(), "{what}");
        }
        let known: Vec<_> = bounds.into_iter().filter(|page| page.0.is_some()).collect();
        let rises = known.windows(2).all(|two| two[0].0 <= two[1].0 && two[0].1 <= two[1].1);
        let falls = known.windows(2).all(|two| two[0].0 >= two[1].0 && two[0].1 >= two[1].1);
        let order = match (rises, falls) {
            (true, _) => BoundaryOrder::ASCENDING,
            (_, true) => BoundaryOrder::DESCENDING,
            _ => BoundaryOrder::UNORDERED,
        };
        assert_eq!(index.get_boundary_order(), Some(order), "{what}");
    }

    #[test]
    fn a_file_of_ours_reads_as_one_of_the_librarys() {
        for seed in 0..60 {
            let mut random = Random::new(seed, 0);
            let grains = [Grain::Series, Grain::Sli, Grain::Dimension, Grain::Failure];
            let grain = grains[random.below(4) as usize];
            let long = seed % 4 == 0;
            let texts = texts(&mut random, long);
            let parts = parts(&mut random, grain, &texts);
            let mut encoder = Encoder::new(grain, 100_000, false).unwrap();
            encoder.push(&parts).unwrap();
            let ours = Bytes::from(encoder.finish().unwrap().bytes);
            let theirs = Bytes::from(library(grain, &parts));
            let rows = read(&ours);
            assert_eq!(rows, read(&theirs), "seed {seed}");
            if rows.num_rows() == 0 {
                continue;
            }
            let files = [open(&ours), open(&theirs)];
            for (at, column) in rows.columns().iter().enumerate() {
                let what = format!("seed {seed}, {} {}", grain.name(), rows.schema().field(at));
                let [a, b] = files.each_ref().map(|file| file.metadata().row_group(0).column(at));
                assert_eq!(a.statistics(), b.statistics(), "{what}");
                assert_eq!(a.compression(), b.compression(), "{what}");
                assert_eq!(a.num_values(), b.num_values(), "{what}");
                assert_eq!(a.encodings_mask(), b.encodings_mask(), "{what}");
                assert_eq!(a.page_encoding_stats_mask(), b.page_encoding_stats_mask(), "{what}");
                let places = files[0].metadata().offset_index().unwrap()[0][at].page_locations();
                let starts = places.iter().map(|page| page.first_row_index as usize);
                let ends = starts.clone().skip(1).chain([column.len()]);
                let pages: Vec<ArrayRef> =
                    starts.zip(ends).map(|(from, to)| column.slice(from, to - from)).collect();
                let [index, other] =
                    files.each_ref().map(|file| &file.metadata().column_index().unwrap()[0][at]);
                let has_index = |index| !matches!(index, &ColumnIndexMetaData::NONE);
                assert_eq!(has_index(index), has_index(other), "{what}");
                // A bound that is cut is none of ours.
                if has_index(index) && !long {
                    check_index(index, &pages, &what);
                }
                let filters =
                    files.each_ref().map(|file| file.get_row_group_column_bloom_filter(0, at));
                let [ours, theirs] = filters.map(Result::unwrap);
                assert_eq!(ours.is_some(), theirs.is_some(), "{what}");
                let Some(filter) = ours else { continue };
                column
                    .as_string::<i32>()
                    .iter()
                    .flatten()
                    .for_each(|name| assert!(filter.check(name)));
                let wrong = (0..1_000).filter(|n| filter.check(&*format!("nobody {n}"))).count();
                assert!(wrong < 50, "{what}: {wrong} of 1,000 are not there");
            }
        }
    }

    #[test]
    fn what_a_commit_writes_is_ours() {
        let mut random = Random::new(7, 0);
        let texts = texts(&mut random, false);
        let schema = Grain::Series.schema();
        let file = writer_of(&schema, 100_000, None).unwrap();
        for (at, field) in schema.fields().iter().enumerate() {
            let rows = 5_000;
            let column: ArrayRef = match field.name().as_str() {
                "slow" => Arc::new(Int64Array::from(vec![1; rows])),
                "minute" => {
                    let minutes = (0..rows as i64).map(|row| row % 1_440 * MINUTE_US as i64);
                    Arc::new(TimestampMicrosecondArray::from_iter_values(minutes))
                }
                _ => column(&mut random, field, rows, &texts),
            };
            let chunk = encode(&[&column], &file.schema_descr().column(at), file.properties());
            assert!(chunk.unwrap().is_some(), "{}", field.name());
        }
        // Bytes are ours only where a page of them is short enough.
        let latency = file.schema_descr().num_columns() - 3;
        let bytes =
            |length| -> ArrayRef { Arc::new(BinaryArray::from(vec![&*vec![0; length]; 2])) };
        for (length, is_ours) in [(500_000, true), (600_000, false)] {
            let descriptor = file.schema_descr().column(latency);
            let chunk = encode(&[&bytes(length)], &descriptor, file.properties());
            assert_eq!(chunk.unwrap().is_some(), is_ours, "{} of {length}", descriptor.name());
        }
    }
}
