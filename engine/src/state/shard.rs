//! One shard: the names, records and series of the customers that hash to it.
//!
//! Invariants: a customer has a number while it is known, and its records and series are found
//! by that; nobody is evicted who has a record that no commit has taken. Of a customer that may
//! have been evicted before, the series are *partial* until they were loaded from the table:
//! they hold what came since.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use super::batch::Part;
use super::block::ShardPart;
use super::dimensions::Dimensions;
use super::evicted::Evicted;
use super::kinds::{Counted, Kind};
use super::names::Names;
use super::pools::{PoolCell, PoolCells};
use super::records::Records;
use super::rows::further_counts;
use super::series::Series;
use super::snapshot::{Reader, Restoring, push_number, push_run};
use super::{HISTOGRAM_MINUTES, Keep, RECENT_MINUTES};
use crate::failpoint;
use crate::model::{Counts, Measures, Outcome};
use crate::slo::pool::Pools;
use crate::time::Minute;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Into how many parts the customers are cut, of which each new minute tidies one.
const TIDY_PARTS: usize = 8;

/// What an entry of the series that may burn takes, in bytes, its share of a tree's node.
const HOT_BYTES: usize = 40;

/// Names, records and series; nothing outside touches them while a batch is applied.
pub struct Shard {
    /// The names of its customers.
    pub customers: Names,
    /// What was applied since the last cut, in order.
    pub records: Records,
    /// By number of the customer; none where no series are kept.
    accounts: Vec<Account>,
    /// Whether series are kept.
    live: bool,
    /// Valid and bad events of the last hours by minute and tuple.
    pub recent: Map<(Minute, u32), Counts>,
    service_names: Map<u32, Arc<str>>,
    /// Series with a bad event of any SLI, by customer and service.
    hot: BTreeMap<(u32, u32), Heat>,
    evicted: Evicted,
    pools: Arc<Pools>,
    /// What names and series take.
    bytes: usize,
    series_count: usize,
    /// How many customers were ever new.
    new_customers: u64,
    /// How often series were changed, the lowest bits.
    changes: u32,
    /// Which part of the customers is tidied next.
    tidy_next: usize,
}

/// The number of no partition: that of rows whose source nobody counts any more.
pub const NOBODY: u16 = u16::MAX;

/// A series that may burn.
struct Heat {
    /// When its last bad event was.
    last: Minute,
    /// As many as its bad events of any SLI since it is hot, or more.
    bad: u64,
    /// The partition of its newest rows, and their minute.
    partition: u16,
    newest: Minute,
    /// Another partition that had rows of it before, or [`NOBODY`].
    other: u16,
}

impl Heat {
    /// Reads what [`Shard::write`] writes of it.
    fn read(reader: &mut Reader<'_>, with: &Restoring<'_>) -> Option<Heat> {
        let (last, bad) = (reader.minute()?, reader.number()?);
        let (partition, newest) = (reader.small()?, reader.minute()?);
        let partition = match u16::try_from(partition).ok()? {
            NOBODY => NOBODY,
            known => *with.partitions.get(usize::from(known))?,
        };
        Some(Heat { last, bad, partition, newest, other: NOBODY })
    }
}

/// What is kept of a customer.
#[derive(Default)]
struct Account {
    /// With the number of their service.
    series: Vec<(u32, Series)>,
    /// The last round in which it had an event.
    touched: u32,
    /// The number of the last change of its series.
    changed: u32,
    /// The number of its pool.
    pool: u16,
    /// Whether there may be more of it in the table.
    is_partial: bool,
}

/// What a batch is folded with.
#[derive(Clone, Copy)]
pub struct Folding<'a> {
    /// Services and dimension values.
    pub dimensions: &'a Dimensions,
    /// What records share, by number.
    pub kinds: &'a [Kind],
    /// How many further SLIs there are.
    pub further: usize,
    /// The newest minute of which anything is known.
    pub newest: Minute,
    /// How often the state was looked over for idle customers.
    pub round: u32,
}

