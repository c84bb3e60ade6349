//! The verdict on a release, a flag or any other value: did it make things worse?
//!
//! A sequential test that may be looked at any number of times (a roll-out is, every 10 s). The
//! page for users is `docs/verdict.md`; this one is for those who check the statistics.
//!
//! # Data
//! Events fall into *strata* s (minute, service, tier or route). In each, `N` valid events of
//! which `B` are bad; the candidate served `n` of the valid and failed `b`. A *unit* is what
//! fails as a whole: a customer, or where customers are not known, a set of other dimensions.
//!
//! # Model
//! Given `B`, `n` and `N`, each bad event is the candidate's with probability
//! `q(θ) = θπ / (1 - π + θπ)`, `π = n / N`. `θ` is the ratio of the candidate's error ratio to
//! that of the rest; an outage of both sides moves `B` and leaves `q` alone. For rare failures
//! this is the law of two Poisson counts given their sum. (For frequent ones `b` is
//! hypergeometric, whose variance is smaller by `(N - B) / (N - 1)`: see the weights.)
//!
//! # The test
//! `ln L(θ) = 1/φ Σ w (b ln θ - B ln(1 - π + θπ))`; against the null hypothesis `θ <= θ0` stands
//!
//! `E(s) = mean over k of L(θ0 2^(k/2)) / L(θ0)`, k = 1 to `STEPS`, over the strata from minute
//! `s` of the candidate on (0 is its first);
//!
//! `E = E(0) / 2 + Σ over s > 0 of E(s) / (2 s (s + 1))`.
//!
//! With `w = φ = 1`, E is a mixture of likelihood ratios and so a test martingale for `θ0`, and a
//! supermartingale for every smaller θ, as the ratio is monotone. Ville: `P(E >= 1/α at any
//! look) <= α`. It may be read at every look, and a look costs nothing.
//!
//! The *begins* `s` are for a candidate that was well for hours before it failed: by `E(0)` alone
//! those hours would be evidence for it. The weights of all begins add up to one, and no term is
//! negative, so that at a look those are enough that are 1, 2, 4, 8, … minutes old.
//!
//! - *Weights* `w = (1 - B/N) min(1, cap/B)` are functions of what is conditioned on. By Jensen
//!   a power `w <= 1` of a likelihood ratio is still one of mean at most 1. The first factor puts
//!   the hypergeometric variance in; with the second a minute of an outage cannot outweigh the
//!   history (`Weigh::cap`).
//! - *Overdispersion* φ: failures come in bursts, and a few customers have most of them. On each
//!   side a unit is to be expected to have a part `e` of the side's bad events, by its traffic
//!   and its history; `φ = max(1, Σ (b - e)² / Σ e * m / (m - 1))` over the side's units, with
//!   `m = (Σ e)² / Σ e²` their number if all were of one size, and the larger of both sides
//!   counts. Units are summed over all the time first, so any correlation in time within one
//!   is in φ (cluster by unit: Bertrand, Duflo and Mullainathan). Failures that all units share
//!   leave φ near 1; one customer's trouble makes it as large as the trouble, so that its many
//!   failures count as about one, and convict nobody. With a single unit all count as one.
//!   Where units are sets of dimensions, one customer's trouble is in all of them; then φ is at
//!   least that of the customers who fail, each with a part by all its traffic
//!   ([`judge_sets`]).
//!   φ is estimated from the same data, so for `φ > 1` the bound above is asymptotic; the
//!   simulations of `engine/tests/verdict.rs` hold it to what it promises.
//!
//! # What θ0 is
//! - [`Control::SameUnits`]: most of the candidate's units are served by both sides in the same
//!   minutes (a share of the requests): each unit is a stratum of its own, and `θ0 = 1`.
//! - [`Control::OwnHistory`]: units are on one side or the other (a cohort). What the same
//!   units did *before*, against the same rest, is what they may do now (difference in
//!   differences): `θ0` = the upper 99% bound of θ before, at least 1. A unit served by both
//!   belongs to each in the proportion in which they served it. Where the candidate itself
//!   served before (a region, a cohort), the history is its own.
//! - [`Control::Assumed`]: neither; nothing tells a flaky cohort from a bad release but its
//!   size: `θ0` = [`RATIO_ASSUMED`].
//!
//! Each is times [`MARGIN`]: a smaller effect calls for no roll-back.
//!
//! # Good
//! The same test from the other side: the null hypothesis is `θ >= 2 θ0` with `θ0` the *lower*
//! bound of the history, against `θ0 2^(-k/2)`. Or the candidate keeps the promise by itself: a
//! likelihood ratio of its own error ratio, a quarter of the allowed one against the allowed
//! one. Bad goes before good. There is one begin for good.
//!
//! # Invariants
//! Pure; the order of the observations does not matter; several of one key are summed.
//!
//! # Sources
//! Robbins, *Statistical methods related to the law of the iterated logarithm*, 1970 (mixtures,
//! confidence sequences); Ville 1939; Johari, Koomen, Pekelis and Walsh, *Always valid
//! inference*, 2022; Turner, Ly and Grünwald, *Generic e-variables for exact sequential k-sample
//! tests*, 2024 (2x2 tables); Shin, Ramdas and Rinaldo, *E-detectors: a nonparametric framework
//! for sequential change detection*, 2024 (begins); Waudby-Smith and Ramdas, *Estimating means of bounded random
//! variables by betting*, 2024; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, *Time-uniform
//! central limit theory and asymptotic confidence sequences*, 2024 (an estimated variance);
//! Bertrand, Duflo and Mullainathan, *How much should we trust
//! differences-in-differences estimates?*, 2004.

