//! A copy of memory beside the table, so that a start need not fold all of it: a cache, never
//! needed for truth, to be deleted at any time.
//!
//! It stands in a folder of files, one for each part of the state ([`PARTS`]), each written at a
//! commit boundary of its own: it is the fold of the table at *its* version. So the loop is held
//! up by one part at a time, and memory by the bytes of that part. A start reads the parts and
//! folds into each what the log has added since its version; from there on it follows the log as
//! ever. The page on the format is `docs/format/snapshot.md`.
//!
//! Invariants: what is restored equals the fold of the table at the version that is open. Any
//! doubt refuses the whole: a file that is missing, torn or flipped, of another table, of a
//! version that is not (any more) in the log or stands there for another entry, with other SLIs
//! or corrections, with less of the past than is asked for, or more than there is memory for.
//! Then the table is folded, which needs nothing of this.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::fold::{Need, fold_rows};
use super::{Pipeline, PipelineError};
use crate::failpoint;
use crate::slo::exclusion::Exclusion;
use crate::state::block::SHARDS;
use crate::state::shard::{NOBODY, Shard};
use crate::state::snapshot::{FLEET, PARTS, Restoring, hash_probe, read_fleet, read_shard};
use crate::state::{HISTOGRAM_MINUTES, State};
use crate::table::{Added, Entry, Filter, RETENTION, TableError};
use crate::time::{DAY_MINUTES, Minute};

/// What a file begins with.
const MAGIC: &[u8; 8] = b"9FOLDSNP";

/// The version of the format; another one is refused.
const FORMAT: u32 = 2;

/// The longest header that is believed.
const HEADER_BYTES_MAX: u32 = 1 << 26;

/// So much is written between two syncs: a disk that takes hundreds of megabytes at once makes
/// the commits beside it wait.
const PIECE_BYTES: usize = 8 << 20;

/// Why a snapshot is not used, for people.
type Doubt = String;

/// What a file says of its part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    format: u32,
    part: usize,
    /// The identity of the table.
    table: String,
    /// The version of which it is the fold.
    version: u64,
    /// SHA-256 of the entry there, in hexadecimal digits.
    entry: String,
    /// The seed of the hash that sends customers to shards.
    seed: u64,
    /// What that hash gives of a known text.
    probe: u64,
    /// The further SLIs, in their order.
    further: Vec<String>,
    /// SHA-256 of who is in which pool.
    pools: String,
    /// The services of the pools, in no order.
    pool_services: Vec<String>,
    /// SHA-256 of the corrections that were applied.
    corrections: String,
    /// The first minute that it holds everything of; 0 = of the whole table.
    from: u32,
    newest: Option<u32>,
    round: u32,
    /// What its part takes in memory.
    bytes: u64,
    /// The services of its series, with their numbers.
    services: Vec<(u32, String)>,
    /// Partitions by number.
    partitions: Vec<String>,
}

/// Where snapshots are kept, and what became of the one that was found.
#[derive(Default)]
pub(super) struct Snapshots {
    dir: Option<PathBuf>,
    restored: Restored,
}

/// Where the memory of a pipeline is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Restored {
    /// From the table alone: there was no snapshot.
    #[default]
    Nothing,
    /// From a snapshot and what the log has added since.
    From {
        /// The version of each part.
        versions: Vec<u64>,
        /// How many entries of the log came after the oldest part.
        entries: usize,
    },
    /// From the table alone, since the snapshot was not to be trusted: why.
    Refused(String),
}

/// A part of memory as bytes, on its way to the disk.
pub struct Image {
    /// Which part.
    pub part: usize,
    /// The version of which it is the fold.
    pub version: u64,
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Image {
    /// How many bytes it takes in memory, and in its file.
    pub fn bytes(&self) -> usize {
        self.header.len() + self.body.len()
    }

    /// Writes it into the folder, in the place of the one before; makes the folder where there
    /// is none. Under its name there is the old or the new one, whole, whenever the process ends.
    ///
    /// # Errors
    /// The disk refuses; then the old one may still be there.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let temporary = dir.join(format!("{:02}.tmp", self.part));
        let mut file = File::create(&temporary)?;
        let mut checksum = crc32fast::Hasher::new();
        let length = (self.header.len() as u32).to_le_bytes();
        for bytes in [MAGIC.as_slice(), &length, &self.header, &self.body] {
            for piece in bytes.chunks(PIECE_BYTES) {
                checksum.update(piece);
                file.write_all(piece)?;
                if piece.len() == PIECE_BYTES {
                    file.sync_data()?;
                }
            }
        }
        failpoint::reach("snapshot.write");
        file.write_all(&checksum.finalize().to_le_bytes())?;
        file.sync_all()?;
        failpoint::reach("snapshot.written");
        fs::rename(&temporary, path_of(dir, self.part))?;
        failpoint::reach("snapshot.renamed");
        Ok(())
    }
}

