//! The words of the system as types: what an event is, and what is counted of it.
//!
//! An [`Event`] borrows its text from the block it was decoded from, so that decoding owns
//! nothing. [`Measures`] are the additive counts that every grain of the table, every window
//! and every report are sums of.

/// The service of an event that names none.
pub const SERVICE_DEFAULT: &str = "default";

/// How many further attributes (a feature flag, say) an event may carry, beside the four
/// fixed dimensions.
pub const ATTRIBUTES_MAX: usize = 4;

/// The longest customer name in bytes; a longer one makes the line a dead letter.
pub const CUSTOMER_BYTES_MAX: usize = 256;

/// The largest `count` of one event.
pub const COUNT_MAX: u32 = 1_000_000;

/// The longest latency that is recorded, in microseconds: one hour. A longer one is invalid:
/// the event counts, its latency does not.
pub const LATENCY_US_MAX: u32 = 3_600_000_000;

/// What the sender says of an event, over its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Served as promised.
    Good,
    /// Failed.
    Bad,
    /// Counts in no ratio.
    Excluded,
}

/// What a field of an event that could be a latency held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Latency {
    /// The event carries none.
    #[default]
    Absent,
    /// Microseconds, rounded, at most [`LATENCY_US_MAX`].
    Us(u32),
    /// Negative, not finite or longer than an hour: the event counts, its latency does not.
    Invalid,
}

/// One request served (or `count` equal ones), borrowed from the text it was decoded from.
///
/// An absent optional text is the empty string; `service` is [`SERVICE_DEFAULT`] then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event<'a> {
    /// Epoch milliseconds, UTC; a decoder yields years 2000 to 2100 only.
    pub ts_ms: i64,
    /// Who was served: 1 to [`CUSTOMER_BYTES_MAX`] bytes, taken as it is.
    pub customer: &'a str,
    /// Which component served.
    pub service: &'a str,
    /// The route template, such as `GET /v1/orders/{id}`.
    pub route: &'a str,
    /// The release that served.
    pub release: &'a str,
    /// The cohort of the customer or of the roll-out.
    pub cohort: &'a str,
    /// The region that served.
    pub region: &'a str,
    /// Configured attributes, in the order of the configuration.
    pub attributes: [&'a str; ATTRIBUTES_MAX],
    /// HTTP status 100 to 599; 0 where nothing was sent or none was given.
    pub status: u16,
    /// Wins over the status.
    pub outcome: Option<Outcome>,
    /// The latency.
    pub latency: Latency,
    /// Names the event for the dedupe window; empty where absent.
    pub id: &'a str,
    /// How many equal requests it stands for, 1 to [`COUNT_MAX`].
    pub count: u32,
}

impl Default for Event<'_> {
    fn default() -> Self {
        Event {
            ts_ms: 0,
            customer: "",
            service: SERVICE_DEFAULT,
            route: "",
            release: "",
            cohort: "",
            region: "",
            attributes: [""; ATTRIBUTES_MAX],
            status: 0,
            outcome: None,
            latency: Latency::Absent,
            id: "",
            count: 1,
        }
    }
}

impl<'a> Event<'a> {
    /// What it does not share with many others.
    #[inline]
    pub fn bare(&self) -> Bare<'a> {
        let Event { ts_ms, customer, status, outcome, latency, id, count, .. } = *self;
        Bare { ts_ms, customer, status, outcome, latency, id, count }
    }
}

/// A word that a decoder gives the service and dimensions of an event: events of *one* decoder
/// that have the same word have the same texts there. The reverse does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alike(pub u64);

impl Alike {
    /// That of an event of which the decoder does not know: all bits, so that what has one of an
    /// unknown part has this one.
    pub const NONE: Alike = Alike(u64::MAX);
}

/// An [`Event`] without its service and dimensions, which many events share: a reader that knows
/// those by number need not look at their texts again.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "each field is that of the event")]
pub struct Bare<'a> {
    pub ts_ms: i64,
    pub customer: &'a str,
    pub status: u16,
    pub outcome: Option<Outcome>,
    pub latency: Latency,
    pub id: &'a str,
    pub count: u32,
}

impl Default for Bare<'_> {
    #[inline]
    fn default() -> Self {
        Event::default().bare()
    }
}

impl<'a> Bare<'a> {
    /// The whole event, whose service and dimensions are those of another.
    pub fn with(self, shared: Event<'a>) -> Event<'a> {
        let Bare { ts_ms, customer, status, outcome, latency, id, count } = self;
        Event { ts_ms, customer, status, outcome, latency, id, count, ..shared }
    }
}

/// The additive measures of a set of events: the default availability SLI, the first latency
/// SLI, and the latency of the timed events. `valid` includes `bad`.
///
/// ```
/// use ninefold_engine::model::Measures;
/// let mut sum = Measures { valid: 10, bad: 1, latency_max_us: 7, ..Measures::default() };
/// sum.add(&Measures { valid: 5, latency_max_us: 3, ..Measures::default() });
/// assert_eq!((sum.valid, sum.bad, sum.latency_max_us), (15, 1, 7));
/// assert_eq!((sum.counts().valid, sum.counts().bad), (15, 1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    /// Good and bad events.
    pub valid: u64,
    /// Bad events of the default availability SLI.
    pub bad: u64,
    /// Events that count in no ratio.
    pub excluded: u64,
    /// Good events that carry a latency: what a latency SLI judges.
    pub timed: u64,
    /// Timed events slower than the threshold of the first latency SLI.
    pub slow: u64,
    /// Sum of the latencies of the timed events, in microseconds.
    pub latency_sum_us: u64,
    /// The longest latency of a timed event, in microseconds; 0 where none.
    pub latency_max_us: u64,
}

impl Measures {
    /// Adds `other` to these.
    ///
    /// # Panics
    /// If a sum leaves 64 bits: at a billion requests a second that takes centuries, so it is
    /// a broken count and not a large one.
    #[inline]
    pub fn add(&mut self, other: &Measures) {
        add(&mut self.valid, other.valid);
        add(&mut self.bad, other.bad);
        add(&mut self.excluded, other.excluded);
        add(&mut self.timed, other.timed);
        add(&mut self.slow, other.slow);
        add(&mut self.latency_sum_us, other.latency_sum_us);
        self.latency_max_us = self.latency_max_us.max(other.latency_max_us);
    }

    /// Those of the default availability SLI; of a further one where a cell is of that.
    #[inline]
    pub fn counts(&self) -> Counts {
        let Measures { valid, bad, excluded, .. } = *self;
        Counts { valid, bad, excluded }
    }
}

/// Adds to one of them.
#[inline]
pub(crate) fn add(sum: &mut u64, more: u64) {
    *sum = sum.checked_add(more).expect("a count fits 64 bits");
}

/// The three counts of one SLI. `valid` includes `bad`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Good and bad events.
    pub valid: u64,
    /// Bad events.
    pub bad: u64,
    /// Events that count in no ratio.
    pub excluded: u64,
}

impl Counts {
    /// Adds `other` to these.
    pub fn add(&mut self, other: Counts) {
        self.valid += other.valid;
        self.bad += other.bad;
        self.excluded += other.excluded;
    }
}
