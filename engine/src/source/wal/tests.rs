//! The log against what was acknowledged: faults of the disk, crashes at any byte, flipped bits.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::append::Disk;
use super::*;
use crate::source::chunk::ChunkKind;

const SMALL: Options = Options {
    segment_bytes: 400,
    uncommitted_bytes_max: 1 << 20,
    queue_bytes_max: 1 << 20,
    horizon_ms: 1_000,
    horizon_bytes: 1 << 20,
    keys_max: 1_000,
    keep_records: 0,
};

/// How the next writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Create,
    /// So many bytes are written, and then no more.
    Write(usize),
    Sync,
}

/// A disk that fails where it is told to.
#[derive(Clone, Default)]
struct FaultyDisk(Arc<Mutex<Option<Fault>>>);

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

impl FaultyDisk {
    fn set(&self, fault: Option<Fault>) {
        *self.0.lock().unwrap() = fault;
    }

    fn has(&self, fault: Fault) -> bool {
        *self.0.lock().unwrap() == Some(fault)
    }
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        if self.has(Fault::Create) { Err(full()) } else { append::RealDisk.create(path) }
    }

    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let fault = *self.0.lock().unwrap();
        let Some(Fault::Write(size)) = fault else {
            return append::RealDisk.write(file, bytes, at);
        };
        append::RealDisk.write(file, &bytes[..size.min(bytes.len())], at)?;
        Err(full())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.has(Fault::Sync) { Err(full()) } else { append::RealDisk.sync(file) }
    }

    /// What was written stays: the next segment alone makes it void.
    fn cut(&self, _: &File, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// A folder with one log in it.
struct World {
    root: TempDir,
    disk: FaultyDisk,
}

impl World {
    fn new() -> World {
        let root = tempfile::tempdir().unwrap();
        drop(Folder::create(root.path(), Kind::Http, "ndjson").unwrap());
        World { root, disk: FaultyDisk::default() }
    }

    fn open(&self, committed: u64, options: Options) -> Wal {
        let mut folders = Folder::unlocked(self.root.path()).unwrap();
        assert_eq!(folders.len(), 1, "it was let go");
        Wal::open_on(self.disk.clone(), folders.remove(0), committed, options).unwrap()
    }

    fn segments(&self) -> Vec<PathBuf> {
        let folder = std::fs::read_dir(self.root.path()).unwrap().next().unwrap().unwrap().path();
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> =
            files.filter(|path| path.extension().is_some_and(|end| end == "wal")).collect();
        files.sort();
        files
    }
}

fn batch(key: &str, time_ms: i64, lines: &str) -> Batch {
    Batch { time_ms, key: key.into(), records: Records::of_lines(lines.as_bytes()) }
}

fn accepted(count: u32) -> Result<Accepted, Refusal> {
    Ok(Accepted { count, repeated: false })
}

/// What a reader finds from an offset on.
fn reads(wal: &Wal, from: u64) -> Vec<Read> {
    let mut reader = wal.reader(from, None);
    std::iter::from_fn(|| match reader.next_chunk(Duration::ZERO).unwrap() {
        Read::Nothing | Read::Ended => None,
        read => Some(read),
    })
    .collect()
}

/// The records from an offset on, with their offsets; chunks and what is lost tile.
fn records(wal: &Wal, from: u64) -> Vec<(u64, String)> {
    let mut offset = from;
    let mut records = Vec::new();
    for read in reads(wal, from) {
        let chunk = match read {
            Read::Chunk(chunk) => chunk,
            Read::Lost { records, .. } => {
                assert_eq!(records.start, offset, "chunks tile");
                assert!(!records.is_empty(), "something is lost");
                offset = records.end;
                continue;
            }
            Read::Nothing | Read::Ended => unreachable!("it ends before"),
        };
        assert_eq!(chunk.first, offset, "chunks tile");
        offset = chunk.next;
        let ChunkKind::Records(marks) = &chunk.kind else { panic!("{chunk:?}") };
        let mut start = 0;
        for mark in marks {
            let bytes = &chunk.bytes[start..mark.end as usize];
            records.push((mark.offset, String::from_utf8_lossy(bytes).into_owned()));
            start = mark.end as usize;
        }
    }
    records
}

#[test]
fn what_was_appended_is_read_from_any_offset() {
    let world = World::new();
    let wal = world.open(0, SMALL);
    let mut expect = Vec::new();
    for n in 0..60 {
        let lines = format!("a{n}\n\n#header\nb{n}\n");
        assert_eq!(wal.append(batch("", n, &lines)), accepted(2));
        expect.extend([format!("a{n}"), format!("b{n}")]);
    }
    let expect: Vec<(u64, String)> = (0..).zip(expect).collect();
    assert!(world.segments().len() > 5, "segments are switched");
    for from in [0, 1, 57, 118, 120] {
        assert_eq!(records(&wal, from), expect[from as usize..], "from {from}");
    }
    drop(wal);
    let wal = world.open(3, SMALL);
    assert_eq!(records(&wal, 3), expect[3..]);
    assert_eq!(wal.take_damages(), []);
}

#[test]
fn a_key_counts_once_also_at_the_same_time_and_after_a_restart() {
    let world = World::new();
    let wal = world.open(0, SMALL);
    let answers: Vec<Accepted> = std::thread::scope(|scope| {
        let send = || wal.append(batch("k", 1, "a\nb\n")).unwrap();
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(send)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|answer| answer.count == 2));
    assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
    assert_eq!(records(&wal, 0).len(), 2);
    drop(wal);
    let wal = world.open(2, SMALL);
    let again = wal.append(batch("k", 2, "a\nb\n"));
    assert_eq!(again, Ok(Accepted { count: 2, repeated: true }));
    assert_eq!(wal.append(batch("k", 2, "a\nc\n")), Err(Refusal::KeyReused));
    assert_eq!(wal.append(batch("j", 2, "a\nb\n")), accepted(2));
}

#[test]
fn clients_share_a_sync() {
    let world = World::new();
    let wal = world.open(0, Options { segment_bytes: 1 << 20, ..SMALL });
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                (0..50).for_each(|_| assert_eq!(wal.append(batch("", 1, "a")), accepted(1)));
            });
        }
    });
    let figures = wal.figures();
    let syncs: u64 = figures.syncs.iter().sum();
    assert_eq!(records(&wal, 0).len(), 800);
    assert!(syncs < 800, "{syncs} syncs for 800 batches");
}

