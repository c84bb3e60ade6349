//! Proofs of a table for those who run it: the audit, the doctor, and the gaps that they accept.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use ninefold_engine::audit::{self, Advice, Audit, Finding, Level};
use ninefold_engine::config::{Budget, Config};
use ninefold_engine::pipeline::gap::{self, gaps_in};
use ninefold_engine::query::body::DataGap;
use ninefold_engine::report::text::{Side, aligned, printable};
use ninefold_engine::slo::period::month_range;
use ninefold_engine::source::wal;
use ninefold_engine::table::{Filter, Table};
use ninefold_engine::time::Minute;
use serde::Serialize;

use crate::states::open_table;
use crate::{Place, Usage, batch, limits, live, show};

/// `ninefold audit`: exit 1 where something does not hold.
pub fn audit(place: &Place, json: bool) -> anyhow::Result<ExitCode> {
    let dir = batch::table_dir(place, &batch::load(place)?)?;
    let Some(audit) = audit::audit(&dir, live::clock_ms())? else {
        // The message of a table that is missing is the one of every command.
        return open_table(&dir).map(|_| ExitCode::FAILURE);
    };
    if json {
        show::json(&audit)?
    } else {
        show_audit(&audit)?
    }
    Ok(ExitCode::from(u8::from(!audit.clean)))
}

fn show_audit(audit: &Audit) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Audit { version, entries, files, rows, findings_count, .. } = audit;
    writeln!(out, "version {version}: {entries} log entries, {files} data files, {rows} rows")?;
    for one in &audit.partitions {
        let name = if one.name.is_empty() { String::new() } else { format!(" ({})", one.name) };
        let place = format!("{}{name}: offsets {}..{}", one.partition, one.first, one.next);
        let (read, counted, dead, duplicate) = (one.read, one.counted, one.dead, one.duplicate);
        writeln!(out, "{}", printable(&place))?;
        writeln!(
            out,
            "  {read} read = {counted} counted + {dead} dead + {duplicate} duplicate; {} holes; \
             {} events; {} offsets in gaps",
            one.holes, one.events, one.gap
        )?;
    }
    for gap in &audit.gaps {
        let audit::Gap { partition, first, next, reason } = gap;
        writeln!(out, "gap: {}", printable(&format!("{partition} {first}..{next}: {reason}")))?;
    }
    for note in &audit.notes {
        writeln!(out, "note: {}", printable(note))?;
    }
    for finding in &audit.findings {
        writeln!(out, "finding: {}", printable(&told(finding)))?;
        writeln!(out, "  remedy: {}", printable(&finding.remedy))?;
    }
    match *findings_count {
        0 => writeln!(out, "clean: everything holds"),
        count => writeln!(out, "{count} findings"),
    }
}

/// A finding with its place.
fn told(finding: &Finding) -> String {
    let mut told = finding.proof.to_owned();
    if let Some(file) = &finding.file {
        told.push_str(&format!(", {file}"));
    }
    if let Some(partition) = &finding.partition {
        told.push_str(&format!(", {partition}"));
    }
    if let Some(offset) = finding.offset {
        told.push_str(&format!(" at {offset}"));
    }
    format!("{told}: {}", finding.found)
}

/// What `doctor --json` prints.
#[derive(Serialize)]
struct Advices {
    /// Whether nothing is an error.
    healthy: bool,
    advice: Vec<Advice>,
}

/// `ninefold doctor`: exit 1 where something does not work.
pub fn doctor(place: &Place, json: bool) -> anyhow::Result<ExitCode> {
    let config = batch::load(place)?;
    let dir = batch::table_dir(place, &config)?;
    let mut advice = audit::doctor(&dir, live::clock_ms());
    advice.push(zones());
    advice.push(memory(&config));
    advice.extend(set_aside(&live::push::root(&config, &dir)));
    #[cfg(feature = "kafka")]
    if let Some(source) = &config.sources.kafka {
        advice.extend(crate::kafka::advice(&config, source, &dir));
        advice.extend(topics(source));
    }
    let healthy = advice.iter().all(|one| one.level < Level::Error);
    if json {
        show::json(&Advices { healthy, advice })?;
    } else {
        show_advice(&advice)?;
    }
    Ok(ExitCode::from(u8::from(!healthy)))
}