impl Pipeline {
    /// Keeps snapshots in a folder: [`Pipeline::recover`] uses what it finds there.
    pub fn keep_snapshots(&mut self, dir: PathBuf) {
        self.snapshots.dir = Some(dir);
    }

    /// Where memory is from, as of the last [`Pipeline::recover`].
    pub fn restored(&self) -> &Restored {
        &self.snapshots.restored
    }

    /// A part of memory, below [`PARTS`], for [`Image::write`]; `None` where memory is not the
    /// fold of the table at the version that is open: something is not committed, or not
    /// followed to.
    ///
    /// # Errors
    /// The entry of that version cannot be read.
    pub fn image(&self, part: usize) -> Result<Option<Image>, PipelineError> {
        let is_table = self.is_complete() && self.is_followed() && self.state.is_live();
        if !is_table || self.state.pending() > 0 || self.state.is_overloaded() {
            return Ok(None);
        }
        let version = self.table.version();
        let Some(entry) = self.table.entry_sha256(version)? else { return Ok(None) };
        let (body, services) = self.state.part(part);
        let header = Header {
            format: FORMAT,
            part,
            table: self.table.id().to_owned(),
            version,
            entry: hex(&entry),
            seed: self.state.seed(),
            probe: hash_probe(self.state.seed()),
            further: self.further_names(),
            pools: digest(&self.options.pools.described()),
            pool_services: self
                .state
                .pool_series()
                .iter()
                .map(|one| one.service.to_string())
                .collect(),
            corrections: digest_of(&self.options.slis.corrections),
            from: self.memory_from().0,
            newest: self.state.newest().map(|newest| newest.0),
            round: self.state.round(),
            bytes: self.state.part_bytes(part) as u64,
            services,
            partitions: self.partitions.iter().map(|one| one.name.clone()).collect(),
        };
        let header = serde_json::to_vec(&header).expect("a header is plain data");
        Ok(Some(Image { part, version, header, body }))
    }

    fn further_names(&self) -> Vec<String> {
        self.options.slis.further.iter().map(|sli| sli.name.clone()).collect()
    }

    /// Puts a snapshot into memory, with what the table has added since; returns that. `None`,
    /// and memory as it was, where there is none to be trusted.
    pub(super) fn restore(&mut self, minutes: &RangeInclusive<Minute>) -> Option<Added> {
        let dir = self.snapshots.dir.clone().filter(|dir| dir.is_dir() && self.state.is_live());
        let Some(dir) = dir else {
            self.snapshots.restored = Restored::Nothing;
            return None;
        };
        let (restored, added) = match self.restore_from(&dir, minutes) {
            Ok((versions, entries)) => {
                let added = Added::of_all(entries.iter().map(|entry| &entry.files));
                (Restored::From { versions, entries: entries.len() }, Some(added))
            }
            Err(doubt) => (Restored::Refused(doubt), None),
        };
        self.snapshots.restored = restored;
        added
    }

