//! The real program is killed at every step of the commit protocol and of the upkeep, and at
//! pairs of them; what runs after it ends with a table that equals a recount.
//!
//! `engine/src/failpoint.rs` names the steps. Those of the write-ahead log are killed in
//! `tests/push.rs`, those of a Kafka group in `tests/kafka.rs`, those of rows on their way to
//! topics in `tests/kafka_operator.rs`.

#[path = "common/program.rs"]
mod program;
#[path = "common/recount.rs"]
mod recount;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ninefold_engine::failpoint::{POINTS, VARIABLE};
use ninefold_engine::table::{Epoch, Move, Table};
use program::{assert_clean, assert_same, minutes, ninefold, run};
use recount::{Recount, Rules};
use tempfile::TempDir;

/// The signal of an abort.
const SIGABRT: i32 = 6;

/// Lines of one file, each of which is counted by one commit.
const FILE_LINES: usize = 500;

/// Files that take a commit each, and what a recount says of all their lines.
struct World {
    folder: TempDir,
    files: Vec<PathBuf>,
    oracle: Recount,
}

impl World {
    fn of_commits(commits: usize) -> World {
        let folder = tempfile::tempdir().unwrap();
        let all = folder.path().join("events.ndjson");
        let events = (commits * FILE_LINES).to_string();
        let options =
            ["generate", "--seed", "5", "--customers", "20", "--days", "0.01", "--broken"];
        let more = ["0.01", "--error-ratio", "0.05", "--events", &events, "--out"];
        let words = options.iter().chain(&more).map(OsStr::new).chain([all.as_os_str()]);
        assert!(run(words).status.success());
        let text = fs::read(all).unwrap();
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        let mut files = Vec::new();
        for (number, part) in lines.chunks(lines.len().div_ceil(commits)).enumerate() {
            let file = folder.path().join(format!("{number}.ndjson"));
            fs::write(&file, part.concat()).unwrap();
            files.push(file);
        }
        World { folder, files, oracle: Recount::of(&text, Rules::default()) }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Counts some of the files, one commit each.
    fn count(&self, files: std::ops::Range<usize>, data: &Path) {
        for file in &self.files[files] {
            assert_fine(&replay(file, data, None), &file.display().to_string());
        }
    }

    /// Counts all files, and is killed at a point when it counts the one of that number.
    fn count_killed_at(&self, number: usize, point: &str, data: &Path) {
        self.count(0..number, data);
        assert_killed(&replay(&self.files[number], data, Some(point)), point);
        self.count(number..self.files.len(), data);
    }

    fn assert_whole(&self, data: &Path, what: &str) {
        assert_same(&minutes(data), &self.oracle.minutes, what);
        assert_clean(data, what);
    }
}

/// Counts a file; killed at a point, where one is named.
fn replay(file: &Path, data: &Path, point: Option<&str>) -> Output {
    let mut command = ninefold();
    command.arg("replay").arg(file).arg("--data").arg(data);
    if let Some(point) = point {
        command.env(VARIABLE, point);
    }
    command.output().unwrap()
}

fn assert_killed(output: &Output, point: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{point} is reached: {said}");
}

fn assert_fine(output: &Output, what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {said}");
}

/// The points that a replay passes, but for those of a checkpoint of the log.
fn points_of_a_commit() -> impl Iterator<Item = &'static str> {
    POINTS.iter().copied().filter(|point| point.starts_with("commit") || point.starts_with("put"))
}

#[test]
fn a_replay_killed_at_any_step_of_a_commit_loses_and_doubles_nothing() {
    let world = World::of_commits(3);
    for point in points_of_a_commit() {
        for number in [0, 2] {
            let what = format!("{point} of commit {number}");
            let data = world.data(&what);
            world.count_killed_at(number, point, &data);
            world.assert_whole(&data, &what);
        }
    }
}

