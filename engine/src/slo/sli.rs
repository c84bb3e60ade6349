//! SLIs: rules that sort events into good, bad and excluded.
//!
//! There is always one *default availability SLI* and one *first latency SLI*; up to
//! [`FURTHER_SLIS_MAX`] more may stand beside them. `valid = good + bad`; excluded events count
//! in no ratio.
//! - Availability: an event's own outcome wins; else status 0 is excluded (nothing was sent),
//!   then the excluded ranges, then the bad ones; every other status is good.
//! - Latency: judges *timed* events, those that are good by the default availability SLI and
//!   carry a latency. Strictly slower than the threshold is bad. It excludes nothing: what it
//!   does not judge is outside of it, so a failure is not counted twice.
//!
//! Sorting runs once per event, so a [`Class`] is four bytes and two flags, and the filters by
//! service and route, which compare text, are cut off into [`Slis::coverage`]: a caller that
//! interns services and routes asks it once per pair and sorts by [`Slis::classify_sorted`].

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::exclusion::Exclusion;
use crate::model::{Counts, Event, Latency, Measures, Outcome, add};
use crate::time::Minute;

/// How many SLIs there may be beside the default availability SLI and the first latency SLI.
pub const FURTHER_SLIS_MAX: usize = 8;

/// The bad statuses of an availability SLI unless said otherwise.
pub const BAD_DEFAULT: (u16, u16) = (500, 599);

/// The threshold of the first latency SLI unless said otherwise: one second.
pub const THRESHOLD_US_DEFAULT: u32 = 1_000_000;

/// How an SLI sorts events.
#[derive(Clone, Debug, PartialEq)]
pub struct Sli {
    /// Unique name, as objectives call it.
    pub name: String,
    /// What it judges.
    pub kind: SliKind,
    /// Services it covers; empty = all. An event of another service is outside this SLI.
    pub services: Vec<String>,
    /// Route patterns it covers, `*` matches any text; empty = all.
    pub routes: Vec<String>,
}

/// What an SLI judges.
#[derive(Clone, Debug, PartialEq)]
pub enum SliKind {
    /// By status; an event's own `outcome` wins.
    Availability {
        /// Inclusive ranges of bad statuses; `500..=599` by default.
        bad: Vec<(u16, u16)>,
        /// Inclusive ranges of statuses that count in no ratio; status 0 always does. They win
        /// over `bad`, so that `bad = 400..=599` can leave out 404.
        excluded: Vec<(u16, u16)>,
    },
    /// Good events (of the default availability SLI) that carry a latency; bad = slower.
    Latency {
        /// Slower than this is bad, in microseconds.
        threshold_us: u32,
    },
}

/// How the SLIs sorted one event.
///
/// The three masks hold bit `k` for further SLI `k`; at most one of the three has it set, and
/// none where the event is outside that SLI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Class {
    /// By the default availability SLI; `None` only in [`Class::default`].
    pub availability: Option<Outcome>,
    /// Good and carrying a latency.
    pub timed: bool,
    /// Timed and slower than the first latency SLI's threshold.
    pub slow: bool,
    /// Further SLIs that hold it good.
    pub further_good: u8,
    /// Further SLIs that hold it bad.
    pub further_bad: u8,
    /// Further SLIs that exclude it.
    pub further_excluded: u8,
}

impl Class {
    /// The masks of the further SLIs: good, bad, excluded.
    #[inline]
    pub fn further_masks(self) -> [u8; 3] {
        [self.further_good, self.further_bad, self.further_excluded]
    }

    /// The same event, excluded by every SLI that judges it.
    pub fn excluded(self) -> Class {
        let further_excluded = self.further_good | self.further_bad | self.further_excluded;
        Class { availability: Some(Outcome::Excluded), further_excluded, ..Class::default() }
    }

    /// How further SLI `index` sorted it; `None` where the event is outside of that SLI.
    pub fn further(self, index: usize) -> Option<Outcome> {
        let bit = 1_u8 << index;
        match bit {
            _ if self.further_good & bit != 0 => Some(Outcome::Good),
            _ if self.further_bad & bit != 0 => Some(Outcome::Bad),
            _ if self.further_excluded & bit != 0 => Some(Outcome::Excluded),
            _ => None,
        }
    }