use crate::time::Minute;

/// Evidence that convicts or acquits: wrong at most once in 100, at any look.
pub const EVIDENCE_MIN: f64 = 100.0;
/// No e-value is told as larger, so that all are finite.
const EVIDENCE_MAX: f64 = 1e300;
/// How much worse than its control a candidate may be: 25%.
pub const MARGIN: f64 = 1.25;
/// `good` says that the error ratio is not so many times that of the control.
pub const GOOD_RATIO: f64 = 2.0;
/// How many times as often as the rest a cohort of unknown history may fail.
pub const RATIO_ASSUMED: f64 = 4.0;
/// A history counts from so many bad events on that the candidate's units were to be expected to
/// have in it: with fewer its bound would be wider than what is assumed without.
pub const HISTORY_BAD_MIN: f64 = 5.0;
/// Alternatives of the mixture, each `sqrt(2)` times the one before: up to 256 times θ0.
const STEPS: i32 = 16;
/// A ratio with so much evidence against it is outside the interval: 95%.
const INTERVAL_EVIDENCE: f64 = 20.0;
/// From a step of at most 32 down to a thousandth.
const BISECTIONS: u32 = 15;
/// The quantile of the normal distribution for one-sided bounds of 99%.
const Z_99: f64 = 2.326;
/// The bound of a history that says nothing is at most this away from it, as a logarithm: finite.
const LN_WIDTH_MAX: f64 = 50.0;
/// One unit is served by both sides where at least this share of the candidate's events is.
const SHARED_MIN: f64 = 0.5;
/// A stratum never counts for fewer bad events, if it has them.
const CAP_MIN: f64 = 20.0;
/// A stratum counts for so many times the bad events that it usually has, at most.
const CAP_RATIO: f64 = 5.0;
/// A side with fewer units, counted as if all were of one size, has none to compare.
const UNITS_MIN: f64 = 1.5;
/// By how many bad events of the average the history of a unit is completed.
const HISTORY_PRIOR: f64 = 2.0;
/// By how many events of the average the rest of a stratum is completed, for the excess.
const REST_PRIOR: f64 = 30.0;

/// Valid and bad events of one unit in one stratum on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// When.
    pub minute: Minute,
    /// What is compared with what besides the minute: service and tier, or service and route.
    pub stratum: u32,
    /// What fails as a whole, numbered from 0 without holes.
    pub unit: u32,
    /// Whether the candidate served it.
    pub on: bool,
    /// Valid (or timed) events.
    pub valid: u64,
    /// Bad (or slow) events.
    pub bad: u64,
}

/// What is known of the candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Not twice as bad as its control, or within the promise by itself.
    Good,
    /// Worse than its control.
    Bad,
    /// Neither is proven.
    Insufficient,
}

/// What the candidate is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// The same units in the same minutes, served by the rest.
    SameUnits,
    /// The rest, corrected by how the same units compared with it before.
    OwnHistory,
    /// The rest alone: there is no history.
    Assumed,
}

/// Valid and bad events of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Valid (or timed) events.
    pub valid: u64,
    /// Bad (or slow) events.
    pub bad: u64,
}

/// The verdict with what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// What follows.
    pub verdict: Verdict,
    /// What the candidate was compared with.
    pub control: Control,
    /// What the candidate served.
    pub on: Side,
    /// What the rest served.
    pub off: Side,
    /// e-value against "no worse than the control".
    pub e_bad: f64,
    /// The begin of the candidate's time that is most of `e_bad`: since when it is bad, if it is.
    pub bad_from: Minute,
    /// e-value against "twice as bad as the control, or worse".
    pub e_good: f64,
    /// e-value against "breaks the promise by itself"; `None` where nothing is promised.
    pub e_kept: Option<f64>,
    /// The candidate's error ratio over the rest's in the same strata; `None` without a bad event
    /// in a stratum that both served.
    pub ratio: Option<f64>,
    /// Where that ratio is, with 95% confidence at all looks together; a bound is `None` where
    /// it is not within 1/256 to 256.
    pub interval: [Option<f64>; 2],
    /// What `ratio` was before, 1 where units are their own control; `None` without a history.
    pub ratio_before: Option<f64>,
    /// The largest ratio that is not worse than the control: θ0.
    pub ratio_allowed: f64,
    /// φ.
    pub dispersion: f64,
    /// Bad events of the candidate beyond what the rest's error ratio and the history explain.
    pub excess: f64,
}