    fn restore_from(
        &mut self,
        dir: &Path,
        minutes: &RangeInclusive<Minute>,
    ) -> Result<(Vec<u64>, Vec<Entry>), Doubt> {
        let headers = (0..PARTS).map(|part| Header::read(&path_of(dir, part)));
        let headers = headers.collect::<Result<Vec<Header>, Doubt>>()?;
        for (part, header) in headers.iter().enumerate() {
            let doubt = self.doubt(header, part, headers[0].seed, minutes)?;
            doubt.map_or(Ok(()), |doubt| Err(format!("{}: {doubt}", name_of(part))))?;
        }
        let bytes: u64 = headers.iter().map(|header| header.bytes).sum();
        if bytes > self.series_bound() as u64 {
            return Err(format!("{bytes} bytes are more than there is memory for"));
        }
        // Days that have left the table have left memory with the next start.
        let retained = self.table.offset(RETENTION).map_err(told)?.unwrap_or(0);
        let retained = Minute(u32::try_from(retained).unwrap_or(0).saturating_mul(DAY_MINUTES));
        let from = retained.max(*minutes.start());
        let mut state = self.parts(dir, &headers, from)?;
        let versions: Vec<u64> = headers.iter().map(|header| header.version).collect();
        let oldest = versions.iter().copied().min().unwrap_or(0);
        let entries = self.table.entries_after(oldest).map_err(told)?;
        let entries = entries
            .ok_or_else(|| format!("the log has not all entries after {oldest} any more"))?;
        self.add_entries(&mut state, &entries, &versions, from..=*minutes.end()).map_err(told)?;
        if state.is_overloaded() {
            return Err("its sums do not fit 63 bits".to_owned());
        }
        self.state = state;
        Ok((versions, entries))
    }

    /// What speaks against a part, by its header; an error where the table cannot be asked.
    fn doubt(
        &self,
        header: &Header,
        part: usize,
        seed: u64,
        minutes: &RangeInclusive<Minute>,
    ) -> Result<Option<Doubt>, Doubt> {
        let Header { format, version, .. } = *header;
        let newest = self.table.version();
        let entry = || self.table.entry_sha256(version).map_err(told);
        Ok(Some(if format != FORMAT {
            format!("it is of format {format}, and this program reads {FORMAT}")
        } else if header.table != self.table.id() {
            "it is of another table".to_owned()
        } else if header.part != part {
            format!("it holds part {}", header.part)
        } else if header.seed != seed || header.probe != hash_probe(seed) {
            "its customers are spread otherwise than those of the first part".to_owned()
        } else if header.further != self.further_names() {
            "it is of other SLIs".to_owned()
        } else if header.pools != digest(&self.options.pools.described()) {
            "its customers are in other pools".to_owned()
        } else if header.corrections != digest_of(&self.options.slis.corrections) {
            "the table was corrected since".to_owned()
        } else if header.from > minutes.start().0 || minutes.end().0 < u32::MAX {
            "it holds other minutes than are asked for".to_owned()
        } else if version > newest {
            format!("it is of version {version}, and the table is at {newest}")
        } else if entry()?.is_none_or(|entry| hex(&entry) != header.entry) {
            format!("the log has another entry, or none any more, at its version {version}")
        } else {
            return Ok(None);
        }))
    }

    /// Reads all parts into a state.
    fn parts(&mut self, dir: &Path, headers: &[Header], from: Minute) -> Result<State, Doubt> {
        let (seed, options) = (headers[0].seed, &self.options);
        let further = options.slis.further.len();
        let pools = &Arc::clone(&options.pools);
        let empty = State::new(options.dimension_values_max, further, true, seed);
        let mut state = empty.pooled(Arc::clone(pools));
        // Numbers are given out before the parts are read, all at once.
        let mut tables = Vec::with_capacity(PARTS);
        for header in headers {
            let number = |(old, name): &(u32, String)| {
                (*old, (state.dimensions.values.intern(name), Arc::from(name.as_str())))
            };
            let services: HashMap<u32, (u32, Arc<str>)> =
                header.services.iter().map(number).collect();
            let partitions = header.partitions.iter();
            let partitions: Vec<u16> =
                partitions.map(|name| self.number_for(name).unwrap_or(NOBODY)).collect();
            tables.push((services, partitions));
        }
        let shard = |part: usize| {
            let (services, partitions) = &tables[part];
            let with = Restoring { seed, further, from, services, partitions, pools };
            let read = |body: &[u8]| read_shard(part, body, &with);
            read_part(&path_of(dir, part), &headers[part], read)
        };
        let shards = (0..SHARDS).into_par_iter().map(shard);
        let shards = shards.collect::<Result<Vec<Shard>, Doubt>>()?;
        for service in &headers[FLEET].pool_services {
            state.dimensions.values.intern(service);
        }
        let number = |service: &str| state.dimensions.values.find(service);
        let fleet = |body: &[u8]| read_fleet(body, from, (pools, further), &number);
        let fleet = read_part(&path_of(dir, FLEET), &headers[FLEET], fleet)?;
        let newest = headers.iter().filter_map(|header| header.newest).max().map(Minute);
        let round = headers.iter().map(|header| header.round).max().unwrap_or(0);
        state.restore(shards, fleet, newest.filter(|newest| *newest >= from), round);
        Ok(state)
    }

