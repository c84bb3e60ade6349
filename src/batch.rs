//! Work on files that ends: counting them, proving the table against them, making them.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use ninefold_engine::config::{self, Config};
use ninefold_engine::decode::{self, Decoder, Format, Line};
use ninefold_engine::pipeline::{self, Pipeline, PipelineError, verify::Verdict};
use ninefold_engine::report::text::printable;
use ninefold_engine::source::chunk::Pace;
use ninefold_engine::source::file::{self, Opened};
use ninefold_engine::synth;
use ninefold_engine::table::{Filter, Table};
use ninefold_engine::time::Minute;

use crate::states::open_table;
use crate::{Place, Usage, limits, show};

/// Files on a command line.
pub struct Files {
    /// Names and globs; `-` is standard input.
    pub files: Vec<String>,
    /// Their format; told from their first lines unless given.
    pub format: Option<Format>,
    /// Say of each where its counting goes on.
    pub verbose: bool,
}

/// `ninefold replay`.
pub fn replay(place: &Place, files: &Files, json: bool) -> anyhow::Result<ExitCode> {
    let mut config = load(place)?;
    set_format(&mut config, files.format);
    let paths = expand(&files.files)?;
    let table = Table::open_or_create(&table_dir(place, &config)?)?;
    let mut pipeline = Pipeline::new(options(&config), table, false, random_seed());
    limits::bound(&mut pipeline, &limits::budget(&config)?, &config);
    let mut partitions = Vec::new();
    for path in &paths {
        if let Some(partition) = replay_one(&mut pipeline, path, files.verbose)? {
            partitions.push(partition);
        }
    }
    pipeline.commit()?;
    let summary = pipeline.summary(&partitions)?;
    if json {
        show::json(&summary)?;
    } else {
        // There is no need to look for what is not there.
        let reasons = match summary.dead + summary.already {
            0 => Vec::new(),
            _ => dead_reasons(pipeline.table(), &partitions)?,
        };
        show::summary(&summary, &reasons)?;
    }
    // The process ends: its memory is given back as a whole, not name by name before.
    std::mem::forget(pipeline);
    Ok(ExitCode::SUCCESS)
}

/// Why lines of these partitions are dead, and how many for each reason; the most first.
fn dead_reasons(table: &Table, partitions: &[String]) -> anyhow::Result<Vec<(String, u64)>> {
    let mut reasons: HashMap<String, u64> = HashMap::new();
    table.for_each_dead(&Filter::default(), |row| {
        if partitions.iter().any(|partition| partition == row.partition) {
            *reasons.entry(row.reason.to_owned()).or_default() += 1;
        }
    })?;
    let mut reasons: Vec<(String, u64)> = reasons.into_iter().collect();
    reasons.sort_unstable_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
    Ok(reasons)
}

/// Counts one file; its partition, where it is not empty.
fn replay_one(
    pipeline: &mut Pipeline,
    path: &Path,
    verbose: bool,
) -> anyhow::Result<Option<String>> {
    if pipeline.is_parquet(path)? {
        return Ok(Some(pipeline.replay_parquet(path)?));
    }
    let Some(opened) = open(path, pipeline)? else { return Ok(None) };
    let partition = opened.partition.clone();
    if verbose {
        eprintln!("ninefold: {}: {partition} from byte {}", path.display(), opened.offset);
    }
    let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let bar = progress(size, path);
    pipeline.replay(path, opened, &|offset| bar.set_position(offset))?;
    bar.finish_and_clear();
    Ok(Some(partition))
}

fn open(path: &Path, pipeline: &Pipeline) -> Result<Option<Opened>, PipelineError> {
    let known = pipeline.known()?;
    if path == Path::new("-") {
        return Ok(file::open_stream(std::io::stdin(), Pace::Full, &known)?);
    }
    Ok(file::open(path, &known)?)
}

/// `ninefold verify`: exit 1 where the table differs from its source.
pub fn verify(place: &Place, files: &Files, json: bool) -> anyhow::Result<ExitCode> {
    let mut config = load(place)?;
    set_format(&mut config, files.format);
    let table = open_table(&table_dir(place, &config)?)?;
    let paths = expand(&files.files)?;
    let mut verdict: Verdict = pipeline::verify::verify(options(&config), &table, &paths)?;
    if paths.is_empty() {
        verify_topics(&config, &table, &mut verdict)?;
        verdict = verdict.judged();
    }
    if json {
        show::json(&verdict)?;
    } else {
        show::verdict(&verdict)?;
    }
    Ok(ExitCode::from(u8::from(!verdict.equal)))
}

/// Adds the topics of the configuration to a verdict.
#[cfg(feature = "kafka")]
fn verify_topics(config: &Config, table: &Table, verdict: &mut Verdict) -> anyhow::Result<()> {
    let said = "what is the source? Name files, or give the configuration of [source.kafka]";
    let source = config.sources.kafka.as_ref().ok_or_else(|| Usage(said.to_owned()))?;
    crate::kafka::verify(config, source, &options(config), table, verdict)
}

