//! The verdict on what has just begun to serve: a thread of its own asks the table each ten
//! seconds, and the loop takes what it has found into the next commit.
//!
//! Only the judge asks. The thread has the table open a second time, so that nothing that it reads
//! or computes holds the loop up; of memory it asks only which verdicts are bad.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::{Duration, Instant};

use ninefold_engine::pipeline::Pipeline;
use ninefold_engine::query::young::{Look, Young};
use ninefold_engine::table::Table;
use ninefold_engine::time::Minute;

use super::clock_ms;
use super::reload::Current;
use crate::ask::{dimension_names, promise};
use crate::states::{lock, open_table, read};

/// The shortest time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How often it is looked whether a look is due, or the service has ended.
const WAIT: Duration = Duration::from_millis(500);

/// What the thread and the loop have in common; the thread ends with it.
#[derive(Default)]
pub(super) struct Verdicts(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether this instance asks.
    active: AtomicBool,
    /// What was found and not taken.
    found: Mutex<Option<Look>>,
    /// Why there is no verdict, or not on all.
    complaint: Mutex<Option<String>>,
}

impl Verdicts {
    /// Starts the thread.
    pub fn watch(&self, data: &Path, config: Current, pipeline: Arc<RwLock<Pipeline>>) {
        let asker = Asker {
            shared: Arc::downgrade(&self.0),
            data: data.to_owned(),
            config,
            pipeline,
            table: None,
            young: Young::default(),
        };
        std::thread::spawn(move || asker.run());
    }

    /// Whether this instance is to ask.
    pub fn set_active(&self, active: bool) {
        self.0.active.store(active, Ordering::Release);
    }

    /// What was found since it was asked last.
    pub fn take(&self) -> Option<Look> {
        lock(&self.0.found).take()
    }

    /// A line for the health, where something is not judged.
    pub fn note(&self) -> Option<String> {
        lock(&self.0.complaint).clone()
    }
}

struct Asker {
    shared: Weak<Shared>,
    data: PathBuf,
    config: Current,
    pipeline: Arc<RwLock<Pipeline>>,
    table: Option<Table>,
    young: Young,
}

impl Asker {
    fn run(mut self) {
        let mut looked: Option<(Instant, Option<u64>)> = None;
        loop {
            std::thread::sleep(WAIT);
            let Some(shared) = self.shared.upgrade() else { return };
            let is_due = looked.is_none_or(|(at, _)| at.elapsed() >= LOOK_INTERVAL);
            if !is_due || !shared.active.load(Ordering::Acquire) {
                continue;
            }
            let complaint = match self.look(looked.and_then(|(_, version)| version)) {
                Ok(None) => continue,
                Ok(Some((version, look))) => {
                    looked = Some((Instant::now(), Some(version)));
                    let over = Some(look.passed_over).filter(|over| *over > 0);
                    *lock(&shared.found) = Some(look);
                    over.map(|over| {
                        format!("{over} new releases or flags are not judged: there are too many")
                    })
                }
                Err(error) => {
                    (self.table, looked) = (None, Some((Instant::now(), None)));
                    Some(format!("no verdict on what is new: {error:#}"))
                }
            };
            *lock(&shared.complaint) = complaint;
        }
    }

    /// What the table says, and its version, unless that is the version that is known.
    fn look(&mut self, known: Option<u64>) -> anyhow::Result<Option<(u64, Look)>> {
        let table = match &mut self.table {
            Some(table) => table,
            none => none.insert(open_table(&self.data)?),
        };
        let version = table.refresh()?;
        if known == Some(version) {
            return Ok(None);
        }
        let bad = read(&self.pipeline).bad_verdicts();
        let (config, now) = (self.config.get(), Minute::of_ms(clock_ms()));
        let (promise, names) = (promise(&config), dimension_names(&config));
        let look = self.young.look(table, &promise, &names, &bad, now)?;
        Ok(Some((version, look)))
    }
}
