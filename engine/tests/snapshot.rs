//! A snapshot beside the table is a cache: what is restored from it equals the fold of the table,
//! whatever versions its parts are of, and one that may be anything else is refused.
//!
//! The oracle is a pipeline that folds the same table without a snapshot, and a recount of the
//! raw lines beside it.

#[path = "support/options.rs"]
mod options;
#[path = "../../tests/common/recount.rs"]
mod recount;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ninefold_engine::pipeline::decision::{correct, new_id};
use ninefold_engine::pipeline::memory::Bounds;
use ninefold_engine::pipeline::snapshot::Restored;
use ninefold_engine::pipeline::{Pipeline, Start, Unit};
use ninefold_engine::query::body::AlertTransition;
use ninefold_engine::slo::alert::AlertOptions;
use ninefold_engine::slo::objective::Objectives;
use ninefold_engine::source::chunk::{Chunk, ChunkKind, Tail};
use ninefold_engine::state::State;
use ninefold_engine::state::snapshot::PARTS;
use ninefold_engine::synth::{self, generate};
use ninefold_engine::table::Table;
use ninefold_engine::table::correction::Correction;
use ninefold_engine::table::upkeep::{Upkeep, vacuum};
use ninefold_engine::time::{DAY_MINUTES, Minute};
use options::options;
use recount::{Recount, Rules};

const ALL: std::ops::RangeInclusive<Minute> = Minute(0)..=Minute(u32::MAX);

/// 2025-10-06T00:00:00Z.
const START_MS: i64 = 1_759_708_800_000;

/// When all days of the logs are long over.
const LATER_MS: i64 = START_MS + 30 * 86_400_000;

const LOGS: [&str; 3] = ["kafka/t/0", "kafka/t/1", "file/a"];

fn lines(seed: u64, events: u64, customers: u32) -> Vec<u8> {
    let options = synth::Options {
        seed,
        events,
        customers,
        days: 1.3,
        start_ms: START_MS,
        services: 2,
        error_ratio: 0.01,
        incidents: vec!["from=1100,minutes=700,rate=0.8,latency=9".parse().unwrap()],
        late_share: 0.05,
        ..synth::Options::default()
    };
    let mut lines = Vec::new();
    generate(&options, &mut lines).unwrap();
    lines
}

/// SplitMix64: the same at every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % end as u64) as usize
    }
}

/// A folder with a table, a snapshot beside it, and the logs that are counted.
struct World {
    folder: tempfile::TempDir,
    logs: Vec<Vec<u8>>,
}

impl World {
    fn new(seed: u64, events: u64, customers: u32) -> World {
        let lines = |nth| lines(seed * 9 + nth, events, customers);
        let logs = (0..LOGS.len() as u64).map(lines).collect();
        World { folder: tempfile::tempdir().unwrap(), logs }
    }

    fn table(&self) -> PathBuf {
        self.folder.path().join("rollups")
    }

    fn snapshot(&self) -> PathBuf {
        self.folder.path().join("snapshot")
    }

    /// A pipeline that has not read the table yet.
    fn pipeline(&self, seed: u64) -> Pipeline {
        Pipeline::new(options(), Table::open_or_create(&self.table()).unwrap(), true, seed)
    }

    /// One that folds the table alone.
    fn folded(&self) -> Pipeline {
        let mut pipeline = self.pipeline(1);
        pipeline.recover(ALL).unwrap();
        pipeline
    }

    /// One that looks for a snapshot first.
    fn restored(&self) -> Pipeline {
        let mut pipeline = self.pipeline(2);
        pipeline.keep_snapshots(self.snapshot());
        pipeline.recover(ALL).unwrap();
        pipeline
    }

