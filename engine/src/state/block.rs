//! What a block of lines becomes on the thread that decodes it: small records and the block's
//! own dictionaries, ready to be handed to the shards that own the series.
//!
//! Invariants: a record's `customer` and `kind` are places in its block's dictionaries until
//! [`super::State::apply`] translates them, as is a kind's `tuple`; records keep the order of their
//! lines within a shard; a block owns all its text.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::kinds::{Counted, Kind, Kinds, Record};
use crate::model::{ATTRIBUTES_MAX, Alike, Bare, Event, Latency, Outcome};
use crate::short;
use crate::slo::sli::Slis;
use crate::time::{Day, Minute};

/// Into how many shards the series are split. More than any machine's cores are worth, so that
/// shards of uneven load still fill them; the number is not visible in any result.
pub const SHARDS: usize = 32;

/// The dimensions of an event: release, cohort, region, route and the attributes.
pub const DIMENSIONS: usize = 4 + ATTRIBUTES_MAX;

/// A service with dimensions on one UTC day, as a block has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalTuple {
    /// The day: values are bounded by service and day.
    pub day: Day,
    /// Service, then the dimensions, one after the other.
    text: Box<str>,
    /// Where each ends in `text`.
    ends: [u32; 1 + DIMENSIONS],
    hash: u64,
}

impl LocalTuple {
    /// The service.
    pub fn service(&self) -> &str {
        &self.text[..self.ends[0] as usize]
    }

    /// Dimension `n` of [`DIMENSIONS`]; empty where absent.
    pub fn dimension(&self, n: usize) -> &str {
        &self.text[self.ends[n] as usize..self.ends[n + 1] as usize]
    }
}

/// The part of a block that goes to one shard.
#[derive(Debug, Default)]
pub struct ShardPart {
    /// In the order of the lines.
    pub records: Vec<Record>,
    /// Where each customer of this part ends in `names`.
    ends: Vec<u32>,
    names: String,
}

impl ShardPart {
    /// A part like one before.
    fn with_room(room: Room) -> ShardPart {
        // Records are kept until they are committed: little room more.
        let and_some = |count: u32| (count + count / 8) as usize;
        ShardPart {
            records: Vec::with_capacity(and_some(room.records)),
            ends: Vec::with_capacity(and_some(room.customers)),
            names: String::with_capacity(and_some(room.names_bytes)),
        }
    }

    /// The customers of this part, in the order of their local numbers.
    pub fn customers(&self) -> impl Iterator<Item = &str> + Clone {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.names[start as usize..*end as usize])
    }

    /// The customer of a local number.
    fn customer(&self, id: u32) -> &str {
        let id = id as usize;
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.names[start as usize..self.ends[id] as usize]
    }
}

/// A line that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Offset of its first byte in its partition.
    pub offset: u64,
    /// Why, in a few words.
    pub reason: String,
    /// Its first 4 KiB.
    pub line: Vec<u8>,
    /// When its log took it, in epoch milliseconds, where the log says so.
    pub time_ms: Option<i64>,
}

/// How much of a dead letter's line is kept.
pub const DEAD_LINE_BYTES_MAX: usize = 4_096;

/// An event's id and where its record is, for the dedupe window.
#[derive(Clone, Copy, Debug)]
pub struct IdSeen {
    /// 128 bits of the id.
    pub hash: u128,
    /// Offset of its line.
    pub offset: u64,
    /// Which shard part holds the record.
    pub shard: u8,
    /// Its place there.
    pub record: u32,
}

/// A decoded block of one partition.
#[derive(Debug)]
pub struct Block {
    /// The partition, by number.
    pub partition: u16,
    /// Offset of its first byte.
    pub first: u64,
    /// Offset after its last byte that was dealt with.
    pub next: u64,
    /// Lines that are neither blank nor headers.
    pub read: u64,
    /// Events that its records stand for.
    pub events: u64,
    /// What they add to any sum at most.
    pub load: u128,
    /// Lines with an unusable latency.
    pub invalid_latency: u64,
    /// Refused lines.
    pub dead: Vec<DeadLetter>,
    /// One for each shard.
    pub parts: Vec<ShardPart>,
    /// Services with dimensions.
    pub tuples: Vec<LocalTuple>,
    /// What its records share; empty until it is finished.
    pub kinds: Vec<Kind>,
    /// Ids in the order of the lines; empty unless asked for.
    pub ids: Vec<IdSeen>,
}