#[test]
fn it_is_full_until_commits_come() {
    let world = World::new();
    let wal = world.open(0, Options { uncommitted_bytes_max: 300, ..SMALL });
    let mut count = 0;
    let refusal = loop {
        match wal.append(batch("", 1, "0123456789")) {
            Ok(_) => count += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, Refusal::Full { max_bytes: 300, .. }), "{refusal}");
    assert!((4..=6).contains(&count), "{count}");
    wal.committed(count, 1).unwrap();
    assert_eq!(wal.append(batch("", 1, "0123456789")), accepted(1));
}

/// A disk whose syncs wait until they are let through.
#[derive(Clone, Default)]
struct SlowDisk(Arc<(Mutex<bool>, Condvar)>);

impl SlowDisk {
    fn let_through(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl Disk for SlowDisk {
    fn sync(&self, file: &File) -> io::Result<()> {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
        append::RealDisk.sync(file)
    }
}

/// Waits until so many bytes are queued; the deadline is far longer than that takes.
fn until_queued(wal: &Wal, bytes: u64) {
    let since = Instant::now();
    while wal.shared.lock().queue.bytes() != bytes {
        assert!(since.elapsed() < Duration::from_secs(60), "{bytes} bytes are not queued");
        std::thread::yield_now();
    }
}

#[test]
fn what_waits_for_the_disk_is_bounded_and_one_batch_is_always_taken() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::create(root.path(), Kind::Http, "ndjson").unwrap();
    let disk = SlowDisk::default();
    let size = batch("", 1, "0123456789").frame_bytes();
    let options = Options { queue_bytes_max: 2 * size, ..SMALL };
    let wal = Wal::open_on(disk.clone(), folder, 0, options).unwrap();
    std::thread::scope(|scope| {
        let send = || wal.append(batch("", 1, "0123456789"));
        let writing = scope.spawn(send);
        until_queued(&wal, size);
        let waiting = scope.spawn(send);
        until_queued(&wal, 2 * size);
        let refusal = send().unwrap_err();
        let expect = Refusal::Queue { queued_bytes: 2 * size, bytes: size, max_bytes: 2 * size };
        assert_eq!(refusal, expect);
        disk.let_through();
        assert_eq!(writing.join().unwrap(), accepted(1));
        assert_eq!(waiting.join().unwrap(), accepted(1));
    });
    let large = wal.append(batch("", 1, &"x".repeat(10 * size as usize)));
    assert_eq!(large, accepted(1), "alone it is taken");
    assert_eq!(records(&wal, 0).len(), 3, "what was refused is not there");
}

#[test]
fn the_oldest_arrival_is_told_once() {
    let world = World::new();
    let wal = world.open(0, SMALL);
    assert_eq!(wal.received(5), None);
    let earlier = Instant::now();
    let later = earlier + Duration::from_millis(5);
    for received in [later, earlier, later] {
        wal.append_received(batch("", 1, "a\nb"), received).unwrap();
    }
    assert_eq!(wal.received(1), None, "nothing ends there");
    assert_eq!(wal.received(2), Some(later));
    assert_eq!(wal.received(6), Some(earlier));
    assert_eq!(wal.received(6), None, "it was asked about");
}

#[test]
fn segments_are_freed_past_commit_and_horizon() {
    let world = World::new();
    let wal = world.open(0, SMALL);
    for n in 0..30 {
        let key = format!("k{n}");
        wal.append(batch(&key, 10_000, &"x".repeat(100))).unwrap();
    }
    let count = world.segments().len();
    wal.committed(30, 10_900).unwrap();
    assert_eq!(world.segments().len(), count, "keys are known for the horizon");
    wal.committed(15, 20_000).unwrap();
    let left = world.segments().len();
    assert_eq!(left, 1, "it never goes back: 30 are committed");
    drop(wal);
    let wal = world.open(30, Options { keep_records: 10, ..SMALL });
    for _ in 0..30 {
        wal.append(batch("", 10_000, &"x".repeat(100))).unwrap();
    }
    wal.committed(60, 20_000).unwrap();
    assert_eq!(records(&wal, 50).len(), 10, "the window is kept");
    assert!(records(&wal, 30).len() < 30, "and not much more");
}

#[test]
fn a_log_without_segments_goes_on_where_the_table_stands() {
    let world = World::new();
    drop(world.open(0, SMALL));
    let wal = world.open(7, SMALL);
    wal.append(batch("", 1, "a")).unwrap();
    assert_eq!(records(&wal, 7), [(7, "a".to_owned())]);
}

#[test]
fn a_folder_has_one_process_and_can_be_removed() {
    let world = World::new();
    let wal = world.open(0, SMALL);
    assert!(Folder::unlocked(world.root.path()).unwrap().is_empty());
    wal.append(batch("", 1, "a")).unwrap();
    assert!(!wal.is_committed());
    wal.committed(1, 1).unwrap();
    wal.remove().unwrap();
    assert_eq!(std::fs::read_dir(world.root.path()).unwrap().count(), 0);
}

#[test]
fn damage_while_it_runs_is_set_aside_and_reading_goes_on() {
    let world = World::new();
    let wal = world.open(0, Options { segment_bytes: 1 << 20, ..SMALL });
    for n in 0..3 {
        wal.append(batch("", 1, &format!("record {n}"))).unwrap();
    }
    let path = world.segments().remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let size = bytes.len() / 3;
    bytes[size + 20] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let offsets: Vec<u64> = records(&wal, 0).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(offsets, [0, 2]);
    let damages = wal.take_damages();
    let [Damage::Bytes { bytes, records, kept, .. }] = &damages[..] else { panic!("{damages:?}") };
    assert_eq!((bytes.clone(), records.clone()), (size as u64..2 * size as u64, 1..2));
    assert!(path.with_file_name(kept).exists());
    let lost: Vec<(Range<u64>, String)> = reads(&wal, 0)
        .into_iter()
        .filter_map(|read| match read {
            Read::Lost { records, reason } => Some((records, reason)),
            _ => None,
        })
        .collect();
    assert_eq!(lost, [(1..2, damages[0].to_string())]);
}

/// One thing that happens to a log.
#[derive(Clone, Debug)]
enum Step {
    /// A client sends a batch. With a key, one that was refused is sent again later.
    Send { keyed: bool, records: usize, fault: Option<Fault> },
    /// The table counts some of what it has not.
    Commit(prop::sample::Index),
    /// The process is killed; of what no sync has covered some bytes are on the disk. Then the
    /// clients send again what was refused.
    Crash { cut: prop::sample::Index, garbage: Vec<u8> },
}

fn step() -> impl Strategy<Value = Step> {
    let fault =
        prop_oneof![Just(Fault::Create), (0..200_usize).prop_map(Fault::Write), Just(Fault::Sync)];
    prop_oneof![
        6 => (any::<bool>(), 1..5_usize, prop::option::weighted(0.3, fault))
            .prop_map(|(keyed, records, fault)| Step::Send { keyed, records, fault }),
        2 => any::<prop::sample::Index>().prop_map(Step::Commit),
        2 => (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(cut, garbage)| Step::Crash { cut, garbage }),
    ]
}

/// A log with its table and its clients.
struct History {
    world: World,
    wal: Option<Wal>,
    /// What the table has.
    counted: Vec<String>,
    acknowledged: Vec<String>,
    /// Refused, and not to be sent again: may come back or not.
    unclear: Vec<String>,
    /// Refused, and to be sent again under the same key.
    refused: Vec<(String, Vec<String>)>,
}

impl History {
    fn wal(&self) -> &Wal {
        self.wal.as_ref().expect("it is open between two steps")
    }