    /// Counts about so many bytes more of a log, whole lines.
    fn count(&self, pipeline: &mut Pipeline, log: usize, bytes: usize) {
        let (name, text) = (LOGS[log], &self.logs[log]);
        let number = begin(pipeline, name, text);
        let first = pipeline.place_of(name).unwrap() as usize;
        let Some(rest) = text.get(first..).filter(|rest| !rest.is_empty()) else { return };
        let least = bytes.clamp(1, rest.len());
        let end = rest[least - 1..].iter().position(|byte| *byte == b'\n').unwrap();
        let bytes = rest[..least + end].to_vec();
        let mut tail = Tail::default();
        tail.push(&text[..first + bytes.len()]);
        let (first, next) = (first as u64, (first + bytes.len()) as u64);
        pipeline.ingest(number, &[Chunk { first, next, kind: ChunkKind::Lines, bytes, tail }]);
    }

    /// Everything of all logs, in a few commits.
    fn count_all(&self, pipeline: &mut Pipeline) {
        for log in 0..LOGS.len() {
            self.count(pipeline, log, usize::MAX);
            pipeline.commit().unwrap();
        }
        pipeline.follow().unwrap();
    }

    fn save(&self, pipeline: &Pipeline, part: usize) {
        let image = pipeline.image(part).unwrap().expect("all is committed and followed");
        image.write(&self.snapshot()).unwrap();
    }

    fn save_all(&self, pipeline: &Pipeline) {
        (0..PARTS).for_each(|part| self.save(pipeline, part));
    }

    /// Another table of the same folder, as upkeep has one.
    fn again(&self) -> Table {
        Table::open(&self.table()).unwrap().unwrap()
    }

    fn compact(&self) {
        Upkeep::eager().compact(&mut self.again(), LATER_MS).unwrap();
    }

    fn part(&self, part: usize) -> PathBuf {
        self.snapshot().join(format!("{part:02}.part"))
    }

    /// That a start refuses the snapshot for a reason, and holds what the table says.
    fn assert_refused(&self, reason: &str) {
        let restored = self.restored();
        let Restored::Refused(doubt) = restored.restored() else {
            panic!("{:?} in the place of: {reason}", restored.restored())
        };
        assert!(doubt.contains(reason), "{doubt:?} in the place of: {reason}");
        assert_held(&restored.state, &self.folded().state, reason);
    }
}

/// Begins a log, or goes on with it, where it stands.
fn begin(pipeline: &mut Pipeline, name: &str, text: &[u8]) -> u16 {
    let offset = pipeline.place_of(name).unwrap();
    let mut tail = Tail::default();
    tail.push(&text[..offset as usize]);
    let decode = pipeline.options().decode.clone();
    let start = Start { name, label: name, decode, unit: Unit::Bytes, offset, tail };
    pipeline.partition(start).unwrap()
}

fn assert_used(pipeline: &Pipeline) -> usize {
    match pipeline.restored() {
        Restored::From { entries, .. } => *entries,
        other => panic!("{other:?}"),
    }
}

/// All that answers and alerts are made from.
fn held(state: &State) -> Vec<String> {
    let newest = state.newest();
    let mut held = vec![
        format!(
            "newest {newest:?}, {} series, {} customers",
            state.series_count(),
            state.customers()
        ),
        format!("fleet {:?}", state.fleet().cells.iter().collect::<Vec<_>>()),
    ];
    for series in state.all_series() {
        let name = format!("{} {}", series.customer, series.service);
        held.push(format!("{name} {:?}", series.cells.iter().collect::<Vec<_>>()));
        held.push(format!("{name} {:?}", series.further[0].iter().collect::<Vec<_>>()));
        let last = newest.unwrap().minus(60);
        let histograms = series.histograms.iter().filter(|(minute, _)| *minute > last);
        held.push(format!("{name} {:?}", histograms.collect::<Vec<_>>()));
        held.push(format!("{name} {}", state.is_hot(&series.customer, &series.service)));
    }
    let mut recent: Vec<String> =
        state.recent_rows(8).iter().map(|row| format!("{row:?}")).collect();
    recent.sort();
    held.extend(recent);
    held
}

/// That two states hold the same; of what differs the first is told.
fn assert_held(found: &State, expect: &State, what: &str) {
    let (found, expect) = (held(found), held(expect));
    for (found, expect) in found.iter().zip(&expect) {
        assert_eq!(found, expect, "{what}");
    }
    assert_eq!(found.len(), expect.len(), "{what}");
}

