//! The simulator: instances, a store and a source in one thread, with everything that chance
//! decides drawn from one seed.
//!
//! Instances read partitions, count, and commit by the very modules that ship: the guard of a
//! partition, its ledger and the commit protocol. Around them everything fails: puts get lost,
//! land late, or land with a lost reply; clients lose records and deliver them again; instances
//! crash, sleep for a day and wake as zombies; the log is checkpointed and cleaned up, files are
//! compacted and collected meanwhile. After that nothing fails any more, and everything has to
//! get counted.
//!
//! The check is a recount: each event before the offset of its partition is in the table once,
//! nothing beyond it is, the ranges of the entries tile every partition, nothing that was
//! acknowledged is lost, and no file is missing.
//!
//! A simulator that finds nothing proves nothing: each [`Mutant`] is a bug that was left out of
//! the code with care, and has to be found within [`MUTANT_SEEDS`] seeds.
//!
//! `NINEFOLD_SIM_SEEDS=100000` runs more of them, `NINEFOLD_SIM_SEED=17` one alone, with a trace.

mod instance;
mod options;
mod store;
mod world;

use options::Mutant;
use world::World;

/// What runs each time; seconds.
const SEEDS: u64 = 2_000;

/// Within so many seeds each planted bug is found.
const MUTANT_SEEDS: u64 = 1_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number of seeds"))
}

/// What is wrong under a seed. A failed assertion of the modules under test is a finding too.
fn run(seed: u64, mutant: Option<Mutant>, trace: bool) -> Result<(), String> {
    let outcome = std::panic::catch_unwind(|| World::new(seed, mutant, trace).run());
    outcome.unwrap_or_else(|_| Err("an assertion failed".to_owned()))
}

#[test]
fn nothing_is_lost_or_counted_twice_whatever_fails() {
    if let Some(seed) = number("NINEFOLD_SIM_SEED") {
        let outcome = run(seed, None, true);
        assert!(outcome.is_ok(), "seed {seed}: {outcome:?}");
        return;
    }
    let seeds = number("NINEFOLD_SIM_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        if let Err(wrong) = run(seed, None, false) {
            panic!(
                "seed {seed}: {wrong}\nrun it again with a trace: NINEFOLD_SIM_SEED={seed} cargo \
                 test --release --workspace --test sim -- --nocapture nothing_is_lost"
            );
        }
        if seed % 10_000 == 9_999 {
            println!("{} seeds without a violation", seed + 1);
        }
    }
    println!("{seeds} seeds without a violation");
}

#[test]
fn each_planted_bug_is_found() {
    let hook = std::panic::take_hook();
    // Assertions that fail are what is looked for.
    std::panic::set_hook(Box::new(|_| {}));
    let find = |mutant| {
        (0..MUTANT_SEEDS).find_map(|seed| Some((seed, run(seed, Some(mutant), false).err()?)))
    };
    let found: Vec<_> = Mutant::ALL.into_iter().map(|mutant| (mutant, find(mutant))).collect();
    std::panic::set_hook(hook);
    for (mutant, finding) in &found {
        match finding {
            Some((seed, wrong)) => println!("{mutant:?}: seed {seed}, {wrong}"),
            None => println!("{mutant:?}: not found"),
        }
    }
    let missed = found.iter().filter(|(_, finding)| finding.is_none());
    let missed: Vec<Mutant> = missed.map(|(mutant, _)| *mutant).collect();
    assert!(missed.is_empty(), "{MUTANT_SEEDS} seeds did not find {missed:?}");
}
