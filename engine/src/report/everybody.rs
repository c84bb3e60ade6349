//! The statement of everybody from the rows of the table, some customers at a time.
//!
//! A statement needs the minutes of one customer at once, and of no other: customers are cut into
//! ranges, each range is read from every file, and its rows are brought together by customer. So
//! cores work side by side without a word between them, memory is that of the ranges at work, and
//! statements come in the order of the names. Files that are small beside a range are read once,
//! before.
//!
//! The answer is that of [`report`](super::report) over a state that the same minutes were folded
//! into, whatever the order of the rows in the files.

mod gather;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use self::gather::{AVAILABILITY, COLUMNS, Gathering, Held, Row, Services, Slot, slot};
use super::{Ask, Frame, by_minute, report_service, state};
use crate::model::{Counts, Measures};
use crate::query::body::{Report, ReportCustomer, ReportService};
use crate::query::{AskError, Promise};
use crate::slo::objective::SliRef;
use crate::state::series::Cell;
use crate::table::read::CustomerFile;
use crate::table::schema::Grain;
use crate::table::{Customers, Filter, Mark, Table, TableError};
use crate::time::Minute;

/// Into how much work is cut.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// A file of at most so many rows is read once, as a whole.
    pub small_rows: u64,
    /// All such files together have at most so many rows: they are held for the whole report.
    pub held_rows: u64,
    /// A range has about so many rows.
    pub range_rows: u64,
    /// Or so many for each file that is read range by range, where that is more: of each a page
    /// at either end of the range is decoded for a part.
    pub edge_rows: u64,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { small_rows: 1 << 16, held_rows: 1 << 22, range_rows: 1 << 18, edge_rows: 1 << 13 }
    }
}

/// How much of each statement is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The figures of the customer alone; `services` is left empty.
    Figures,
    /// By service and objective too.
    Services,
}

/// The most that may add up to one sum: what the table's columns hold.
const SUM_MAX: u128 = i64::MAX as u128;

/// The rows of one month, ready to be stated. Commits that land meanwhile are not seen.
pub struct Everybody {
    services: Services,
    /// The further SLIs, in the order of the configuration.
    slis: Vec<String>,
    /// The first two SLIs that an objective is on, and availability in any case.
    columns: Vec<SliRef>,
    small: Vec<Held>,
    series: Vec<CustomerFile>,
    further: Vec<CustomerFile>,
    ranges: Vec<Customers>,
}

impl Everybody {
    /// Proves the files of `minutes`, cuts customers into ranges, and reads small files.
    ///
    /// # Errors
    /// The table cannot be read, or is damaged.
    pub fn open(
        table: &Table,
        promise: &Promise<'_>,
        minutes: &RangeInclusive<Minute>,
        sizes: Sizes,
    ) -> Result<Everybody, TableError> {
        let on_latency = |sli: &str| promise.slis.find(sli) == Some(SliRef::Latency);
        let mut columns = vec!["minute", "customer", "service", "valid", "bad", "excluded"];
        let mut judged = vec![SliRef::Availability];
        if promise.objectives.all().any(|objective| on_latency(&objective.sli)) {
            columns.extend(["timed", "slow"]);
            judged.push(SliRef::Latency);
        }
        let filter = Filter::of_minutes(minutes.clone());
        let of_series = Filter { columns: Some(columns), ..filter.clone() };
        let series = table.customer_files(Grain::Series, &of_series)?;
        let further = match promise.slis.further.is_empty() {
            true => Vec::new(),
            false => table.customer_files(Grain::Sli, &filter)?,
        };
        let mut room = Room { sizes, taken: 0 };
        let mut is_small = |file: &CustomerFile| room.takes(file.rows_logged());
        let (small, series): (Vec<_>, Vec<_>) = series.into_iter().partition(&mut is_small);
        let (small_further, further): (Vec<_>, Vec<_>) = further.into_iter().partition(is_small);
        let mut everybody = Everybody {
            services: Services::default(),
            slis: promise.slis.further.iter().map(|sli| sli.name.clone()).collect(),
            columns: judged,
            small: Vec::new(),
            series,
            further,
            ranges: Vec::new(),
        };
        let hold = |series: &[CustomerFile], further: &[CustomerFile]| {
            let mut gathering = Gathering::new(&everybody.services);
            everybody.gather((series, further), None, &mut gathering)?;
            Ok::<Held, TableError>(Held::new(gathering.gathered))
        };
        let small = small.par_chunks(1).map(|file| hold(file, &[]));
        let small_further = small_further.par_chunks(1).map(|file| hold(&[], file));
        let small = small.chain(small_further).collect::<Result<Vec<Held>, TableError>>()?;
        let large = everybody.series.par_iter().chain(&everybody.further);
        let marks = large.map(CustomerFile::marks).collect::<Result<Vec<Vec<Mark>>, TableError>>();
        let mut marks = marks?.concat();
        let files = (everybody.series.len() + everybody.further.len()) as u64;
        let range_rows = sizes.range_rows.max(files * sizes.edge_rows);
        marks.extend(small.iter().flat_map(|held| held.marks(range_rows)));
        everybody.small = small;
        everybody.ranges = Customers::tiled(starts(marks, range_rows));
        Ok(everybody)
    }

