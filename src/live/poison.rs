//! The note that a panic leaves behind: `DIR/poison`, beside the table.
//!
//! It is JSON, one place after the other; see [`Poison`]. It is read at the start and whenever a
//! partition begins, since another instance may have left it, and a place is struck out once the
//! table stands behind it. Losing the note is harmless: the place panics once more.

use std::path::{Path, PathBuf};

use anyhow::Context;
use ninefold_engine::pipeline::Pipeline;
use ninefold_engine::pipeline::careful::Poison;

/// The note of one data folder.
pub(super) struct Note {
    path: PathBuf,
    places: Vec<Poison>,
}

impl Note {
    /// Reads the note beside the table in `rollups`.
    pub fn read(rollups: &Path) -> anyhow::Result<Note> {
        let path = rollups.with_file_name("poison");
        let mut note = Note { path, places: Vec::new() };
        note.reread()?;
        Ok(note)
    }

    /// Reads it again.
    pub fn reread(&mut self) -> anyhow::Result<()> {
        let named = || format!("the note {}; it may be removed", self.path.display());
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "[]".to_owned(),
            text => text.with_context(named)?,
        };
        self.places = serde_json::from_str(&text).with_context(named)?;
        Ok(())
    }

    /// The places that are to be taken record by record.
    pub fn places(&self) -> &[Poison] {
        &self.places
    }

    /// Adds places.
    pub fn add(&mut self, places: Vec<Poison>) -> anyhow::Result<()> {
        self.reread()?;
        self.places.extend(places);
        self.write()
    }

    /// Strikes out the places that the table stands behind.
    pub fn strike(&mut self, pipeline: &mut Pipeline) -> anyhow::Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let before = self.places.len();
        let offsets = pipeline.table().offsets();
        let behind = |one: &Poison| offsets.get(&one.partition).is_some_and(|at| *at >= one.next);
        self.places.retain(|one| !behind(one));
        if self.places.len() < before {
            self.write()?;
            pipeline.set_poison(self.places.clone());
        }
        Ok(())
    }

    /// Whole or not at all: under another name first.
    fn write(&self) -> anyhow::Result<()> {
        let named = || format!("cannot write {}", self.path.display());
        if self.places.is_empty() {
            return std::fs::remove_file(&self.path).with_context(named);
        }
        let staged = self.path.with_extension(std::process::id().to_string());
        let text = serde_json::to_string_pretty(&self.places).expect("places are plain data");
        std::fs::write(&staged, text).with_context(named)?;
        std::fs::rename(&staged, &self.path).with_context(named)
    }
}