fn show_advice(advice: &[Advice]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for Advice { level, about, found, remedy } in advice {
        let level = match level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "ERROR",
        };
        writeln!(out, "{level:<8} {}: {}", printable(about), printable(found))?;
        if !remedy.is_empty() {
            writeln!(out, "         {}", printable(remedy))?;
        }
    }
    Ok(())
}

/// Whether time zones are known: reports of calendar months need them.
fn zones() -> Advice {
    match month_range("2026-03", "Europe/Berlin") {
        Ok(_) => Advice::ok("time zones", "the database of time zones is there"),
        Err(error) => {
            let remedy = "install the time zone database (tzdata), or set report zones to UTC";
            Advice::new(Level::Error, "time zones", error.to_string(), remedy)
        }
    }
}

/// Whether topics of Kafka keep their records long enough.
#[cfg(feature = "kafka")]
fn topics(source: &ninefold_engine::config::KafkaSource) -> Vec<Advice> {
    let warning = |found: String, remedy: &'static str| {
        Advice::new(Level::Warning, "retention", found, remedy)
    };
    match live::kafka::retention::of(source) {
        Ok(short) if short.is_empty() => {
            vec![Advice::ok("retention", "topics keep their records for a day at least")]
        }
        Ok(short) => {
            let remedy = "raise retention.ms of the topic";
            short.into_iter().map(|found| warning(found, remedy)).collect()
        }
        Err(error) => {
            vec![warning(format!("{error:#}"), "see whether the brokers are up and reachable")]
        }
    }
}

/// Whether the configured parts fit the memory that this process may have.
fn memory(config: &Config) -> Advice {
    match limits::budget(config) {
        Ok(Budget { total, queue, uncommitted, series, dedupe, wal }) => {
            let mib = |bytes: u64| bytes >> 20;
            let found = format!(
                "{} MiB: queue {}, uncommitted {}, series {}, dedupe {} for each partition, wal {}",
                mib(total),
                mib(queue),
                mib(uncommitted),
                mib(series),
                mib(dedupe),
                mib(wal)
            );
            Advice::ok("memory", found)
        }
        // It says itself what to do.
        Err(error) => Advice::new(Level::Error, "memory", format!("{error:#}"), ""),
    }
}

/// Segments of write-ahead logs that were found damaged, and kept under a second name.
fn set_aside(logs: &Path) -> Option<Advice> {
    let folders = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = folders(logs).flat_map(|log| folders(&log.path()));
    let mut kept: Vec<String> = files
        .map(|file| file.path().display().to_string())
        .filter(|name| name.ends_with(wal::KEPT))
        .collect();
    kept.sort();
    let found = format!("{} damaged segments were set aside: {}", kept.len(), kept.join(", "));
    let remedy = "records in them may be lost: `source list` shows holes; look at the disk, and \
                  delete these files once they are not needed";
    (!kept.is_empty()).then(|| Advice::new(Level::Warning, "write-ahead log", found, remedy))
}

/// What `source list --json` prints.
#[derive(Serialize)]
struct Sources {
    version: u64,
    partitions: Vec<SourcePartition>,
    gaps: Vec<DataGap>,
}

#[derive(Serialize)]
struct SourcePartition {
    partition: String,
    name: String,
    /// One past the last offset that was counted.
    next: u64,
    read: u64,
    counted: u64,
    dead: u64,
    duplicate: u64,
    holes: u64,
}

