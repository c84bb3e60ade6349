//! What a seed decides: sizes, which faults happen and how often, and the bug that is planted.

/// SplitMix64: the only source of chance in a simulation.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A whole number in `0..limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.bits() % limit as u64) as usize
    }

    /// Whether something happens that does so `permille` times in a thousand.
    pub fn hits(&mut self, permille: u32) -> bool {
        self.bits() % 1_000 < u64::from(permille)
    }
}

/// A bug that is planted: the simulator has to find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Puts an entry without looking where the partitions stand.
    ChecksNothing,
    /// After a conflict the entry gets the next number, and nothing is looked at again.
    RenumbersBlindly,
    /// What the store calls created has landed.
    TrustsTheReply,
    /// What the store does not refuse clearly has landed.
    AssumesTheBest,
    /// Where the partitions stand says whose entry landed.
    TellsByOffsets,
    /// Takes `_last_checkpoint` for the newest one.
    TrustsTheHint,
    /// Reads on entry by entry, also through what was cleaned up.
    WalksThroughHoles,
    /// Every jump of the offsets is a hole.
    AcceptsAnyJump,
    /// Goes back by a seek: the generation stays.
    RewindsBySeek,
    /// Counts on after it was fenced, with what it has counted.
    KeepsWhatWasFenced,
    /// Deletes the data files of a commit that seems to have failed.
    DeletesAfterFailure,
    /// Names data files by what they hold.
    ReusesPaths,
    /// Names data files of any age.
    NamesOldFiles,
    /// Collects orphans without an entry of its own before.
    CollectsUnannounced,
    /// Collects orphans of any age.
    CollectsYoungFiles,
    /// Compacts files that others have removed.
    CompactsWhatIsGone,
    /// Cleans the log up to its newest checkpoint.
    CleansToTheNewest,
    /// Acknowledges what it has counted before that is in the log.
    AcknowledgesEarly,
    /// Takes each record that comes, whatever its assignment.
    IgnoresGenerations,
}

impl Mutant {
    pub const ALL: [Mutant; 19] = [
        Mutant::ChecksNothing,
        Mutant::RenumbersBlindly,
        Mutant::TrustsTheReply,
        Mutant::AssumesTheBest,
        Mutant::TellsByOffsets,
        Mutant::TrustsTheHint,
        Mutant::WalksThroughHoles,
        Mutant::AcceptsAnyJump,
        Mutant::RewindsBySeek,
        Mutant::KeepsWhatWasFenced,
        Mutant::DeletesAfterFailure,
        Mutant::ReusesPaths,
        Mutant::NamesOldFiles,
        Mutant::CollectsUnannounced,
        Mutant::CollectsYoungFiles,
        Mutant::CompactsWhatIsGone,
        Mutant::CleansToTheNewest,
        Mutant::AcknowledgesEarly,
        Mutant::IgnoresGenerations,
    ];
}

/// How often each fault happens, in a thousand chances; each seed leaves out some of them
/// altogether, so that what another fault would cover up is seen.
#[derive(Clone, Debug)]
pub struct Options {
    pub instances: usize,
    /// Partitions of the topic; one more is acknowledged to its clients, one is the judge's.
    pub topics: usize,
    pub records: u64,
    pub steps: usize,
    /// Offsets without a record.
    pub holes: u32,
    /// Entries that do not land, with an error.
    pub put_refused: u32,
    /// Entries that land later, or never, with an error.
    pub put_late: u32,
    /// Entries that land, with an error.
    pub reply_lost: u32,
    /// Conflicts with nobody.
    pub false_conflict: u32,
    /// Reads of the log that fail.
    pub read_refused: u32,
    /// Data files that are not written, or in part.
    pub file_refused: u32,
    pub disk_full: u32,
    pub crash: u32,
    /// An instance stands still for some steps.
    pub sleep: u32,
    /// An instance stands still for a day and an hour.
    pub long_sleep: u32,
    /// A wall clock is set forth or back by up to two days.
    pub clock_set: u32,
    /// A partition goes to another instance, with notice.
    pub revoke: u32,
    /// The same, without.
    pub steal: u32,
    /// Records that the client loses.
    pub lost: u32,
    /// Records that the client delivers again.
    pub repeated: u32,
    pub checkpoint: u32,
    /// Checkpoints that are torn.
    pub torn: u32,
    /// The newest checkpoint turns bad.
    pub bit_flip: u32,
    pub clean_up: u32,
    pub compact: u32,
    pub vacuum: u32,
}

impl Options {
    pub fn of_seed(random: &mut Random) -> Options {
        let mut rate = |permille: u32| if random.hits(250) { 0 } else { permille };
        Options {
            holes: rate(100),
            put_refused: rate(50),
            put_late: rate(60),
            reply_lost: rate(80),
            false_conflict: rate(20),
            read_refused: rate(20),
            file_refused: rate(30),
            disk_full: rate(4),
            crash: rate(15),
            sleep: rate(25),
            long_sleep: rate(8),
            clock_set: rate(10),
            revoke: rate(20),
            steal: rate(15),
            lost: rate(30),
            repeated: rate(40),
            checkpoint: rate(40),
            torn: rate(100),
            bit_flip: rate(4),
            clean_up: rate(40),
            compact: rate(40),
            vacuum: rate(25),
            instances: 1 + random.below(4),
            topics: 1 + random.below(4),
            records: 20 + random.below(60) as u64,
            steps: 300 + random.below(600),
        }
    }

    /// Nothing goes wrong any more.
    pub fn calm(&self) -> Options {
        Options {
            put_refused: 0,
            put_late: 0,
            reply_lost: 0,
            false_conflict: 0,
            read_refused: 0,
            file_refused: 0,
            lost: 0,
            repeated: 0,
            ..self.clone()
        }
    }
}