/// Judges a candidate by the observations from `since` on; those before are its history.
/// `allowed` is the error ratio that is promised, if any.
///
/// ```
/// use ninefold_engine::slo::verdict::{judge, Observation, Verdict};
/// use ninefold_engine::time::Minute;
/// // Ten customers move to a release that fails one request in five; ten stay.
/// let of = |minute, unit| {
///     let on = unit < 10 && minute >= 30;
///     let bad = if on { 20 } else { u64::from(unit % 10 == minute % 10) };
///     Observation { minute: Minute(minute), stratum: 0, unit, on, valid: 100, bad }
/// };
/// let until = |end| (0..end).flat_map(|m| (0..20).map(move |u| of(m, u))).collect::<Vec<_>>();
/// assert_eq!(judge(&until(31), Minute(30), None).verdict, Verdict::Bad);
/// assert_eq!(judge(&until(30), Minute(30), None).verdict, Verdict::Insufficient);
/// ```
pub fn judge(observations: &[Observation], since: Minute, allowed: Option<f64>) -> Evidence {
    judge_sets(observations, &[], since, allowed)
}

/// As [`judge`], where units are sets of dimensions. `customers` say who had how many valid events
/// on either side (`valid`, at any `on`) and how many bad ones on each (`bad`), by minute; units
/// are customers, numbered as the others.
pub fn judge_sets(
    observations: &[Observation],
    customers: &[Observation],
    since: Minute,
    allowed: Option<f64>,
) -> Evidence {
    let mut rows: Vec<Observation> = observations.iter().filter(|o| o.valid > 0).copied().collect();
    rows.sort_unstable_by_key(|o| (o.minute, o.stratum, o.unit, o.on));
    let (before, after) = rows.split_at(rows.partition_point(|o| o.minute < since));
    let weigh = Weigh::new(&rows);
    let are_same = shared(after) >= SHARED_MIN;
    let field_from = |begin: Minute| {
        let rows = &after[after.partition_point(|o| o.minute < begin)..];
        let least = dispersion_of_customers(customers, begin);
        match are_same {
            true => Field::of_same_units(rows, &weigh, least),
            false => Field::of_cohort(before, rows, &weigh, least),
        }
    };
    let field = field_from(since);
    let mut bad = Bad { e: 0.5 * field.e_bad(), from: since };
    let mut largest = bad.e;
    for begin in begins(since, after) {
        let s = f64::from(begin.0 - since.0);
        let e = field_from(begin).e_bad() / (2.0 * s * (s + 1.0));
        bad.e = (bad.e + e).min(EVIDENCE_MAX);
        if e > largest {
            (largest, bad.from) = (e, begin);
        }
    }
    field.evidence(after, allowed, bad)
}

/// The evidence against the candidate, and since when most of it is.
#[derive(Clone, Copy)]
struct Bad {
    e: f64,
    from: Minute,
}

/// The begins that are looked at: the last minute, the last two, the last four and so on.
fn begins(since: Minute, after: &[Observation]) -> impl Iterator<Item = Minute> + use<> {
    let end = after.last().map_or(since.0, |last| last.minute.0 + 1);
    let ages = (0..u32::BITS - 1).map(|power| 1_u32 << power);
    ages.map_while(move |age| end.checked_sub(age).filter(|at| *at > since.0)).map(Minute)
}

/// How much of the candidate's traffic is in minutes in which the rest served the same unit.
fn shared(after: &[Observation]) -> f64 {
    let (mut on, mut both) = (0, 0);
    for cell in after.chunk_by(same_cell) {
        let ours: u64 = cell.iter().filter(|o| o.on).map(|o| o.valid).sum();
        on += ours;
        if cell.iter().any(|o| !o.on) {
            both += ours;
        }
    }
    if on == 0 { 0.0 } else { both as f64 / on as f64 }
}

/// The weights of strata.
///
/// A stratum counts for at most `max(20, 5 N r)` bad events, with `r` the error ratio of the four
/// fifths of the strata that have the lowest ones: what it usually has.
struct Weigh {
    usual_ratio: f64,
}