    /// The measures of one event of this class that stands for `count` requests of `latency_us`
    /// each (0 where it is not timed).
    #[inline]
    pub fn measures(self, count: u32, latency_us: u32) -> Measures {
        let mut measures = Measures::default();
        self.add_to(&mut measures, count, latency_us);
        measures
    }

    /// Adds the same to `sums`.
    ///
    /// # Panics
    /// As [`Measures::add`].
    // Where sums stand in memory for a call, who reads them behind it waits for their stores.
    #[inline(always)]
    pub fn add_to(self, sums: &mut Measures, count: u32, latency_us: u32) {
        let counts = self.availability.map(|outcome| one(outcome, count)).unwrap_or_default();
        add(&mut sums.valid, counts.valid);
        // Nearly all are good, and add to neither of the others.
        if self.availability != Some(Outcome::Good) {
            add(&mut sums.bad, counts.bad);
            add(&mut sums.excluded, counts.excluded);
        }
        if self.timed {
            add(&mut sums.timed, count.into());
            add(&mut sums.latency_sum_us, u64::from(latency_us) * u64::from(count));
            sums.latency_max_us = sums.latency_max_us.max(latency_us.into());
        }
        if self.slow {
            add(&mut sums.slow, count.into());
        }
    }
}

/// The counts of one event of this outcome that stands for `count` requests.
#[inline]
pub fn one(outcome: Outcome, count: u32) -> Counts {
    let count = u64::from(count);
    match outcome {
        Outcome::Good => Counts { valid: count, bad: 0, excluded: 0 },
        Outcome::Bad => Counts { valid: count, bad: count, excluded: 0 },
        Outcome::Excluded => Counts { valid: 0, bad: 0, excluded: count },
    }
}

/// Which SLI an objective is on, and so where its counts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SliRef {
    /// Columns `valid`, `bad`, `excluded`.
    Availability,
    /// Columns `timed` and `slow`.
    Latency,
    /// Further SLI by its index.
    Further(usize),
}

impl SliRef {
    /// The counts of this SLI in the measures of a series; `None` for a further SLI, whose
    /// counts stand apart.
    pub fn counts_in(self, measures: &Measures) -> Option<Counts> {
        let Measures { valid, bad, excluded, timed, slow, .. } = *measures;
        match self {
            SliRef::Availability => Some(Counts { valid, bad, excluded }),
            SliRef::Latency => Some(Counts { valid: timed, bad: slow, excluded: 0 }),
            SliRef::Further(_) => None,
        }
    }
}

/// The checked SLIs: the default availability SLI, the first latency SLI, and the further ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Slis {
    /// Named `availability`; covers everything.
    pub availability: Sli,
    /// The first latency SLI (column `slow`), named `latency` unless configured otherwise;
    /// covers everything.
    pub latency: Sli,
    /// At most [`FURTHER_SLIS_MAX`] more.
    pub further: Vec<Sli>,
    /// Maintenance windows: their events are excluded, whatever they are.
    pub maintenance: Vec<Exclusion>,
    /// What the table's corrections exclude. They are no rules of ours: [`Slis::rules_version`]
    /// says nothing of them, and readers apply them to rows that were counted without.
    pub corrections: Arc<Vec<Exclusion>>,
}

impl Default for Slis {
    /// Availability (bad = 500..=599) and a latency of one second.
    fn default() -> Self {
        let sli = |name: &str, kind| Sli {
            name: name.to_owned(),
            kind,
            services: Vec::new(),
            routes: Vec::new(),
        };
        let by_status = SliKind::Availability { bad: vec![BAD_DEFAULT], excluded: Vec::new() };
        Slis {
            availability: sli("availability", by_status),
            latency: sli("latency", SliKind::Latency { threshold_us: THRESHOLD_US_DEFAULT }),
            further: Vec::new(),
            maintenance: Vec::new(),
            corrections: Arc::default(),
        }
    }
}