#[test]
fn a_replay_killed_at_two_steps_in_turn_loses_and_doubles_nothing() {
    let world = World::of_commits(1);
    let points: Vec<&str> = points_of_a_commit().collect();
    for (at, first) in points.iter().enumerate() {
        // Each with three others, spread so that every pair of kinds occurs.
        for step in [1, 4, 7] {
            let second = points[(at + step) % points.len()];
            let what = format!("{first}, then {second}");
            let (data, file) = (world.data(&what), &world.files[0]);
            assert_killed(&replay(file, &data, Some(first)), &what);
            // What has landed before may leave nothing for the second to be killed at.
            let between = replay(file, &data, Some(second));
            assert!(between.status.success() || between.status.signal() == Some(SIGABRT), "{what}");
            world.count(0..1, &data);
            world.assert_whole(&data, &what);
        }
    }
}

#[test]
fn a_checkpoint_of_the_log_killed_half_way_costs_nothing() {
    let world = World::of_commits(101);
    for point in ["checkpoint", "checkpoint.written"] {
        let data = world.data(point);
        // A checkpoint is due at the hundredth commit.
        world.count_killed_at(99, point, &data);
        world.assert_whole(&data, point);
    }
}

#[test]
fn every_point_is_reached_somewhere_and_no_other_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut reached, mut folders) =
        (BTreeSet::new(), vec![root.join("engine/src"), root.join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("failpoint.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let calls = text.split("failpoint::reach(\"").skip(1);
                let names = calls.map(|call| call.split('"').next().unwrap().to_owned());
                reached.extend(names);
            }
        }
    }
    assert_eq!(reached, POINTS.iter().map(|point| (*point).to_owned()).collect());
}

/// Runs a command of upkeep on a data folder; killed at a point, where one is named.
fn upkeep(command: &str, data: &Path, point: Option<&str>) -> Output {
    let mut program = ninefold();
    program.arg(command).arg("--data").arg(data);
    if let Some(point) = point {
        program.env(VARIABLE, point);
    }
    program.output().unwrap()
}

#[test]
fn a_compaction_killed_at_any_step_changes_no_sum() {
    let world = World::of_commits(4);
    let steps = ["compact.merged", "put.staged", "put.linked", "commit.entry", "commit.entry.put"];
    for point in steps.into_iter().chain(["commit.confirm"]) {
        let data = world.data(point);
        world.count(0..4, &data);
        assert_killed(&upkeep("compact", &data, Some(point)), point);
        world.assert_whole(&data, point);
        assert_fine(&upkeep("compact", &data, None), point);
        world.assert_whole(&data, point);
    }
}

#[test]
fn a_vacuum_killed_before_a_removal_is_done_again() {
    let world = World::of_commits(2);
    let data = world.data("vacuum");
    // A write that was killed leaves a file that no entry names.
    world.count_killed_at(1, "commit.entry", &data);
    let found = run([OsStr::new("vacuum"), "--dry-run".as_ref(), "--data".as_ref(), data.as_ref()]);
    assert_fine(&found, "nothing is old enough");
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let orphans = data_files(&data.join("rollups"));
    for file in &orphans {
        fs::File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
    }
    assert_killed(&upkeep("vacuum", &data, Some("vacuum.delete")), "vacuum.delete");
    world.assert_whole(&data, "killed");
    assert_fine(&upkeep("vacuum", &data, None), "vacuum");
    assert!(data_files(&data.join("rollups")).len() < orphans.len(), "orphans are gone");
    world.assert_whole(&data, "vacuumed");
}

