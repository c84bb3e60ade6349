//! The guard of one partition of a log of records: which record is the next one to count.
//!
//! A client library has delivered records of a partition that was taken away, records from
//! before a new position, and none at all where there were some. So nothing that it delivers is
//! believed by itself: the guard holds the next offset to count, and judges every record by its
//! offset and by the *generation* of the assignment that it was fetched under.
//!
//! Invariants:
//! - What is taken tiles the partition from where it was assigned: each record stands at
//!   [`Guard::expected`], or behind a hole that begins there and that was proved.
//! - The next offset moves back only by [`Guard::assign`] with a newer generation: never by a
//!   seek, behind which records of the old position may still arrive.
//! - A jump forward is a hole only if it is met twice: transaction markers and compacted records
//!   are missing again when the same offsets are fetched under a fresh assignment, while records
//!   that the client dropped are there.
//! - After a jump that is not settled, nothing is taken until the next assignment: what came
//!   behind it will be fetched again.

/// What a jump forward is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holes {
    /// It is a hole if a second fetch, under a fresh assignment, meets the same one. Costs one
    /// more fetch for each hole.
    #[default]
    Verify,
    /// It stops the partition: the topic is neither compacted nor transactional, so nothing may
    /// be missing.
    Refuse,
    /// It is a hole at once: for topics full of transaction markers, where a second fetch for
    /// each would be too slow.
    Accept,
}

/// What becomes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is counted. The offsets `hole_first..offset` before it stand for nothing; there are
    /// none where `hole_first` is its own offset.
    Take {
        /// The first offset of the hole before it.
        hole_first: u64,
    },
    /// It is not counted: it was, or it will be fetched again.
    Drop(DropReason),
    /// Offsets are missing before it, and it is not counted: the partition is to be unassigned,
    /// and assigned afresh at `expected` under a newer generation.
    Suspect {
        /// Where the fresh assignment begins.
        expected: u64,
    },
    /// The partition stops: an operator has to look.
    Stop(StopReason),
}

/// Why a record is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It was fetched under an older assignment, or the partition is not assigned.
    Stale,
    /// Its offset was counted already.
    Repeated,
    /// It came behind a jump that waits for its second fetch, or behind a stop.
    Held,
}

/// Why a partition stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// Offsets are missing where none may be.
    #[error(
        "offsets {expected} to {} are missing; if its topic is compacted or transactional, set \
         holes to \"verify\"", .found - 1
    )]
    Refused {
        /// The first offset that is missing.
        expected: u64,
        /// The first one that came.
        found: u64,
    },
    /// Each fetch from one offset came out at another one.
    #[error(
        "{fetches} fetches from offset {expected} began at different ones, {found} the last; \
         check the broker, then start again"
    )]
    Unsettled {
        /// Where they were asked to begin.
        expected: u64,
        /// Where the last one began.
        found: u64,
        /// How many there were.
        fetches: u32,
    },
}

/// How many records, holes and jumps a guard has met since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuardCounts {
    /// Records dropped as stale.
    pub stale: u64,
    /// Records dropped as repeated.
    pub repeated: u64,
    /// Records dropped behind a jump or a stop.
    pub held: u64,
    /// Offsets in holes.
    pub holes: u64,
    /// Jumps that were looked at a second time.
    pub suspects: u64,
    /// Jumps of which the second look has found the records.
    pub refuted: u64,
}

/// After so many fetches that disagree, a partition stops. Compaction at work may explain one
/// or two of them.
const FETCHES_MAX: u32 = 5;

/// The guard of one partition. See the module.
///
/// ```
/// use ninefold_engine::source::guard::{DropReason, Guard, Holes, Verdict};
///
/// let mut guard = Guard::new(Holes::Verify);
/// guard.assign(1, 100);
/// assert_eq!(guard.judge(1, 100), Verdict::Take { hole_first: 100 });
/// assert_eq!(guard.judge(1, 100), Verdict::Drop(DropReason::Repeated));
/// assert_eq!(guard.judge(1, 103), Verdict::Suspect { expected: 101 });
/// guard.assign(2, 101);
/// assert_eq!(guard.judge(1, 104), Verdict::Drop(DropReason::Stale));
/// assert_eq!(guard.judge(2, 103), Verdict::Take { hole_first: 101 });
/// assert_eq!(guard.expected(), Some(104));
/// ```
#[derive(Clone, Debug)]
pub struct Guard {
    policy: Holes,
    /// The newest generation that it was told of; 0 before the first.
    generation: u64,
    /// The next offset to count; `None` where the partition is not assigned.
    expected: Option<u64>,
    jump: Option<Jump>,
    stopped: bool,
    counts: GuardCounts,
}