    fn send(&mut self, key: String, lines: Vec<String>) {
        match self.wal().append(batch(&key, 1, &lines.join("\n"))) {
            Ok(accepted) => {
                assert_eq!(accepted.count as usize, lines.len());
                self.acknowledged.extend(lines);
            }
            Err(Refusal::Disk { .. }) if key.is_empty() => self.unclear.extend(lines),
            Err(Refusal::Disk { .. }) => self.refused.push((key, lines)),
            Err(refusal) => panic!("{refusal}"),
        }
    }

    fn commit(&mut self, index: prop::sample::Index) {
        let more = records(self.wal(), self.counted.len() as u64);
        let count = index.index(more.len() + 1);
        self.counted.extend(more.into_iter().take(count).map(|(_, record)| record));
        self.wal().committed(self.counted.len() as u64, 1).unwrap();
    }

    fn crash(&mut self, cut: prop::sample::Index, garbage: &[u8]) {
        let last = self.wal().shared.lock().segments.back().cloned();
        drop(self.wal.take());
        if let Some(Segment { path, size_bytes, .. }) = last {
            let mut bytes = std::fs::read(&path).unwrap();
            let durable = size_bytes as usize;
            bytes.truncate(durable + cut.index(bytes.len() - durable + 1));
            bytes.extend(garbage);
            std::fs::write(&path, bytes).unwrap();
        }
        self.wal = Some(self.world.open(self.counted.len() as u64, SMALL));
        for (key, lines) in std::mem::take(&mut self.refused) {
            self.send(key, lines);
        }
        assert!(self.refused.is_empty(), "nothing is wrong with the disk any more");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the disk refuses and whenever the process is killed: the records that were
    /// acknowledged are read, each once, and nothing else is.
    #[test]
    fn acknowledged_is_read_once_whatever_happens(
        steps in prop::collection::vec(step(), 1..40),
        end in any::<prop::sample::Index>(),
    ) {
        let world = World::new();
        let wal = Some(world.open(0, SMALL));
        let mut history = History {
            world,
            wal,
            counted: Vec::new(),
            acknowledged: Vec::new(),
            unclear: Vec::new(),
            refused: Vec::new(),
        };
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send { keyed, records, fault } => {
                    let key = if keyed { format!("key {number}") } else { String::new() };
                    let lines = (0..records).map(|n| format!("record {number}.{n}")).collect();
                    history.world.disk.set(fault);
                    history.send(key, lines);
                    history.world.disk.set(None);
                }
                Step::Commit(index) => history.commit(index),
                Step::Crash { cut, garbage } => history.crash(cut, &garbage),
            }
        }
        history.crash(end, b"");
        let more = records(history.wal(), history.counted.len() as u64);
        history.counted.extend(more.into_iter().map(|(_, record)| record));
        let mut found = history.counted.clone();
        found.sort();
        found.dedup();
        prop_assert_eq!(found.len(), history.counted.len(), "each once");
        for record in &history.acknowledged {
            prop_assert!(found.binary_search(record).is_ok(), "{} is lost", record);
        }
        let known = |one| history.acknowledged.contains(one) || history.unclear.contains(one);
        prop_assert!(found.iter().all(known));
    }

