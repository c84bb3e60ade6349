//! What does a line cost until it is an event, and how does that compare with the usual way?
//!
//! `native` is the decoder of the native form, `serde_json` a derived struct that borrows its
//! texts, as most programs would read the same lines; both read the same input in one run, so
//! that their ratio means something on any machine. `combined` is the log of a web server. One
//! thread, from memory, without counting: what comes then is the question of `apply`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ninefold_benches::{Derived, Input, ndjson, size};
use ninefold_engine::decode::{Decoder, Format, Line, Options};
use ninefold_engine::model::{Event, Latency};
use ninefold_engine::synth;

/// What is summed over the lines, so that all that was read is used.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    events: u64,
    bad: u64,
    excluded: u64,
    latency_us: u64,
    text_bytes: usize,
}

impl Sum {
    fn add(&mut self, event: &Event<'_>) {
        let Event { customer, service, route, release, cohort, region, .. } = *event;
        black_box(event.ts_ms);
        self.events += 1;
        self.bad += u64::from((500..600).contains(&event.status));
        self.excluded += u64::from(event.status == 0);
        if let Latency::Us(us) = event.latency {
            self.latency_us += u64::from(us);
        }
        let texts = [customer, service, route, release, cohort, region];
        self.text_bytes += texts.map(str::len).iter().sum::<usize>();
    }

    fn check(&self, input: &Input) {
        let total = &input.truth.total;
        let found = (self.events, self.bad, self.excluded);
        assert_eq!(found, (input.truth.counted, total.bad, total.excluded));
    }
}

fn by_decoder(input: &Input, format: Format) -> Sum {
    let mut decoder = Decoder::new(&Options::default(), format);
    let mut sum = Sum::default();
    for line in input.lines() {
        match decoder.decode(line) {
            Line::Event(event) => sum.add(&event),
            other => panic!("every line is an event: {other:?}"),
        }
    }
    sum.check(input);
    sum
}

fn by_derive(input: &Input) -> Sum {
    let mut sum = Sum::default();
    for line in input.lines() {
        sum.add(&Derived::read(line).event());
    }
    sum.check(input);
    sum
}

fn decode(criterion: &mut Criterion) {
    let options = ndjson(size(200_000, 10_000), 10_000, 1.0);
    let native = Input::of(&options);
    let combined = Input::of(&synth::Options { format: synth::Format::Combined, ..options });
    assert_eq!(by_decoder(&native, Format::Ndjson), by_derive(&native), "both read the same");

    let mut group = criterion.benchmark_group("decode");
    group.sample_size(20).throughput(native.throughput());
    group.bench_function("native", |bench| bench.iter(|| by_decoder(&native, Format::Ndjson)));
    group.bench_function("serde_json", |bench| bench.iter(|| by_derive(&native)));
    group.throughput(combined.throughput());
    let read = || by_decoder(&combined, Format::Combined);
    group.bench_function("combined", |bench| bench.iter(read));
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