impl Block {
    /// Drops the record of an id: it is a duplicate.
    pub fn drop_record(&mut self, id: &IdSeen) {
        let record = &mut self.parts[usize::from(id.shard)].records[id.record as usize];
        let counted = record.with(&self.kinds);
        self.events -= u64::from(counted.count);
        self.load -= counted.load();
        record.kind = Kind::NOTHING_NUMBER;
    }
}

/// Builds a [`Block`] line by line. One for each thread; its tables are reused.
pub struct BlockBuilder {
    block: Block,
    keep_ids: bool,
    hasher: FixedState,
    customers: HashTable<LocalCustomer>,
    tuples: HashTable<u32>,
    /// By tuple.
    known: Vec<KnownTuple>,
    kinds: Kinds,
    /// The tuple of the line before: many logs repeat it.
    tuple_before: u32,
    /// Tuples by what their decoder knows them by.
    alike: HashTable<KnownAlike>,
    /// The newest of them, by [`recent_place`].
    recent: Box<[KnownAlike; RECENT]>,
    /// How each status was sorted in this block, where it was: one after the other they are looked
    /// up in ranges.
    by_status: [Option<Option<Outcome>>; STATUSES],
    rooms: Rooms,
}

/// Statuses are less.
const STATUSES: usize = 600;

/// How much each part of a block had: the next one of its partition will be like it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rooms([Room; SHARDS]);

#[derive(Clone, Copy, Debug, Default)]
struct Room {
    records: u32,
    customers: u32,
    names_bytes: u32,
}

impl Rooms {
    /// Those of a block, whose parts are still in it.
    pub fn of(block: &Block) -> Rooms {
        Rooms(std::array::from_fn(|shard| {
            let ShardPart { records, ends, names } = &block.parts[shard];
            let [records, customers, names_bytes] =
                [records.len(), ends.len(), names.len()].map(|count| count as u32);
            Room { records, customers, names_bytes }
        }))
    }
}

/// A customer, in half a line of the cache: a short name need not be looked up in its part.
#[derive(Clone, Copy)]
struct LocalCustomer {
    hash: u64,
    /// Of its name: [`short::ends`].
    ends: [u64; 2],
    id: u32,
    length: u16,
    shard: u8,
}

#[derive(Clone, Copy)]
struct KnownTuple {
    /// The further SLIs that cover its service and route.
    coverage: u8,
    /// Of its event before: what may differ in its kind, and the number of that. Nearly all of a
    /// tuple are of one kind.
    before: ((u32, [u8; 3]), u32),
}

#[derive(Clone, Copy)]
struct KnownAlike {
    alike: Alike,
    day: Day,
    tuple: u32,
}

impl KnownAlike {
    const NOTHING: KnownAlike = KnownAlike { alike: Alike::NONE, day: Day(0), tuple: 0 };

    #[inline]
    fn is(&self, alike: Alike, day: Day) -> bool {
        self.alike == alike && self.day == day
    }
}

/// A power of two; so many that some hundred seldom share one.
const RECENT: usize = 2_048;

/// Where a word stands among the recent ones.
#[inline]
fn recent_place(alike: Alike) -> usize {
    short::place(alike.0, RECENT)
}

impl BlockBuilder {
    /// A builder whose customers go to shards by `seed`, which all builders of a process share.
    pub fn new(seed: u64, keep_ids: bool) -> BlockBuilder {
        BlockBuilder {
            block: empty_block(0, 0, Rooms::default()),
            keep_ids,
            hasher: FixedState::with_seed(seed),
            customers: HashTable::new(),
            tuples: HashTable::new(),
            known: Vec::new(),
            kinds: Kinds::default(),
            tuple_before: 0,
            alike: HashTable::new(),
            recent: Box::new([KnownAlike::NOTHING; RECENT]),
            by_status: [None; STATUSES],
            rooms: Rooms::default(),
        }
    }

    /// The same, whose first block is expected to be like one of these rooms.
    pub fn expecting(self, rooms: Rooms) -> BlockBuilder {
        BlockBuilder { rooms, ..self }
    }

    /// Begins a block of `partition` at offset `first`, all of it sorted by the same SLIs.
    pub fn begin(&mut self, partition: u16, first: u64) {
        self.block = empty_block(partition, first, self.rooms);
        self.customers.clear();
        self.tuples.clear();
        self.known.clear();
        self.alike.clear();
        self.recent.fill(KnownAlike::NOTHING);
        self.by_status.fill(None);
    }