impl Weigh {
    fn new(rows: &[Observation]) -> Weigh {
        let sum = |cell: &[Observation]| {
            cell.iter().fold((0, 0), |sum, o| (sum.0 + o.valid, sum.1 + o.bad))
        };
        let mut cells: Vec<(u64, u64)> = rows.chunk_by(same_stratum).map(sum).collect();
        cells.sort_by(|a, b| {
            (u128::from(a.1) * u128::from(b.0)).cmp(&(u128::from(b.1) * u128::from(a.0)))
        });
        let usual = &cells[..cells.len() - cells.len() / 5];
        let (valid, bad) = usual.iter().fold((0, 0), |sum, c| (sum.0 + c.0, sum.1 + c.1));
        Weigh { usual_ratio: bad as f64 / valid.max(1) as f64 }
    }

    fn weight(&self, valid: f64, bad: f64) -> f64 {
        let cap = (CAP_RATIO * valid * self.usual_ratio).max(CAP_MIN);
        (1.0 - bad / valid) * (cap / bad).min(1.0)
    }
}

/// A stratum that both sides served and that has a bad event.
#[derive(Clone, Copy, Debug)]
struct Cell {
    /// The candidate's share of the valid events, in 0..1.
    share: f64,
    weight: f64,
    /// The candidate's bad events, weighted.
    own: f64,
    /// All bad events, weighted.
    bad: f64,
}

impl Cell {
    /// `None` where it tells nothing.
    fn new(on: [f64; 2], off: [f64; 2], weigh: &Weigh) -> Option<Cell> {
        let (valid, bad) = (on[0] + off[0], on[1] + off[1]);
        if on[0] <= 0.0 || off[0] <= 0.0 || bad <= 0.0 {
            return None;
        }
        let weight = weigh.weight(valid, bad);
        Some(Cell { share: on[0] / valid, weight, own: weight * on[1], bad: weight * bad })
    }

    /// The probability that a bad event is the candidate's.
    fn chance(&self, ratio: f64) -> f64 {
        ratio * self.share / (1.0 - self.share + ratio * self.share)
    }
}

/// `Σ w (b ln θ - B ln(1 - π + θπ))`.
fn ln_likelihood(cells: &[Cell], ratio: f64) -> f64 {
    let ln_ratio = ratio.ln();
    let term = |c: &Cell| c.own * ln_ratio - c.bad * (c.share * (ratio - 1.0)).ln_1p();
    cells.iter().map(term).sum()
}

/// The ratio at which expected and observed agree, and the information on its logarithm. Half a
/// bad event on either side is added, so that there is an answer and it leans towards 1.
fn estimate(cells: &[Cell]) -> (f64, f64) {
    let prior = Cell { share: 0.5, weight: 1.0, own: 0.5, bad: 1.0 };
    let all = || cells.iter().chain([&prior]);
    let (mut low, mut high) = (-12.0_f64, 12.0_f64);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        let ratio = middle.exp();
        let score: f64 = all().map(|c| c.own - c.bad * c.chance(ratio)).sum();
        if score > 0.0 { low = middle } else { high = middle }
    }
    let ratio = (0.5 * (low + high)).exp();
    let information = |c: &Cell| c.bad * c.chance(ratio) * (1.0 - c.chance(ratio));
    (ratio, all().map(information).sum())
}

/// What a unit had, weighted, and what it would have had at the error ratio of its side: before
/// and after.
#[derive(Clone, Copy, Debug, Default)]
struct Unit {
    /// Valid events in strata that both sides served: the candidate's, all.
    on: f64,
    all: f64,
    bad: [f64; 2],
    expected: [f64; 2],
}

impl Unit {
    fn serve(&mut self, o: &Observation) {
        self.all += o.valid as f64;
        self.on += if o.on { o.valid as f64 } else { 0.0 };
    }

    /// The part of its events that the candidate serves.
    fn share(&self) -> f64 {
        if self.all > 0.0 { self.on / self.all } else { 0.0 }
    }

    /// What it is to be expected to have after, up to a factor of its side: by its history,
    /// which [`HISTORY_PRIOR`] events of its side's average complete.
    fn exposure(&self) -> f64 {
        let [before, after] = self.expected;
        after * (self.bad[0] + HISTORY_PRIOR) / (before + HISTORY_PRIOR)
    }
}

/// φ of the units of one side: with `e` what each is to be expected to have of the side's bad
/// events, `Σ (b - e)² / Σ e * m / (m - 1)`, where `m = (Σ e)² / Σ e²` says how many units of
/// equal size these are. With hardly more than one, all its failures count as one.
fn dispersion(units: &[(f64, f64)]) -> f64 {
    let bad: f64 = units.iter().map(|unit| unit.0).sum();
    let exposure: f64 = units.iter().map(|unit| unit.1).sum();
    if bad <= 0.0 || exposure <= 0.0 {
        return 1.0;
    }
    let scale = bad / exposure;
    let residuals: f64 = units.iter().map(|unit| (unit.0 - scale * unit.1).powi(2)).sum();
    let count = exposure * exposure / units.iter().map(|unit| unit.1 * unit.1).sum::<f64>();
    if count < UNITS_MIN {
        return bad.max(1.0);
    }
    (residuals / bad * count / (count - 1.0)).max(1.0)
}