/// Who may be evicted.
#[derive(Clone, Copy)]
pub struct Evictable<'a> {
    /// Customers with a firing alert: never.
    pub firing: &'a dyn Fn(&str) -> bool,
    /// Who may come to fire by time alone: while there are others, not.
    pub keep: Keep,
}

impl Shard {
    /// An empty shard of a state of this seed, whose customers are in these pools. Series can be
    /// folded if it is `live`; else it takes records alone.
    pub fn new(seed: u64, pools: Arc<Pools>, live: bool) -> Shard {
        Shard {
            customers: Names::default(),
            live,
            pools,
            records: Records::default(),
            accounts: Vec::new(),
            recent: Map::default(),
            service_names: Map::default(),
            hot: BTreeMap::new(),
            evicted: Evicted::new(seed),
            bytes: 0,
            series_count: 0,
            new_customers: 0,
            changes: 0,
            tidy_next: 0,
        }
    }

    /// Takes its part of a block, whose kinds have the numbers `admitted` among `kinds`; its newest
    /// minute, if it has one.
    pub fn take(
        &mut self,
        mut part: ShardPart,
        admitted: &[u32],
        kinds: &[Kind],
    ) -> Option<Minute> {
        let known: Vec<Option<u32>> = self.customers.find_all(part.customers()).collect();
        let customers = known.into_iter().zip(part.customers());
        let customers: Vec<u32> =
            customers.map(|(known, name)| known.unwrap_or_else(|| self.customer(name))).collect();
        let mut records = std::mem::take(&mut part.records);
        let mut newest = None;
        for record in &mut records {
            record.customer = customers[record.customer as usize];
            record.kind = admitted[record.kind as usize];
            if !record.is_dropped() {
                newest = newest.max(Some(record.minute(kinds)));
            }
        }
        self.records.push(records);
        part.customers().for_each(|name| failpoint::planted_panic("fold", name.as_bytes()));
        newest
    }

    /// The number of a customer, which gets an account at first sight where series are kept.
    pub fn customer(&mut self, name: &str) -> u32 {
        let count = self.customers.count();
        let id = self.customers.intern(name);
        if self.customers.count() > count {
            if self.live {
                self.open_account(id, name);
            }
            self.bytes += account_bytes(name);
            self.new_customers += 1;
        }
        id
    }

    fn open_account(&mut self, id: u32, name: &str) {
        if self.accounts.len() <= id as usize {
            self.accounts.resize_with(id as usize + 1, Account::default);
        }
        let account = &mut self.accounts[id as usize];
        account.is_partial = self.evicted.may_hold(name);
        account.pool = self.pools.of(name);
    }

    /// What is kept of a customer, if anything is.
    fn account(&self, name: &str) -> Option<&Account> {
        self.accounts.get(self.customers.find(name)? as usize)
    }

    /// Folds the records from `start` on into the series; what that adds to the pools.
    pub fn fold(&mut self, start: usize, folding: Folding<'_>) -> PoolCells {
        let mut pools = PoolCells::default();
        let further = folding.further;
        // What goes to the same cell mostly comes in a row.
        let (mut place, mut cell) = (None, PoolCell::new(further));
        let mut flush = |place: Option<(u16, u32, Minute)>, cell: &mut PoolCell| {
            if let Some(place) = place {
                pools.entry(place).or_insert_with(|| PoolCell::new(further)).take(cell);
            }
        };
        let oldest_recent = folding.newest.minus(RECENT_MINUTES);
        let records = std::mem::take(&mut self.records);
        let counted = records.since(start).filter(|record| !record.is_dropped());
        for record in counted.map(|record| record.with(folding.kinds)) {
            let measures = record.measures();
            self.fold_record(&record, &measures, folding);
            if record.minute > oldest_recent {
                self.note(&record);
            }
            let service = folding.dimensions.tuple(record.tuple).service;
            let of = Some((self.pool(record.customer), service, record.minute));
            if place != of {
                flush(place, &mut cell);
                place = of;
            }
            cell.measures.add(&measures);
            for (sli, counts) in cell.further.iter_mut().enumerate() {
                counts.add(further_counts(&record, sli));
            }
        }
        flush(place, &mut cell);
        self.records = records;
        pools
    }