    /// Folds entries of the log into the parts that are older than they.
    fn add_entries(
        &self,
        state: &mut State,
        entries: &[Entry],
        versions: &[u64],
        minutes: RangeInclusive<Minute>,
    ) -> Result<(), TableError> {
        let slis = &self.options.slis;
        let same_parts = |a: &Entry, b: &Entry| {
            versions.iter().all(|version| (*version < a.version) == (*version < b.version))
        };
        for entries in entries.chunk_by(same_parts) {
            let is_older = |part: usize| versions[part] < entries[0].version;
            let newest = state.newest().unwrap_or_default();
            let histograms = newest.minus(HISTOGRAM_MINUTES)..=Minute(u32::MAX);
            let (minutes, histograms) = (minutes.clone(), Some(histograms));
            let need = Need { customer: None, minutes, histograms };
            let added = Added::of_all(entries.iter().map(|entry| &entry.files));
            let filter = Filter { added: Some(added), ..Filter::of_minutes(need.minutes.clone()) };
            fold_rows(&self.table, slis, (&filter, &need), state, &is_older)?;
        }
        Ok(())
    }
}

impl Header {
    /// Reads the header of a file alone. It is believed once its part was read.
    fn read(path: &Path) -> Result<Header, Doubt> {
        let mut file = File::open(path).map_err(|error| named(path, &error))?;
        let mut front = [0; 12];
        file.read_exact(&mut front).map_err(|error| named(path, &error))?;
        let length = header_length(&front).ok_or_else(|| named(path, &"no snapshot"))?;
        let mut text = vec![0; length];
        file.read_exact(&mut text).map_err(|error| named(path, &error))?;
        serde_json::from_slice(&text).map_err(|error| named(path, &error))
    }
}

/// The length of the header by what a file begins with.
fn header_length(front: &[u8]) -> Option<usize> {
    let length: &[u8; 4] = front.strip_prefix(MAGIC)?.first_chunk()?;
    let length = u32::from_le_bytes(*length);
    (length <= HEADER_BYTES_MAX).then_some(length as usize)
}

/// Reads a part whose header was read before.
fn read_part<T>(
    path: &Path,
    header: &Header,
    read: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<T, Doubt> {
    let bytes = fs::read(path).map_err(|error| named(path, &error))?;
    let Some((bytes, checksum)) = bytes.split_last_chunk() else {
        return Err(named(path, &"it is torn"));
    };
    if crc32fast::hash(bytes) != u32::from_le_bytes(*checksum) {
        return Err(named(path, &"its checksum does not match"));
    }
    let parts = header_length(bytes).and_then(|length| bytes[12..].split_at_checked(length));
    let same = |text: &[u8]| serde_json::from_slice::<Header>(text).is_ok_and(|one| one == *header);
    let body = parts.filter(|(text, _)| same(text)).map(|(_, body)| body);
    body.and_then(read).ok_or_else(|| named(path, &"it does not hold together"))
}

fn path_of(dir: &Path, part: usize) -> PathBuf {
    dir.join(name_of(part))
}

fn name_of(part: usize) -> String {
    format!("{part:02}.part")
}

fn named(path: &Path, what: &dyn std::fmt::Display) -> Doubt {
    format!("{}: {what}", path.display())
}

fn told(error: TableError) -> Doubt {
    error.to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names corrections, in whatever order they were read.
fn digest_of(corrections: &[Exclusion]) -> String {
    let mut texts: Vec<String> = corrections.iter().map(|one| format!("{one:?}")).collect();
    texts.sort_unstable();
    digest(&texts.join("\n"))
}

fn digest(text: &str) -> String {
    hex(&Sha256::digest(text))
}