/// φ of the customers who fail, the larger of both sides; 1 where nothing is known of them.
fn dispersion_of_customers(rows: &[Observation], from: Minute) -> f64 {
    let rows = || rows.iter().filter(|o| o.minute >= from);
    let count = rows().map(|o| o.unit as usize + 1).max().unwrap_or(0);
    let mut bad = vec![[0.0; 2]; count];
    let mut valid = vec![0.0; count];
    for o in rows() {
        valid[o.unit as usize] += o.valid as f64;
        bad[o.unit as usize][usize::from(o.on)] += o.bad as f64;
    }
    let of_side = |side: usize| {
        let failing = bad.iter().zip(&valid).filter(|(bad, _)| bad[side] > 0.0);
        dispersion(&failing.map(|(bad, valid)| (bad[side], *valid)).collect::<Vec<_>>())
    };
    of_side(0).max(of_side(1))
}

/// All that the test is computed from.
struct Field {
    control: Control,
    cells: Vec<Cell>,
    dispersion: f64,
    /// The lower and upper bound of the ratio before, and the ratio.
    bounds: [f64; 2],
    ratio_before: Option<f64>,
}

impl Field {
    /// Every unit is its own control, so each is a stratum.
    fn of_same_units(after: &[Observation], weigh: &Weigh, least: f64) -> Field {
        let mut units = vec![[(0.0, 0.0); 2]; unit_count(after)];
        let mut cells = Vec::new();
        for group in after.chunk_by(same_cell) {
            let [on, off] = sides(group);
            let Some(cell) = Cell::new(on, off, weigh) else { continue };
            let unit = &mut units[group[0].unit as usize];
            for (side, own, share) in
                [(0, cell.own, cell.share), (1, cell.bad - cell.own, 1.0 - cell.share)]
            {
                unit[side].0 += own;
                unit[side].1 += cell.bad * share;
            }
            cells.push(cell);
        }
        let dispersion =
            [0, 1].map(|side| dispersion(&units.iter().map(|unit| unit[side]).collect::<Vec<_>>()));
        let (bounds, ratio_before) = ([1.0, 1.0], Some(1.0));
        let dispersion = dispersion[0].max(dispersion[1]).max(least);
        Field { control: Control::SameUnits, cells, dispersion, bounds, ratio_before }
    }

    /// Units are on one side, and bring their history.
    fn of_cohort(
        before: &[Observation],
        after: &[Observation],
        weigh: &Weigh,
        least: f64,
    ) -> Field {
        let mut units = vec![Unit::default(); unit_count(before).max(unit_count(after))];
        let mut cells = Vec::new();
        for group in after.chunk_by(same_stratum) {
            let [on, off] = sides(group);
            let Some(cell) = Cell::new(on, off, weigh) else {
                // Nothing failed, but it says who served whom.
                if on[0] > 0.0 && off[0] > 0.0 {
                    group.iter().for_each(|o| units[o.unit as usize].serve(o));
                }
                continue;
            };
            let weight = cell.weight;
            for o in group {
                let unit = &mut units[o.unit as usize];
                unit.serve(o);
                let [valid, bad] = if o.on { on } else { off };
                unit.bad[1] += weight * o.bad as f64;
                unit.expected[1] += weight * o.valid as f64 * bad / valid;
            }
            cells.push(cell);
        }
        let history = history(before, &mut units, weigh);
        let dispersion = [true, false].map(|on| {
            let of_side = units.iter().filter(|unit| unit.all > 0.0 && (unit.share() > 0.5) == on);
            dispersion(&of_side.map(|unit| (unit.bad[1], unit.exposure())).collect::<Vec<_>>())
        });
        let dispersion = dispersion[0].max(dispersion[1]).max(least);
        let expected: f64 = history.iter().map(|cell| cell.bad * cell.share).sum();
        if expected < HISTORY_BAD_MIN {
            let (control, bounds) = (Control::Assumed, [1.0, RATIO_ASSUMED]);
            return Field { control, cells, dispersion, bounds, ratio_before: None };
        }
        let (ratio, information) = estimate(&history);
        let width = (Z_99 * (dispersion / information).sqrt()).min(LN_WIDTH_MAX).exp();
        let bounds = [ratio / width, (ratio * width).max(1.0)];
        let (control, ratio_before) = (Control::OwnHistory, Some(ratio));
        Field { control, cells, dispersion, bounds, ratio_before }
    }

    /// The largest ratio that is not worse than the control.
    fn ratio_allowed(&self) -> f64 {
        MARGIN * self.bounds[1]
    }

    fn e_bad(&self) -> f64 {
        self.against(self.ratio_allowed(), 1.0)
    }

