//! Opening: whose folder it is, what its segments hold, what of it is damaged.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use serde::{Deserialize, Serialize};

use super::append::{self, Queue};
use super::frame::{Piece, Salt, scan};
use super::keys::{self, Keys, Known};
use super::{Damage, Figures, Options, Segment, Shared, State, Wal, WalError};
use crate::failpoint;

/// Says what a folder is; it is there once the folder is whole.
pub(super) const ABOUT: &str = "about.json";

/// The version of the format that this code reads and writes.
const VERSION: u32 = 1;

/// What segments end with.
const SEGMENT: &str = "wal";

/// What the second names of damaged segments end with.
pub const KEPT: &str = "damaged";

/// What a log is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What comes by HTTP: one log for all processes that follow each other.
    Http,
    /// One stream of standard input.
    Stdin,
}

/// What `about.json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The random id, the name of its folder.
    pub id: String,
    /// What it is for.
    pub kind: Kind,
    /// The name of the format of its records.
    pub format: String,
    /// What its frames are sealed with.
    pub salt: Salt,
}

/// [`About`] as it is written.
#[derive(Serialize, Deserialize)]
struct AboutFile {
    version: u32,
    id: String,
    kind: Kind,
    format: String,
    /// Hexadecimal: JSON has no whole numbers of 64 bits.
    salt: String,
}

/// A folder of a log, locked for this process.
pub struct Folder {
    path: PathBuf,
    about: About,
    file: File,
}

impl Folder {
    /// Makes a folder in `root`, with a new id.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn create(root: &Path, kind: Kind, format: &str) -> Result<Folder, WalError> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (salt, _) = uuid::Uuid::new_v4().as_u64_pair();
        let about = About { id: id.clone(), kind, format: format.to_owned(), salt: Salt(salt) };
        let path = root.join(&id);
        std::fs::create_dir_all(&path).map_err(WalError::io("make", &path))?;
        let file = write_about(&path, &about).map_err(WalError::io("write", &path.join(ABOUT)))?;
        sync_folder(&path)?;
        sync_folder(root)?;
        Ok(Folder { path, about, file })
    }

    /// The folders in `root` that no process holds, by their ids; from here on this one does.
    ///
    /// # Errors
    /// A folder cannot be read, or is of a later version.
    pub fn unlocked(root: &Path) -> Result<Vec<Folder>, WalError> {
        let fail = WalError::io("list", root);
        let entries = match std::fs::read_dir(root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fail(error)),
        };
        let mut folders = Vec::new();
        for entry in entries {
            folders.extend(Folder::lock(entry.map_err(&fail)?.path())?);
        }
        folders.sort_by(|a: &Folder, b| a.about.id.cmp(&b.about.id));
        Ok(folders)
    }

    /// Takes one folder; `None` where it is none, or another process has it.
    fn lock(path: PathBuf) -> Result<Option<Folder>, WalError> {
        let about_path = path.join(ABOUT);
        let mut file = match File::open(&about_path) {
            Ok(file) => file,
            // None of ours, or one whose making did not end: nothing can stand in it.
            Err(error) if is_no_folder(&error) => return Ok(None),
            Err(error) => return Err(WalError::io("open", &about_path)(error)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(WalError::io("lock", &about_path)(error));
            }
        }
        // Who had it may have removed it meanwhile.
        if !about_path.exists() {
            return Ok(None);
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(WalError::io("read", &about_path))?;
        let about =
            parse_about(&text).map_err(|what| WalError::About { path: about_path, what })?;
        Ok(Some(Folder { path, about, file }))
    }

    /// What it is for.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The name of its partition.
    pub fn partition(&self) -> String {
        format!("wal/{}", self.about.id)
    }
}

