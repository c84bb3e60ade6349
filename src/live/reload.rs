//! The configuration in force, and changing it while the service runs.
//!
//! At SIGHUP the file is read again. Where it has a problem, the old configuration stays, and
//! every problem is told as at the start. A good one is swapped in whole, at a commit boundary:
//! everything before it is counted and judged by the old one, everything after it by the new.
//! Changed SLI rules begin a new version of them there (column `rules` of the table); what was
//! counted stays as it is. What only a start can change stays as it was, and is named.

use std::sync::{Arc, RwLock};

use ninefold_engine::config::Config;
use ninefold_engine::pipeline::Pipeline;
use ninefold_engine::pipeline::follow::KAFKA;
use ninefold_engine::source::wal;

use super::Loop;
use crate::batch;

/// The configuration in force; clones are handles to the same one.
#[derive(Clone)]
pub struct Current(Arc<RwLock<Arc<Config>>>);

impl Current {
    /// Begins with `config`.
    pub fn new(config: Config) -> Current {
        Current(Arc::new(RwLock::new(Arc::new(config))))
    }

    /// The one in force.
    pub fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.read().expect("swapping a pointer does not panic"))
    }

    fn set(&self, config: Config) {
        *self.0.write().expect("swapping a pointer does not panic") = Arc::new(config);
    }
}

/// How the configuration is read again, with what the command line said put over it.
pub type Read = Box<dyn Fn() -> anyhow::Result<Config> + Send + Sync>;

impl Loop<'_> {
    /// Reads the configuration again; everything is committed.
    pub(super) fn reload(&mut self, pipeline: &mut Pipeline) -> anyhow::Result<()> {
        let Some(read) = &self.service.reread else { return Ok(()) };
        let old = self.service.config();
        let new = match read() {
            Ok(new) => new,
            Err(error) => {
                self.refused = Some(format!("{error:#}"));
                eprintln!("ninefold: the configuration stays as it was: {error:#}");
                return Ok(());
            }
        };
        self.refused = None;
        let (new, fixed) = live_part(&old, new);
        for key in fixed {
            eprintln!("ninefold: {key} has changed: it takes a restart");
        }
        let refolds = new.slis != old.slis || new.pools != old.pools;
        let form_changes = new.decode != old.decode || new.sources != old.sources;
        pipeline.set_options(batch::options(&new));
        self.service.config.set(new);
        if form_changes {
            // Everything is committed: they begin again where they stand, in the new form.
            let kafka = |name: &&str| name.starts_with(KAFKA);
            let owned: Vec<String> = pipeline.owned().filter(kafka).map(str::to_owned).collect();
            owned.iter().for_each(|name| pipeline.release(name));
            self.service.restart_sources();
        }
        eprintln!("ninefold: the configuration was read again");
        // Series have a place for each SLI, and customers one in a pool: where these differ, the
        // same rows are folded afresh.
        if refolds { self.rebuild(pipeline) } else { Ok(()) }
    }
}