    /// The number of a customer's pool.
    pub fn pool(&self, customer: u32) -> u16 {
        self.accounts[customer as usize].pool
    }

    /// Adds one record to its series.
    pub fn fold_record(&mut self, record: &Counted, measures: &Measures, folding: Folding<'_>) {
        let Counted { customer, minute, class, .. } = *record;
        let Folding { dimensions, further, newest, round, .. } = folding;
        let service = dimensions.tuple(record.tuple).service;
        let series = self.series(customer, service, dimensions, further);
        let mut grown = series.add_sized(minute, measures);
        for sli in 0..further {
            let counts = further_counts(record, sli);
            if counts != Counts::default() {
                grown += series.add_further_sized(sli, minute, counts);
            }
        }
        if class.timed && minute > newest.minus(HISTOGRAM_MINUTES) {
            grown += series.record_sized(minute, record.latency_us, u64::from(record.count));
        }
        self.grow(grown);
        self.touch(customer, round);
        if class.availability == Some(Outcome::Bad) || class.slow || class.further_bad != 0 {
            self.heat(customer, service, minute, u64::from(record.count));
            self.own(customer, service, minute, record.partition);
        }
    }

    /// Folds its part of rows of the table; `services` has the numbers of the batch's services.
    /// What that adds to the pools goes to `pools`.
    pub(super) fn fold_rows(
        &mut self,
        part: &Part,
        services: &[u32],
        folding: Folding<'_>,
        pools: &mut PoolCells,
    ) {
        for (name, rows) in part.iter() {
            let customer = self.customer(name);
            let pool = self.pool(customer);
            self.touch(customer, folding.round);
            for row in rows {
                let service = services[row.service as usize];
                let series = self.series(customer, service, folding.dimensions, folding.further);
                let mut grown = series.add_sized(row.minute, &row.measures);
                if let Some(latency) = &row.latency {
                    let before = series.bytes_of_latency();
                    series.histogram(row.minute).merge(latency);
                    grown += series.bytes_of_latency() as isize - before as isize;
                }
                self.grow(grown);
                let bad = row.measures.bad + row.measures.slow;
                if bad > 0 {
                    self.heat(customer, service, row.minute, bad);
                }
                let cell = pools.entry((pool, service, row.minute));
                let cell = cell.or_insert_with(|| PoolCell::new(folding.further));
                cell.measures.add(&row.measures);
            }
        }
    }

    /// Notes that a series had bad events, so many at most of any SLI.
    pub fn heat(&mut self, customer: u32, service: u32, minute: Minute, bad: u64) {
        let known = self.hot.len();
        let cold =
            Heat { last: minute, bad: 0, partition: NOBODY, newest: Minute(0), other: NOBODY };
        let heat = self.hot.entry((customer, service)).or_insert(cold);
        heat.last = minute.max(heat.last);
        heat.bad = heat.bad.saturating_add(bad);
        self.bytes += HOT_BYTES * (self.hot.len() - known);
    }

    /// Whether a series may burn.
    pub fn is_hot(&self, customer: &str, service: u32) -> bool {
        let known = self.customers.find(customer);
        known.is_some_and(|customer| self.hot.contains_key(&(customer, service)))
    }

    /// Notes from which partition a series that may burn has rows of a minute: the newest rows
    /// say whose it is.
    pub fn own(&mut self, customer: u32, service: u32, minute: Minute, partition: u16) {
        if let Some(heat) = self.hot.get_mut(&(customer, service))
            && heat.newest <= minute
        {
            if heat.partition != partition && heat.partition != NOBODY {
                heat.other = heat.partition;
            }
            (heat.newest, heat.partition) = (minute, partition);
        }
    }

