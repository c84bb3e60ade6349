//! The corpus of the fuzz targets, replayed: what a fuzzer has found once stays mended, and the
//! targets of `tests/fuzz`, which are built on nightly alone, are compiled and run on stable.

#[allow(dead_code, reason = "a target uses a part of it")]
#[path = "../api/src/arguments.rs"]
mod arguments;
#[allow(dead_code, reason = "a target uses a part of it")]
#[path = "../api/src/problem.rs"]
mod problem;
#[path = "common/recount.rs"]
mod recount;
#[path = "fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

#[test]
fn every_input_of_the_corpus_is_taken() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for (name, target) in targets::ALL {
        let mut inputs: Vec<_> = fs::read_dir(fixtures.join("fuzz").join(name))
            .unwrap_or_else(|error| panic!("fixtures/fuzz/{name}: {error}"))
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(inputs.len() > 2, "{name} has a corpus");
        for input in inputs {
            // Shown where it fails.
            println!("{}", input.display());
            target(&fs::read(&input).unwrap());
        }
    }
}

#[test]
fn the_fixtures_of_the_formats_are_taken_too() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for entry in fs::read_dir(fixtures.join("formats")).unwrap() {
        let text = fs::read(entry.unwrap().path()).unwrap();
        for format in 0..10 {
            targets::decode_formats(&[&[format], text.as_slice()].concat());
        }
        targets::decode_ndjson(&text);
    }
    for name in ["hand-made.ndjson", "generated.ndjson"] {
        targets::decode_ndjson(&fs::read(fixtures.join("events").join(name)).unwrap());
    }
}