/// The new configuration as far as it can change in a running service, and the names of what
/// cannot and differs.
fn live_part(old: &Config, new: Config) -> (Config, Vec<&'static str>) {
    let mut fixed = Vec::new();
    // Of Kafka's source, what becomes of records; a partition that is stopped needs it.
    let mut sources = old.sources.clone();
    if let (Some(kafka), Some(new)) = (&mut sources.kafka, &new.sources.kafka) {
        kafka.pause_on_flood = new.pause_on_flood;
        kafka.format = new.format;
        kafka.service.clone_from(&new.service);
    }
    let takes_decode = sources.kafka.is_some() && new.decode.attributes == old.decode.attributes;
    let mut note = |name: &'static str, differs: bool| {
        if differs {
            fixed.push(name);
        }
    };
    note("[table] dir", new.data != old.data);
    note("[table] reserve", new.reserve_bytes != old.reserve_bytes);
    note("[memory]", new.memory != old.memory);
    note("[api] listen", new.listen != old.listen);
    note("[[api.token]], [api] tls_… or insecure", new.access != old.access);
    let connections = |config: &Config| (config.header_timeout_ms, config.connections_max);
    note("[api] header_timeout or connections_max", connections(&new) != connections(old));
    let told = |config: &Config| (config.receivers.clone(), config.routes.clone());
    note("[[notify]] or [[route]]", told(&new) != told(old));
    note("[[silence]]", new.silences != old.silences);
    let metrics = |config: &Config| (config.metrics_customers_max, config.remote_write.clone());
    note("[metrics] or [remote_write]", metrics(&new) != metrics(old));
    note("[source]", new.sources != sources);
    // Its bound for what waits for the disk is a part of the memory.
    let queue_bytes_max = old.wal.queue_bytes_max;
    let wal = wal::Options { queue_bytes_max, ..new.wal };
    note("[wal]", (wal, &new.wal_dir) != (old.wal, &old.wal_dir));
    let others = !sources.files.is_empty() || sources.http.is_some() || sources.stdin.is_some();
    note(
        "[decode] of other sources than Kafka",
        takes_decode && others && new.decode != old.decode,
    );
    note("[decode] or [dimensions] attributes", !takes_decode && new.decode != old.decode);
    note("[dimensions] values_max", new.dimension_values_max != old.dimension_values_max);
    let windows = |config: &Config| (config.dedupe_window_bytes, config.dedupe_window_records);
    note("[dedupe]", windows(&new) != windows(old));
    note("[run] threads", new.threads != old.threads);
    let config = Config {
        data: old.data.clone(),
        reserve_bytes: old.reserve_bytes,
        memory: old.memory,
        listen: old.listen,
        access: old.access.clone(),
        header_timeout_ms: old.header_timeout_ms,
        connections_max: old.connections_max,
        receivers: old.receivers.clone(),
        routes: old.routes.clone(),
        silences: old.silences.clone(),
        metrics_customers_max: old.metrics_customers_max,
        remote_write: old.remote_write.clone(),
        sources,
        wal: old.wal,
        wal_dir: old.wal_dir.clone(),
        decode: if takes_decode { new.decode.clone() } else { old.decode.clone() },
        dimension_values_max: old.dimension_values_max,
        dedupe_window_bytes: old.dedupe_window_bytes,
        dedupe_window_records: old.dedupe_window_records,
        threads: old.threads,
        ..new
    };
    (config, fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_alone_can_change_stays_and_is_named() {
        let parse = |text: &str| Config::parse(text, "c.toml").unwrap();
        let old = parse("[run]\nthreads = 2\n[table]\ndir = \"a\"\n");
        let text = "[run]\nthreads = 3\ncommit_interval = \"1s\"\n[table]\ndir = \"b\"\n\
                    [dedupe]\nwindow_bytes = \"1MiB\"\n[[objective]]\nname = \"availability\"\n\
                    target = 0.9\n";
        let (new, fixed) = live_part(&old, parse(text));
        assert_eq!(fixed, ["[table] dir", "[dedupe]", "[run] threads"]);
        assert_eq!((new.threads, new.data.clone()), (old.threads, old.data.clone()));
        assert_eq!(new.commit_interval_ms, 1_000);
        assert_ne!(new.objectives, old.objectives);
        assert_eq!(live_part(&old, old.clone()).1, [""; 0]);
    }

    #[test]
    fn what_becomes_of_records_of_kafka_changes_at_once() {
        let parse = |more: &str| {
            let text = "[source.kafka]\nbrokers = [\"b:1\"]\ntopics = [\"t\"]\n";
            Config::parse(&format!("{text}{more}"), "c.toml").unwrap()
        };
        let old = parse("");
        let (new, fixed) =
            live_part(&old, parse("flood = \"count\"\n[decode.fields]\ncustomer = \"who\"\n"));
        assert_eq!(fixed, [""; 0]);
        assert!(!new.sources.kafka.as_ref().unwrap().pause_on_flood);
        assert_ne!(new.decode, old.decode);
        let (new, fixed) =
            live_part(&old, parse("group = \"g\"\n[dimensions]\nattributes = [\"a\"]"));
        assert_eq!(fixed, ["[source]", "[decode] or [dimensions] attributes"]);
        assert_eq!((&new.decode, &new.sources), (&old.decode, &old.sources));
    }
}
