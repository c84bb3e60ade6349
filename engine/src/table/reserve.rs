//! Room kept for the moment when the disk is full: a log entry is small, and with it everything
//! that was counted is safe.
//!
//! The reserve is a file of real blocks beside the log, `_reserve`, which readers of the table
//! pass over. It is given up for an entry alone, never for data files, and taken again after the
//! next commit that finds room.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

/// Its name, in the directory of the table.
const NAME: &str = "_reserve";

/// The reserve of one table.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
    /// Whether it was given up, or not taken yet.
    missing: bool,
}

impl Reserve {
    /// None, whatever stands there.
    pub fn none(dir: &Path) -> Reserve {
        Reserve { path: dir.join(NAME), bytes: 0, missing: false }
    }

    /// One of `bytes`, taken if there is room; 0 gives up what stands there.
    pub fn of(dir: &Path, bytes: u64) -> Reserve {
        let path = dir.join(NAME);
        if bytes == 0 {
            // It may not be there, which is as good.
            let _ = fs::remove_file(&path);
        }
        let mut reserve = Reserve { path, bytes, missing: bytes > 0 };
        reserve.restore();
        reserve
    }

    /// Gives it up; whether that has made room.
    pub fn free(&mut self) -> bool {
        let freed = self.bytes > 0 && fs::remove_file(&self.path).is_ok();
        self.missing |= freed;
        freed
    }

    /// Takes it again if it is missing and there is room.
    pub fn restore(&mut self) {
        if self.missing {
            self.missing = allocate(&self.path, self.bytes).is_err();
        }
    }
}

/// Makes a file of so many bytes that take room, or none.
fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let allocated =
        file.set_len(bytes).and_then(|()| Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?));
    if allocated.is_err() {
        // Half a reserve would only be in the way of others.
        let _ = fs::remove_file(path);
    }
    allocated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_takes_room_until_it_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let mut reserve = Reserve::of(dir.path(), 1 << 20);
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
        assert!(reserve.free() && !path.exists());
        assert!(!reserve.free(), "there is nothing left to give");
        reserve.restore();
        assert!(path.exists());
        Reserve::of(dir.path(), 0);
        assert!(!path.exists());
    }

    #[test]
    fn without_a_reserve_nothing_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::none(dir.path());
        reserve.restore();
        assert!(!reserve.free());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