    /// Series whose last bad event was before `oldest` burn no more; those of customers whom
    /// `is_watched` names are looked at until their alerts are over.
    pub fn cool(&mut self, oldest: Minute, is_watched: impl Fn(&str) -> bool) {
        let known = self.hot.len();
        let customers = &self.customers;
        self.hot.retain(|(customer, _), heat| {
            heat.last >= oldest || is_watched(customers.text(*customer))
        });
        self.bytes -= HOT_BYTES * (known - self.hot.len());
    }

    /// The series with `bad_min` bad events or more that may burn and can be judged, each with the
    /// partition of its newest rows; and those of customers whom `is_watched` names.
    pub fn hot_series(
        &self,
        bad_min: u64,
        is_watched: impl Fn(&str) -> bool,
    ) -> impl Iterator<Item = (&Series, u16)> {
        self.hot.iter().filter_map(move |((customer, service), heat)| {
            if heat.bad < bad_min && !is_watched(self.customers.text(*customer)) {
                return None;
            }
            let account = &self.accounts[*customer as usize];
            let found = account.series.iter().find(|(known, _)| known == service);
            let series = found.map(|(_, series)| (series, heat.partition));
            series.filter(|_| !account.is_partial)
        })
    }

    /// The series of a pool and service that may burn, as [`Shard::hot_series`].
    pub fn hot_in_pool(&self, pool: u16, service: u32) -> impl Iterator<Item = &Series> {
        let of_service = self.hot.keys().filter(move |(_, of)| *of == service);
        let accounts = of_service.map(|(customer, _)| &self.accounts[*customer as usize]);
        let whole = accounts.filter(move |account| account.pool == pool && !account.is_partial);
        whole.flat_map(move |account| {
            account.series.iter().filter(move |(known, _)| *known == service).map(|(_, one)| one)
        })
    }

    /// The customers that may burn and cannot be judged before they were loaded.
    pub fn hot_partial(&self) -> impl Iterator<Item = &str> {
        let mut before = None;
        let first = move |(customer, _): &&(u32, u32)| before.replace(*customer) != Some(*customer);
        let customers = self.hot.keys().filter(first).map(|(customer, _)| *customer);
        let partial = customers.filter(|customer| self.accounts[*customer as usize].is_partial);
        partial.map(|customer| self.customers.text(customer))
    }

    /// The customers of whom the table may hold more than is in memory.
    pub fn partial(&self) -> impl Iterator<Item = &str> {
        let is_partial = |account: &Account| account.is_partial && !account.series.is_empty();
        let ids = (0_u32..).zip(&self.accounts).filter(move |(_, account)| is_partial(account));
        ids.map(|(id, _)| self.customers.text(id))
    }

    /// Whether the table may hold more of a customer than is in memory.
    pub fn may_lack(&self, customer: &str) -> bool {
        match self.account(customer) {
            Some(account) => account.is_partial,
            None => self.evicted.may_hold(customer),
        }
    }

    /// The partitions of the series that may burn and that two partitions have rows of.
    pub fn split_series(&self) -> impl Iterator<Item = (u16, u16)> {
        let split = self.hot.values().filter(|heat| heat.other != NOBODY);
        split.map(|heat| (heat.partition, heat.other))
    }

    /// Forgets what is older than the last hours, and packs old minutes: of all by dimension,
    /// and of one part of the series.
    pub fn forget(&mut self, newest: Minute) {
        let oldest_recent = newest.minus(RECENT_MINUTES);
        self.recent.retain(|(minute, _), _| *minute > oldest_recent);
        let oldest = newest.minus(HISTOGRAM_MINUTES);
        let part = self.accounts.len().div_ceil(TIDY_PARTS).max(1);
        let start = (self.tidy_next * part).min(self.accounts.len());
        let end = (start + part).min(self.accounts.len());
        self.tidy_next = (self.tidy_next + 1) % TIDY_PARTS;
        let is_due = |series: &Series| series.has_older(oldest);
        self.tidy(start..end, is_due, |series| series.forget(oldest));
    }

    /// Packs the minutes before `minute` of all series.
    pub fn pack_before(&mut self, minute: Minute) {
        self.tidy(0..self.accounts.len(), |_| true, |series| series.pack_before(minute));
    }

