//! Partitions that may end the process: a note beside the table, `DIR/kafka-reading/`.
//!
//! The client library ends the process by an assertion where it fetches a batch whose checksum is
//! wrong, before it has said which. So every process notes what it fetches, in a file of its own
//! that it keeps locked, and takes the note away when it ends in order. A note without its lock
//! is of a process that was ended: its partitions are *suspects*, for whoever gets them next.
//!
//! Losing a note is harmless: the process is ended once more. So what fails here is told, and
//! stops nothing.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The note of this process, and those of others.
pub struct Suspects {
    folder: PathBuf,
    /// Ours; `None` where it cannot be written.
    own: Option<(PathBuf, File)>,
}

impl Suspects {
    /// Begins the note of this process, beside the table in `rollups`.
    pub fn start(rollups: &Path, instance: &str) -> Suspects {
        let folder = rollups.with_file_name("kafka-reading");
        let path = folder.join(instance);
        let made = fs::create_dir_all(&folder).and_then(|()| {
            let file = File::options().create(true).write(true).truncate(true).open(&path)?;
            file.try_lock()?;
            Ok(file)
        });
        let own = match made {
            Ok(file) => Some((path, file)),
            Err(error) => {
                eprintln!(
                    "ninefold: kafka: cannot note in {} what is read: {error}",
                    path.display()
                );
                None
            }
        };
        Suspects { folder, own }
    }

    /// Notes what is fetched from now on, by the names of the table.
    pub fn note(&mut self, names: &[String]) {
        let Some((path, file)) = &mut self.own else { return };
        if let Err(error) = rewrite(file, names) {
            eprintln!("ninefold: kafka: cannot write {}: {error}", path.display());
        }
    }

    /// What processes have fetched that did not end in order.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.for_each_left(|_, _, left| names.extend(left));
        names
    }

    /// Strikes a partition off the notes of others: it was looked at.
    pub fn strike(&self, name: &str) {
        self.for_each_left(|path, file, mut left| {
            left.retain(|one| one != name);
            // What cannot be struck out is looked at again.
            let _ = if left.is_empty() { fs::remove_file(path) } else { rewrite(file, &left) };
        });
    }

    /// The process ends in order; `kept` stays noted for the next one.
    pub fn end(&mut self, kept: &[String]) {
        self.note(kept);
        if let Some((path, file)) = self.own.take() {
            drop(file);
            if kept.is_empty() {
                // One that stays is empty, and says nothing.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Visits the notes whose process is gone.
    fn for_each_left(&self, mut visit: impl FnMut(&Path, &mut File, Vec<String>)) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(mut file) = File::options().read(true).write(true).open(&path) else { continue };
            if file.try_lock().is_err() {
                continue;
            }
            let mut text = String::new();
            let names = file.read_to_string(&mut text).map(|_| text.lines().map(str::to_owned));
            visit(&path, &mut file, names.map(Iterator::collect).unwrap_or_default());
        }
    }
}

/// Puts one name a line in the place of what a file holds.
fn rewrite(file: &mut File, names: &[String]) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(names.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_has_left_is_suspect_until_it_was_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let rollups = folder.path().join("rollups");
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut first = Suspects::start(&rollups, "first");
        first.note(&names(&["a", "b", "c"]));
        first.note(&names(&["a", "b"]));
        let mut second = Suspects::start(&rollups, "second");
        second.note(&names(&["c"]));
        assert_eq!(second.names(), names(&[]), "both live");
        drop(first);
        assert_eq!(second.names(), names(&["a", "b"]));
        second.strike("a");
        second.strike("c");
        assert_eq!(second.names(), names(&["b"]));
        second.strike("b");
        assert_eq!(second.names(), names(&[]));
        // In order, and with something that the next one has to look at.
        second.end(&names(&[]));
        let mut third = Suspects::start(&rollups, "third");
        third.note(&names(&["d", "e"]));
        assert_eq!(third.names(), names(&[]));
        third.end(&names(&["e"]));
        assert_eq!(Suspects::start(&rollups, "fourth").names(), names(&["e"]));
    }
}