fn is_no_folder(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Writes `about.json`, whole or not at all; the file is locked before it has its name.
fn write_about(folder: &Path, about: &About) -> io::Result<File> {
    let text = serde_json::to_string(&AboutFile {
        version: VERSION,
        id: about.id.clone(),
        kind: about.kind,
        format: about.format.clone(),
        salt: format!("{:016x}", about.salt.0),
    })?;
    let unnamed = folder.join("about.new");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&unnamed)?;
    file.lock()?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    failpoint::reach("wal.about");
    std::fs::rename(&unnamed, folder.join(ABOUT))?;
    Ok(file)
}

pub(super) fn parse_about(text: &str) -> Result<About, String> {
    let file: AboutFile = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if file.version != VERSION {
        return Err(format!("version {} is not {VERSION}", file.version));
    }
    let salt = u64::from_str_radix(&file.salt, 16).map_err(|error| format!("salt: {error}"))?;
    let AboutFile { id, kind, format, .. } = file;
    Ok(About { id, kind, format, salt: Salt(salt) })
}

fn sync_folder(path: &Path) -> Result<(), WalError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(WalError::io("sync", path))
}

/// The file name of a segment.
pub(super) fn segment_name(number: u64, first: u64) -> String {
    format!("{number:010}-{first:020}.{SEGMENT}")
}

/// Number and first offset of the name of a segment.
fn parse_name(path: &Path) -> Option<(u64, u64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(SEGMENT)?.strip_suffix('.')?;
    let (number, first) = name.split_once('-')?;
    Some((number.parse().ok()?, first.parse().ok()?))
}

/// The segments of a folder, in their order: number, first offset and path.
pub(super) fn segments(folder: &Path) -> Result<Vec<(u64, u64, PathBuf)>, WalError> {
    let fail = WalError::io("list", folder);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(&fail)? {
        let path = entry.map_err(&fail)?.path();
        found.extend(parse_name(&path).map(|(number, first)| (number, first, path)));
    }
    found.sort_unstable();
    Ok(found)
}

impl Wal {
    /// Opens a folder of which the table has counted everything before `committed`, and starts
    /// to take batches.
    ///
    /// # Errors
    /// A segment cannot be read, or set aside.
    pub fn open(folder: Folder, committed: u64, options: Options) -> Result<Wal, WalError> {
        Wal::open_on(append::RealDisk, folder, committed, options)
    }