    /// How many ranges customers are cut into.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// States the month of `ask`, whose customer does not matter: the customers of one range
    /// after the other, in the order of their names. `make` is called on any thread, `take` in
    /// that order; the first error ends it.
    ///
    /// # Errors
    /// As [`report`](super::report); the table cannot be read; what `take` says.
    pub fn each<T: Send, E: From<AskError> + Send>(
        &self,
        promise: &Promise<'_>,
        ask: &Ask<'_>,
        detail: Detail,
        make: impl Fn(Vec<ReportCustomer>) -> T + Sync,
        take: impl FnMut(T) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let frame = Frame::of(ask)?;
        let next = AtomicUsize::new(0);
        let in_order =
            Mutex::new(InOrder { take, waiting: BTreeMap::new(), next: 0, failed: None });
        rayon::broadcast(|_| {
            let mut worker = Worker::new(self, promise, &frame, detail);
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(range) = self.ranges.get(at) else { return };
                let failed = |error: TableError| E::from(AskError::Table(error.to_string()));
                let made = worker.statements(range).map(&make).map_err(failed);
                if !lock(&in_order).push(at, made) {
                    return;
                }
            }
        });
        let in_order = in_order.into_inner().unwrap_or_else(PoisonError::into_inner);
        in_order.failed.map_or(Ok(()), Err)
    }

    /// States the month of `ask` for everybody.
    ///
    /// # Errors
    /// As [`Everybody::each`].
    pub fn report(
        &self,
        promise: &Promise<'_>,
        ask: &Ask<'_>,
        detail: Detail,
    ) -> Result<Report, AskError> {
        let mut customers = Vec::new();
        let take = |some: Vec<ReportCustomer>| {
            customers.extend(some);
            Ok::<(), AskError>(())
        };
        self.each(promise, ask, detail, |some| some, take)?;
        Ok(Report { customers, ..Frame::of(ask)?.report })
    }

    /// Reads the rows of some customers, or all, of files of series and of further SLIs.
    fn gather(
        &self,
        (series, further): (&[CustomerFile], &[CustomerFile]),
        customers: Option<&Customers>,
        gathering: &mut Gathering<'_>,
    ) -> Result<(), TableError> {
        for file in series {
            let mut part = file.series(customers)?;
            while part.next_rows(|row| {
                for sli in &self.columns {
                    let counts = sli.counts_in(&row.measures);
                    let counts = counts.expect("a row has the counts of the first two SLIs");
                    gathering.push((row.customer, row.service), *sli, row.minute, counts);
                }
            })? {}
        }
        for file in further {
            let mut part = file.slis(customers)?;
            while part.next_rows(|row| {
                if let Some(at) = self.slis.iter().position(|sli| sli == row.sli) {
                    let (whose, sli) = ((row.customer, row.service), SliRef::Further(at));
                    gathering.push(whose, sli, row.minute, row.counts);
                }
            })? {}
        }
        Ok(())
    }
}

