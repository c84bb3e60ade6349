//! The pipeline's options in tests: lines as they come, one further SLI, and no bounds.

use ninefold_engine::decode::{self, Format};
use ninefold_engine::pipeline::Options;
use ninefold_engine::slo::objective::Slis;
use ninefold_engine::slo::sli::Sli;

pub fn options() -> Options {
    let sli = Sli {
        name: "writes".to_owned(),
        services: Vec::new(),
        routes: vec!["POST *".to_owned()],
        kind: Slis::default().availability.kind,
    };
    Options {
        slis: Slis { further: vec![sli], ..Slis::default() },
        decode: decode::Options { format: Format::Ndjson, ..decode::Options::default() },
        dimension_values_max: 1_000,
        dedupe_window_bytes: 0,
        dedupe_window_records: 0,
        dedupe_ids_max: usize::MAX,
        pools: Default::default(),
        epoch_events_max: usize::MAX,
    }
}