    /// Packs as closely as can be what is packed of all series.
    pub fn tighten(&mut self) {
        self.tidy(0..self.accounts.len(), |_| true, Series::tighten);
    }

    /// Tidies those series of some accounts of which `is_due` says so, and counts by how much
    /// they grow with it.
    fn tidy(
        &mut self,
        accounts: Range<usize>,
        is_due: impl Fn(&Series) -> bool,
        work: impl Fn(&mut Series),
    ) {
        let mut grown = 0;
        for (_, series) in self.accounts[accounts].iter_mut().flat_map(|one| &mut one.series) {
            if is_due(series) {
                let before = series.bytes() as isize;
                work(series);
                grown += series.bytes() as isize - before;
            }
        }
        self.grow(grown);
    }

    /// The series of a customer and service, made at first sight.
    pub fn series(
        &mut self,
        customer: u32,
        service: u32,
        dimensions: &Dimensions,
        further: usize,
    ) -> &mut Series {
        self.change(customer);
        let of_customer = &mut self.accounts[customer as usize].series;
        let at = of_customer.iter().position(|(known, _)| *known == service);
        let at = at.unwrap_or_else(|| {
            let text = |id| Arc::from(dimensions.values.text(id));
            let name = self.service_names.entry(service).or_insert_with(|| text(service));
            let known = of_customer.first().map(|(_, series)| Arc::clone(&series.customer));
            let who = known.unwrap_or_else(|| self.customers.shared(customer));
            let series = Series::new(who, Arc::clone(name), further);
            self.bytes += series.bytes();
            self.series_count += 1;
            of_customer.reserve_exact(1);
            of_customer.push((service, series));
            of_customer.len() - 1
        });
        &mut of_customer[at].1
    }

    /// Takes note that series of a customer are changed.
    fn change(&mut self, customer: u32) {
        self.changes = self.changes.wrapping_add(1);
        self.accounts[customer as usize].changed = self.changes;
    }

    /// The number of the last change of a customer's series, which no other change of any
    /// series of the shard had within four billion of them; 0 for who is not known.
    pub fn changed(&self, customer: &str) -> u32 {
        self.account(customer).map_or(0, |account| account.changed)
    }

    /// Takes note that a customer had an event in this round.
    pub fn touch(&mut self, customer: u32, round: u32) {
        self.accounts[customer as usize].touched = round;
    }

    /// Counts bytes by which series have grown.
    pub fn grow(&mut self, bytes: isize) {
        self.bytes = self.bytes.saturating_add_signed(bytes);
    }

    /// The series of one customer.
    pub fn series_of(&self, customer: &str) -> impl Iterator<Item = &Series> {
        let account = self.account(customer).into_iter();
        account.flat_map(|account| &account.series).map(|(_, series)| series)
    }

    /// How many series of a service had events in some minutes, both ends included.
    pub fn active_series(&self, service: u32, minutes: &RangeInclusive<Minute>) -> u64 {
        let series = self.accounts.iter().flat_map(|account| &account.series);
        let of_service = series.filter(|(known, _)| *known == service);
        of_service.filter(|(_, series)| series.is_active_in(minutes.clone())).count() as u64
    }

    /// All series that are whole.
    pub fn all_series(&self) -> impl Iterator<Item = &Series> {
        let whole = self.accounts.iter().filter(|account| !account.is_partial);
        whole.flat_map(|account| &account.series).map(|(_, series)| series)
    }

    /// Takes the series of a customer out, with the last bad minute of each.
    pub fn take_out(&mut self, customer: &str) -> Vec<(Series, Option<Minute>)> {
        let Some(id) = self.customers.find(customer) else { return Vec::new() };
        self.change(id);
        let series = std::mem::take(&mut self.accounts[id as usize].series);
        let hot = &self.hot;
        series
            .into_iter()
            .map(|(of, one)| (one, hot.get(&(id, of)).map(|heat| heat.last)))
            .collect()
    }

