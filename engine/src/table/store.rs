//! Files that survive a power cut: a local object store that syncs what it writes.
//!
//! `object_store`'s own local store neither syncs files nor directories. A log entry that was
//! lost in the page cache is a replay, which is harmless; a *data file* lost under an entry that
//! was not is missing rows. So each put here is: write `name#digits` beside the target, sync
//! it, link (create) or rename (overwrite) it into place, sync the directory. A directory made
//! on the way is synced into its parent. The staging name is the one that the local store hides
//! from listings, so a torn one is never seen.
//!
//! Large files go past the page cache where the file system lets them: they would be copied there
//! page by page, and a virtual machine may have to get each of those pages from its host.
//!
//! Creation is by hard link, which fails where the name exists: the one primitive that commits
//! are built on.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UploadPart,
};
use uuid::Uuid;

use super::error::TableError;
use crate::failpoint;

/// The local disk, with every put synced.
#[derive(Debug, Default)]
pub struct SyncedDisk {
    disk: LocalFileSystem,
}

impl SyncedDisk {
    /// The whole disk: paths are absolute ones without their first `/`.
    pub fn new() -> SyncedDisk {
        SyncedDisk { disk: LocalFileSystem::new() }
    }
}

impl fmt::Display for SyncedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("synced disk")
    }
}

#[async_trait]
impl ObjectStore for SyncedDisk {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let path = self.disk.path_to_filesystem(location)?;
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return Err(not_done("conditional update")),
        };
        on_blocking_thread(move || put(&path, &payload, create)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.disk.path_to_filesystem(location)?;
        Ok(Box::new(Upload { path, parts: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.disk.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.disk.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.disk.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.disk.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.disk.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.disk.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(not_done("copy"))
    }
}

/// A put in parts, kept in memory and written at the end; log checkpoints are written so.
#[derive(Debug)]
struct Upload {
    path: PathBuf,
    parts: Vec<PutPayload>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data);
        Box::pin(std::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let parts = std::mem::take(&mut self.parts);
        let payload: PutPayload = parts.iter().flat_map(PutPayload::iter).cloned().collect();
        let path = self.path.clone();
        on_blocking_thread(move || put(&path, &payload, false)).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|source| generic(Arc::new(source)))?
}

fn put(path: &FsPath, payload: &PutPayload, create: bool) -> Result<PutResult> {
    let outcome = put_synced(path, payload, create);
    outcome.map(|()| PutResult { e_tag: None, version: None }).map_err(|source| {
        let named = path.display().to_string();
        match source.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::AlreadyExists { path: named, source: Box::new(source) }
            }
            // Who creates a file names its size, see `CommitError::write`.
            _ if create => Error::Generic { store: "synced disk", source: Box::new(source) },
            _ => {
                let source = Box::new(sized(source, path, payload));
                Error::Generic { store: "synced disk", source }
            }
        }
    })
}

/// An error of a put whose caller does not know how many bytes it takes, with them.
fn sized(error: io::Error, path: &FsPath, payload: &PutPayload) -> io::Error {
    let Some(free) = path.parent().and_then(free_bytes) else { return error };
    let needed = payload.content_length();
    io::Error::new(error.kind(), format!("{error} ({needed} bytes needed, {free} free)"))
}

fn put_synced(path: &FsPath, payload: &PutPayload, create: bool) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    create_directory_synced(directory)?;
    let mut staged = path.as_os_str().to_owned();
    staged.push(format!("#{}", Uuid::new_v4().as_u128()));
    let staged = PathBuf::from(staged);
    let placed = write_synced(&staged, payload).and_then(|()| {
        failpoint::reach("put.staged");
        if create { fs::hard_link(&staged, path) } else { fs::rename(&staged, path) }
    });
    failpoint::reach("put.linked");
    // After a rename the name is gone already; after a failure it is only litter.
    let _ = fs::remove_file(&staged);
    placed?;
    sync_directory(directory)
}

fn write_synced(path: &FsPath, payload: &PutPayload) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if payload.content_length() >= DIRECT_BYTES_MIN {
        match write_direct(path, payload) {
            // Not every file system can. The file may have been made all the same.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let _ = fs::remove_file(path);
            }
            done => return done,
        }
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    payload.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

/// From here on a file is written past the page cache. What is smaller, as most entries of the
/// log are, is soon read again.
#[cfg(target_os = "linux")]
const DIRECT_BYTES_MIN: usize = 256 * 1024;

/// What is written past the page cache has to begin and end with a block, on the disk and in
/// memory. No disk has larger ones.
#[cfg(target_os = "linux")]
const BLOCK_BYTES: usize = 4_096;

/// How much of it is written at once.
#[cfg(target_os = "linux")]
const DIRECT_ROOM_BYTES: usize = 1024 * 1024;