/// That what memory is said to take is what its series take, and a little for each name.
fn assert_accounted(state: &State) {
    let all = state.all_series().into_iter().chain(state.pool_series());
    let series: usize = all.map(|series| series.bytes()).sum();
    // A quarter is added for the allocator.
    let held = state.bytes() / 5 * 4;
    let names = 300 * state.customers() as usize;
    assert!(held + 4 >= series && held <= series + names, "{held} bytes, {series} of series");
}

/// What a tick finds, for who counts the first log alone.
fn ticked(world: &World, mut pipeline: Pipeline) -> Vec<AlertTransition> {
    begin(&mut pipeline, LOGS[0], &world.logs[0]);
    let now = pipeline.state.newest().unwrap_or_default();
    pipeline.tick(now.start_ms() + 59_000, &Objectives::default(), &AlertOptions::default());
    let mut found: Vec<AlertTransition> = pipeline.transitions().cloned().collect();
    found.sort_by(|a, b| (&a.fingerprint, &a.state).cmp(&(&b.fingerprint, &b.state)));
    found
}

#[test]
fn what_is_restored_equals_a_fold_of_the_table_whatever_versions_its_parts_are_of() {
    let (mut entries, mut transitions) = (0, 0);
    for seed in 0..4 {
        let world = World::new(seed, 700, 10);
        let mut random = Random(seed);
        let mut one = world.pipeline(3);
        one.recover(ALL).unwrap();
        world.save_all(&one);
        for step in 0..60 {
            match random.below(16) {
                0..=5 => world.count(&mut one, random.below(LOGS.len()), 15_000),
                6..=8 => assert!(one.commit().is_ok()),
                9 => world.compact(),
                10 => {
                    let now = one.state.newest().unwrap_or_default().start_ms();
                    one.tick(now, &Objectives::default(), &AlertOptions::default());
                }
                11..=14 => {
                    one.commit().unwrap();
                    one.follow().unwrap();
                    (0..9).for_each(|_| world.save(&one, random.below(PARTS)));
                }
                _ => {
                    one.commit().unwrap();
                    // The next life goes on with the same snapshot.
                    one = world.restored();
                    assert_used(&one);
                }
            }
            if random.below(5) == 0 {
                let (restored, folded) = (world.restored(), world.folded());
                entries += assert_used(&restored);
                assert_held(&restored.state, &folded.state, &format!("seed {seed}, step {step}"));
                assert_eq!(restored.memory_from(), folded.memory_from());
                assert_accounted(&restored.state);
                let (found, expect) = (ticked(&world, restored), ticked(&world, folded));
                transitions += expect.len();
                assert_eq!(found, expect, "seed {seed}, step {step}");
            }
        }
        one.commit().unwrap();
        let restored = world.restored();
        for (name, text) in LOGS.iter().zip(&world.logs) {
            let place = restored.place_of(name).unwrap() as usize;
            let oracle = Recount::of(&text[..place], Rules::default());
            assert!(place > 0 && oracle.customers().len() > 5);
        }
        let texts = LOGS.iter().zip(&world.logs);
        let valid: u64 = texts
            .flat_map(|(name, text)| {
                let place = restored.place_of(name).unwrap() as usize;
                Recount::of(&text[..place], Rules::default()).minutes.into_values()
            })
            .map(|counts| counts.valid)
            .sum();
        assert_eq!(restored.state.fleet().sum(ALL).valid, valid);
        let series = restored.state.all_series();
        assert_eq!(series.iter().map(|one| one.sum(ALL).valid).sum::<u64>(), valid);
    }
    println!("{entries} entries followed, {transitions} transitions");
    assert!(entries > 100 && transitions > 10);
}