/// Where ranges begin, so that each has about so many rows of those that the marks tell of.
fn starts(mut marks: Vec<Mark>, range_rows: u64) -> Vec<String> {
    marks.sort_unstable();
    let (mut starts, mut rows): (Vec<String>, u64) = (Vec::new(), 0);
    for (customer, more) in marks {
        if rows >= range_rows && starts.last() != Some(&customer) {
            starts.push(customer);
            rows = 0;
        }
        rows += more;
    }
    starts
}

/// How much room is left for small files.
struct Room {
    sizes: Sizes,
    taken: u64,
}

impl Room {
    /// Takes a file of so many rows, where it is small and there is room.
    fn takes(&mut self, rows: Option<u64>) -> bool {
        let Some(rows) = rows.filter(|rows| *rows <= self.sizes.small_rows) else { return false };
        let fits = self.taken + rows <= self.sizes.held_rows;
        self.taken += if fits { rows } else { 0 };
        fits
    }
}

/// The rows of one customer that follow each other in a file.
struct Found {
    /// See [`key_of`].
    key: u64,
    /// 0 is what was read of the range, further ones are small files.
    file: u32,
    /// The run in it.
    at: u32,
}

/// The first eight bytes of a name behind the `shared` ones that a range has in common, as a
/// number: names are in the order of their numbers, where those differ.
fn key_of(customer: &str, shared: usize) -> u64 {
    let rest = customer.as_bytes().get(shared..).unwrap_or_default();
    let mut key = [0; 8];
    let length = rest.len().min(8);
    key[..length].copy_from_slice(&rest[..length]);
    u64::from_be_bytes(key)
}

/// The rows of a range: those read of it, and small files.
struct Rows<'a> {
    small: &'a [Held],
    read: Gathering<'a>,
}

impl Rows<'_> {
    /// Whose rows were found, and they.
    fn run(&self, found: &Found) -> (&str, &[Row]) {
        let gathered = match found.file {
            0 => &self.read.gathered,
            small => &self.small[small as usize - 1].gathered,
        };
        gathered.rows.get(found.at as usize)
    }

    /// All of a range, in the order of the names.
    fn find(&self, range: &Customers, found: &mut Vec<Found>) {
        let shared = range.shared_bytes();
        let one = |file: u32, at: u32| {
            let one = Found { key: 0, file, at };
            Found { key: key_of(self.run(&one).0, shared), ..one }
        };
        found.clear();
        found.extend((0..self.read.gathered.rows.count() as u32).map(|at| one(0, at)));
        for (file, held) in (1..).zip(self.small) {
            found.extend(held.of(range).iter().map(|at| one(file, *at)));
        }
        let name = |one: &Found| self.run(one).0;
        // Each file is a run in order, and this sort merges runs.
        found.sort_by(|a, b| a.key.cmp(&b.key).then_with(|| name(a).cmp(name(b))));
    }

    fn check_sums(&self) -> Result<(), TableError> {
        let held = self.small.iter().map(|held| held.gathered.load).sum::<u128>();
        if held + self.read.gathered.load <= SUM_MAX {
            return Ok(());
        }
        let (column, found) = ("valid", "sums that do not fit 63 bits".to_owned());
        Err(TableError::Value { grain: Grain::Series.name(), column, found })
    }
}

/// What states the customers of one range after the other; its room is used again.
struct Worker<'a> {
    everybody: &'a Everybody,
    rows: Rows<'a>,
    found: Vec<Found>,
    one: One<'a>,
}