    /// Counts one event of the line at `offset`, sorted by `slis`.
    pub fn push(&mut self, event: &Event<'_>, slis: &Slis, offset: u64) {
        let tuple = self.tuple(event, slis, Minute::of_ms(event.ts_ms).day());
        self.push_bare(&event.bare(), tuple, slis, offset);
    }

    /// The same for an event whose decoder says what it is alike, one decoder for each block;
    /// `shared` has its service and dimensions.
    #[inline]
    pub fn push_alike<'a>(
        &mut self,
        event: &Bare<'_>,
        alike: Alike,
        shared: impl FnOnce() -> Event<'a>,
        slis: &Slis,
        offset: u64,
    ) {
        let day = Minute::of_ms(event.ts_ms).day();
        let recent = self.recent[recent_place(alike)];
        let tuple = if recent.is(alike, day) && alike != Alike::NONE {
            recent.tuple
        } else {
            self.tuple_alike(alike, day, shared, slis)
        };
        self.push_bare(event, tuple, slis, offset);
    }

    /// The tuple of a word that is not the newest of its place.
    #[inline(never)]
    fn tuple_alike<'a>(
        &mut self,
        alike: Alike,
        day: Day,
        shared: impl FnOnce() -> Event<'a>,
        slis: &Slis,
    ) -> u32 {
        if alike == Alike::NONE {
            return self.tuple(&shared(), slis, day);
        }
        let hash = self.hasher.hash_one(alike);
        let known = match self.alike.find(hash, |known| known.is(alike, day)) {
            Some(known) => *known,
            None => {
                let known = KnownAlike { alike, day, tuple: self.tuple(&shared(), slis, day) };
                let hasher = &self.hasher;
                let rehash = |known: &KnownAlike| hasher.hash_one(known.alike);
                self.alike.insert_unique(hash, known, rehash);
                known
            }
        };
        self.recent[recent_place(alike)] = known;
        known.tuple
    }

    /// The same for an event whose service and dimensions are those of a [`tuple`] of its day.
    ///
    /// [`tuple`]: BlockBuilder::tuple
    #[inline]
    pub fn push_bare(&mut self, event: &Bare<'_>, tuple: u32, slis: &Slis, offset: u64) {
        let minute = Minute::of_ms(event.ts_ms);
        let (customer, shard) = self.customer(event.customer);
        let KnownTuple { coverage, .. } = self.known[tuple as usize];
        let (status, outcome) = (event.status, event.outcome);
        let availability = outcome.or_else(|| self.sort(status, slis));
        let mut class =
            slis.classify_sorted(availability, (status, outcome), event.latency, coverage);
        let service = || self.block.tuples[tuple as usize].service();
        if slis.has_exclusions() && slis.excludes(minute, event.customer, service()) {
            class = class.excluded();
        }
        let latency_us = match event.latency {
            Latency::Us(us) if class.timed => us,
            _ => 0,
        };
        self.block.read += 1;
        self.block.invalid_latency += u64::from(event.latency == Latency::Invalid);
        let counted = Counted {
            customer,
            tuple,
            minute,
            latency_us,
            count: event.count,
            status,
            partition: self.block.partition,
            class,
        };
        self.block.events += u64::from(counted.count);
        self.block.load += counted.load();
        let kind = self.kind(&counted);
        let part = &mut self.block.parts[usize::from(shard)];
        if self.keep_ids && !event.id.is_empty() {
            let record = part.records.len() as u32;
            let hash = id_hash(event.id);
            self.block.ids.push(IdSeen { hash, offset, shard, record });
        }
        part.records.push(counted.record(kind));
    }

    /// How the availability SLI sorts events of a status that have no outcome of their own.
    #[inline]
    fn sort(&mut self, status: u16, slis: &Slis) -> Option<Outcome> {
        match self.by_status.get_mut(usize::from(status)) {
            Some(known) => *known.get_or_insert_with(|| slis.sort(status, None)),
            None => slis.sort(status, None),
        }
    }

    /// The number in this block of what an event shares with others.
    #[inline]
    fn kind(&mut self, counted: &Counted) -> u32 {
        let known = &mut self.known[counted.tuple as usize];
        let own = (counted.count, counted.class.further_masks());
        if known.before.0 != own {
            known.before = (own, self.kinds.number(counted.kind()));
        }
        known.before.1
    }

    /// Keeps a refused line, which its log took at `time_ms`.
    pub fn push_dead(&mut self, offset: u64, reason: String, line: &[u8], time_ms: Option<i64>) {
        let line = line[..line.len().min(DEAD_LINE_BYTES_MAX)].to_vec();
        self.block.read += 1;
        self.block.dead.push(DeadLetter { offset, reason, line, time_ms });
    }

    /// The block, of which everything before `next` was dealt with.
    pub fn finish(&mut self, next: u64) -> Block {
        let mut block = std::mem::replace(&mut self.block, empty_block(0, 0, Rooms::default()));
        block.next = next;
        block.kinds = self.kinds.take();
        self.rooms = Rooms::of(&block);
        block
    }

    /// The number of a customer in its part of this block, and the shard that gets it.
    fn customer(&mut self, name: &str) -> (u32, u8) {
        let hash = self.hasher.hash_one(name.as_bytes());
        let shard = shard_of_hash(hash);
        let (ends, length) = (short::ends(name.as_bytes()), name.len() as u16);
        let part = &mut self.block.parts[shard];
        let same = |known: &LocalCustomer| {
            known.hash == hash
                && (known.ends, known.length) == (ends, length)
                && (name.len() <= short::ENDS_BYTES || part.customer(known.id) == name)
        };
        if let Some(known) = self.customers.find(hash, same) {
            return (known.id, known.shard);
        }
        let id = part.ends.len() as u32;
        part.names.push_str(name);
        part.ends.push(part.names.len() as u32);
        let customer = LocalCustomer { hash, ends, id, length, shard: shard as u8 };
        self.customers.insert_unique(hash, customer, |known| known.hash);
        (id, customer.shard)
    }

    /// The number in this block of an event's service and dimensions on a day.
    pub fn tuple(&mut self, event: &Event<'_>, slis: &Slis, day: Day) -> u32 {
        let texts = texts_of(event);
        if let Some(before) = self.block.tuples.get(self.tuple_before as usize)
            && same_tuple(before, day, &texts)
        {
            return self.tuple_before;
        }
        let ends = ends_of(&texts);
        let mut hasher = self.hasher.build_hasher();
        for text in texts.iter().filter(|text| !text.is_empty()) {
            hasher.write(text.as_bytes());
        }
        // Where each of them ends tells what stood where.
        let places = ends
            .iter()
            .fold(u64::from(day.0), |places, end| places.rotate_left(7) ^ u64::from(*end));
        hasher.write_u64(places);
        let hash = hasher.finish();
        let tuples = &self.block.tuples;
        let same = |id: &u32| {
            let tuple = &tuples[*id as usize];
            tuple.hash == hash && same_tuple(tuple, day, &texts)
        };
        self.tuple_before = match self.tuples.find(hash, same) {
            Some(known) => *known,
            None => {
                let id = tuples.len() as u32;
                self.tuples.insert_unique(hash, id, |id| tuples[*id as usize].hash);
                let text = texts.concat().into_boxed_str();
                self.block.tuples.push(LocalTuple { day, text, ends, hash });
                let coverage = slis.coverage(event.service, event.route);
                // No event stands for none.
                self.known.push(KnownTuple { coverage, before: ((0, [0; 3]), 0) });
                id
            }
        };
        self.tuple_before
    }
}