    /// A flipped bit or a cut anywhere: every record is read once, or its bytes are reported.
    #[test]
    fn what_is_damaged_is_reported(
        sizes in prop::collection::vec(1..60_usize, 1..30),
        file in any::<prop::sample::Index>(),
        bit in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let world = World::new();
        let wal = world.open(0, SMALL);
        for (n, size) in sizes.iter().enumerate() {
            wal.append(batch("", 1, &format!("{n} {}", "x".repeat(*size)))).unwrap();
        }
        let before = records(&wal, 0);
        drop(wal);
        let files = world.segments();
        let index = file.index(files.len());
        let mut bytes = std::fs::read(&files[index]).unwrap();
        let bit = bit.index(8 * bytes.len());
        if is_cut {
            bytes.truncate(bit / 8);
        } else {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        std::fs::write(&files[index], &bytes).unwrap();
        let wal = world.open(0, SMALL);
        let after = records(&wal, 0);
        let damages = wal.take_damages();
        prop_assert!(after.iter().all(|record| before.contains(record)));
        let lost: Vec<u64> =
            before.iter().filter(|one| !after.contains(one)).map(|one| one.0).collect();
        // Only a cut between two frames at the very end cannot be seen: no crash makes one,
        // since what was acknowledged was synced.
        let is_last = index + 1 == files.len();
        let is_unseen = is_last && is_cut;
        let is_told = lost.is_empty() || is_unseen || !damages.is_empty();
        prop_assert!(is_told, "{lost:?} are lost in silence");
        if !is_last {
            for offset in lost {
                let is_told = |damage: &Damage| match damage {
                    Damage::Bytes { records, .. } | Damage::Missing { records, .. } => {
                        records.contains(&offset)
                    }
                    Damage::Torn { .. } => false,
                };
                prop_assert!(damages.iter().any(is_told), "{offset} is not in {damages:?}");
            }
        }
        // Whatever was lost: what comes is read.
        wal.append(batch("", 1, "later")).unwrap();
        let last = records(&wal, 0).pop();
        prop_assert_eq!(last.map(|one| one.1), Some("later".to_owned()));
    }
}