    fn evidence(&self, after: &[Observation], allowed: Option<f64>, bad: Bad) -> Evidence {
        let [on, off] = totals(after);
        let e_good = self.against(GOOD_RATIO * self.bounds[0], -1.0);
        let e_kept = allowed.map(|allowed| self.kept(on, allowed));
        let verdict = if bad.e >= EVIDENCE_MIN {
            Verdict::Bad
        } else if e_good >= EVIDENCE_MIN || e_kept.is_some_and(|e| e >= EVIDENCE_MIN) {
            Verdict::Good
        } else {
            Verdict::Insufficient
        };
        Evidence {
            verdict,
            control: self.control,
            on,
            off,
            e_bad: bad.e,
            bad_from: bad.from,
            e_good,
            e_kept,
            ratio: (!self.cells.is_empty()).then(|| estimate(&self.cells).0),
            interval: self.interval(),
            ratio_before: self.ratio_before,
            ratio_allowed: self.ratio_allowed(),
            dispersion: self.dispersion,
            excess: excess(after, off, self.ratio_before.unwrap_or(1.0)),
        }
    }

    /// The mixture against the null hypothesis that the ratio is at most `null` (`direction` 1),
    /// or at least (-1).
    fn against(&self, null: f64, direction: f64) -> f64 {
        let at = |ratio: f64| ln_likelihood(&self.cells, ratio) / self.dispersion;
        let base = at(null);
        let ratio = |k: i32| (at(null * 2_f64.powf(direction * 0.5 * f64::from(k))) - base).exp();
        (1..=STEPS).map(ratio).sum::<f64>().min(EVIDENCE_MAX) / f64::from(STEPS)
    }

    /// A quarter of the allowed error ratio against it.
    fn kept(&self, on: Side, allowed: f64) -> f64 {
        let (bad, good) = (on.bad as f64, (on.valid - on.bad) as f64);
        let less = 0.25 * allowed;
        let ln = bad * (less / allowed).ln() + good * ((-less).ln_1p() - (-allowed).ln_1p());
        (ln / self.dispersion).exp().min(EVIDENCE_MAX)
    }

    /// Those ratios that the mixture over all others does not refute at 1 in 20: Robbins'
    /// confidence sequence. The mixture has steps of `sqrt(2)` from 1/256 to 256; the bounds are
    /// found between two of them by bisection, as the likelihood is unimodal.
    fn interval(&self) -> [Option<f64>; 2] {
        let ratio = |step: f64| 2_f64.powf(0.5 * step);
        let at = |step: f64| ln_likelihood(&self.cells, ratio(step)) / self.dispersion;
        let all: Vec<f64> = (-STEPS..=STEPS).map(|k| at(f64::from(k))).collect();
        let top = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mean = all.iter().map(|ln| (ln - top).exp()).sum::<f64>() / all.len() as f64;
        let least = top + mean.ln() - INTERVAL_EVIDENCE.ln();
        let best = all.iter().position(|ln| *ln == top).expect("there are steps") as i32 - STEPS;
        [-STEPS, STEPS].map(|end| {
            let (mut inside, mut outside) = (f64::from(best), f64::from(end));
            if at(outside) > least {
                return None;
            }
            for _ in 0..BISECTIONS {
                let middle = 0.5 * (inside + outside);
                if at(middle) > least { inside = middle } else { outside = middle }
            }
            Some(ratio(outside))
        })
    }
}

/// The strata before, by the sides that units were on after (or, where the candidate served
/// before, by who served them); notes what units had in them.
fn history(before: &[Observation], units: &mut [Unit], weigh: &Weigh) -> Vec<Cell> {
    let mut cells = Vec::new();
    let served_before = before.iter().any(|o| o.on);
    let share_of = |units: &[Unit], o: &Observation| {
        let own = if o.on { 1.0 } else { 0.0 };
        if served_before { own } else { units[o.unit as usize].share() }
    };
    for group in before.chunk_by(same_stratum) {
        let [mut on, mut off] = [[0.0; 2]; 2];
        for o in group.iter().filter(|o| units[o.unit as usize].all > 0.0) {
            let share = share_of(units, o);
            for (side, part) in [(&mut on, share), (&mut off, 1.0 - share)] {
                side[0] += part * o.valid as f64;
                side[1] += part * o.bad as f64;
            }
        }
        let Some(cell) = Cell::new(on, off, weigh) else { continue };
        for o in group {
            let share = share_of(units, o);
            let unit = &mut units[o.unit as usize];
            let ratio = share * on[1] / on[0] + (1.0 - share) * off[1] / off[0];
            unit.bad[0] += cell.weight * o.bad as f64;
            unit.expected[0] += cell.weight * o.valid as f64 * ratio;
        }
        cells.push(cell);
    }
    cells
}

fn unit_count(rows: &[Observation]) -> usize {
    rows.iter().map(|o| o.unit as usize + 1).max().unwrap_or(0)
}