/// The shard that owns a customer's series.
pub fn shard_of(seed: u64, customer: &str) -> usize {
    shard_of_hash(FixedState::with_seed(seed).hash_one(customer.as_bytes()))
}

fn shard_of_hash(hash: u64) -> usize {
    // The low bits pick the place in hash tables; these pick the shard.
    (hash >> 32) as usize % SHARDS
}

/// A block with these rooms.
fn empty_block(partition: u16, first: u64, Rooms(rooms): Rooms) -> Block {
    Block {
        partition,
        first,
        next: first,
        read: 0,
        events: 0,
        load: 0,
        invalid_latency: 0,
        dead: Vec::new(),
        parts: rooms.map(ShardPart::with_room).into(),
        tuples: Vec::new(),
        kinds: Vec::new(),
        ids: Vec::new(),
    }
}

fn texts_of<'a>(event: &Event<'a>) -> [&'a str; 1 + DIMENSIONS] {
    let [a, b, c, d] = event.attributes;
    [event.service, event.release, event.cohort, event.region, event.route, a, b, c, d]
}

/// Where each text ends when they stand one after the other.
fn ends_of(texts: &[&str; 1 + DIMENSIONS]) -> [u32; 1 + DIMENSIONS] {
    let mut end = 0;
    texts.map(|text| {
        end += text.len() as u32;
        end
    })
}