#[test]
fn a_clean_up_of_the_log_killed_before_a_removal_is_done_again() {
    // Thousands of commits: in memory, where the machine has files there.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.unwrap();
    let rollups = folder.path().join("rollups");
    let mut table = Table::open_or_create(&rollups).unwrap();
    for at in 0..2_250 {
        let (partition, base) = ("file/p".to_owned(), (at > 0).then_some(at));
        let moves = vec![Move { partition, base, next: at + 1 }];
        table.commit(Epoch { moves, ..Epoch::default() }).unwrap();
    }
    let checkpoints = || {
        let names = fs::read_dir(rollups.join("_delta_log")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".checkpoint.parquet")).count()
    };
    assert_eq!(checkpoints(), 22);
    let output = upkeep("compact", folder.path(), Some("cleanup.delete:6"));
    assert_killed(&output, "cleanup.delete");
    assert_eq!(checkpoints(), 17, "five were removed before");
    let stands = || Table::open(&rollups).unwrap().unwrap().offset("file/p").unwrap();
    assert_eq!(stands(), Some(2_250));
    assert_fine(&upkeep("compact", folder.path(), None), "clean-up");
    assert_eq!((checkpoints(), stands()), (2, Some(2_250)));
}

/// A name that a system call gives or syncs.
#[derive(Debug, PartialEq)]
enum Call {
    Synced(PathBuf),
    /// The file under the first name gets the second one.
    Named(PathBuf, PathBuf),
}

/// The calls of a trace, in their order: a sync when it was done, a name when it was begun.
fn calls(trace: &str) -> Vec<Call> {
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(char::is_whitespace) else { continue };
        let call = call.trim_start();
        if call.starts_with("link") || call.starts_with("rename") {
            let names: Vec<&str> = call.split('"').skip(1).step_by(2).collect();
            if let [from, to] = names[..] {
                calls.push(Call::Named(from.into(), to.into()));
            }
        }
        if call.ends_with("<unfinished ...>") {
            begun.insert(thread, call);
        }
        let whole = if call.starts_with("<...") { begun.remove(thread) } else { Some(call) };
        if let Some(sync) = whole.filter(|whole| whole.starts_with("fsync"))
            && call.ends_with("= 0")
            && let Some((_, rest)) = sync.split_once('<')
        {
            calls.push(Call::Synced(rest.split('>').next().unwrap().into()));
        }
    }
    calls
}

/// A power cut keeps what was synced, and any part of the rest. So a file is synced before it
/// gets its name, and its folder after it; all of that before the entry that names the file.
#[test]
fn an_entry_that_survives_a_power_cut_has_its_files() {
    let world = World::of_commits(3);
    let (data, trace) = (world.data("traced"), world.data("trace"));
    for file in &world.files {
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-A", "-e", "trace=fsync,link,linkat,rename,renameat,renameat2"]);
        command.arg("-o").arg(&trace).arg(env!("CARGO_BIN_EXE_ninefold"));
        command.arg("replay").arg(file).arg("--data").arg(&data);
        match command.output() {
            Ok(output) => assert_fine(&output, "traced"),
            Err(error) => return println!("skipped: no strace: {error}"),
        }
    }
    let rollups = data.join("rollups").canonicalize().unwrap();
    let calls = calls(&fs::read_to_string(&trace).unwrap());
    let (mut unsynced, mut synced, mut entries) = (BTreeSet::new(), BTreeSet::new(), 0);
    for call in &calls {
        match call {
            Call::Synced(path) => {
                synced.insert(path);
                unsynced.retain(|folder| folder != path);
            }
            Call::Named(from, to) if to.starts_with(&rollups) => {
                if to.file_name().unwrap().to_str().unwrap().starts_with("_probe") {
                    continue;
                }
                assert!(synced.contains(from), "{} is synced before", to.display());
                if to.extension() == Some(OsStr::new("json")) {
                    assert!(unsynced.is_empty(), "{unsynced:?} before {}", to.display());
                    entries += 1;
                }
                unsynced.insert(to.parent().unwrap().to_owned());
            }
            Call::Named(..) => {}
        }
    }
    assert!(entries > 3 && unsynced.is_empty(), "{entries} entries, {unsynced:?}: {calls:?}");
}

fn data_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name() != Some(OsStr::new("_delta_log")) {
            files.extend(data_files(&path));
        } else if path.extension() == Some(OsStr::new("parquet")) {
            files.push(path);
        }
    }
    files
}