/// A jump that is not settled.
#[derive(Clone, Copy, Debug)]
struct Jump {
    found: u64,
    /// How many fetches have come out behind `expected`.
    fetches: u32,
    /// Whether the partition was assigned afresh since the last of them.
    assigned: bool,
}

impl Guard {
    /// A guard of a partition that is not assigned.
    pub fn new(policy: Holes) -> Guard {
        Guard {
            policy,
            generation: 0,
            expected: None,
            jump: None,
            stopped: false,
            counts: GuardCounts::default(),
        }
    }

    /// The partition is assigned from `offset`: where the table stands, or where
    /// [`Verdict::Suspect`] says. A stop is over.
    ///
    /// # Panics
    /// If `generation` is not newer than every one before: 1 is the first.
    pub fn assign(&mut self, generation: u64, offset: u64) {
        let newest = self.generation;
        assert!(generation > newest, "generation {generation} is newer than {newest}");
        self.jump = match self.jump {
            Some(jump) if self.expected == Some(offset) => Some(Jump { assigned: true, ..jump }),
            _ => None,
        };
        self.generation = generation;
        self.expected = Some(offset);
        self.stopped = false;
    }

    /// The offsets from the next one up to `to` stand for nothing: it was proved elsewhere.
    ///
    /// # Panics
    /// If the partition is not assigned, or stands behind `to` already.
    pub fn pass(&mut self, to: u64) {
        let expected = self.expected.expect("what is passed is assigned");
        self.counts.holes += to.checked_sub(expected).expect("a hole lies ahead");
        self.expected = Some(to);
    }

    /// The partition is not ours any more: nothing is taken until it is assigned again.
    pub fn revoke(&mut self) {
        self.expected = None;
        self.jump = None;
    }

    /// The next offset to count; `None` where the partition is not assigned.
    pub fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// The newest generation that it was told of; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What it has met.
    pub fn counts(&self) -> GuardCounts {
        self.counts
    }

    /// Judges the record at `offset`, fetched under `generation`.
    ///
    /// # Panics
    /// If the generation is one that [`Guard::assign`] was not told of.
    pub fn judge(&mut self, generation: u64, offset: u64) -> Verdict {
        assert!(generation <= self.generation, "a generation begins with its assignment");
        let expected = match self.expected {
            Some(expected) if generation == self.generation => expected,
            _ => {
                self.counts.stale += 1;
                return Verdict::Drop(DropReason::Stale);
            }
        };
        if offset < expected {
            self.counts.repeated += 1;
            return Verdict::Drop(DropReason::Repeated);
        }
        if self.stopped || self.jump.is_some_and(|jump| !jump.assigned) {
            self.counts.held += 1;
            return Verdict::Drop(DropReason::Held);
        }
        let jump = self.jump.take();
        if offset == expected {
            self.counts.refuted += u64::from(jump.is_some());
            return self.take(expected, offset);
        }
        let is_proved = jump.is_some_and(|jump| jump.found == offset);
        match self.policy {
            Holes::Refuse => self.stop(StopReason::Refused { expected, found: offset }),
            Holes::Accept => self.take(expected, offset),
            Holes::Verify if is_proved => self.take(expected, offset),
            Holes::Verify => self.suspect(expected, offset, jump),
        }
    }

    fn take(&mut self, expected: u64, offset: u64) -> Verdict {
        self.counts.holes += offset - expected;
        self.expected = Some(offset + 1);
        Verdict::Take { hole_first: expected }
    }

