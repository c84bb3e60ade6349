//! Where the counting of partitions goes on: what the table says, and what it says first.
//!
//! The table is read through a handle of its own, so that the loop's is not waited for. What the
//! loop is counting itself goes on where the loop stands.

use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use anyhow::{Context, anyhow};
use ninefold_engine::pipeline::Pipeline;
use ninefold_engine::source::kafka::{cluster_of, name};
use ninefold_engine::table::{CommitError, Epoch, Move, Table, TableError};

use super::group::Id;
use crate::kafka::newest_rows;
use crate::states::read;

/// What is known of a partition.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Where its counting goes on.
    pub offset: u64,
    /// The hash of the record before that, where the table has counted it.
    pub tail: Option<[u8; 32]>,
    /// The cluster from which it was counted.
    pub cluster: Option<String>,
}

/// The table's side of the source.
pub struct Places {
    data: PathBuf,
    table: Option<Table>,
    pipeline: Arc<RwLock<Pipeline>>,
}

impl Places {
    /// Those of the table that the pipeline writes to.
    pub fn new(data: PathBuf, pipeline: Arc<RwLock<Pipeline>>) -> Places {
        Places { data, table: None, pipeline }
    }

    /// What the table holds now.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn table(&mut self) -> Result<&mut Table, TableError> {
        let table = match self.table.take() {
            Some(mut table) => {
                table.refresh()?;
                table
            }
            None => Table::open_or_create(&self.data)?,
        };
        Ok(self.table.insert(table))
    }

    /// What is known of these partitions, in their order, and the version of the table that
    /// says so.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn known(&mut self, partitions: &[Id]) -> Result<(Vec<Known>, u64), TableError> {
        let pipeline = Arc::clone(&self.pipeline);
        let table = self.table()?;
        let mut counted = newest_rows(table)?;
        let mut known = Vec::with_capacity(partitions.len());
        for (topic, number) in partitions {
            let name = name(topic, *number);
            let offset = table.offset(&name)?.unwrap_or(0);
            let row = counted.remove(&name);
            let cluster = row.as_ref().and_then(|row| cluster_of(&row.label, topic, *number));
            let tail = row.as_ref().filter(|row| row.next == offset).and_then(|row| row.tail);
            let mut one = Known { offset, tail, cluster: cluster.map(str::to_owned) };
            let pipeline = read(&pipeline);
            if pipeline.number_of(&name).is_some()
                && let Ok(place) = pipeline.place_of(&name)
            {
                // What this process has counted itself needs no proof.
                (one.offset, one.tail) = (place, None);
            }
            known.push(one);
        }
        Ok((known, table.version()))
    }

    /// Whether the table has a position in any partition of a topic.
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn knows_topic(&mut self, topic: &str) -> Result<bool, TableError> {
        let prefix = format!("kafka/{topic}/");
        Ok(self.table()?.offsets().keys().any(|name| name.starts_with(&prefix)))
    }

    /// Writes where the counting of a new topic begins. False where somebody else was first.
    ///
    /// # Errors
    /// The table cannot be written.
    pub fn begin_topic(&mut self, topic: &str, places: &[(i32, u64)]) -> anyhow::Result<bool> {
        let moves = places.iter().map(|(number, offset)| Move {
            partition: name(topic, *number),
            base: None,
            next: *offset,
        });
        let info = format!("ninefold: topic {topic} begins");
        let epoch = Epoch { files: Vec::new(), moves: moves.collect(), info };
        match self.table()?.commit(epoch) {
            Ok(_) => Ok(true),
            Err(CommitError::Fenced { .. }) => Ok(false),
            Err(error) => Err(anyhow!(error)).with_context(|| format!("topic {topic}")),
        }
    }
}
