//! A file that grows: reading on at its end, until it is rotated away.
//!
//! At the end of the file the reader waits; it ends when the path names another file or a
//! shorter one (the old one is read to its end first), or when it is told to stop. Device and
//! inode serve only to notice a rotation: who a file is, its content says.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often the end of a followed file is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Reads a plain file and waits at its end.
pub struct FollowReader {
    file: File,
    path: PathBuf,
    identity: (u64, u64),
    position: u64,
    ended: Box<dyn Fn() -> bool + Send>,
}

impl FollowReader {
    /// Reads on from `position` of the file that `path` names now, until `ended` says so.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(
        path: &Path,
        position: u64,
        ended: Box<dyn Fn() -> bool + Send>,
    ) -> io::Result<FollowReader> {
        use std::io::{Seek, SeekFrom};
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(position))?;
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(FollowReader { file, path: path.to_owned(), identity, position, ended })
    }

    /// Whether the path names another file, or this one was cut off before our position.
    fn rotated(&self) -> bool {
        match std::fs::metadata(&self.path) {
            Ok(now) => (now.dev(), now.ino()) != self.identity || now.len() < self.position,
            // Between two names of a rotation there may be none for a moment.
            Err(_) => false,
        }
    }
}

impl Read for FollowReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            let rotated = self.rotated();
            let count = self.file.read(bytes)?;
            self.position += count as u64;
            if count > 0 || rotated || (self.ended)() {
                return Ok(count);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_read_and_a_rotation_ends_the_old_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("access.log");
        std::fs::write(&path, "one\n").expect("writable");
        let mut reader = FollowReader::open(&path, 0, Box::new(|| false)).expect("readable");
        let mut bytes = [0; 64];
        assert_eq!(reader.read(&mut bytes).expect("readable"), 4);
        let old = folder.path().join("access.log.1");
        std::fs::rename(&path, &old).expect("renamed");
        std::fs::write(&old, "one\ntwo\n").expect("writable");
        std::fs::write(&path, "new\n").expect("writable");
        assert_eq!(reader.read(&mut bytes).expect("readable"), 4, "the old file to its end");
        assert_eq!(reader.read(&mut bytes).expect("readable"), 0, "then the rotation");
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("access.log");
        std::fs::write(&path, "").expect("writable");
        let mut reader = FollowReader::open(&path, 0, Box::new(|| true)).expect("readable");
        assert_eq!(reader.read(&mut [0; 8]).expect("readable"), 0);
    }
}