    pub(super) fn open_on(
        disk: impl append::Disk + 'static,
        folder: Folder,
        committed: u64,
        options: Options,
    ) -> Result<Wal, WalError> {
        let Folder { path, about, file } = folder;
        let mut state = State {
            segments: VecDeque::new(),
            number: 0,
            next: committed,
            committed,
            written_bytes: 0,
            marks: VecDeque::new(),
            committed_bytes: 0,
            queue: Queue::default(),
            received: VecDeque::new(),
            keys: Keys::new(options.keys_max),
            damages: Vec::new(),
            known_damages: Vec::new(),
            figures: Figures::default(),
            closed: false,
        };
        let found = segments(&path)?;
        if let Some((_, first, _)) = found.first()
            && *first > committed
        {
            let records = committed..*first;
            state.note_damage(Damage::Missing { path: path.clone(), records });
        }
        for (index, (number, first, segment_path)) in found.iter().enumerate() {
            let limit = found.get(index + 1).map(|(_, first, _)| *first);
            let bytes = std::fs::read(segment_path).map_err(WalError::io("read", segment_path))?;
            Opening { state: &mut state, path: segment_path, limit }
                .take(*first, scan(&bytes, about.salt))?;
            state.number = number + 1;
        }
        state.next = state.segments.back().map_or(committed, |last| last.next.max(committed));
        state.commit(committed);
        let shared = Arc::new(Shared {
            folder: path,
            _about: file,
            about,
            options,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let writer = Some(append::start(&shared, disk));
        Ok(Wal { shared, writer })
    }
}

/// One segment as it is read again.
struct Opening<'a> {
    state: &'a mut State,
    path: &'a Path,
    /// First offset of the next segment: what this one holds from there on is void.
    limit: Option<u64>,
}

impl Opening<'_> {
    fn take<'f>(
        &mut self,
        first: u64,
        pieces: impl Iterator<Item = Piece<'f>>,
    ) -> Result<(), WalError> {
        let mut segment = Segment {
            path: self.path.to_owned(),
            first,
            next: first,
            size_bytes: 0,
            time_ms: i64::MIN,
            keyed: false,
        };
        let mut broken: Option<Range<usize>> = None;
        let mut is_torn = false;
        for piece in pieces {
            let (at, frame) = match piece {
                Piece::Frame(_, frame) if self.limit.is_some_and(|limit| frame.first >= limit) => {
                    // A write that was not acknowledged, and what stands behind it.
                    (broken, is_torn) = (None, false);
                    break;
                }
                Piece::Frame(at, frame) => (at, frame),
                Piece::Damaged(range) => {
                    broken = Some(range);
                    continue;
                }
                Piece::Torn(range) => {
                    (broken, is_torn) = (Some(range), true);
                    continue;
                }
            };
            self.note_lost(broken.take(), segment.next..frame.first)?;
            segment.next = segment.next.max(frame.next());
            segment.size_bytes = (at + frame.size_bytes) as u64;
            segment.time_ms = segment.time_ms.max(frame.time_ms);
            if !frame.key.is_empty() {
                segment.keyed = true;
                let known = Known { count: frame.count(), digest: frame.digest() };
                self.state.keys.insert(frame.time_ms, keys::hash(frame.key), known);
            }
            self.state.written_bytes += frame.size_bytes as u64;
            self.state.mark(segment.next);
        }
        match (self.limit, broken) {
            (Some(limit), broken) if segment.next < limit => {
                self.note_lost(broken, segment.next..limit)?;
            }
            (Some(_), _) | (None, None) => {}
            (None, Some(range)) if is_torn => {
                let (path, bytes) = (self.path.to_owned(), wide(range));
                self.state.note_damage(Damage::Torn { path, bytes });
            }
            (None, Some(range)) => self.note_lost(Some(range), 0..0)?,
        }
        self.state.segments.push_back(segment);
        Ok(())
    }

    /// Reports bytes that are no frame, and offsets that no frame has.
    fn note_lost(
        &mut self,
        broken: Option<Range<usize>>,
        records: Range<u64>,
    ) -> Result<(), WalError> {
        // What the table has counted is not lost.
        let records = records.start.max(self.state.committed).min(records.end)..records.end;
        match broken {
            Some(bytes) => {
                let damage = set_aside(self.path, wide(bytes), records)?;
                self.state.note_damage(damage);
            }
            None if !records.is_empty() => {
                let path = self.path.to_owned();
                self.state.note_damage(Damage::Missing { path, records });
            }
            None => {}
        }
        Ok(())
    }
}

fn wide(range: Range<usize>) -> Range<u64> {
    range.start as u64..range.end as u64
}

impl State {
    /// Adds a report, once.
    pub(super) fn note_damage(&mut self, damage: Damage) {
        if !self.known_damages.contains(&damage) {
            self.known_damages.push(damage.clone());
            self.damages.push(damage);
            self.figures.damages += 1;
        }
    }
}

/// Gives a damaged segment a second name, which nobody removes, and says so. That takes no
/// room, so that it works on a full disk.
pub(super) fn set_aside(
    path: &Path,
    bytes: Range<u64>,
    records: Range<u64>,
) -> Result<Damage, WalError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kept = format!("{name}.{}-{}.{KEPT}", bytes.start, bytes.end);
    failpoint::reach("wal.set_aside");
    match std::fs::hard_link(path, path.with_file_name(&kept)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(WalError::io("set aside", path)(error))
        }
        _ => Ok(Damage::Bytes { path: path.to_owned(), bytes, records, kept }),
    }
}
