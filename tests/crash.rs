//! `kill -9` at any instant, and two writers at once, lose nothing and double nothing.
//!
//! The instants are drawn from a seed and spread over the measured time of a whole run, so that
//! they fall into reading, counting, writing files and committing alike. Whatever was killed is
//! started again until it has ended; then the table equals a recount of the lines by customer,
//! service and minute, and `ninefold verify` says so too.

#[path = "common/program.rs"]
mod program;
#[path = "common/recount.rs"]
mod recount;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ninefold_engine::table::schema::Grain;
use ninefold_engine::table::{DataFile, Epoch, Filter};
use ninefold_engine::time::Day;
use program::{
    Server, assert_clean, assert_same, json, minutes, minutes_of_reader, ninefold, number, python,
    replay, run, script, table,
};
use recount::{Recount, Rules};
use serde_json::Value;

/// How often a replay is killed in all.
const KILLS: usize = 50;

/// The lines, what a recount says of them, and a configuration of small epochs.
struct World {
    folder: PathBuf,
    file: PathBuf,
    config: PathBuf,
    oracle: Recount,
    /// How long a replay takes that nobody kills.
    whole: Duration,
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        // Nobody drops what is static: the next run removes what this one leaves.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let (file, config) = (folder.join("events.ndjson"), folder.join("ninefold.toml"));
        let options = "generate --seed 21 --events 600000 --customers 300 --days 0.5 --hostile \
                       --late-share 0.02 --weights 0.1 --broken 0.01 --error-ratio 0.01 --out";
        let output = run(options.split_whitespace().map(OsStr::new).chain([file.as_os_str()]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = "[run]\nepoch_events_max = 10000\ncommit_interval = \"100ms\"\n";
        fs::write(&config, text).unwrap();
        let oracle = Recount::of(&fs::read(&file).unwrap(), Rules::default());
        let started = Instant::now();
        let data = folder.join("never-killed");
        let more = ["--config", config.to_str().unwrap(), "--threads", "1"];
        let summary = replay(&file, &data, &more);
        let whole = started.elapsed();
        assert_eq!(number(&summary, "read"), oracle.read);
        let version = table(&data).version();
        assert!(version > 5, "{version} commits are too few to be killed between");
        World { folder, file, config, oracle, whole }
    })
}

/// SplitMix64: instants, the same at every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Any instant of a span.
    fn within(&mut self, span: Duration) -> Duration {
        span.mul_f64(self.next() as f64 / u64::MAX as f64)
    }
}

/// A program that is running, and a channel that is closed when it has ended.
struct Running {
    child: Child,
    ended: Receiver<()>,
}

fn start(mut command: Command) -> Running {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let (sender, ended) = channel();
    std::thread::spawn(move || {
        // The pipe ends with the process; what it printed is of no interest.
        let _ = out.read_to_end(&mut Vec::new());
        drop(sender);
    });
    Running { child, ended }
}

impl Running {
    /// Kills it at an instant, unless it has ended before; whether it was killed.
    fn kill_after(mut self, instant: Duration) -> bool {
        // Nothing is ever sent: this returns at the end of the process or at the instant.
        let _ = self.ended.recv_timeout(instant);
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        // A killed process has no exit code.
        assert!(matches!(status.code(), None | Some(0)), "{status}: {said}");
        status.code().is_none()
    }
}

fn replaying(data: &Path, threads: &str) -> Command {
    let World { file, config, .. } = world();
    let mut command = ninefold();
    command.arg("replay").arg(file).arg("--data").arg(data).arg("--config").arg(config);
    command.args(["--json", "--threads", threads]);
    command
}