/// `ninefold source list`.
pub fn source_list(place: &Place, json: bool) -> anyhow::Result<ExitCode> {
    let table = open_table(&batch::table_dir(place, &batch::load(place)?)?)?;
    let sources = Sources {
        version: table.version(),
        partitions: partitions_of(&table)?,
        gaps: gaps_in(&table, &(Minute(0)..=Minute(u32::MAX)))?,
    };
    if json {
        show::json(&sources)?
    } else {
        show_sources(&sources)?
    }
    Ok(ExitCode::SUCCESS)
}

fn partitions_of(table: &Table) -> anyhow::Result<Vec<SourcePartition>> {
    let empty = |(partition, next): (String, u64)| SourcePartition {
        partition,
        name: String::new(),
        next,
        read: 0,
        counted: 0,
        dead: 0,
        duplicate: 0,
        holes: 0,
    };
    let mut partitions: Vec<SourcePartition> = table.offsets().into_iter().map(empty).collect();
    let mut named = vec![0; partitions.len()];
    table.for_each_source(&Filter::default(), |row| {
        let at = partitions.binary_search_by(|one| one.partition.as_str().cmp(row.partition));
        let Ok(at) = at else { return };
        let one = &mut partitions[at];
        if row.next >= named[at] {
            (named[at], one.name) = (row.next, row.name.to_owned());
        }
        one.read += row.read;
        one.counted += row.counted;
        one.dead += row.dead;
        one.duplicate += row.duplicate;
        one.holes += row.holes;
    })?;
    Ok(partitions)
}

fn show_sources(sources: &Sources) -> io::Result<()> {
    let columns = [
        ("partition", Side::Left),
        ("next", Side::Right),
        ("read", Side::Right),
        ("counted", Side::Right),
        ("dead", Side::Right),
        ("duplicate", Side::Right),
        ("holes", Side::Right),
        ("name", Side::Left),
    ];
    let row = |one: &SourcePartition| {
        let counts = [one.next, one.read, one.counted, one.dead, one.duplicate, one.holes];
        let counts = counts.map(|count| count.to_string());
        let names = [one.partition.clone(), one.name.clone()];
        let [partition, name] = names;
        std::iter::once(partition).chain(counts).chain([name]).collect()
    };
    let rows: Vec<Vec<String>> = sources.partitions.iter().map(row).collect();
    let mut text = aligned(&columns, &rows);
    for gap in &sources.gaps {
        text.push_str(&format!("{}\n", printable(&gap.to_string())));
    }
    show::text(&text)
}

/// `ninefold source skip`.
pub fn source_skip(
    place: &Place,
    partition: &str,
    to: u64,
    reason: &str,
    yes: bool,
) -> anyhow::Result<ExitCode> {
    let dir = batch::table_dir(place, &batch::load(place)?)?;
    let mut table = open_table(&dir)?;
    if !yes {
        return Err(unconfirmed(&table, &dir, partition, to)?);
    }
    let reason = match std::env::var("USER") {
        Ok(user) if !user.is_empty() => format!("{reason} ({user})"),
        _ => reason.to_owned(),
    };
    let now = Minute::of_ms(live::clock_ms());
    let (first, version) = gap::accept(&mut table, partition, to, &reason, now)?;
    let told = format!("{partition}: offsets {first}..{to} are a gap as of version {version}");
    show::text(&format!("{}\n", printable(&told)))?;
    Ok(ExitCode::SUCCESS)
}

/// What a gap would leave out, to somebody who has not said yes.
fn unconfirmed(
    table: &Table,
    dir: &Path,
    partition: &str,
    to: u64,
) -> anyhow::Result<anyhow::Error> {
    let Some(first) = table.offset(partition)? else {
        return Ok(gap::GapError::Unknown { partition: partition.to_owned() }.into());
    };
    let said = format!(
        "offsets {first}..{to} of {partition} would never be counted into {}, which cannot be \
         undone; say --yes to do it",
        dir.display()
    );
    Ok(Usage(said).into())
}
