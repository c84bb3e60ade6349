//! `ninefold demo`: the service on made-up traffic, with nothing to set up.
//!
//! Thirty days of the past are counted first, so that every window and budget is real; then the
//! live stream begins where the past ended. All of it goes through the same decoding, commits
//! and table as `ninefold run`; the table lies in a temporary folder and goes with the demo.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use ninefold_engine::config::Config;
use ninefold_engine::decode::{self, Format};
use ninefold_engine::pipeline::Unit;
use ninefold_engine::slo::pool::Pools;
use ninefold_engine::source::chunk::{Chunk, ChunkKind, Tail};
use ninefold_engine::synth::demo::Demo;

use crate::live::{Begin, Message, Service, clock_ms, send};
use crate::{serve, states};

/// The name of the demo's only partition.
const PARTITION: &str = "demo/live";

/// How often the live stream is cut into a chunk.
const SLICE: Duration = Duration::from_millis(200);

/// The past is sent in chunks of at least this size.
const CHUNK_BYTES: usize = 1 << 20;

/// The incident begins so long after the page is up.
const INCIDENT_AFTER_MS: i64 = 15_000;

/// Commits come this often, so that the table is never far behind the page.
const COMMIT_INTERVAL_MS: u64 = 5_000;

/// Runs the demo until Ctrl-C, or for some seconds.
pub fn demo(port: Option<u16>, seed: u64, for_s: Option<u64>) -> anyhow::Result<ExitCode> {
    let folder = Folder::new()?;
    let demo = Arc::new(Mutex::new(Demo::new(seed, clock_ms())));
    let mut config = Config {
        commit_interval_ms: COMMIT_INTERVAL_MS,
        reserve_bytes: 0,
        snapshot_interval_ms: 0,
        ..Config::default()
    };
    for customer in states::lock(&demo).customers() {
        let (name, tier) = (customer.name.to_owned(), customer.tier.to_owned());
        config.objectives.tier_of.insert(name, tier);
    }
    config.pools = Arc::new(Pools::new(&[], &config.objectives));
    let service = Service::open(config, folder.0.join("rollups"))?;
    let (sender, messages) = sync_channel(8);
    let mut writer = ChunkWriter::begin(sender)?;
    let started = Instant::now();
    eprintln!("ninefold demo: counting 30 days of the past");
    let (lines, writer) = std::thread::scope(|scope| {
        let past = scope.spawn(|| -> anyhow::Result<_> {
            let lines = states::lock(&demo).history(&mut writer)?;
            writer.send()?;
            writer.end()?;
            Ok((lines, writer))
        });
        service.count_until_end(&messages)?;
        past.join().expect("the past is written without a panic")
    })?;
    eprintln!("{lines} lines counted and committed in {:.1} s", started.elapsed().as_secs_f64());
    let stop = Arc::clone(&service.stop);
    let announce = |url: &str| {
        let incident_from_ms = clock_ms() + INCIDENT_AFTER_MS;
        states::lock(&demo).incident_from_ms = Some(incident_from_ms);
        announce(url, &folder, incident_from_ms)?;
        std::thread::spawn(move || stream(&demo, writer, &stop, for_s));
        Ok(())
    };
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
    serve::beside(&service, listen, "demo", None, announce, || service.run(&messages))?;
    Ok(ExitCode::SUCCESS)
}

fn announce(url: &str, folder: &Folder, incident_from_ms: i64) -> io::Result<()> {
    let at = ninefold_engine::time::rfc3339(incident_from_ms);
    let data = folder.0.display();
    let mut out = io::stdout().lock();
    writeln!(out, "open {url}")?;
    writeln!(out, "a canary release goes wrong at {at}; table in {data}")?;
    writeln!(out, "ask from another terminal: ninefold top --data {data}")?;
    writeln!(out, "Ctrl-C ends the demo and removes the table")
}

/// Sends the live stream, slice by slice, until a stop.
fn stream(demo: &Mutex<Demo>, mut writer: ChunkWriter, stop: &AtomicBool, for_s: Option<u64>) {
    let started = Instant::now();
    let mut from_ms = i64::MIN;
    while !stop.load(Ordering::Relaxed) {
        let to_ms = clock_ms();
        let written = states::lock(demo).live(from_ms, to_ms, &mut writer);
        // The loop is gone where nothing can be sent: so is the demo.
        if written.is_err() || writer.send().is_err() {
            return;
        }
        from_ms = to_ms;
        if for_s.is_some_and(|seconds| started.elapsed() >= Duration::from_secs(seconds)) {
            stop.store(true, Ordering::Relaxed);
        }
        std::thread::sleep(SLICE);
    }
}

/// The folder of the table, removed with the demo.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Folder> {
        let name = format!("ninefold-demo-{}-{}", std::process::id(), clock_ms());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("ninefold: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Encoded lines in, chunks of the demo's partition out.
struct ChunkWriter {
    sender: SyncSender<Message>,
    bytes: Vec<u8>,
    offset: u64,
    tail: Tail,
}

impl ChunkWriter {
    fn begin(sender: SyncSender<Message>) -> anyhow::Result<ChunkWriter> {
        let decode = decode::Options { format: Format::Ndjson, ..decode::Options::default() };
        let (partition, label) = (PARTITION.to_owned(), "demo".to_owned());
        let place = (0, Tail::default());
        let (head, before) = (Vec::new(), None);
        let (generation, unit) = (0, Unit::Bytes);
        let begin = Begin { generation, unit, partition, label, decode, head, place, before };
        send(&sender, Message::Begin(Box::new(begin)))?;
        Ok(ChunkWriter { sender, bytes: Vec::new(), offset: 0, tail: Tail::default() })
    }

    /// Sends what was written: whole lines.
    fn send(&mut self) -> anyhow::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.bytes);
        self.tail.push(&bytes);
        let (first, tail) = (self.offset, self.tail.clone());
        self.offset += bytes.len() as u64;
        let chunk = Chunk { first, next: self.offset, kind: ChunkKind::Lines, bytes, tail };
        // The demo's table is its own: nobody fences it.
        let (generation, partition) = (0, PARTITION.to_owned());
        let arrived = Instant::now();
        send(&self.sender, Message::Chunk { generation, partition, chunk, arrived })
    }

    fn end(&self) -> anyhow::Result<()> {
        send(&self.sender, Message::PastEnded)
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() >= CHUNK_BYTES && self.bytes.ends_with(b"\n") {
            self.send().map_err(io::Error::other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send().map_err(io::Error::other)
    }
}
