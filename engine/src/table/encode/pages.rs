//! One column of a row group as pages, and what the footer says of it.
//!
//! Invariants: the pages cover the rows one after the other, [`PAGE_ROWS`] of them each but the
//! last; a dictionary comes first; bounds are exact.

use std::cell::RefCell;
use std::io;

use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, EncodingMask, PageType};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{CompressedPage, Page, PageWriteSpec, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::EnabledStatistics;
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use super::packed;

/// Rows of a data page: a customer of one service has at most 1,440 minutes a day, so two pages
/// at most hold them.
pub(super) const PAGE_ROWS: usize = 4_096;

/// A whole column of a row group.
pub(super) struct Chunk {
    /// Its pages.
    pub bytes: Bytes,
    /// What the file's writer asks for beside them.
    pub close: ColumnCloseResult,
}

/// A value that a column can be bounded by.
pub(super) trait Bound: Copy + Ord {
    /// As an index of pages has it.
    fn bytes(self) -> Vec<u8>;

    /// Appends it as a dictionary has it.
    fn plain(self, page: &mut Vec<u8>);

    /// As the footer has it.
    fn statistics(bounds: Option<(Self, Self)>, nulls: u64) -> Statistics;
}

impl Bound for i64 {
    fn bytes(self) -> Vec<u8> {
        self.to_le_bytes().to_vec()
    }

    fn plain(self, page: &mut Vec<u8>) {
        page.extend_from_slice(&self.to_le_bytes());
    }

    fn statistics(bounds: Option<(i64, i64)>, nulls: u64) -> Statistics {
        let (least, greatest) = bounds.unzip();
        Statistics::int64(least, greatest, None, Some(nulls), false)
    }
}

impl Bound for &str {
    fn bytes(self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    fn plain(self, page: &mut Vec<u8>) {
        page.extend_from_slice(&(self.len() as u32).to_le_bytes());
        page.extend_from_slice(self.as_bytes());
    }

    fn statistics(bounds: Option<(Self, Self)>, nulls: u64) -> Statistics {
        let (least, greatest) =
            bounds.map(|(a, b)| (ByteArray::from(a), ByteArray::from(b))).unzip();
        Statistics::byte_array(least, greatest, None, Some(nulls), false)
    }
}

/// What is known of the values of a page.
pub(super) struct Bounds<B> {
    /// The least and the greatest value; `None` where all are absent.
    pub range: Option<(B, B)>,
    /// Absent values.
    pub nulls: usize,
}

/// A column in the making.
pub(super) struct Pages {
    descriptor: ColumnDescPtr,
    compression: Compression,
    encoding: Encoding,
    sink: TrackedWrite<Vec<u8>>,
    dictionary: Option<PageWriteSpec>,
    pages: Vec<PageWriteSpec>,
    /// What is put together of a page.
    page: Vec<u8>,
}

impl Pages {
    /// No page yet. The values of all pages will be in `encoding`.
    pub fn new(descriptor: &ColumnDescPtr, compression: Compression, encoding: Encoding) -> Pages {
        let sink = TrackedWrite::new(Vec::new());
        let (dictionary, pages, page) = (None, Vec::new(), Vec::new());
        let descriptor = ColumnDescPtr::clone(descriptor);
        Pages { descriptor, compression, encoding, sink, dictionary, pages, page }
    }

    /// The values, in their order, that those of all pages are places of.
    pub fn dictionary<B: Bound>(&mut self, values: &[B]) -> Result<(), ParquetError> {
        assert!(self.pages.is_empty(), "a dictionary comes first");
        self.page.clear();
        values.iter().for_each(|value| value.plain(&mut self.page));
        let num_values = values.len() as u32;
        let (encoding, is_sorted) = (Encoding::PLAIN, true);
        let page = |buf| Page::DictionaryPage { buf, num_values, encoding, is_sorted };
        self.dictionary = Some(self.write(page)?);
        Ok(())
    }

    /// A page of `rows` rows. `levels` says of each whether it has a value (1) or not (0), `None`
    /// that all have; `values` appends those that are there.
    pub fn page(
        &mut self,
        rows: usize,
        levels: Option<&[u32]>,
        values: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ParquetError> {
        const LENGTH: usize = size_of::<u32>();
        self.page.clear();
        self.page.extend([0; LENGTH]);
        match levels {
            Some(levels) => packed::runs(levels, 1, &mut self.page),
            None => packed::run(1, rows, 1, &mut self.page),
        }
        let length = (self.page.len() - LENGTH) as u32;
        self.page[..LENGTH].copy_from_slice(&length.to_le_bytes());
        values(&mut self.page);
        let encoding = self.encoding;
        let page = self.write(|buf| Page::DataPage {
            buf,
            num_values: rows as u32,
            encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })?;
        self.pages.push(page);
        Ok(())
    }

    fn write(&mut self, page: impl FnOnce(Bytes) -> Page) -> Result<PageWriteSpec, ParquetError> {
        let bytes = match self.compression {
            Compression::UNCOMPRESSED => Bytes::copy_from_slice(&self.page),
            Compression::ZSTD(level) => compressed(&self.page, level.compression_level())?.into(),
            other => unreachable!("{other} is no compression of ours"),
        };
        let page = CompressedPage::new(page(bytes), self.page.len());
        SerializedPageWriter::new(&mut self.sink).write_page(page)
    }

    /// The pages so far.
    pub fn written(self) -> Result<Written, ParquetError> {
        let Pages { descriptor, compression, encoding, sink, dictionary, pages, .. } = self;
        let bytes = sink.into_inner()?;
        Ok(Written { descriptor, compression, encoding, bytes, dictionary, pages })
    }
}

thread_local! {
    /// The compressor of this thread, and its level. It takes as long to make as a page to compress.
    static COMPRESSOR: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
}

fn compressed(page: &[u8], level: i32) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let (_, compressor) = match kept.take_if(|(of, _)| *of == level) {
            Some(same) => kept.insert(same),
            None => kept.insert((level, Compressor::new(level)?)),
        };
        compressor.compress(page)
    })
}