fn same_cell(a: &Observation, b: &Observation) -> bool {
    same_stratum(a, b) && a.unit == b.unit
}

fn same_stratum(a: &Observation, b: &Observation) -> bool {
    (a.minute, a.stratum) == (b.minute, b.stratum)
}

/// Valid and bad of the candidate and of the rest.
fn sides(group: &[Observation]) -> [[f64; 2]; 2] {
    totals(group).map(|side| [side.valid as f64, side.bad as f64])
}

fn totals(group: &[Observation]) -> [Side; 2] {
    let mut sides = [Side::default(); 2];
    for o in group {
        let side = &mut sides[usize::from(!o.on)];
        side.valid += o.valid;
        side.bad += o.bad;
    }
    sides
}

/// `Σ over strata of (b - n r ratio)`, `r` the error ratio of the rest there, completed by
/// [`REST_PRIOR`] events of the rest's average.
fn excess(after: &[Observation], rest: Side, ratio: f64) -> f64 {
    let usual = rest.bad as f64 / rest.valid.max(1) as f64;
    let of = |group: &[Observation]| {
        let [on, off] = sides(group);
        on[1] - on[0] * ratio * (off[1] + REST_PRIOR * usual) / (off[0] + REST_PRIOR)
    };
    after.chunk_by(same_stratum).map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten minutes of twenty units, of which the first ten move to the candidate at minute 5.
    fn story(bad: impl Fn(u32, u32) -> u64) -> Vec<Observation> {
        let of = |minute, unit| Observation {
            minute: Minute(minute),
            stratum: 0,
            unit,
            on: unit < 10 && minute >= 5,
            valid: 100,
            bad: bad(minute, unit),
        };
        (0..10).flat_map(|minute| (0..20).map(move |unit| of(minute, unit))).collect()
    }

    fn judged(bad: impl Fn(u32, u32) -> u64) -> Evidence {
        judge(&story(bad), Minute(5), None)
    }

    #[test]
    fn one_bad_event_has_the_evidence_of_its_likelihood_ratio() {
        // Half of the events are the candidate's, and so is the one bad event: at ratio r it
        // has probability r / (1 + r). Weighted by 1 - 1/200.
        let cell = Cell::new([100.0, 1.0], [100.0, 0.0], &Weigh { usual_ratio: 0.0 }).unwrap();
        let ln = |ratio: f64| ln_likelihood(&[cell], ratio);
        let expect = 0.995 * ((3.0_f64 / 4.0) / (1.0 / 2.0)).ln();
        assert!((ln(3.0) - ln(1.0) - expect).abs() < 1e-12);
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn an_outage_of_everybody_is_no_evidence() {
        let found =
            judged(|minute, unit| if minute >= 7 { 30 } else { u64::from(unit % 10 == minute) });
        assert!(found.e_bad < 1.0, "{found:?}");
        let ratio = found.ratio.unwrap();
        assert!((0.9..1.1).contains(&ratio), "{found:?}");
    }

    #[test]
    fn a_cohort_that_always_failed_as_it_does_is_not_bad() {
        let flaky = judged(|_, unit| if unit < 10 { 4 } else { 1 });
        assert_eq!((flaky.verdict, flaky.control), (Verdict::Insufficient, Control::OwnHistory));
        assert!((flaky.ratio_before.unwrap() - 4.0).abs() < 0.5, "{flaky:?}");
        // The same without its history, and then at 32 times the rest.
        let rows = story(|_, unit| if unit < 10 { 4 } else { 1 });
        let short: Vec<_> = rows.into_iter().filter(|o| o.minute >= Minute(5)).collect();
        let found = judge(&short, Minute(5), None);
        assert_eq!((found.verdict, found.control), (Verdict::Insufficient, Control::Assumed));
        let worse: Vec<_> = short
            .iter()
            .map(|o| Observation { bad: o.bad * if o.on { 8 } else { 1 }, ..*o })
            .collect();
        assert_eq!(judge(&worse, Minute(5), None).verdict, Verdict::Bad);
    }

    #[test]
    fn the_trouble_of_one_customer_convicts_nobody() {
        let background = |minute: u32, unit: u32| u64::from(unit % 10 == minute);
        let one = judged(
            |minute, unit| {
                if minute >= 5 && unit == 3 { 80 } else { background(minute, unit) }
            },
        );
        assert_eq!(one.verdict, Verdict::Insufficient);
        assert!(one.dispersion > 100.0, "{one:?}");
        let all = judged(
            |minute, unit| {
                if minute >= 5 && unit < 10 { 8 } else { background(minute, unit) }
            },
        );
        assert_eq!(all.verdict, Verdict::Bad, "the same failures, of everybody: {all:?}");
        assert!(all.dispersion < 2.0, "{all:?}");
        assert!((all.excess - 395.0).abs() < 2.0, "{all:?}");
    }

    #[test]
    fn among_sets_of_dimensions_too_the_trouble_of_one_customer_convicts_nobody() {
        // Eight sets on each side; fifty customers have events in all of those of their side.
        let set = |minute, unit, bad| Observation {
            minute: Minute(minute),
            stratum: 0,
            unit,
            on: unit < 8,
            valid: 1_000,
            bad,
        };
        let rows: Vec<_> = (0..5)
            .flat_map(|minute| {
                (0..16).map(move |unit| set(minute, unit, if unit < 8 { 50 } else { 2 }))
            })
            .collect();
        let failing = |customers: u64| -> Vec<Observation> {
            let of = move |minute, unit: u32| {
                let bad = if u64::from(unit) < customers { 400 / customers } else { 0 };
                let o = Observation { on: true, valid: 0, ..set(minute, unit, bad) };
                [o, Observation { on: false, valid: 320, bad: 1, ..o }]
            };
            (0..5).flat_map(|minute| (0..50).flat_map(move |unit| of(minute, unit))).collect()
        };
        let judged = |customers| judge_sets(&rows, &failing(customers), Minute(0), None);
        assert_eq!(judge(&rows, Minute(0), None).verdict, Verdict::Bad, "customers are not known");
        let one = judged(1);
        assert_eq!(one.verdict, Verdict::Insufficient, "{one:?}");
        assert!(one.dispersion > 1_000.0, "{one:?}");
        assert_eq!(judged(40).verdict, Verdict::Bad, "{:?}", judged(40));
    }

    #[test]
    fn customers_served_by_both_sides_are_their_own_control() {
        let rows: Vec<_> = story(|_, unit| if unit < 2 { 20 } else { 0 })
            .into_iter()
            .filter(|o| o.minute >= Minute(5))
            .flat_map(|o| [true, false].map(|on| Observation { on, ..o }))
            .collect();
        let found = judge(&rows, Minute(5), None);
        assert_eq!((found.control, found.verdict), (Control::SameUnits, Verdict::Good));
        assert_eq!(found.ratio_allowed, MARGIN);
    }

    #[test]
    fn hours_of_good_service_do_not_hide_what_began_a_minute_ago() {
        // Twenty units, the first ten on the candidate from minute 20 on; it fails from 178 on.
        let of = |minute, unit| {
            let bad = if unit < 10 && minute >= 178 { 200 } else { 1 };
            let (stratum, on, valid) = (0, unit < 10 && minute >= 20, 1_000);
            Observation { minute: Minute(minute), stratum, unit, on, valid, bad }
        };
        let rows = |end| (0..end).flat_map(|m| (0..20).map(move |u| of(m, u))).collect::<Vec<_>>();
        let well = judge(&rows(178), Minute(20), None);
        assert!(well.verdict != Verdict::Bad && well.e_bad < 1.0, "{well:?}");
        let found = judge(&rows(179), Minute(20), None);
        assert_eq!((found.verdict, found.bad_from), (Verdict::Bad, Minute(178)), "{found:?}");
    }

    #[test]
    fn the_weights_of_all_begins_add_up_to_one() {
        let rows = story(|_, _| 1);
        let looked: Vec<u32> = begins(Minute(5), &rows[100..]).map(|at| at.0).collect();
        assert_eq!(looked, [9, 8, 6], "5 is the whole");
        assert_eq!(begins(Minute(5), &[]).count(), 0);
        let sum: f64 = (1..100_000).map(f64::from).map(|s| 1.0 / (2.0 * s * (s + 1.0))).sum();
        assert!((0.5 + sum - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_candidate_within_its_promise_is_good_without_failures() {
        let rows = story(|_, _| 0);
        assert_eq!(judge(&rows, Minute(5), Some(0.002)).verdict, Verdict::Good);
        let none = judge(&rows, Minute(5), None);
        assert_eq!((none.verdict, none.ratio), (Verdict::Insufficient, None));
        assert!(none.e_bad <= 1.0, "{none:?}");
        assert_eq!(judge(&[], Minute(5), Some(0.002)).verdict, Verdict::Insufficient);
    }

    #[test]
    fn the_order_of_observations_does_not_matter() {
        let mut rows = story(|minute, unit| u64::from((minute * 7 + unit * 3).is_multiple_of(5)));
        let found = judge(&rows, Minute(5), Some(0.002));
        rows.reverse();
        assert_eq!(judge(&rows, Minute(5), Some(0.002)), found);
        let halves = rows.iter().flat_map(|o| {
            let half = Observation { valid: 50, bad: 0, ..*o };
            [half, Observation { bad: o.bad, ..half }]
        });
        let halves: Vec<_> = halves.collect();
        assert_eq!(judge(&halves, Minute(5), Some(0.002)).ratio, found.ratio);
    }
}