#[test]
fn a_part_that_is_flipped_torn_or_gone_is_refused() {
    let world = World::new(1, 400, 60);
    let mut one = world.folded();
    world.count_all(&mut one);
    world.save_all(&one);
    assert_used(&world.restored());
    let mut random = Random(5);
    let mut seen = BTreeSet::new();
    for nth in 0..60 {
        let path = world.part(random.below(PARTS));
        let whole = fs::read(&path).unwrap();
        let mut broken = whole.clone();
        match nth % 5 {
            0 => broken.truncate(random.below(whole.len())),
            1 => broken.extend_from_slice(&whole[..1 + random.below(20)]),
            2 => broken.clear(),
            _ => {
                for _ in 0..=random.below(3) {
                    broken[random.below(whole.len())] ^= 1 << random.below(8);
                }
            }
        }
        if broken == whole {
            continue;
        }
        fs::write(&path, &broken).unwrap();
        let mut pipeline = world.pipeline(2);
        pipeline.keep_snapshots(world.snapshot());
        pipeline.recover(ALL).unwrap();
        let Restored::Refused(doubt) = pipeline.restored() else { panic!("{nth}: {path:?}") };
        seen.insert(doubt.rsplit(": ").next().unwrap().to_owned());
        assert_eq!(pipeline.state.fleet().sum(ALL), one.state.fleet().sum(ALL));
        fs::write(&path, whole).unwrap();
    }
    assert!(seen.contains("its checksum does not match") && seen.len() > 3, "{seen:?}");
    assert_held(&world.restored().state, &world.folded().state, "whole again");
    fs::remove_file(world.part(3)).unwrap();
    world.assert_refused("03.part");
    fs::remove_dir_all(world.snapshot()).unwrap();
    assert_eq!(*world.restored().restored(), Restored::Nothing);
}

#[test]
fn a_part_of_something_else_is_refused() {
    let world = World::new(2, 200, 60);
    let mut one = world.folded();
    world.count(&mut one, 0, 10_000);
    one.commit().unwrap();
    one.follow().unwrap();
    // The table as it is now, to come back to.
    let past = world.folder.path().join("past");
    copy(&world.table(), &past);
    world.count_all(&mut one);
    world.save_all(&one);

    // Parts of two writers, and one under the name of another.
    let mut other = world.pipeline(4);
    other.recover(ALL).unwrap();
    world.save(&other, 5);
    world.assert_refused("spread otherwise");
    fs::copy(world.part(6), world.part(5)).unwrap();
    world.assert_refused("holds part 6");
    world.save_all(&one);

    // A table that was put back to an earlier time, and went another way from there.
    fs::remove_dir_all(world.table()).unwrap();
    copy(&past, &world.table());
    world.assert_refused("and the table is at");
    let mut again = world.folded();
    for bytes in [7_000, 9_000, 11_000, 13_000] {
        world.count(&mut again, 1, bytes);
        again.commit().unwrap();
    }
    world.assert_refused("another entry");
    world.save_all(&world.folded());
    assert_used(&world.restored());

    // Another table.
    fs::remove_dir_all(world.table()).unwrap();
    let mut fresh = world.folded();
    world.count_all(&mut fresh);
    world.assert_refused("another table");

    // Other SLIs, and a start that asks for more of the past than was held.
    world.save_all(&fresh);
    let mut options = options();
    options.slis.further[0].name = "reads".to_owned();
    let mut renamed =
        Pipeline::new(options, Table::open_or_create(&world.table()).unwrap(), true, 2);
    renamed.keep_snapshots(world.snapshot());
    renamed.recover(ALL).unwrap();
    assert!(matches!(renamed.restored(), Restored::Refused(doubt) if doubt.contains("other SLIs")));
    let mut part = world.pipeline(2);
    part.recover(part_of_all()).unwrap();
    world.save_all(&part);
    world.assert_refused("other minutes");

    // Less memory than it takes.
    world.save_all(&fresh);
    let mut bound = world.pipeline(2);
    bound.bound(Bounds { series_bytes: 20_000, ..Bounds::default() });
    bound.keep_snapshots(world.snapshot());
    bound.recover(ALL).unwrap();
    assert!(matches!(bound.restored(), Restored::Refused(doubt) if doubt.contains("memory")));
}