    /// Puts whole series, each with the number of its service, in the place of partial ones.
    pub fn complete(&mut self, customer: u32, whole: Vec<(u32, Series, Option<Minute>)>) {
        self.change(customer);
        let who = self.customers.shared(customer);
        let bytes = |of_customer: &[(u32, Series)]| -> usize {
            of_customer.iter().map(|(_, series)| series.bytes()).sum()
        };
        let account = &mut self.accounts[customer as usize];
        self.bytes -= bytes(&account.series).min(self.bytes);
        self.series_count -= account.series.len();
        let bad = |(service, series, last): &(u32, Series, Option<Minute>)| {
            Some((*service, (*last)?, series.most_bad(Minute(0))))
        };
        let bad: Vec<(u32, Minute, u64)> = whole.iter().filter_map(bad).collect();
        let own = |(service, series, _)| (service, Series { customer: Arc::clone(&who), ..series });
        account.series = whole.into_iter().map(own).collect();
        account.is_partial = false;
        self.bytes += bytes(&account.series);
        self.series_count += account.series.len();
        bad.into_iter().for_each(|(service, last, bad)| self.heat(customer, service, last, bad));
    }

    /// Evicts customers, those first that were idle longest, until `bytes` are free; then also
    /// those that may come to fire by themselves, if `all`. How many of either.
    ///
    /// # Panics
    /// If a record is not committed.
    pub fn evict(&mut self, bytes: usize, who: Evictable<'_>, all: bool) -> (u64, u64) {
        assert!(self.records.is_empty(), "what is evicted is in the table");
        let known = |id: &u32| !self.accounts[*id as usize].series.is_empty();
        let idle = |id: &u32| !(who.firing)(self.customers.text(*id));
        let ids = (0..self.accounts.len() as u32).filter(known).filter(idle);
        let mut order: Vec<(bool, u32, u32)> = ids
            .map(|id| (self.may_fire(id, who), self.accounts[id as usize].touched, id))
            .filter(|(may_fire, ..)| all || !may_fire)
            .collect();
        order.sort_unstable();
        let goal = self.bytes.saturating_sub(bytes);
        let (mut idle, mut hot) = (0, 0);
        for (may_fire, _, id) in order {
            if self.bytes <= goal {
                break;
            }
            self.evict_one(id);
            *(if may_fire { &mut hot } else { &mut idle }) += 1;
        }
        (idle, hot)
    }

    fn evict_one(&mut self, id: u32) {
        let account = std::mem::take(&mut self.accounts[id as usize]);
        let series: usize = account.series.iter().map(|(_, series)| series.bytes()).sum();
        let name = self.customers.text(id);
        self.bytes -= (series + account_bytes(name)).min(self.bytes);
        self.series_count -= account.series.len();
        for (service, _) in &account.series {
            if self.hot.remove(&(id, *service)).is_some() {
                self.bytes -= HOT_BYTES;
            }
        }
        self.evicted.insert(name);
        self.customers.forget(id);
    }

    /// Whether a customer's alert may fire, or come to, without a further bad event.
    fn may_fire(&self, id: u32, who: Evictable<'_>) -> bool {
        self.hot.range((id, 0)..=(id, u32::MAX)).any(|((_, service), heat)| {
            let account = &self.accounts[id as usize];
            let series = account.series.iter().find(|(known, _)| known == service);
            let bad = || series.map_or(0, |(_, series)| series.most_bad(who.keep.since));
            // What the table holds of a partial series is not known before it was loaded.
            heat.last >= who.keep.last_bad && (account.is_partial || bad() >= who.keep.bad_min)
        })
    }

    /// Forgets all names, which is for who keeps no series.
    ///
    /// # Panics
    /// If a record is not committed.
    pub fn forget_names(&mut self) {
        assert!(self.records.is_empty(), "no record needs its name any more");
        self.customers = Names::default();
        self.accounts = Vec::new();
        self.bytes = 0;
    }

