//! Footers of data files that were read before, with their page indexes: a question about one
//! customer reads a few pages of each file, and would spend most of its time on parsing these.
//!
//! Invariants: a data file never changes, so what is kept never goes stale; what is kept stays
//! below [`KEPT_BYTES_MAX`], the longest unused going first.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::PageIndexPolicy;

/// Bytes that the footers of a table may take.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Footers by the path of their file.
#[derive(Default)]
pub(crate) struct Footers(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_path: HashMap<Box<Path>, Footer>,
    bytes: usize,
    /// Counts the looks.
    now: u64,
}

struct Footer {
    metadata: ArrowReaderMetadata,
    bytes: usize,
    used: u64,
}

impl Footers {
    /// The footer of a file, read at first sight.
    ///
    /// # Errors
    /// It has none that can be read.
    pub fn of(&self, path: &Path, file: &File) -> Result<ArrowReaderMetadata, ParquetError> {
        if let Some(known) = self.find(path) {
            return Ok(known);
        }
        let metadata = read(file)?;
        self.keep(path, &metadata);
        Ok(metadata)
    }

    fn find(&self, path: &Path) -> Option<ArrowReaderMetadata> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.now += 1;
        let now = kept.now;
        let footer = kept.by_path.get_mut(path)?;
        footer.used = now;
        Some(footer.metadata.clone())
    }

    fn keep(&self, path: &Path, metadata: &ArrowReaderMetadata) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = metadata.metadata().memory_size();
        while kept.bytes + bytes > KEPT_BYTES_MAX {
            let oldest = kept.by_path.iter().min_by_key(|(_, footer)| footer.used);
            let Some(oldest) = oldest.map(|(path, _)| path.clone()) else { return };
            kept.remove(&oldest);
        }
        kept.remove(path);
        kept.bytes += bytes;
        let footer = Footer { metadata: metadata.clone(), bytes, used: kept.now };
        kept.by_path.insert(path.into(), footer);
    }
}

impl Kept {
    fn remove(&mut self, path: &Path) {
        if let Some(footer) = self.by_path.remove(path) {
            self.bytes -= footer.bytes;
        }
    }
}

/// Reads the footer of a file, and its page index where it has one.
///
/// # Errors
/// It has none that can be read.
pub(crate) fn read(file: &File) -> Result<ArrowReaderMetadata, ParquetError> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    ArrowReaderMetadata::load(file, options)
}
