//! Work on files that ends: counting them, proving the table against them, making them.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ninefold_engine::config::{self, Config};
use ninefold_engine::decode::{self, Format};
use ninefold_engine::pipeline::{self, Pipeline, PipelineError, verify::Verdict};
use ninefold_engine::query::body::ReplaySummary;
use ninefold_engine::source::chunk::Pace;
use ninefold_engine::source::file::{self, Opened};
use ninefold_engine::synth;
use ninefold_engine::table::Table;

use crate::{Place, show};

/// `ninefold replay`.
pub fn replay(place: &Place, files: &[String], format: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let mut config = load(place)?;
    set_format(&mut config, format)?;
    let paths = expand(files)?;
    let table = Table::open_or_create(&data(place, &config)?)?;
    let mut pipeline = Pipeline::new(options(&config), table, false, random_seed());
    let mut partitions = Vec::new();
    for path in &paths {
        if let Some(partition) = replay_one(&mut pipeline, path)? {
            partitions.push(partition);
        }
    }
    pipeline.commit(Vec::new())?;
    let summary = pipeline.summary(&partitions)?;
    if json {
        show::json(&summary)?;
    } else {
        show::summary(&summary)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Counts one file; its partition, where it is not empty.
fn replay_one(pipeline: &mut Pipeline, path: &Path) -> anyhow::Result<Option<String>> {
    if pipeline.is_parquet(path)? {
        return Ok(Some(pipeline.replay_parquet(path)?));
    }
    let Some(opened) = open(path, pipeline)? else { return Ok(None) };
    let partition = opened.partition.clone();
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
pub fn verify(place: &Place, files: &[String], format: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let mut config = load(place)?;
    set_format(&mut config, format)?;
    let table = open_table(&data(place, &config)?)?;
    let verdict: Verdict = pipeline::verify::verify(options(&config), &table, &expand(files)?)?;
    if json {
        show::json(&verdict)?;
    } else {
        show::verdict(&verdict)?;
    }
    Ok(ExitCode::from(u8::from(!verdict.equal)))
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