    /// Appends names and series to bytes, as `state/snapshot` says.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.evicted.write(out);
        push_number(out, self.customers.count() as u64);
        for (id, account) in (0_u32..).zip(&self.accounts) {
            let Some(name) = self.customers.get(id) else { continue };
            push_run(out, name.as_bytes());
            push_number(out, u64::from(account.touched));
            push_number(out, u64::from(account.is_partial));
            push_number(out, account.series.len() as u64);
            for (service, series) in &account.series {
                push_number(out, u64::from(*service));
                series.write(out);
                match self.hot.get(&(id, *service)) {
                    None => push_number(out, 0),
                    Some(heat) => {
                        let Heat { last, bad, partition, newest, .. } = heat;
                        push_number(out, 1);
                        push_number(out, u64::from(last.0));
                        push_number(out, *bad);
                        push_number(out, u64::from(*partition));
                        push_number(out, u64::from(newest.0));
                    }
                }
            }
        }
    }

    /// Reads what [`Shard::write`] has written; `None` where it is something else, or a customer
    /// does not belong here. Series without a minute that is wanted are left out.
    pub(super) fn read(
        reader: &mut Reader<'_>,
        belongs: &dyn Fn(&str) -> bool,
        with: &Restoring<'_>,
    ) -> Option<Shard> {
        let empty = Shard::new(with.seed, Arc::clone(with.pools), true);
        let mut shard = Shard { evicted: Evicted::read(reader, with.seed)?, ..empty };
        for (id, name) in with.services.values() {
            shard.service_names.insert(*id, Arc::clone(name));
        }
        let nobody: Arc<str> = Arc::from("");
        for _ in 0..reader.number()? {
            let name = reader.text().filter(|name| belongs(name))?;
            if shard.customers.find(name).is_some() {
                return None;
            }
            let (touched, is_partial) = (reader.small()?, reader.flag()?);
            let mut kept = Vec::new();
            for _ in 0..reader.number()? {
                let (service, called) = with.services.get(&reader.small()?)?;
                let called = Arc::clone(called);
                let mut series = Series::read(reader, Arc::clone(&nobody), called, with.further)?;
                let heat = if reader.flag()? { Some(Heat::read(reader, with)?) } else { None };
                series.forget_before(with.from);
                if !series.is_empty() {
                    kept.push((*service, series, heat.filter(|heat| heat.last >= with.from)));
                }
            }
            if !kept.is_empty() {
                let id = shard.customer(name);
                shard.keep(id, kept);
                let account = &mut shard.accounts[id as usize];
                (account.touched, account.is_partial) = (touched, is_partial);
            }
        }
        Some(shard)
    }

    /// Gives a customer who has none the series that were read.
    fn keep(&mut self, id: u32, kept: Vec<(u32, Series, Option<Heat>)>) {
        self.change(id);
        let who = self.customers.shared(id);
        let mut of_customer = Vec::with_capacity(kept.len());
        for (service, series, heat) in kept {
            let series = Series { customer: Arc::clone(&who), ..series };
            self.bytes += series.bytes();
            if let Some(heat) = heat {
                self.hot.insert((id, service), heat);
                self.bytes += HOT_BYTES;
            }
            of_customer.push((service, series));
        }
        self.series_count += of_customer.len();
        self.accounts[id as usize].series = of_customer;
    }

    /// The services that there are series of, each with its number.
    pub(super) fn services(&self) -> impl Iterator<Item = (u32, &str)> {
        self.service_names.iter().map(|(id, name)| (*id, &**name))
    }

    /// About how much memory names and series take, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many series there are.
    pub fn series_count(&self) -> usize {
        self.series_count
    }

    /// How often a customer was evicted.
    pub fn evicted(&self) -> u64 {
        self.evicted.count()
    }

    /// How often a customer was new, those included that came back.
    pub fn new_customers(&self) -> u64 {
        self.new_customers
    }

    fn note(&mut self, record: &Counted) {
        let counts = record.measures().counts();
        self.recent.entry((record.minute, record.tuple)).or_default().add(counts);
    }
}

/// What a customer takes beside its series.
fn account_bytes(name: &str) -> usize {
    size_of::<Account>() + Names::bytes_of(name)
}
