//! Upkeep of the table: beside the service, and as the commands `compact` and `vacuum`.
//!
//! Beside the service it is a thread with a table of its own that does one bounded step after
//! the other and rests at least as long as it worked. It may be killed at any instant, and it
//! never ends the service: what fails is told once and tried again a minute later.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ninefold_engine::table::upkeep::{Done, Upkeep, clean, retain, vacuum};
use ninefold_engine::table::{CommitError, Table};

use crate::live::clock_ms;
use crate::states::open_table;
use crate::{Place, batch};

/// How long it waits at the start, where nothing was due, and after a failure.
const REST: Duration = Duration::from_secs(60);

/// How long it waits between two steps at least.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a command is beaten by other writers before it gives up.
const ABANDONED_MAX: u32 = 100;

/// Keeps the table in `dir` in the background until `stop` is set.
pub fn beside(dir: PathBuf, stop: Arc<AtomicBool>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut upkeep, mut table, mut told) = (Upkeep::new(), None, String::new());
        let mut rest = REST;
        while !stopped_within(&stop, rest) {
            let began = Instant::now();
            match step(&dir, &mut table, &mut upkeep) {
                Ok(Done::Nothing) => rest = REST,
                Ok(done) => {
                    eprintln!("ninefold: upkeep: {done}");
                    rest = PAUSE.max(began.elapsed());
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != told {
                        eprintln!("ninefold: upkeep: {error}");
                        told = error;
                    }
                    rest = REST;
                }
            }
        }
    })
}

fn step(dir: &Path, table: &mut Option<Table>, upkeep: &mut Upkeep) -> Result<Done, CommitError> {
    if table.is_none() {
        *table = Table::open(dir)?;
    }
    table.as_mut().map_or(Ok(Done::Nothing), |table| upkeep.step(table, clock_ms()))
}

/// Whether it is to stop, waited for so long at most.
fn stopped_within(stop: &AtomicBool, rest: Duration) -> bool {
    let began = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let left = rest.saturating_sub(began.elapsed());
        if left.is_zero() {
            return false;
        }
        std::thread::park_timeout(left.min(PAUSE));
    }
    true
}

/// `ninefold compact`.
pub fn compact(place: &Place) -> anyhow::Result<ExitCode> {
    let mut table = open(place)?;
    let (mut upkeep, mut abandoned) = (Upkeep::eager(), 0);
    loop {
        table.refresh()?;
        match upkeep.compact(&mut table, clock_ms())? {
            Done::Nothing => break,
            Done::Abandoned if abandoned < ABANDONED_MAX => abandoned += 1,
            Done::Abandoned => anyhow::bail!("other writers compact this table; leave it to them"),
            done => println!("{done}"),
        }
    }
    tell_until_done(|| Ok(clean(&table)?))?;
    let files: usize = table.file_counts()?.values().sum();
    println!("the table has {files} files");
    Ok(ExitCode::SUCCESS)
}

/// `ninefold vacuum`.
pub fn vacuum_command(place: &Place, dry_run: bool, expired: bool) -> anyhow::Result<ExitCode> {
    let mut table = open(place)?;
    if expired && !dry_run {
        tell_until_done(|| {
            table.refresh()?;
            Ok(retain(&mut table, clock_ms())?)
        })?;
    }
    let (mut files, mut bytes) = (0, 0);
    loop {
        let vacuumed = vacuum(&mut table, clock_ms(), dry_run)?;
        for file in &vacuumed.files {
            println!("{}", file.display());
        }
        files += vacuumed.files.len();
        bytes += vacuumed.bytes;
        if dry_run || vacuumed.files.is_empty() {
            break;
        }
    }
    let verb = if dry_run { "would remove" } else { "removed" };
    println!("{verb} {files} files, {bytes} bytes");
    Ok(ExitCode::SUCCESS)
}

fn open(place: &Place) -> anyhow::Result<Table> {
    let config = batch::load(place)?;
    open_table(&batch::table_dir(place, &config)?)
}

/// Repeats a step and tells what it did, until nothing is left.
fn tell_until_done(mut step: impl FnMut() -> anyhow::Result<Done>) -> anyhow::Result<()> {
    loop {
        match step()? {
            Done::Nothing => return Ok(()),
            done => println!("{done}"),
        }
    }
}