impl Slis {
    /// Sorts `event` by every SLI.
    ///
    /// ```
    /// use ninefold_engine::model::{Event, Latency, Outcome};
    /// use ninefold_engine::slo::sli::Slis;
    /// let event = Event { status: 200, latency: Latency::Us(1_000_001), ..Event::default() };
    /// let class = Slis::default().classify(&event);
    /// assert_eq!(class.availability, Some(Outcome::Good));
    /// assert!(class.timed && class.slow);
    /// ```
    pub fn classify(&self, event: &Event<'_>) -> Class {
        let Event { status, outcome, service, route, latency, .. } = *event;
        self.classify_parts(status, outcome, service, route, latency)
    }

    /// [`Slis::classify`] without the rest of the event.
    pub fn classify_parts(
        &self,
        status: u16,
        outcome: Option<Outcome>,
        service: &str,
        route: &str,
        latency: Latency,
    ) -> Class {
        let availability = self.sort(status, outcome);
        let coverage = self.coverage(service, route);
        self.classify_sorted(availability, (status, outcome), latency, coverage)
    }

    /// Whether there is a maintenance window or a correction at all.
    #[inline]
    pub fn has_exclusions(&self) -> bool {
        !(self.maintenance.is_empty() && self.corrections.is_empty())
    }

    /// Whether the events of this customer and service in this minute are excluded, by a
    /// maintenance window or by a correction.
    #[inline]
    pub fn excludes(&self, minute: Minute, customer: &str, service: &str) -> bool {
        let covers = |one: &Exclusion| one.covers(minute, customer, service);
        self.maintenance.iter().any(covers) || self.corrections.iter().any(covers)
    }

    /// Which further SLIs cover this service and route: bit `k` for further SLI `k`.
    pub fn coverage(&self, service: &str, route: &str) -> u8 {
        let covers = |(index, sli): (usize, &Sli)| u8::from(sli.covers(service, route)) << index;
        self.further.iter().enumerate().map(covers).fold(0, |mask, bit| mask | bit)
    }

    /// How the availability SLI sorts an event.
    pub fn sort(&self, status: u16, outcome: Option<Outcome>) -> Option<Outcome> {
        self.availability.kind.sort(status, outcome)
    }

    /// Sorts an event of which it is known how [`Slis::sort`] does and what its
    /// [`Slis::coverage`] is: no text is compared.
    #[inline]
    pub fn classify_sorted(
        &self,
        availability: Option<Outcome>,
        (status, outcome): (u16, Option<Outcome>),
        latency: Latency,
        coverage: u8,
    ) -> Class {
        let timed_us = match (availability, latency) {
            (Some(Outcome::Good), Latency::Us(us)) => Some(us),
            _ => None,
        };
        // By value: a class that is filled in place stands in memory, and waits there for whatever
        // was written before it.
        let [further_good, further_bad, further_excluded] = match coverage {
            0 => [0; 3],
            _ => self.classify_further(status, outcome, timed_us, coverage),
        };
        Class {
            availability,
            timed: timed_us.is_some(),
            slow: self.latency.kind.time(timed_us) == Some(Outcome::Bad),
            further_good,
            further_bad,
            further_excluded,
        }
    }

    /// The masks of the further SLIs in `coverage`: good, bad, excluded.
    fn classify_further(
        &self,
        status: u16,
        outcome: Option<Outcome>,
        timed_us: Option<u32>,
        coverage: u8,
    ) -> [u8; 3] {
        let [mut good, mut bad, mut excluded] = [0; 3];
        for (index, sli) in self.further.iter().enumerate() {
            let bit = coverage & (1 << index);
            let sorted = match sli.kind {
                SliKind::Availability { .. } => sli.kind.sort(status, outcome),
                SliKind::Latency { .. } => sli.kind.time(timed_us),
            };
            match sorted {
                Some(Outcome::Good) => good |= bit,
                Some(Outcome::Bad) => bad |= bit,
                Some(Outcome::Excluded) => excluded |= bit,
                None => {}
            }
        }
        [good, bad, excluded]
    }

    /// The SLI of this name.
    pub fn find(&self, name: &str) -> Option<SliRef> {
        if self.availability.name == name {
            return Some(SliRef::Availability);
        }
        if self.latency.name == name {
            return Some(SliRef::Latency);
        }
        self.further.iter().position(|sli| sli.name == name).map(SliRef::Further)
    }