    fn suspect(&mut self, expected: u64, found: u64, before: Option<Jump>) -> Verdict {
        let fetches = before.map_or(0, |jump| jump.fetches) + 1;
        if fetches >= FETCHES_MAX {
            return self.stop(StopReason::Unsettled { expected, found, fetches });
        }
        self.counts.suspects += 1;
        self.jump = Some(Jump { found, fetches, assigned: false });
        Verdict::Suspect { expected }
    }

    fn stop(&mut self, reason: StopReason) -> Verdict {
        self.stopped = true;
        Verdict::Stop(reason)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STALE: Verdict = Verdict::Drop(DropReason::Stale);
    const REPEATED: Verdict = Verdict::Drop(DropReason::Repeated);
    const HELD: Verdict = Verdict::Drop(DropReason::Held);

    fn taken(hole_first: u64) -> Verdict {
        Verdict::Take { hole_first }
    }

    /// A guard at offset 10 of generation 1.
    fn guard(policy: Holes) -> Guard {
        let mut guard = Guard::new(policy);
        guard.assign(1, 10);
        guard
    }

    #[test]
    fn records_of_an_older_assignment_or_of_none_are_dropped() {
        let mut guard = Guard::new(Holes::Accept);
        assert_eq!(guard.judge(0, 10), STALE);
        guard.assign(1, 10);
        assert_eq!(guard.judge(1, 10), taken(10));
        guard.revoke();
        assert_eq!(guard.judge(1, 11), STALE);
        guard.assign(2, 5);
        assert_eq!((guard.judge(1, 5), guard.judge(2, 5)), (STALE, taken(5)));
        assert_eq!(guard.counts().stale, 3);
    }

    #[test]
    fn a_rewind_needs_a_newer_generation() {
        let mut guard = guard(Holes::Accept);
        assert_eq!(guard.judge(1, 10), taken(10));
        // What a seek would bring is known already.
        assert_eq!(guard.judge(1, 7), REPEATED);
        guard.assign(2, 7);
        assert_eq!(guard.judge(2, 7), taken(7));
        assert_eq!(guard.expected(), Some(8));
    }

    #[test]
    #[should_panic(expected = "generation 1 is newer than 1")]
    fn a_generation_is_used_once() {
        guard(Holes::Verify).assign(1, 7);
    }

    #[test]
    fn a_jump_that_is_met_again_is_a_hole() {
        let mut guard = guard(Holes::Verify);
        assert_eq!(guard.judge(1, 12), Verdict::Suspect { expected: 10 });
        // What follows will be fetched again, as the suspect will.
        assert_eq!((guard.judge(1, 13), guard.judge(1, 10)), (HELD, HELD));
        guard.assign(2, 10);
        assert_eq!(guard.judge(2, 12), taken(10));
        assert_eq!(guard.judge(2, 13), taken(13));
        let expect = GuardCounts { held: 2, holes: 2, suspects: 1, ..GuardCounts::default() };
        assert_eq!(guard.counts(), expect);
    }

    #[test]
    fn a_hole_that_is_passed_is_counted_and_nothing_else_is_jumped_over() {
        let mut guard = guard(Holes::Verify);
        guard.pass(13);
        assert_eq!((guard.judge(1, 12), guard.judge(1, 13)), (REPEATED, taken(13)));
        assert_eq!(guard.judge(1, 15), Verdict::Suspect { expected: 14 });
        assert_eq!(guard.counts().holes, 3);
    }

    #[test]
    fn a_jump_over_records_that_are_there_is_none() {
        let mut guard = guard(Holes::Verify);
        assert_eq!(guard.judge(1, 12), Verdict::Suspect { expected: 10 });
        guard.assign(2, 10);
        assert_eq!(guard.judge(2, 10), taken(10));
        // The same jump once more is a new one.
        assert_eq!(guard.judge(2, 12), Verdict::Suspect { expected: 11 });
        assert_eq!((guard.counts().refuted, guard.counts().holes), (1, 0));
    }

    #[test]
    fn an_assignment_elsewhere_forgets_the_jump() {
        let mut guard = guard(Holes::Verify);
        assert_eq!(guard.judge(1, 12), Verdict::Suspect { expected: 10 });
        guard.assign(2, 11);
        assert_eq!(guard.judge(2, 12), Verdict::Suspect { expected: 11 });
        guard.revoke();
        guard.assign(3, 11);
        assert_eq!(guard.judge(3, 12), Verdict::Suspect { expected: 11 });
    }

    #[test]
    fn fetches_that_never_agree_stop_the_partition() {
        let mut guard = guard(Holes::Verify);
        for fetch in 1..FETCHES_MAX {
            let found = u64::from(20 + fetch);
            let generation = guard.generation();
            assert_eq!(guard.judge(generation, found), Verdict::Suspect { expected: 10 });
            guard.assign(generation + 1, 10);
        }
        let stop = StopReason::Unsettled { expected: 10, found: 30, fetches: FETCHES_MAX };
        let generation = guard.generation();
        assert_eq!(guard.judge(generation, 30), Verdict::Stop(stop));
        assert_eq!(guard.judge(generation, 10), HELD);
    }

    #[test]
    fn a_jump_stops_a_partition_that_may_have_none() {
        let mut guard = guard(Holes::Refuse);
        assert_eq!(guard.judge(1, 10), taken(10));
        let stop = StopReason::Refused { expected: 11, found: 13 };
        assert_eq!(guard.judge(1, 13), Verdict::Stop(stop));
        assert!(stop.to_string().starts_with("offsets 11 to 12 are missing"), "{stop}");
        assert_eq!(guard.judge(1, 11), HELD);
        guard.assign(2, 11);
        assert_eq!(guard.judge(2, 11), taken(11));
    }

    /// What a client may do while a log of 40 offsets is read, some of which hold no record.
    #[derive(Clone, Debug)]
    enum Step {
        /// Delivers the record at its position.
        Deliver,
        /// Loses the record at its position.
        Lose,
        /// Delivers a record of any offset under the running generation.
        Stray(u64),
        /// Delivers a record of any offset under an older generation.
        Stale(u64),
        /// The partition is taken away and given back where the table stands.
        Rewind(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => Just(Step::Deliver),
            2 => Just(Step::Lose),
            1 => (0..20_u64).prop_map(Step::Stray),
            1 => (0..40_u64).prop_map(Step::Stale),
            1 => (0..40_u64).prop_map(Step::Rewind),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        /// Losses are rare enough here that no two fetches in a row lose the same record.
        #[test]
        fn what_is_taken_is_each_record_once_in_order(
            holes in proptest::collection::btree_set(0..40_u64, 0..20),
            steps in steps(),
        ) {
            let mut guard = guard(Holes::Verify);
            guard.assign(2, 0);
            let mut position = 0;
            let mut generation = 2;
            let mut counted: Vec<u64> = Vec::new();
            let mut lost_at = None;
            for step in steps {
                while holes.contains(&position) {
                    position += 1;
                }
                let (fetched_under, offset) = match step {
                    Step::Deliver => (generation, position),
                    Step::Lose if lost_at == guard.expected() => continue,
                    Step::Lose => {
                        lost_at = guard.expected();
                        position += 1;
                        continue;
                    }
                    Step::Stray(back) => match guard.expected().unwrap().checked_sub(back + 1) {
                        Some(offset) => (generation, offset),
                        None => continue,
                    },
                    Step::Stale(offset) => (generation - 1, offset),
                    Step::Rewind(to) => {
                        position = to.min(guard.expected().unwrap());
                        generation += 1;
                        guard.assign(generation, position);
                        counted.retain(|offset| *offset < position);
                        continue;
                    }
                };
                position += u64::from(matches!(step, Step::Deliver));
                match guard.judge(fetched_under, offset) {
                    Verdict::Take { hole_first } => {
                        prop_assert!((hole_first..offset).all(|hole| holes.contains(&hole)));
                        counted.push(offset);
                    }
                    Verdict::Suspect { expected } => {
                        generation += 1;
                        position = expected;
                        guard.assign(generation, expected);
                    }
                    Verdict::Drop(_) => {}
                    Verdict::Stop(StopReason::Unsettled { .. }) => return Ok(()),
                    Verdict::Stop(reason) => prop_assert!(false, "{}", reason),
                }
            }
            let next = guard.expected().unwrap();
            let expect: Vec<u64> = (0..next).filter(|offset| !holes.contains(offset)).collect();
            prop_assert_eq!(counted, expect);
        }
    }
}