/// What `ninefold verify --json` says, and whether it was content.
fn verify(file: &Path, data: &Path) -> (Option<i32>, Value) {
    let arguments = [
        "verify".as_ref(),
        file.as_os_str(),
        "--data".as_ref(),
        data.as_os_str(),
        "--json".as_ref(),
    ];
    let output = run(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    let verdict = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    (output.status.code(), verdict)
}

/// The table holds the lines, no more and no less, by the recount and by `verify`.
fn check(file: &Path, data: &Path, oracle: &Recount, what: &str) {
    assert_same(&minutes(data), &oracle.minutes, what);
    assert_clean(data, what);
    let (code, verdict) = verify(file, data);
    assert_eq!((code, &verdict["equal"]), (Some(0), &true.into()), "{what}: {verdict}");
    assert_eq!(number(&verdict, "compared"), oracle.minutes.len() as u64, "{what}");
    let sums = |column: fn(&ninefold_engine::table::read::SourceRow<'_>) -> u64| {
        let mut sum = 0;
        let add = |row: ninefold_engine::table::read::SourceRow<'_>| sum += column(&row);
        table(data).for_each_source(&Filter::default(), add).unwrap();
        sum
    };
    let found = [sums(|row| row.read), sums(|row| row.counted), sums(|row| row.dead)];
    assert_eq!(found, [oracle.read, oracle.counted, oracle.dead], "{what}");
}

/// The Parquet files of a table that no entry of its log names.
fn orphans(data: &Path) -> BTreeSet<String> {
    let rollups = data.join("rollups");
    let mut files = BTreeSet::new();
    let mut folders = vec![rollups.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&rollups).unwrap().to_str().unwrap().to_owned();
            if name.starts_with("_delta_log") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(name);
            }
        }
    }
    for entry in fs::read_dir(rollups.join("_delta_log")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() != Some(OsStr::new("json")) {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            let action: Value = serde_json::from_str(line).unwrap();
            if let Some(path) = action["add"]["path"].as_str() {
                assert!(files.remove(path), "{path} is in the log, but not on disk");
            }
        }
    }
    files
}

#[test]
fn a_replay_killed_at_any_instant_and_started_again_counts_every_line_once() {
    let World { folder, file, oracle, whole, .. } = world();
    let mut random = Random(50);
    let (mut kills, mut tables, mut left) = (0, 0, 0);
    let mut with_orphans: Option<PathBuf> = None;
    while kills < KILLS {
        let data = folder.join(format!("killed-{tables}"));
        let mut of_table = 0;
        // What was committed stays, so each start has less to do, until one ends by itself.
        while start(replaying(&data, "1")).kill_after(random.within(whole.mul_f64(0.6))) {
            of_table += 1;
            assert!(of_table < 100, "no start of {of_table} gets any further");
        }
        let what = format!("table {tables}, killed {of_table} times");
        check(file, &data, oracle, &what);
        (kills, tables) = (kills + of_table, tables + 1);
        let orphans = orphans(&data).len();
        left += orphans;
        match &with_orphans {
            None if orphans > 0 => with_orphans = Some(data),
            _ => fs::remove_dir_all(&data).unwrap(),
        }
    }
    println!("{kills} kills, {tables} tables, {left} orphan files, {whole:?} a whole run");
    let data = with_orphans.expect("some kills fall between a file and its entry in the log");
    let Some(python) = python() else { return };
    let rollups = data.join("rollups");
    let arguments = [rollups.to_str().unwrap(), "--minutes", "--reader", "deltalake"];
    let found = script(python, "read_table.py", arguments);
    assert_same(&minutes_of_reader(&found["deltalake"]), &oracle.minutes, "deltalake, orphans");
}

#[test]
fn two_replays_of_one_file_at_once_count_it_once() {
    let World { folder, file, oracle, .. } = world();
    for round in 0..3 {
        let data = folder.join(format!("raced-{round}"));
        let race = || replaying(&data, "1").stderr(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let racers = [race().unwrap(), race().unwrap()];
        let outputs = racers.map(|racer| racer.wait_with_output().unwrap());
        let won = outputs.iter().filter(|output| output.status.success()).count();
        assert!(won > 0, "{outputs:?}");
        for output in outputs.iter().filter(|output| !output.status.success()) {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("fenced"), "{said}");
            assert_eq!(output.status.code(), Some(1), "{said}");
        }
        check(file, &data, oracle, &format!("round {round}, {won} won"));
        fs::remove_dir_all(&data).unwrap();
    }
}