    /// 8 hex digits that name these rules (column `rules`): the same rules, in the same order,
    /// have the same version on every machine.
    ///
    /// It is the head of the SHA-256 of a text with one field a line, each preceded by its
    /// length, so that no name can imitate another field.
    pub fn rules_version(&self) -> String {
        let mut hash = Sha256::new();
        let mut field = |text: &str| {
            hash.update(format!("{}:{text}\n", text.len()));
        };
        for sli in [&self.availability, &self.latency].into_iter().chain(&self.further) {
            field(&sli.name);
            match &sli.kind {
                SliKind::Availability { bad, excluded } => {
                    field(&format!("availability bad {bad:?} excluded {excluded:?}"));
                }
                SliKind::Latency { threshold_us } => field(&format!("latency {threshold_us}")),
            }
            for list in [&sli.services, &sli.routes] {
                field(&list.len().to_string());
                list.iter().for_each(|text| field(text));
            }
        }
        for one in &self.maintenance {
            field("maintenance");
            let customers: Option<Vec<&String>> =
                one.customers.as_ref().map(|customers| customers.iter().collect());
            field(&format!("{customers:?} {:?}", one.services));
            one.spans.iter().for_each(|(first, last)| field(&format!("{} {}", first.0, last.0)));
        }
        hex(&hash.finalize()[..4])
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

impl Sli {
    /// Whether an event of this service and route is inside this SLI.
    pub fn covers(&self, service: &str, route: &str) -> bool {
        (self.services.is_empty() || self.services.iter().any(|covered| covered == service))
            && (self.routes.is_empty() || self.routes.iter().any(|pattern| glob(pattern, route)))
    }
}

impl SliKind {
    /// By status and outcome; `None` for a latency SLI.
    #[inline]
    fn sort(&self, status: u16, outcome: Option<Outcome>) -> Option<Outcome> {
        let SliKind::Availability { bad, excluded } = self else { return None };
        let within = |ranges: &[(u16, u16)]| ranges.iter().any(|r| r.0 <= status && status <= r.1);
        match outcome {
            Some(outcome) => Some(outcome),
            None if status == 0 || within(excluded) => Some(Outcome::Excluded),
            None if within(bad) => Some(Outcome::Bad),
            None => Some(Outcome::Good),
        }
    }

    /// By the latency of a timed event; `None` for an availability SLI and where it is not timed.
    #[inline]
    fn time(&self, timed_us: Option<u32>) -> Option<Outcome> {
        match (self, timed_us) {
            (SliKind::Latency { threshold_us }, Some(us)) if us > *threshold_us => {
                Some(Outcome::Bad)
            }
            (SliKind::Latency { .. }, Some(_)) => Some(Outcome::Good),
            _ => None,
        }
    }
}

/// Whether `text` is `pattern`, in which each `*` stands for any text, also none.
///
/// The pieces between the stars are found from the left, each at its first place: a later
/// place would only leave less text for those that follow.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn further(kind: SliKind, services: &[&str], routes: &[&str]) -> Sli {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Sli { name: "further".into(), kind, services: owned(services), routes: owned(routes) }
    }

    #[test]
    fn statuses_are_sorted_by_the_default_rules() {
        let check = |status: u16, outcome: Option<Outcome>, expect: Outcome| {
            let event = Event { status, outcome, ..Event::default() };
            let class = Slis::default().classify(&event);
            assert_eq!(class.availability, Some(expect), "{status} {outcome:?}");
        };
        check(200, None, Outcome::Good);
        check(499, None, Outcome::Good);
        check(500, None, Outcome::Bad);
        check(599, None, Outcome::Bad);
        check(100, None, Outcome::Good);
        check(0, None, Outcome::Excluded);
        check(0, Some(Outcome::Good), Outcome::Good);
        check(500, Some(Outcome::Good), Outcome::Good);
        check(200, Some(Outcome::Bad), Outcome::Bad);
        check(200, Some(Outcome::Excluded), Outcome::Excluded);
    }

    #[test]
    fn only_good_events_with_a_latency_are_timed_and_the_threshold_itself_is_fast() {
        let check = |status: u16, latency: Latency, timed: bool, slow: bool| {
            let event = Event { status, latency, ..Event::default() };
            let class = Slis::default().classify(&event);
            assert_eq!((class.timed, class.slow), (timed, slow), "{status} {latency:?}");
        };
        check(200, Latency::Us(1_000_000), true, false);
        check(200, Latency::Us(1_000_001), true, true);
        check(200, Latency::Absent, false, false);
        check(200, Latency::Invalid, false, false);
        check(500, Latency::Us(2_000_000), false, false);
        check(0, Latency::Us(2_000_000), false, false);
    }