#[cfg(not(feature = "kafka"))]
fn verify_topics(_: &Config, _: &Table, _: &mut Verdict) -> anyhow::Result<()> {
    Err(Usage("name files: this program was built without Kafka".to_owned()).into())
}

/// `ninefold check`.
pub fn check(path: &Path) -> anyhow::Result<ExitCode> {
    let config = load_file(path)?;
    let mut out = std::io::stdout().lock();
    for line in config::check_report(&config) {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `ninefold init`.
pub fn init(sample: Option<PathBuf>, output: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let sample = sample.as_deref().map(config_sample).transpose()?;
    let text = config::template(sample);
    match output {
        None => std::io::stdout().write_all(text.as_bytes())?,
        Some(path) => {
            let mut file = File::create_new(&path)
                .with_context(|| format!("cannot write {}: give a new file", path.display()))?;
            file.write_all(text.as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The arguments of `ninefold generate`.
#[derive(Args)]
pub struct GenerateArgs {
    /// Where to write; standard output unless given. The truth goes to FILE.truth.json.
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Names the data among all that the other options could give.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// How many lines.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    events: u64,
    /// How many customers.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    customers: u32,
    /// The span of event time in days.
    #[arg(long, default_value_t = 1.0, value_name = "D")]
    days: f64,
    /// Its first minute.
    #[arg(long, default_value = "2025-12-01T00:00:00Z", value_name = "TIME")]
    #[arg(value_parser = crate::minute)]
    start: Minute,
    /// Zipf's exponent of the customers: 0 = all alike.
    #[arg(long, default_value_t = 1.1, value_name = "S")]
    zipf: f64,
    /// The share of requests that fail outside incidents.
    #[arg(long, default_value_t = 0.0005, value_name = "RATIO")]
    error_ratio: f64,
    /// How many services, at most 7.
    #[arg(long, default_value_t = 7, value_name = "N")]
    services: u32,
    /// What goes wrong, several times if given several times:
    /// `release=r42,cohort=canary,from=12:00,minutes=20,rate=0.2,latency=2.5`.
    #[arg(long, value_name = "INCIDENT")]
    incident: Vec<synth::Incident>,
    /// Lines stand up to so many seconds behind their time.
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    disorder: f64,
    /// The share of lines that come much later still.
    #[arg(long, default_value_t = 0.0, value_name = "RATIO")]
    late_share: f64,
    /// By how much at most, as a share of the span.
    #[arg(long, default_value_t = 1.0 / 3.0, value_name = "RATIO", hide_default_value = true)]
    late_up_to: f64,
    /// The share of lines that stand for several requests.
    #[arg(long, default_value_t = 0.0, value_name = "RATIO")]
    weights: f64,
    /// The share of lines that are broken.
    #[arg(long, default_value_t = 0.0, value_name = "RATIO")]
    broken: f64,
    /// The share of lines that carry an id.
    #[arg(long, default_value_t = 0.0, value_name = "RATIO")]
    ids: f64,
    /// The share of lines that repeat an earlier one with its id.
    #[arg(long, default_value_t = 0.0, value_name = "RATIO")]
    duplicates: f64,
    /// Names and spellings that break trusting software.
    #[arg(long)]
    hostile: bool,
    /// The native form, or a web server's Combined log.
    #[arg(long, value_enum, default_value_t = LineForm::Ndjson)]
    format: LineForm,
    /// Times as epoch milliseconds, or in RFC 3339.
    #[arg(long, value_enum, default_value_t = TimeForm::Epoch)]
    time: TimeForm,
}

/// How `generate` writes a line.
#[derive(Clone, Copy, ValueEnum)]
enum LineForm {
    Ndjson,
    Combined,
}

/// How `generate` writes `ts`.
#[derive(Clone, Copy, ValueEnum)]
enum TimeForm {
    Epoch,
    Rfc3339,
}

impl GenerateArgs {
    fn options(&self) -> anyhow::Result<synth::Options> {
        let options = synth::Options {
            seed: self.seed,
            events: self.events,
            customers: self.customers,
            days: self.days,
            start_ms: self.start.start_ms(),
            zipf: self.zipf,
            error_ratio: self.error_ratio,
            services: self.services,
            incidents: self.incident.clone(),
            disorder_s: self.disorder,
            late_share: self.late_share,
            late_up_to: self.late_up_to,
            weights: self.weights,
            broken: self.broken,
            ids: self.ids,
            duplicates: self.duplicates,
            hostile: self.hostile,
            format: match self.format {
                LineForm::Ndjson => synth::Format::Ndjson,
                LineForm::Combined => synth::Format::Combined,
            },
            time: match self.time {
                TimeForm::Epoch => synth::TimeForm::Epoch,
                TimeForm::Rfc3339 => synth::TimeForm::Rfc3339,
            },
        };
        options.check()?;
        Ok(options)
    }
}

/// `ninefold generate`.
pub fn generate(args: &GenerateArgs) -> anyhow::Result<ExitCode> {
    let options = args.options()?;
    let truth = match args.out.as_deref() {
        None => {
            let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
            let truth = synth::generate(&options, &mut out)?;
            out.flush()?;
            truth
        }
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            let mut out = BufWriter::with_capacity(1 << 20, file);
            let truth = synth::generate(&options, &mut out)?;
            out.flush()?;
            let beside = PathBuf::from(format!("{}.truth.json", path.display()));
            std::fs::write(&beside, serde_json::to_string_pretty(&truth)?)
                .with_context(|| format!("cannot write {}", beside.display()))?;
            truth
        }
    };
    let (lines, total) = (truth.lines, truth.total);
    eprintln!("{lines} lines: {} valid events, {} bad", total.valid, total.bad);
    Ok(ExitCode::SUCCESS)
}

/// The configuration of a command.
pub fn load(place: &Place) -> anyhow::Result<Config> {
    let Some(path) = place.config.as_deref() else { return Ok(Config::default()) };
    let config = load_file(path)?;
    if let Some(threads) = config.threads {
        // Where the command line has said how many, the pool is there and this changes nothing.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    Ok(config)
}

/// `ninefold import openslo`.
pub fn import(file: &Path) -> anyhow::Result<ExitCode> {
    let name = file.display();
    let text = match file.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    let text = text.with_context(|| format!("cannot read {name}"))?;
    let imported = config::import_openslo(&text).with_context(|| format!("{name}"))?;
    for one in &imported.unsupported {
        eprintln!("ninefold: {}", printable(one));
    }
    show::text(&imported.toml)?;
    Ok(ExitCode::SUCCESS)
}

fn load_file(path: &Path) -> anyhow::Result<Config> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    Config::parse(&text, &name).map_err(|problems| {
        let text = problems.to_string();
        let count = text.lines().count();
        let plural = if count == 1 { "" } else { "s" };
        anyhow::anyhow!("{name} has {count} problem{plural}\n{text}")
    })
}

/// The folder of the table: `rollups` in the data folder, so that more can stand beside it.
pub fn table_dir(place: &Place, config: &Config) -> anyhow::Result<PathBuf> {
    let data = place.data.clone().or_else(|| config.data.clone());
    let takes = "where is the table? give --data DIR, or [table] dir in the configuration";
    Ok(data.ok_or_else(|| Usage(takes.to_owned()))?.join("rollups"))
}

/// What `--format` says.
pub fn set_format(config: &mut Config, format: Option<Format>) {
    config.decode.format = format.unwrap_or(config.decode.format);
}

/// Files and globs as paths; a name that matches nothing is an error.
pub fn expand(files: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for file in files {
        if file == "-" || Path::new(file).exists() {
            paths.push(PathBuf::from(file));
            continue;
        }
        let before = paths.len();
        for path in glob::glob(file).with_context(|| format!("{file:?} is no glob"))? {
            paths.push(path?);
        }
        if paths.len() == before {
            bail!("{file}: no such file, and no file matches it as a pattern");
        }
    }
    Ok(paths)
}

/// What the pipeline takes of a configuration.
pub fn options(config: &Config) -> pipeline::Options {
    pipeline::Options {
        slis: config.slis.clone(),
        decode: config.decode.clone(),
        dimension_values_max: config.dimension_values_max,
        dedupe_window_bytes: config.dedupe_window_bytes,
        dedupe_window_records: config.dedupe_window_records,
        dedupe_ids_max: limits::dedupe_ids_max(config),
        pools: Arc::clone(&config.pools),
        epoch_events_max: config.epoch_events_max,
    }
}

/// A seed that nobody outside can guess: the standard library seeds its maps at random.
pub fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// What `init` finds in a sample.
fn config_sample(path: &Path) -> anyhow::Result<config::Sample> {
    let opened = file::open(path, &[])?;
    let opened = opened.with_context(|| format!("{} is empty", path.display()))?;
    let options = decode::Options::default();
    let format = decode::detect(&opened.head, &options)
        .with_context(|| format!("{} is of no known format", path.display()))?;
    let mut decoder = Decoder::new(&options, format);
    let mut services = BTreeSet::new();
    for line in opened.head.split(|byte| *byte == b'\n') {
        if let Line::Event(event) = decoder.decode(line) {
            services.insert(event.service.to_owned());
        }
    }
    Ok(config::Sample {
        path: path.display().to_string(),
        format: format.to_string(),
        customer_field: None,
        services: services.into_iter().collect(),
    })
}

/// A bar on a terminal, nothing elsewhere.
fn progress(size: u64, path: &Path) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}")
            .expect("the template is well-formed");
    let bar = ProgressBar::new(size).with_style(style);
    bar.set_message(path.display().to_string());
    bar
}