/// Pages as they stand in the file, and where.
pub(super) struct Written {
    descriptor: ColumnDescPtr,
    compression: Compression,
    encoding: Encoding,
    bytes: Vec<u8>,
    dictionary: Option<PageWriteSpec>,
    pages: Vec<PageWriteSpec>,
}

impl Written {
    /// Appends the pages of the rows behind these, of the same column.
    pub fn append(&mut self, next: Written) {
        assert!(next.dictionary.is_none(), "a column has one dictionary, before its first page");
        let start = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&next.bytes);
        let moved = |page: PageWriteSpec| PageWriteSpec { offset: page.offset + start, ..page };
        self.pages.extend(next.pages.into_iter().map(moved));
    }

    /// The whole column. `bounds` are those of each page, none where nobody asks for them.
    pub fn close<B: Bound>(
        self,
        statistics: EnabledStatistics,
        bounds: &[Bounds<B>],
        bloom_filter: Option<Sbbf>,
    ) -> Result<Chunk, ParquetError> {
        let bytes = Bytes::from(self.bytes);
        let rows = self.pages.iter().map(|page| u64::from(page.num_values)).sum();
        let all = || self.dictionary.iter().chain(&self.pages);
        let uncompressed = all().map(|page| page.uncompressed_size as i64).sum();
        let mut offsets = OffsetIndexBuilder::new();
        for page in &self.pages {
            offsets.append_row_count(i64::from(page.num_values));
            offsets.append_offset_and_size(page.offset as i64, page.compressed_size as i32);
        }
        let encodings = [self.encoding, Encoding::RLE];
        let encodings = encodings.iter().chain(self.dictionary.as_ref().map(|_| &Encoding::PLAIN));
        let count = |page_type, encoding, count| PageEncodingStats { page_type, encoding, count };
        let dictionary = self.dictionary.as_ref();
        let counts = dictionary.map(|_| count(PageType::DICTIONARY_PAGE, Encoding::PLAIN, 1));
        let data = count(PageType::DATA_PAGE, self.encoding, self.pages.len() as i32);
        let mut metadata = ColumnChunkMetaData::builder(ColumnDescPtr::clone(&self.descriptor))
            .set_compression(self.compression)
            .set_encodings_mask(EncodingMask::new_from_encodings(encodings))
            .set_page_encoding_stats(counts.into_iter().chain([data]).collect())
            .set_total_compressed_size(bytes.len() as i64)
            .set_total_uncompressed_size(uncompressed)
            .set_num_values(rows as i64)
            .set_data_page_offset(self.pages.first().map_or(0, |page| page.offset as i64))
            .set_dictionary_page_offset(dictionary.map(|page| page.offset as i64));
        if statistics != EnabledStatistics::None {
            metadata = metadata.set_statistics(chunk_statistics(bounds));
        }
        let column_index = match statistics {
            EnabledStatistics::Page => Some(column_index(&self.descriptor, bounds)?),
            _ => None,
        };
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: rows,
            metadata: metadata.build()?,
            bloom_filter,
            column_index,
            offset_index: Some(offsets.build()),
        };
        Ok(Chunk { bytes, close })
    }
}

/// What the footer says of a column whose pages have these bounds.
fn chunk_statistics<B: Bound>(bounds: &[Bounds<B>]) -> Statistics {
    let ranges = bounds.iter().filter_map(|page| page.range);
    let range = ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    B::statistics(range, bounds.iter().map(|page| page.nulls as u64).sum())
}

/// The index by which readers skip pages.
fn column_index<B: Bound>(
    descriptor: &ColumnDescPtr,
    bounds: &[Bounds<B>],
) -> Result<ColumnIndexMetaData, ParquetError> {
    let mut index = ColumnIndexBuilder::new(descriptor.physical_type());
    for page in bounds {
        let (least, greatest) = page.range.map(|(a, b)| (a.bytes(), b.bytes())).unwrap_or_default();
        index.append(page.range.is_none(), least, greatest, page.nulls as i64);
    }
    let ranges: Vec<(B, B)> = bounds.iter().filter_map(|page| page.range).collect();
    let always = |holds: fn(B, B) -> bool| {
        ranges.windows(2).all(|pair| holds(pair[0].0, pair[1].0) && holds(pair[0].1, pair[1].1))
    };
    index.set_boundary_order(if always(|a, b| a <= b) {
        BoundaryOrder::ASCENDING
    } else if always(|a, b| a >= b) {
        BoundaryOrder::DESCENDING
    } else {
        BoundaryOrder::UNORDERED
    });
    index.build()
}
