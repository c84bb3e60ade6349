//! Answers about single customers that are given again while nothing of theirs has changed.
//!
//! Whoever watches a customer asks more often than something happens to that customer. An answer
//! depends on the minute it is asked in, the configuration, and the customer's series; while all
//! three are what they were, it is the same to the byte. Only answers of the running minute are
//! kept, at most [`BYTES_MAX`] of them, and nobody waits for them: where they are being looked at,
//! an answer is made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ninefold_engine::config::Config;
use ninefold_engine::state::Seal;
use ninefold_engine::time::Minute;

/// How many bytes of answers are kept; those that come when it is full are made each time.
const BYTES_MAX: usize = 16 << 20;

/// What an answer was made of.
pub struct Seen {
    /// The minute.
    pub at: Minute,
    /// What is promised.
    pub config: Arc<Config>,
    /// The customer's series.
    pub seal: Seal,
}

/// The bodies of answers.
#[derive(Default)]
pub struct Remembered(Mutex<Made>);

/// Those of one minute, by one configuration.
#[derive(Default)]
struct Made {
    by: Option<(Minute, Arc<Config>)>,
    bytes: usize,
    /// By customer.
    bodies: HashMap<String, (Seal, Arc<[u8]>)>,
}

impl Made {
    fn is_by(&self, seen: &Seen) -> bool {
        let is_same = |(at, config): &(Minute, Arc<Config>)| {
            *at == seen.at && Arc::ptr_eq(config, &seen.config)
        };
        self.by.as_ref().is_some_and(is_same)
    }
}

impl Remembered {
    /// The body of a customer, where it was made of the same.
    pub fn get(&self, customer: &str, seen: &Seen) -> Option<Arc<[u8]>> {
        let made = self.0.try_lock().ok()?;
        let (seal, body) = made.bodies.get(customer)?;
        (made.is_by(seen) && *seal == seen.seal).then(|| Arc::clone(body))
    }

