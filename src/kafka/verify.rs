//! The table against its topics: each partition is read once more, from the first offset that
//! the brokers still have up to the committed one.

use anyhow::Context;
use ninefold_engine::config::{Config, KafkaSource};
use ninefold_engine::pipeline::verify::{Recorded, Verdict, recounts_from};
use ninefold_engine::pipeline::{Options, Unit};
use ninefold_engine::source::kafka::place::{Obstacle, check_cluster, check_span};
use ninefold_engine::source::kafka::{cluster_of, split};
use ninefold_engine::table::Table;

use super::{Topics, decode_of, newest_rows};

/// Adds every partition that the table knows of the topics of a source.
///
/// # Errors
/// The brokers cannot be reached, are of another cluster, or fall silent; the table cannot be
/// read.
pub fn verify(
    config: &Config,
    source: &KafkaSource,
    options: &Options,
    table: &Table,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let topics = Topics::reach(source)?;
    let rows = newest_rows(table)?;
    let offsets = table.offsets();
    let known = offsets.iter().filter_map(|(name, next)| {
        let (topic, number) = split(name)?;
        source.topics.iter().any(|one| one == topic).then_some((name, topic, number, *next))
    });
    let known: Vec<_> = known.collect();
    let uncounted = |topic: &&String| !known.iter().any(|(_, known, ..)| known == topic);
    verdict.unknown.extend(source.topics.iter().filter(uncounted).cloned());
    for (name, topic, number, next) in known {
        let cluster = rows.get(name).and_then(|row| cluster_of(&row.label, topic, number));
        check_cluster(cluster, &topics.cluster)?;
        if !topics.partitions(topic)?.contains(&number) {
            verdict.add_gone(name, "the brokers have no such partition");
            continue;
        }
        let span = topics.span(topic, number).with_context(|| name.clone())?;
        if let Err(why @ Obstacle::Truncated { .. }) = check_span(next, span) {
            verdict.add_gone(name, &why.to_string());
            continue;
        }
        let first = span.begin.max(recounts_from(options, table, name)?);
        let mut records = topics.records(topic, number, first, next)?;
        verdict.add(
            options,
            table,
            Recorded {
                partition: name,
                label: name,
                unit: Unit::Records,
                decode: decode_of(config, source),
                first,
                chunks: &mut records,
            },
        )?;
    }
    Ok(())
}