impl<'a> Worker<'a> {
    fn new(
        everybody: &'a Everybody,
        promise: &'a Promise<'a>,
        frame: &'a Frame,
        detail: Detail,
    ) -> Worker<'a> {
        let rows = Rows { small: &everybody.small, read: Gathering::new(&everybody.services) };
        let one = One {
            promise,
            frame,
            detail,
            services: Vec::new(),
            cells: Vec::new(),
            sums: Vec::new(),
            met: Vec::new(),
        };
        Worker { everybody, rows, found: Vec::new(), one }
    }

    /// The statements of the customers of a range who have events in the month.
    fn statements(&mut self, range: &Customers) -> Result<Vec<ReportCustomer>, TableError> {
        let Worker { everybody, rows, found, one } = self;
        rows.read.clear();
        let files = (everybody.series.as_slice(), everybody.further.as_slice());
        everybody.gather(files, Some(range), &mut rows.read)?;
        rows.check_sums()?;
        rows.find(range, found);
        one.services = everybody.services.names();
        one.sums.resize(one.services.len() * COLUMNS as usize, None);
        let name = |one: &Found| rows.run(one).0;
        let customers = found.chunk_by(|a, b| a.key == b.key && name(a) == name(b));
        Ok(customers.filter_map(|own| one.state(rows, own)).collect())
    }
}

/// The statement of one customer after the other.
struct One<'a> {
    promise: &'a Promise<'a>,
    frame: &'a Frame,
    detail: Detail,
    services: Vec<Arc<str>>,
    /// The minutes of the customer.
    cells: Vec<Cell>,
    /// By slot; `None` where there is no row.
    sums: Vec<Option<Counts>>,
    /// The slots with rows.
    met: Vec<Slot>,
}

impl One<'_> {
    /// The statement of a customer by all its rows; `None` where no event is in the minutes that
    /// are stated.
    fn state(&mut self, rows: &Rows<'_>, own: &[Found]) -> Option<ReportCustomer> {
        let minutes = self.frame.minutes.as_ref()?;
        self.met.drain(..).for_each(|slot| self.sums[slot as usize] = None);
        self.cells.clear();
        let mut is_active = false;
        for row in own.iter().flat_map(|one| rows.run(one).1) {
            let is_stated = minutes.contains(&row.minute);
            let counts = if is_stated { row.counts } else { Counts::default() };
            is_active |= is_stated;
            match &mut self.sums[row.slot as usize] {
                Some(sum) => sum.add(counts),
                none => {
                    *none = Some(counts);
                    self.met.push(row.slot);
                }
            }
            if is_stated && row.slot % COLUMNS == AVAILABILITY {
                let Counts { valid, bad, excluded } = counts;
                let measures = Measures { valid, bad, excluded, ..Measures::default() };
                self.cells.push(Cell { minute: row.minute, measures });
            }
        }
        if !is_active {
            return None;
        }
        by_minute(&mut self.cells);
        let customer = rows.run(&own[0]).0;
        let services = match self.detail {
            Detail::Figures => Vec::new(),
            Detail::Services => self.services(customer),
        };
        Some(state(self.promise, customer, &self.cells, services, self.frame))
    }

    fn services(&self, customer: &str) -> Vec<ReportService> {
        let name = |service: u32| &self.services[service as usize];
        let mut met: Vec<u32> = self.met.iter().map(|slot| slot / COLUMNS).collect();
        met.sort_unstable_by_key(|service| name(*service));
        met.dedup();
        let stated = |service: u32| {
            let counts = |sli| self.sums[slot(service, sli) as usize].unwrap_or_default();
            report_service(self.promise, customer, name(service), counts)
        };
        met.into_iter().map(stated).collect()
    }
}

/// Takes what was made of ranges in their order, in whichever it comes.
struct InOrder<T, F, E> {
    take: F,
    waiting: BTreeMap<usize, Result<T, E>>,
    next: usize,
    failed: Option<E>,
}

impl<T, E, F: FnMut(T) -> Result<(), E>> InOrder<T, F, E> {
    /// Takes what was made of one range; false where more is not wanted.
    fn push(&mut self, at: usize, made: Result<T, E>) -> bool {
        self.waiting.insert(at, made);
        while self.failed.is_none()
            && let Some(made) = self.waiting.remove(&self.next)
        {
            self.next += 1;
            self.failed = made.and_then(&mut self.take).err();
        }
        self.failed.is_none()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