    /// Keeps the body of a customer, where there is room.
    pub fn put(&self, customer: &str, seen: Seen, body: &Arc<[u8]>) {
        let Ok(mut made) = self.0.try_lock() else { return };
        if !made.is_by(&seen) {
            let by = Some((seen.at, seen.config));
            *made = Made { by, ..Made::default() };
        }
        let size = |customer: &str, body: &[u8]| {
            customer.len() + size_of::<(String, (Seal, Arc<[u8]>))>() + body.len()
        };
        if let Some((_, old)) = made.bodies.remove(customer) {
            made.bytes -= size(customer, &old);
        }
        if made.bytes + size(customer, body) <= BYTES_MAX {
            made.bytes += size(customer, body);
            made.bodies.insert(customer.to_owned(), (seen.seal, Arc::clone(body)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::RwLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    use ninefold_engine::model::Measures;
    use ninefold_engine::pipeline::Pipeline;
    use ninefold_engine::query::body::json;
    use ninefold_engine::query::{Answers, AskError};
    use ninefold_engine::slo::histogram::Histogram;
    use ninefold_engine::state::{Key, State};
    use ninefold_engine::table::Table;
    use ninefold_engine::time::MINUTE_MS;

    use super::*;
    use crate::ask::Asker;
    use crate::batch;
    use crate::live::{Board, Current, Outbox};
    use crate::states::{LiveStates, TableStates, open_table};

    /// What the clock of the test shows, as a minute.
    static NOW: AtomicI64 = AtomicI64::new(29_000_000);

    fn clock() -> i64 {
        NOW.load(Ordering::Relaxed) * MINUTE_MS
    }

    fn config() -> Config {
        Config::parse("", "c.toml").expect("nothing is configured")
    }

    #[test]
    fn what_is_given_again_is_what_would_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let table = Table::open_or_create(folder.path()).unwrap();
        let pipeline = Pipeline::new(batch::options(&config()), table, true, 1);
        let pipeline = Arc::new(RwLock::new(pipeline));
        let current = Current::new(config());
        let table = open_table(folder.path()).unwrap();
        let past = TableStates::new(table, current.clone(), clock);
        let board = Board::new(Outbox::default(), Arc::default());
        let asker = Asker::new(LiveStates::new(Arc::clone(&pipeline), past, clock, board), current);
        let customers = ["acme", "globex", "initech"];
        let (mut random, mut again) = (7_u64, 0);
        let mut draw = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let fold = |state: &mut State, customer: u64, minute: i64, bad: u64| {
            let measures = Measures { valid: 5, bad, timed: 5 - bad, ..Measures::default() };
            let mut latency = Histogram::default();
            latency.record(1_000 * bad as u32 + 500, 5 - bad);
            let customer = customers[customer as usize];
            let key = Key { customer, service: "api", minute: Minute(minute as u32) };
            state.fold_series(key, &measures, Some(&latency));
        };
        for step in 0..600 {
            let now = NOW.load(Ordering::Relaxed);
            {
                let state = &mut pipeline.write().unwrap().state;
                match draw(8) {
                    0..=3 => fold(state, draw(3), now - draw(90) as i64, draw(3)),
                    4 => NOW.store(now + 1, Ordering::Relaxed),
                    5 if step % 3 == 0 => {
                        // As many changes as that of before, and others.
                        let bad = 1 + step % 2;
                        *state = State::new(1_000, 0, true, 1);
                        (0..3).for_each(|customer| fold(state, customer, now, bad));
                    }
                    6 => state.forget(),
                    _ => {}
                }
            }
            for customer in customers {
                let text = |error: AskError| error.to_string();
                let expect = asker.sla(customer, None, None).map(|sla| json(&sla)).map_err(text);
                let at_once = || asker.sla_at_once(customer, None, None);
                let ask = || at_once().expect("memory has it all").map_err(text);
                let (first, second) = (ask(), ask());
                let bytes = first.clone().map(|body| body.to_vec());
                assert_eq!(bytes, expect, "step {step}, {customer}");
                let is_same =
                    |(first, second): (Arc<[u8]>, Arc<[u8]>)| Arc::ptr_eq(&first, &second);
                again += u32::from(first.ok().zip(second.ok()).is_some_and(is_same));
            }
        }
        assert!(again > 1_500, "nobody else asks, so that what is known is given again: {again}");
    }

    #[test]
    fn another_minute_or_configuration_or_too_many_bytes_are_not_remembered() {
        let remembered = Remembered::default();
        let (config, state) = (Arc::new(config()), State::new(1_000, 0, true, 1));
        let seen = |at: u32, config: &Arc<Config>| Seen {
            at: Minute(at),
            config: Arc::clone(config),
            seal: state.seal_of("acme"),
        };
        let body: Arc<[u8]> = Arc::from(&b"{}"[..]);
        remembered.put("acme", seen(5, &config), &body);
        assert_eq!(remembered.get("acme", &seen(5, &config)), Some(Arc::clone(&body)));
        assert_eq!(remembered.get("globex", &seen(5, &config)), None);
        assert_eq!(remembered.get("acme", &seen(6, &config)), None);
        let other = State::new(1_000, 0, true, 1).seal_of("acme");
        assert_eq!(remembered.get("acme", &Seen { seal: other, ..seen(5, &config) }), None);
        assert_eq!(remembered.get("acme", &seen(5, &Arc::new((*config).clone()))), None);
        let large: Arc<[u8]> = vec![b' '; BYTES_MAX / 3].into();
        for (customer, is_kept) in [("a", true), ("b", true), ("c", false), ("a", true)] {
            remembered.put(customer, seen(5, &config), &large);
            assert_eq!(
                remembered.get(customer, &seen(5, &config)).is_some(),
                is_kept,
                "{customer}"
            );
        }
        remembered.put("c", seen(6, &config), &large);
        assert!(remembered.get("c", &seen(6, &config)).is_some(), "the minute before is dropped");
    }
}