/// Changes the header of a part, as a program with a bug would have written it.
fn lie(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let bytes = fs::read(path).unwrap();
    let length = u32::from_le_bytes(*bytes[8..].first_chunk().unwrap()) as usize;
    let mut header = serde_json::from_slice(&bytes[12..12 + length]).unwrap();
    change(&mut header);
    let header = serde_json::to_vec(&header).unwrap();
    let mut lying = bytes[..8].to_vec();
    lying.extend_from_slice(&(header.len() as u32).to_le_bytes());
    lying.extend_from_slice(&header);
    lying.extend_from_slice(&bytes[12 + length..bytes.len() - 4]);
    lying.extend_from_slice(&crc32fast::hash(&lying).to_le_bytes());
    fs::write(path, lying).unwrap();
}

/// What these tests compare by sees rows that are missing, rows that count twice, and alerts
/// that another instance decides.
#[test]
fn a_lie_that_passes_every_check_is_seen() {
    let world = World::new(8, 700, 10);
    let mut one = world.folded();
    world.count(&mut one, 0, 60_000);
    one.commit().unwrap();
    one.follow().unwrap();
    world.save_all(&one);
    let header = |part| {
        let text = fs::read(world.part(part)).unwrap();
        let length = u32::from_le_bytes(*text[8..].first_chunk().unwrap()) as usize;
        serde_json::from_slice::<serde_json::Value>(&text[12..12 + length]).unwrap()
    };
    let early = header(0);
    world.count_all(&mut one);
    let differs = |what: &str| {
        let (restored, folded) = (world.restored(), world.folded());
        assert_used(&restored);
        assert_ne!(held(&restored.state), held(&folded.state), "{what}");
    };
    // The early parts as if they were of now: what came since is missing.
    let late = one.image(0).unwrap().unwrap();
    let kept = fs::read(world.part(0)).unwrap();
    late.write(&world.snapshot()).unwrap();
    let now = header(0);
    fs::write(world.part(0), kept).unwrap();
    for part in 0..PARTS {
        lie(&world.part(part), |header| {
            (header["version"], header["entry"]) = (now["version"].clone(), now["entry"].clone());
        });
    }
    differs("rows are missing");
    // Those of now as if they were early: what came since counts twice.
    world.save_all(&one);
    for part in 0..PARTS {
        lie(&world.part(part), |header| {
            (header["version"], header["entry"]) =
                (early["version"].clone(), early["entry"].clone());
        });
    }
    differs("rows count twice");
    // Partitions under the names of others: who decides is another.
    world.save_all(&one);
    for part in 0..PARTS {
        lie(&world.part(part), |header| {
            header["partitions"].as_array_mut().unwrap().reverse();
        });
    }
    let (restored, folded) = (world.restored(), world.folded());
    assert_used(&restored);
    assert_held(&restored.state, &folded.state, "but for who decides");
    assert_ne!(ticked(&world, restored), ticked(&world, folded));
}

#[test]
fn a_correction_refuses_what_was_folded_without_it() {
    let world = World::new(6, 300, 60);
    let mut one = world.folded();
    world.count_all(&mut one);
    world.save_all(&one);
    let newest = one.state.newest().unwrap();
    let correction = Correction {
        id: new_id(),
        from: Minute(newest.0 - 600).to_string(),
        to: newest.to_string(),
        customers: Vec::new(),
        services: Vec::new(),
        reason: "a test of ours".to_owned(),
        at: newest.to_string(),
        undoes: None,
    };
    correct(&mut world.again(), &correction).unwrap();
    world.assert_refused("corrected");
    let folded = world.folded();
    assert!(folded.state.fleet().sum(ALL).valid < one.state.fleet().sum(ALL).valid);
    world.save_all(&folded);
    let restored = world.restored();
    assert_used(&restored);
    assert_held(&restored.state, &folded.state, "corrected");
}

