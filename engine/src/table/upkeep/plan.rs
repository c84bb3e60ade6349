//! What is due: a pure function of the live files and of now.
//!
//! Two levels. *Fresh* files, as commits leave them, become one of level 1 per grain and day
//! once the hour that they were written in is over for [`SETTLED_MS`]. Of a day that began more
//! than [`DAY_DUE_MS`] ago, all files become one of level 2 (or a few, by size). Late rows come
//! as fresh files again; where a day has more than [`FILES_MAX`] files, its smaller ones are
//! merged, a file only once those before it add up to a quarter of it: so each row is rewritten
//! a few times in all, however late and however often rows come.

use std::collections::HashSet;

use super::super::live::LiveFile;
use super::super::schema::Grain;
use crate::time::{DAY_MINUTES, Day, MINUTE_MS, Minute};

/// How long after its hour a fresh file is left alone: retries and late commits join it.
const SETTLED_MS: i64 = 10 * MINUTE_MS;

/// How long after its begin a day is compacted as a whole.
const DAY_DUE_MS: i64 = 26 * HOUR_MS;

/// How many files a whole day may have of one grain before some are merged.
const FILES_MAX: usize = 8;

/// A file is merged with smaller ones if it has at most so many times their bytes.
const SIZE_RATIO: u64 = 4;

/// Files of one job at most: each is open at once.
const INPUTS_MAX: usize = 512;

/// Bytes of the inputs of one job at most.
const JOB_BYTES_MAX: u64 = 512 << 20;

/// How long rows are kept: thirteen of the longest months.
const KEPT_DAYS: u32 = 13 * 31;

const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Files of one grain and day that become one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    pub grain: Grain,
    pub day: Day,
    /// What the outcome is: 1 or 2.
    pub level: u8,
    /// What is merged; of the grain `series` it may be nothing, where only coarse files go.
    pub inputs: Vec<LiveFile>,
    /// Paths of coarse files that go with the inputs, or whose minutes are gone already.
    pub coarse: Vec<String>,
}

impl Job {
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|file| file.size).sum()
    }

    /// Every path that goes.
    pub fn removes(&self) -> impl Iterator<Item = String> + '_ {
        let inputs = self.inputs.iter().map(|file| file.path.clone());
        inputs.chain(self.coarse.iter().cloned())
    }
}

/// When something is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    /// Now, in epoch milliseconds.
    pub now_ms: i64,
    /// Whether fresh files of any age are due.
    pub eager: bool,
}

impl When {
    fn is_settled(&self, file: &LiveFile) -> bool {
        let hour = |ms: i64| ms.div_euclid(HOUR_MS);
        self.eager || hour(file.modified_ms) < hour(self.now_ms - SETTLED_MS)
    }

    fn is_whole(&self, day: Day) -> bool {
        let began_ms = i64::from(day.0) * i64::from(DAY_MINUTES) * MINUTE_MS;
        began_ms + DAY_DUE_MS <= self.now_ms
    }
}

/// The compactions that are due, in the order of grain and day. `live` is in that order too;
/// files named in `left_alone` are not touched.
pub(super) fn compactions(live: &[LiveFile], when: When, left_alone: &HashSet<String>) -> Vec<Job> {
    let paths: HashSet<&str> = live.iter().map(|file| file.path.as_str()).collect();
    let mut jobs = Vec::new();
    for files in live.chunk_by(|a, b| (&a.grain, a.day) == (&b.grain, b.day)) {
        let (Some(grain), Some(day)) = (Grain::of_name(&files[0].grain), files[0].day) else {
            continue;
        };
        if matches!(grain, Grain::SeriesHour | Grain::SeriesDay) {
            continue;
        }
        let free: Vec<&LiveFile> =
            files.iter().filter(|file| !left_alone.contains(&file.path)).collect();
        let coarse = |inputs: &[LiveFile]| match grain {
            Grain::Series => coarse_of(live, day, inputs, &paths),
            _ => Vec::new(),
        };
        let mut job = |level, inputs: Vec<LiveFile>| {
            let coarse = coarse(&inputs);
            jobs.push(Job { grain, day, level, inputs, coarse });
        };
        match due(grain, day, &free, when) {
            Some((level, inputs)) => job(level, inputs),
            None if !coarse(&[]).is_empty() => job(1, Vec::new()),
            None => {}
        }
    }
    jobs
}

/// What is due of the files of one grain and day.
fn due(grain: Grain, day: Day, files: &[&LiveFile], when: When) -> Option<(u8, Vec<LiveFile>)> {
    let is_ready = |file: &&&LiveFile| file.level > 0 || when.is_settled(file);
    let ready: Vec<&LiveFile> = files.iter().filter(is_ready).copied().collect();
    let has_day = ready.iter().any(|file| file.level == 2);
    if when.is_whole(day) && !has_day {
        // A single file is worth it for the hours and days that come with it.
        let least = if grain == Grain::Series { 1 } else { 2 };
        return (ready.len() >= least).then(|| (2, smallest(ready, u64::MAX)));
    }
    let fresh: Vec<&LiveFile> = ready.iter().filter(|file| file.level == 0).copied().collect();
    if fresh.len() >= 2 {
        return Some((1, smallest(fresh, u64::MAX)));
    }
    let too_many = when.is_whole(day) && ready.len() > FILES_MAX;
    too_many.then(|| (2, smallest(ready, SIZE_RATIO)))
}

/// The smaller files as long as each is at most `ratio` times those before it, within the
/// bounds of a job; two at least where there are two.
fn smallest(mut files: Vec<&LiveFile>, ratio: u64) -> Vec<LiveFile> {
    files.sort_by(|a, b| (a.size, &a.path).cmp(&(b.size, &b.path)));
    let mut bytes = 0_u64;
    let fits = |(at, file): &(usize, &LiveFile)| {
        let wanted = *at < 2
            || (file.size <= bytes.saturating_mul(ratio)
                && bytes + file.size <= JOB_BYTES_MAX
                && *at < INPUTS_MAX);
        bytes += file.size;
        wanted
    };
    files.into_iter().enumerate().take_while(fits).map(|(_, file)| file.clone()).collect()
}

/// The coarse files of a day that cover one of `inputs`, or nothing that is live.
fn coarse_of(
    live: &[LiveFile],
    day: Day,
    inputs: &[LiveFile],
    paths: &HashSet<&str>,
) -> Vec<String> {
    let names = [Grain::SeriesHour.name(), Grain::SeriesDay.name()];
    let of_day =
        live.iter().filter(|file| file.day == Some(day) && names.contains(&file.grain.as_str()));
    let goes = |file: &&LiveFile| {
        let Some(covers) = file.covers.as_deref() else { return true };
        !paths.contains(covers) || inputs.iter().any(|input| input.path == covers)
    };
    of_day.filter(goes).map(|file| file.path.clone()).collect()
}

/// The files of days past retention. What proves how far each source was counted stays, and so
/// does what has no day (the day of the epoch): gaps, corrections and silences.
pub(super) fn expired(live: &[LiveFile], now_ms: i64) -> Vec<&LiveFile> {
    let today = Minute::of_ms(now_ms).day();
    let kept = [Grain::Source.name(), Grain::Gap.name()];
    let is_expired = |file: &&LiveFile| {
        let past = |day: Day| day != Day(0) && day.0.saturating_add(KEPT_DAYS) < today.0;
        file.day.is_some_and(past) && !kept.contains(&file.grain.as_str())
    };
    live.iter().filter(is_expired).collect()
}