#[cfg(target_os = "linux")]
fn write_direct(path: &FsPath, payload: &PutPayload) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = OpenOptions::new();
    options.write(true).create_new(true).custom_flags(libc::O_DIRECT);
    let mut file = options.open(path)?;
    let mut room = vec![0; DIRECT_ROOM_BYTES + BLOCK_BYTES];
    let start = room.as_ptr().align_offset(BLOCK_BYTES);
    let room = &mut room[start..start + DIRECT_ROOM_BYTES];
    let mut filled = 0;
    for mut part in payload.iter().map(Bytes::as_ref) {
        while !part.is_empty() {
            let (now, later) = part.split_at(part.len().min(room.len() - filled));
            room[filled..filled + now.len()].copy_from_slice(now);
            (filled, part) = (filled + now.len(), later);
            if filled == room.len() {
                file.write_all(room)?;
                filled = 0;
            }
        }
    }
    file.write_all(&room[..filled.next_multiple_of(BLOCK_BYTES)])?;
    // What fills up the last block is no part of the file.
    file.set_len(payload.content_length() as u64)?;
    file.sync_all()
}

/// Makes `directory` and what is missing above it, each synced into its parent.
pub(crate) fn create_directory_synced(directory: &FsPath) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_directory_synced(parent)?;
    }
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_directory(parent.unwrap_or(FsPath::new(".")))
}

fn sync_directory(directory: &FsPath) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Proves on the spot that `directory` creates a file only where none is, and that it can sync;
/// returns the disk's idea of now, in epoch milliseconds.
pub(crate) fn probe(directory: &FsPath) -> std::result::Result<i64, TableError> {
    create_directory_synced(directory)
        .map_err(|source| TableError::io("create", directory, source))?;
    let name = format!("_probe-{}", Uuid::new_v4().simple());
    let (first, second) = (directory.join(&name), directory.join(format!("{name}-linked")));
    let found = probe_links(directory, (&first, &second), |old, new| fs::hard_link(old, new));
    let _ = fs::remove_file(&first);
    let _ = fs::remove_file(&second);
    found
}

fn probe_links(
    directory: &FsPath,
    (first, second): (&FsPath, &FsPath),
    link: impl Fn(&FsPath, &FsPath) -> io::Result<()>,
) -> std::result::Result<i64, TableError> {
    let refused = |found: String| TableError::NoCreateIfAbsent { path: directory.into(), found };
    write_synced(first, &PutPayload::from_static(b"probe"))
        .map_err(|source| TableError::io("write and sync", first, source))?;
    link(first, second).map_err(|error| refused(format!("link failed: {error}")))?;
    match link(first, second) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(refused(format!("a second link failed with: {error}"))),
        Ok(()) => return Err(refused("a second link replaced the first".to_owned())),
    }
    sync_directory(directory).map_err(|source| TableError::io("sync", directory, source))?;
    modified_ms(first).map_err(|source| TableError::io("read the time of", first, source))
}

/// Bytes that are free to us on the file system of `path`, as far as it says.
pub(crate) fn free_bytes(path: &FsPath) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// When the file was last written, in epoch milliseconds by the disk's clock.
pub(crate) fn modified_ms(path: &FsPath) -> io::Result<i64> {
    let modified = fs::metadata(path)?.modified()?;
    let since_epoch = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

fn generic(source: Arc<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Generic { store: "synced disk", source: Box::new(source) }
}

fn not_done(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "synced disk".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_refuses_a_name_that_exists_and_overwrite_replaces_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        put(&path, &PutPayload::from_static(b"one"), true).unwrap();
        let again = put(&path, &PutPayload::from_static(b"two"), true);
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        put(&path, &PutPayload::from_static(b"two"), false).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no staging left");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_has_the_bytes_of_its_parts_whatever_their_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let mib = DIRECT_ROOM_BYTES;
        let sizes: [&[usize]; 8] = [
            &[],
            &[0],
            &[DIRECT_BYTES_MIN - 1],
            &[DIRECT_BYTES_MIN],
            &[DIRECT_BYTES_MIN + 1],
            &[mib],
            &[mib - 1, 2],
            &[5, 3 * mib, BLOCK_BYTES, 0, 7],
        ];
        for (number, sizes) in sizes.into_iter().enumerate() {
            let bytes = |size: &usize| (0..*size).map(|at| (at * 31 % 251) as u8).collect();
            let parts: Vec<Vec<u8>> = sizes.iter().map(bytes).collect();
            let payload: PutPayload = parts.iter().cloned().map(Bytes::from).collect();
            let path = dir.path().join(number.to_string());
            put(&path, &payload, true).unwrap();
            assert!(fs::read(&path).unwrap() == parts.concat(), "{sizes:?}");
        }
    }

    #[test]
    fn a_file_system_without_safe_links_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |link: fn(&FsPath, &FsPath) -> io::Result<()>| {
            let names = [dir.path().join("first"), dir.path().join("second")];
            let found = probe_links(dir.path(), (&names[0], &names[1]), link).unwrap_err();
            names.iter().for_each(|name| drop(fs::remove_file(name)));
            let text = found.to_string();
            assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
            text
        };
        let none = refused(|_, _| Err(io::ErrorKind::Unsupported.into()));
        assert!(none.contains("link failed"), "{none}");
        let blind = refused(|old, new| fs::copy(old, new).map(drop));
        assert!(blind.contains("a second link replaced the first"), "{blind}");
    }

    #[test]
    fn the_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        assert!(probe(&dir.path().join("new")).unwrap() > 0);
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 0);
    }
}