#[test]
fn what_the_log_or_the_disk_has_let_go_of_since_is_read_from_the_table() {
    let world = World::new(7, 300, 60);
    let mut one = world.folded();
    world.count(&mut one, 0, 3_000);
    one.commit().unwrap();
    world.save_all(&one);
    world.count(&mut one, 1, 3_000);
    one.commit().unwrap();
    world.compact();
    assert_held(&world.restored().state, &world.folded().state, "compacted");
    assert!(assert_used(&world.restored()) >= 2, "the commit and the compaction");
    vacuum(&mut world.again(), LATER_MS + 30 * 86_400_000, false).unwrap();
    world.assert_refused("vacuumed");

    // Below a checkpoint entries go as well.
    one.follow().unwrap();
    world.save_all(&one);
    while one.table().version() < 104 {
        world.count(&mut one, 2, 1);
        one.commit().unwrap();
    }
    assert!(assert_used(&world.restored()) > 90);
    for version in 0..100 {
        fs::remove_file(world.table().join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    world.assert_refused("any more");
}

/// From noon of the first day on.
fn part_of_all() -> std::ops::RangeInclusive<Minute> {
    Minute(Minute::of_ms(START_MS).0 + DAY_MINUTES / 2)..=Minute(u32::MAX)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn minutes_of_before_the_start_of_memory_are_left_out() {
    let world = World::new(3, 900, 500);
    let mut one = world.folded();
    world.count_all(&mut one);
    one.state.pack_before(Minute(u32::MAX));
    world.save_all(&one);
    let from = part_of_all();
    let mut restored = world.pipeline(2);
    restored.keep_snapshots(world.snapshot());
    restored.recover(from.clone()).unwrap();
    assert_used(&restored);
    let mut folded = world.pipeline(1);
    folded.recover(from).unwrap();
    assert!(folded.state.series_count() < one.state.series_count(), "some have ended before");
    assert_held(&restored.state, &folded.state, "from noon");
    assert_eq!(restored.memory_from(), folded.memory_from());
    assert!(restored.memory_from() > Minute(0));
}

#[test]
fn customers_who_were_evicted_are_known_to_be_in_the_table_alone() {
    let world = World::new(4, 900, 60);
    let series_bytes = 60_000;
    let mut one = world.pipeline(3);
    one.bound(Bounds { series_bytes, ..Bounds::default() });
    one.recover(ALL).unwrap();
    world.count_all(&mut one);
    assert!(one.state.evicted() > 20, "{}", one.state.evicted());
    world.save_all(&one);
    let mut restored = world.pipeline(2);
    restored.bound(Bounds { series_bytes, ..Bounds::default() });
    restored.keep_snapshots(world.snapshot());
    restored.recover(ALL).unwrap();
    assert_used(&restored);
    assert_eq!(restored.state.evicted(), one.state.evicted());
    let folded = world.folded();
    let mut lacking = 0;
    for series in folded.state.all_series() {
        let lacks = restored.state.may_lack(&series.customer);
        assert_eq!(lacks, one.state.may_lack(&series.customer));
        let found = restored.state.series(&series.customer, &series.service);
        assert_eq!(found.map(|found| &found.cells), (!lacks).then_some(&series.cells));
        lacking += u64::from(lacks);
    }
    assert!(lacking > 0, "{lacking}");
    assert_eq!(restored.state.fleet().cells, folded.state.fleet().cells);
}

#[test]
fn nothing_is_written_of_memory_that_is_not_the_table() {
    let world = World::new(5, 200, 60);
    let mut one = world.folded();
    world.count(&mut one, 0, 5_000);
    assert!(one.image(0).unwrap().is_none(), "something is not committed");
    one.commit().unwrap();
    assert!(one.image(0).unwrap().is_some());
    let mut other = world.folded();
    world.count(&mut other, 1, 5_000);
    other.commit().unwrap();
    world.count(&mut one, 2, 5_000);
    one.commit().unwrap();
    assert!(one.image(0).unwrap().is_none(), "another has committed in between");
    one.follow().unwrap();
    assert!(one.image(0).unwrap().is_some());
    one.distrust();
    assert!(one.image(0).unwrap().is_none(), "it is to be built afresh");
}