    #[test]
    fn excluded_ranges_win_over_bad_ones() {
        let kind = SliKind::Availability { bad: vec![(400, 599)], excluded: vec![(404, 404)] };
        let slis = Slis { further: vec![further(kind, &[], &[])], ..Slis::default() };
        let by_further =
            |status| slis.classify(&Event { status, ..Event::default() }).further(0).unwrap();
        assert_eq!(by_further(403), Outcome::Bad);
        assert_eq!(by_further(404), Outcome::Excluded);
        assert_eq!(by_further(200), Outcome::Good);
    }

    #[test]
    fn events_outside_a_further_sli_are_not_counted_by_it() {
        let latency = SliKind::Latency { threshold_us: 10 };
        let by_status = SliKind::Availability { bad: vec![BAD_DEFAULT], excluded: vec![] };
        let slis = Slis {
            further: vec![
                further(latency, &["inbox"], &[]),
                further(by_status, &[], &["GET /v1/*", "POST /x"]),
            ],
            ..Slis::default()
        };
        let check = |event: Event<'_>, expect: [Option<Outcome>; 2]| {
            let class = slis.classify(&event);
            assert_eq!([class.further(0), class.further(1)], expect, "{event:?}");
        };
        let event = Event { status: 200, latency: Latency::Us(11), ..Event::default() };
        check(event, [None, None]);
        check(Event { service: "inbox", ..event }, [Some(Outcome::Bad), None]);
        check(Event { service: "inbox", status: 500, ..event }, [None, None]);
        check(Event { route: "GET /v1/a", ..event }, [None, Some(Outcome::Good)]);
        check(Event { route: "GET /v1/", status: 503, ..event }, [None, Some(Outcome::Bad)]);
        check(Event { route: "GET /v2/a", status: 503, ..event }, [None, None]);
    }

    #[test]
    fn stars_match_any_text() {
        let check = |pattern: &str, text: &str, expect: bool| {
            assert_eq!(glob(pattern, text), expect, "{pattern} {text}");
        };
        check("a", "a", true);
        check("a", "ab", false);
        check("*", "", true);
        check("a*", "a", true);
        check("a*a", "a", false);
        check("a*a", "aa", true);
        check("*b*", "abc", true);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-c-c", false);
        check("**", "x", true);
        check("a**b", "ab", true);
        check("*é*", "café au lait", true);
        check("*ab*b", "ab", false);
    }

    #[test]
    fn measures_of_one_event_stand_for_its_count() {
        let slis = Slis::default();
        let slow = Event { status: 200, latency: Latency::Us(2_000_000), ..Event::default() };
        let measures = slis.classify(&slow).measures(3, 2_000_000);
        let expect = Measures {
            valid: 3,
            timed: 3,
            slow: 3,
            latency_sum_us: 6_000_000,
            latency_max_us: 2_000_000,
            ..Measures::default()
        };
        assert_eq!(measures, expect);
        let bad = slis.classify(&Event { status: 500, ..slow }).measures(2, 2_000_000);
        assert_eq!(bad, Measures { valid: 2, bad: 2, ..Measures::default() });
    }

    #[test]
    fn another_rule_is_another_version_and_the_default_one_is_stable() {
        let slis = Slis::default();
        assert_eq!(slis.rules_version(), "38f67d9a");
        let mut faster = slis.clone();
        faster.latency.kind = SliKind::Latency { threshold_us: 999_999 };
        let mut split = slis.clone();
        split.further = vec![further(faster.latency.kind.clone(), &["a", "b"], &[])];
        let mut joined = split.clone();
        joined.further[0].services = vec!["a".into()];
        joined.further[0].routes = vec!["b".into()];
        let versions = [&slis, &faster, &split, &joined].map(Slis::rules_version);
        for (index, version) in versions.iter().enumerate() {
            assert!(version.len() == 8 && !versions[..index].contains(version), "{versions:?}");
        }
    }
}