#[test]
fn a_followed_file_is_counted_once_through_kills_while_it_grows() {
    let World { folder, file, config, .. } = world();
    let lines = fs::read(file).unwrap();
    let end = lines[..24 << 20].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let lines = &lines[..end];
    let (grown, data) = (folder.join("grown.log"), folder.join("followed"));
    let mut random = Random(7);
    let mut out = File::create(&grown).unwrap();
    out.write_all(&lines[..5_000]).unwrap();
    let (finished, writing) = channel::<()>();
    let arguments = [
        "run".as_ref(),
        grown.as_os_str(),
        "--follow".as_ref(),
        "--data".as_ref(),
        data.as_os_str(),
        "--config".as_ref(),
        config.as_os_str(),
    ];
    let mut kills = 0;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Pieces that end anywhere within a line, a pause of some milliseconds apart.
            let (_never, pause) = channel::<()>();
            let mut random = Random(8);
            let mut rest = &lines[5_000..];
            while !rest.is_empty() {
                let size = (1 + random.next() % 40_000).min(rest.len() as u64) as usize;
                out.write_all(&rest[..size]).unwrap();
                rest = &rest[size..];
                let _ = pause.recv_timeout(random.within(Duration::from_millis(20)));
            }
            drop(finished);
        });
        loop {
            let mut server = Server::start(arguments);
            let instant = random.within(Duration::from_millis(400));
            let done = writing
                .recv_timeout(instant)
                .is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Disconnected);
            server.child.kill().unwrap();
            server.child.wait().unwrap();
            kills += 1;
            if done {
                break;
            }
        }
    });
    println!("{kills} kills while {} bytes were appended", lines.len());
    assert!(kills > 2, "{kills} kills");
    let mut server = Server::start(arguments);
    wait_for_offset(&data, lines.len() as u64);
    let term = Command::new("kill").arg("-TERM").arg(server.child.id().to_string()).status();
    assert!(term.unwrap().success());
    let status = server.child.wait().unwrap();
    assert_eq!(status.code(), Some(0), "a signal that asks is no failure");
    check(&grown, &data, &Recount::of(lines, Rules::default()), "followed");
    let summary = replay(&grown, &data, &[]);
    assert_eq!(number(&summary, "read"), 0);
}

/// Returns when the table stands at an offset; fails when it does not within two minutes.
fn wait_for_offset(data: &Path, offset: u64) {
    let (_never, pause) = channel::<()>();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let found: Vec<u64> = table(data).offsets().into_values().collect();
        if found == [offset] {
            return;
        }
        assert!(Instant::now() < deadline, "{found:?} is not {offset}");
        let _ = pause.recv_timeout(Duration::from_millis(50));
    }
}

#[test]
fn verify_finds_a_row_too_many_and_a_line_that_has_changed() {
    let World { folder, file, oracle, .. } = world();
    let (part, data) = (folder.join("part.log"), folder.join("planted"));
    let lines = fs::read(file).unwrap();
    let end = lines[..4 << 20].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(&part, &lines[..end]).unwrap();
    replay(&part, &data, &[]);
    let oracle_part = Recount::of(&lines[..end], Rules::default());
    check(&part, &data, &oracle_part, "nothing is planted yet");

    // A good event in the middle that turns bad: the begin and the end of the file are the same.
    let changed = folder.join("changed.log");
    let mut other = lines[..end].to_vec();
    let good = b"\"status\":200";
    let at = other.windows(good.len()).skip(1 << 20).position(|bytes| bytes == good).unwrap();
    let at = at + (1 << 20);
    other[at..at + 12].copy_from_slice(b"\"status\":503");
    fs::write(&changed, &other).unwrap();
    let (code, verdict) = verify(&changed, &data);
    assert_eq!((code, number(&verdict, "different")), (Some(1), 1), "{verdict}");
    let (source, held) =
        (&verdict["differences"][0]["source"], &verdict["differences"][0]["table"]);
    let bad = |counts: &Value| counts[1].as_u64().unwrap();
    assert!(bad(source) > bad(held), "{verdict}");

    // A row of the table once more.
    let mut writer = table(&data);
    let rows = writer.scan(Grain::Series, &Filter::default()).unwrap().next().unwrap().unwrap();
    let day = Day(oracle.span().unwrap().0 / 1_440);
    let files = vec![DataFile { grain: Grain::Series, day, batches: vec![rows.slice(0, 1)] }];
    writer.commit(Epoch { files, ..Epoch::default() }).unwrap();
    let (code, verdict) = verify(&part, &data);
    assert_eq!((code, &verdict["equal"]), (Some(1), &false.into()), "{verdict}");
    assert_eq!(number(&verdict, "different"), 1, "{verdict}");
    // Another replay does not hide it.
    let arguments = [
        "replay".as_ref(),
        part.as_os_str(),
        "--data".as_ref(),
        data.as_os_str(),
        "--json".as_ref(),
    ];
    assert_eq!(number(&json(arguments), "read"), 0);
    assert_eq!(verify(&part, &data).0, Some(1));
}