fn same_tuple(tuple: &LocalTuple, day: Day, texts: &[&str; 1 + DIMENSIONS]) -> bool {
    let mut start = 0;
    tuple.day == day
        && texts.iter().zip(&tuple.ends).all(|(text, end)| {
            let known = &tuple.text.as_bytes()[start..*end as usize];
            start = *end as usize;
            short::same(known, text.as_bytes())
        })
}

/// 128 bits of an id, the same in every process: a window that is re-read after a restart has
/// to know it again.
pub fn id_hash(id: &str) -> u128 {
    let half = |seed| u128::from(FixedState::with_seed(seed).hash_one(id.as_bytes()));
    (half(0x6e69_6e65) << 64) | half(0x666f_6c64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::sli::Class;

    /// What a block holds, its customers by name.
    fn shown(block: &Block) -> String {
        let customers: Vec<Vec<&str>> =
            block.parts.iter().map(|part| part.customers().collect()).collect();
        let records = block.parts.iter().flat_map(|part| &part.records);
        let records: Vec<Counted> = records.map(|record| record.with(&block.kinds)).collect();
        format!("{:?} {records:?} {customers:?}", block.tuples)
    }

    #[test]
    fn events_are_sorted_as_each_alone() {
        let (slis, mut builder) = (Slis::default(), BlockBuilder::new(7, false));
        builder.begin(0, 0);
        let outcomes = [None, None, Some(Outcome::Bad), None, Some(Outcome::Excluded)];
        let event = |n: usize| Event {
            ts_ms: 1_764_547_200_000,
            customer: "one",
            status: (n * 7 % 600) as u16,
            outcome: outcomes[n % outcomes.len()],
            ..Event::default()
        };
        (0..4_000).for_each(|n| builder.push(&event(n), &slis, n as u64));
        let block = builder.finish(4_000);
        let records = block.parts.iter().flat_map(|part| &part.records);
        let sorted: Vec<Class> = records.map(|record| record.with(&block.kinds).class).collect();
        let alone: Vec<Class> = (0..4_000).map(|n| slis.classify(&event(n))).collect();
        assert_eq!(sorted, alone);
    }

    #[test]
    fn what_events_are_alike_by_changes_no_block() {
        let slis = Slis::default();
        let texts: Vec<String> = (0..40).map(|n| format!("value {}", n % 20)).collect();
        // Some have equal ends, some are longer than what is kept of a name.
        let names: Vec<String> = (0..300)
            .map(|n| format!("{}customer {n} end", "of a long name ".repeat(n % 3)))
            .collect();
        let mut builders = [BlockBuilder::new(7, false), BlockBuilder::new(7, false)];
        for block in 0..3_usize {
            builders.iter_mut().for_each(|builder| builder.begin(0, 0));
            for n in 0..4_000 {
                // Each block in an order of its own.
                let n = (n + 50 * block) % 4_000;
                let (service, route) = (n * 7 % 40, n / 3 % 40);
                let event = Event {
                    ts_ms: 1_764_547_200_000 + (n as i64 / 120 % 3) * 86_400_000,
                    customer: &names[(n * n) % names.len()],
                    service: &texts[service],
                    route: &texts[route],
                    status: 200,
                    ..Event::default()
                };
                // Two words may stand for the same texts, and some events have none.
                let word = Alike((service * 40 + route) as u64);
                let alike = if n % 5 == 0 { Alike::NONE } else { word };
                builders[0].push(&event, &slis, n as u64);
                builders[1].push_alike(&event.bare(), alike, || event, &slis, n as u64);
            }
            let [one, other] = builders.each_mut().map(|builder| builder.finish(4_000));
            assert_eq!(one.read, 4_000);
            assert!(shown(&one) == shown(&other), "block {block}");
            let mut known: Vec<&str> = one.parts.iter().flat_map(ShardPart::customers).collect();
            let count = known.len();
            known.sort_unstable();
            known.dedup();
            assert_eq!(known.len(), count, "a customer has one number");
        }
    }
}
