//! What explains the failures: excess over the same minute's rest, value by value.
//!
//! The rows of a range of minutes are sorted into *strata*, one per service and minute: a
//! stratum's rest is what failed there and then without the candidate, so an outage of the whole
//! service or a quiet night cancels out. For a candidate v
//!
//! `excess(v) = Σ over strata of (bad_v - valid_v * r)`
//!
//! with `r` the error ratio of the rest of the stratum, without v and without the causes already
//! accepted; where that rest has fewer than [`REST_VALID_MIN`] valid events, the ratio of the
//! service's hour before.
//!
//! - Candidates are the values of each dimension, and pairs of two values of different ones
//!   (among the [`PAIR_VALUES_MAX`] values with the most failures). Those with the same events
//!   are one cause that lists all its dimensions. One that holds every event tells nothing apart
//!   and is none; nor is an absent value (empty text).
//! - The best is the one with the largest deviation in the Cochran–Mantel–Haenszel test of two
//!   proportions over the strata (`z` below): among candidates with equal excess it is the
//!   purest. Rests of the same minutes are tried first; only where no candidate passes against
//!   them, the hour before takes part in the test too. It is accepted where its p-value, times the number tried, is at most [`P_MAX`], and
//!   its excess at least [`EXCESS_SHARE_MIN`] of the failures left. A pair must also fail
//!   significantly more than either part does without it. Then its rows are taken away and the
//!   rest is judged again, greedily.
//! - Where a narrower candidate passes too, and what the best one holds beside it fails less and
//!   no more than others do, the narrower one takes its place: a cohort that fails in one service
//!   alone, where it runs a release of its own, is that release.
//! - `share_of_excess = excess(v) / total`, with `total = Σ excess of the causes + excess of what
//!   is left`. What is left when all causes are taken away has no rest in its minutes, so its
//!   excess is that over the hour before, as for any v with a small rest; and as for any v it
//!   counts where it passes the test (against the hour before, one stratum per service, p at most
//!   [`P_MAX`]), so that a few failures by chance do not pass for an unexplained part. So the shares
//!   and the unexplained part add up to 1. `None` where the total is not positive.
//! - `lift` = error ratio of v over that of the rest in the strata of v.
//!
//! The test: in a stratum with `n` events of which `m` fail, `n1` of them v's, chance gives v
//! `n1 * m / n` failures with variance `n1 * n0 * m * (n - m) / (n^2 * (n - 1))`. Over strata,
//! `z = (Σ observed - Σ expected - 1/2) / sqrt(Σ variance)`; p is the upper tail of the normal
//! distribution. Source: Mantel and Haenszel, 1959.
//!
//! Invariants: pure; the answer does not depend on the order of the rows; ties go to the
//! candidate with fewer dimensions, then to the one first by name.

use std::collections::{BTreeMap, HashMap};

use crate::model::Counts;
use crate::time::Minute;

/// A rest with fewer valid events gives way to the hour before.
pub const REST_VALID_MIN: u64 = 30;
/// The largest corrected p-value of a cause.
pub const P_MAX: f64 = 0.01;
/// The least part of the failures left that a cause has to explain.
pub const EXCESS_SHARE_MIN: f64 = 0.05;
/// How many causes are looked for at most.
pub const CAUSES_MAX: usize = 5;
/// Pairs are made of so many values, those with the most failures: 32 make at most 496 pairs.
pub const PAIR_VALUES_MAX: usize = 32;
/// A cause has at least so many failures.
pub const BAD_MIN: u64 = 3;

/// The counts of one minute, service and set of values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// When.
    pub minute: Minute,
    /// Which component.
    pub service: &'a str,
    /// The value of each dimension, in the order of the names; empty where absent.
    pub values: Vec<&'a str>,
    /// Valid events.
    pub valid: u64,
    /// Bad events.
    pub bad: u64,
}

/// What explains a part of the failures.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Dimension to value; several where the same events carry them all, or a pair.
    pub dimensions: BTreeMap<String, String>,
    /// Valid events with them.
    pub valid: u64,
    /// Bad events with them.
    pub bad: u64,
    /// Bad events beyond those that the rest's error ratio explains, without the causes before.
    pub excess: f64,
    /// `excess` over all excess, explained or not; `None` where there is none.
    pub share_of_excess: Option<f64>,
    /// Its error ratio over that of the rest; `None` where the rest has no failure.
    pub lift: Option<f64>,
    /// Corrected for how many candidates were tried; at most 1.
    pub p_value: f64,
}

/// The causes of the failures in `rows`, the best explanation first. `dimensions` are the names
/// of `Row::values`; `hour_before` has the counts of each service in the hour before the range,
/// as far as it has any (a service without is taken to have had no failures).
///
/// # Panics
/// If a row has another number of values than there are dimensions.
pub fn causes(
    dimensions: &[&str],
    rows: &[Row<'_>],
    hour_before: &BTreeMap<&str, Counts>,
) -> Vec<Cause> {
    let mut rows: Vec<&Row<'_>> = rows.iter().collect();
    rows.sort_by_key(|row| (row.minute, row.service, &row.values, row.valid, row.bad));
    let rows = &rows[..];
    let field = Field::new(dimensions.len(), rows, hour_before);
    let candidates = candidates(dimensions.len(), rows);
    let mut open = vec![true; rows.len()];
    let mut found = Vec::new();
    while found.len() < CAUSES_MAX {
        // By the same minutes first: held against the hour before alone, whatever nearly all
        // events have in common would explain all that fails.
        let best = |by_before| best(&field, &candidates, rows, &open, by_before);
        let Some((candidate, test)) = best(false).or_else(|| best(true)) else { break };
        found.push(Cause {
            dimensions: candidate.named(dimensions),
            valid: candidate.rows.iter().map(|&row| rows[row].valid).sum(),
            bad: candidate.rows.iter().map(|&row| rows[row].bad).sum(),
            excess: test.excess,
            share_of_excess: None,
            lift: test.lift,
            p_value: (test.p_value * candidates.len() as f64).min(1.0),
        });
        candidate.rows.iter().for_each(|&row| open[row] = false);
    }
    let explained: f64 = found.iter().map(|cause| cause.excess).sum();
    let total = explained + unexplained(rows, &open, hour_before);
    for cause in found.iter_mut().filter(|_| total > 0.0) {
        cause.share_of_excess = Some(cause.excess / total);
    }
    found
}

/// Rows sorted into strata, with what the hour before says of each.
struct Field {
    /// The stratum of each row; rising, as the rows are sorted.
    stratum: Vec<usize>,
    /// The counts of the hour before, by stratum.
    before: Vec<Pair>,
}

/// Valid and bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pair {
    valid: u64,
    bad: u64,
}

impl Pair {
    fn add(&mut self, row: &Row<'_>) {
        self.valid += row.valid;
        self.bad += row.bad;
    }

    fn ratio(self) -> f64 {
        if self.valid == 0 { 0.0 } else { self.bad as f64 / self.valid as f64 }
    }
}

impl Field {
    fn new(width: usize, rows: &[&Row<'_>], hour_before: &BTreeMap<&str, Counts>) -> Field {
        let mut field = Field { stratum: Vec::with_capacity(rows.len()), before: Vec::new() };
        let mut last = None;
        for row in rows {
            assert_eq!(row.values.len(), width, "a row has one value per dimension");
            if last != Some((row.minute, row.service)) {
                last = Some((row.minute, row.service));
                let before = hour_before.get(row.service).copied().unwrap_or_default();
                field.before.push(Pair { valid: before.valid, bad: before.bad });
            }
            field.stratum.push(field.before.len() - 1);
        }
        field
    }

    /// The sums of the open ones of some rising rows, by stratum, rising.
    fn sums(&self, rows: &[&Row<'_>], open: &[bool], chosen: &[usize]) -> Vec<(usize, Pair)> {
        let mut sums: Vec<(usize, Pair)> = Vec::new();
        for &row in chosen.iter().filter(|&&row| open[row]) {
            let stratum = self.stratum[row];
            if sums.last().is_none_or(|last| last.0 != stratum) {
                sums.push((stratum, Pair::default()));
            }
            sums.last_mut().expect("one was pushed").1.add(rows[row]);
        }
        sums
    }
}

/// The bad events of the `open` rows beyond those that the hour before of their services explains;
/// 0 where they may be chance. A service without an hour before is taken to have had no failures.
fn unexplained(rows: &[&Row<'_>], open: &[bool], hour_before: &BTreeMap<&str, Counts>) -> f64 {
    let mut services: BTreeMap<&str, Pair> = BTreeMap::new();
    for (row, _) in rows.iter().zip(open).filter(|(_, open)| **open) {
        services.entry(row.service).or_default().add(row);
    }
    let before = |service: &str| {
        let counts = hour_before.get(service).copied().unwrap_or_default();
        Pair { valid: counts.valid, bad: counts.bad }
    };
    let (known, unknown): (Vec<_>, Vec<_>) = services
        .iter()
        .map(|(service, rest)| (*rest, before(service)))
        .partition(|(_, before)| before.valid > 0);
    let strata = || known.iter().enumerate();
    let own: Vec<(usize, Pair)> = strata().map(|(stratum, pair)| (stratum, pair.0)).collect();
    let test = compare(&own, &own, |stratum| Some(known[stratum].1));
    let chance = test.p_value > P_MAX;
    let excess = if chance { 0.0 } else { test.excess.max(0.0) };
    excess + unknown.iter().map(|(rest, _)| rest.bad as f64).sum::<f64>()
}

/// The events with one value, or with two.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate<'a> {
    /// Dimension and value, sorted; more than two where the same events have them all.
    values: BTreeMap<usize, &'a str>,
    /// Its rows, rising.
    rows: Vec<usize>,
    /// The two values whose events together are just these, for a pair.
    parts: Vec<Vec<usize>>,
}

impl Candidate<'_> {
    fn named(&self, dimensions: &[&str]) -> BTreeMap<String, String> {
        let named =
            |(&index, value): (&usize, &&str)| (dimensions[index].to_owned(), (*value).to_owned());
        self.values.iter().map(named).collect()
    }

    fn bad(&self, rows: &[&Row<'_>]) -> u64 {
        self.rows.iter().map(|&row| rows[row].bad).sum()
    }
}

/// All candidates, those with the same events joined; ordered by number of dimensions, then by
/// dimension and value.
fn candidates<'a>(width: usize, rows: &[&Row<'a>]) -> Vec<Candidate<'a>> {
    let mut singles: BTreeMap<(usize, &str), Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate().filter(|(_, row)| row.valid > 0) {
        for dimension in (0..width).filter(|&dimension| !row.values[dimension].is_empty()) {
            singles.entry((dimension, row.values[dimension])).or_default().push(index);
        }
    }
    let all = rows.iter().filter(|row| row.valid > 0).count();
    let single = |((dimension, value), rows)| Candidate {
        values: BTreeMap::from([(dimension, value)]),
        rows,
        parts: Vec::new(),
    };
    let mut singles: Vec<Candidate<'a>> = singles
        .into_iter()
        .map(single)
        .filter(|one| one.rows.len() < all && one.bad(rows) >= BAD_MIN)
        .collect();
    let pairs = pairs(rows, &singles);
    singles.extend(pairs);
    let mut joined = join(singles);
    joined.sort_by(|a, b| (a.values.len(), &a.values).cmp(&(b.values.len(), &b.values)));
    joined
}

/// Pairs of the values with the most failures.
fn pairs<'a>(rows: &[&Row<'a>], singles: &[Candidate<'a>]) -> Vec<Candidate<'a>> {
    let mut worst: Vec<&Candidate<'a>> = singles.iter().collect();
    worst.sort_by_key(|one| std::cmp::Reverse(one.bad(rows)));
    worst.truncate(PAIR_VALUES_MAX);
    let mut pairs = Vec::new();
    for (index, left) in worst.iter().enumerate() {
        for right in &worst[index + 1..] {
            if left.values.keys().eq(right.values.keys()) {
                continue;
            }
            let pair = Candidate {
                values: left.values.iter().chain(&right.values).map(|(d, v)| (*d, *v)).collect(),
                rows: both(&left.rows, &right.rows),
                parts: vec![left.rows.clone(), right.rows.clone()],
            };
            if pair.bad(rows) >= BAD_MIN {
                pairs.push(pair);
            }
        }
    }
    pairs
}

/// Joins candidates with the same events: the simplest stands for all, under all their values.
fn join(candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    let mut by_rows: HashMap<Vec<usize>, Candidate<'_>> = HashMap::new();
    for candidate in candidates {
        match by_rows.get_mut(&candidate.rows) {
            Some(first) => first.values.extend(candidate.values),
            None => {
                by_rows.insert(candidate.rows.clone(), candidate);
            }
        }
    }
    by_rows.into_values().collect()
}

/// The common elements of two rising lists.
fn both(left: &[usize], right: &[usize]) -> Vec<usize> {
    let (short, long) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    short.iter().copied().filter(|row| long.binary_search(row).is_ok()).collect()
}

/// What a comparison with the rest says.
#[derive(Clone, Copy, Debug)]
struct Test {
    excess: f64,
    lift: Option<f64>,
    /// Deviations above chance; 0 where there is nothing to compare.
    z: f64,
    /// Not corrected.
    p_value: f64,
}

/// The most striking candidate that passes, among the rows still open; `by_before`: where a rest
/// is small the hour before is part of the test, and not of the excess alone.
fn best<'c, 'a>(
    field: &Field,
    candidates: &'c [Candidate<'a>],
    rows: &[&Row<'_>],
    open: &[bool],
    by_before: bool,
) -> Option<(&'c Candidate<'a>, Test)> {
    let everything: Vec<usize> = (0..rows.len()).collect();
    let all = field.sums(rows, open, &everything);
    let failures: u64 = all.iter().map(|sum| sum.1.bad).sum();
    let p_max = P_MAX / candidates.len().max(1) as f64;
    let mut passing: Vec<(&Candidate<'_>, Test)> = Vec::new();
    for candidate in candidates {
        let own = field.sums(rows, open, &candidate.rows);
        let test = compare(&own, &all, |stratum| Some(field.before[stratum]));
        let excess = test.excess;
        let test = if by_before { test } else { compare(&own, &all, |_| None) };
        let test = Test { excess, ..test };
        let passes = own.iter().map(|sum| sum.1.bad).sum::<u64>() >= BAD_MIN
            && test.p_value <= p_max
            && test.excess >= EXCESS_SHARE_MIN * failures as f64;
        let beats_part = |part: &Vec<usize>| {
            compare(&own, &field.sums(rows, open, part), |_| None).p_value <= p_max
        };
        if passes && candidate.parts.iter().all(beats_part) {
            passing.push((candidate, test));
        }
    }
    let mut best = leader(passing.iter().copied())?;
    let explains = |narrow: &Candidate<'_>, wide: &Candidate<'_>| {
        narrow.rows.len() < wide.rows.len()
            && both(&narrow.rows, &wide.rows).len() == narrow.rows.len()
            && explains_alone(field, rows, open, (narrow, wide), &everything)
    };
    while let Some(narrower) =
        leader(passing.iter().copied().filter(|(narrow, _)| explains(narrow, best.0)))
    {
        best = narrower;
    }
    Some(best)
}

/// The one with the largest deviation; the first of equal ones.
fn leader<'c, 'a>(
    tested: impl Iterator<Item = (&'c Candidate<'a>, Test)>,
) -> Option<(&'c Candidate<'a>, Test)> {
    tested.reduce(|best, other| if other.1.z > best.1.z { other } else { best })
}

/// Whether what is in `wide` and not in `narrow` fails significantly less than `narrow`, and no
/// more than what is in neither.
fn explains_alone(
    field: &Field,
    rows: &[&Row<'_>],
    open: &[bool],
    (narrow, wide): (&Candidate<'_>, &Candidate<'_>),
    everything: &[usize],
) -> bool {
    let pooled = |chosen: &[usize]| {
        let mut sum = Pair::default();
        chosen.iter().filter(|&&row| open[row]).for_each(|&row| sum.add(rows[row]));
        [(0, sum)]
    };
    if compare(&pooled(&narrow.rows), &pooled(&wide.rows), |_| None).p_value > P_MAX {
        return false;
    }
    let mut others = open.to_vec();
    narrow.rows.iter().for_each(|&row| others[row] = false);
    let beside = field.sums(rows, &others, &wide.rows);
    compare(&beside, &field.sums(rows, &others, everything), |_| None).p_value > P_MAX
}

/// Compares `own` with the rest of `all`, which holds every event of `own`, stratum by stratum;
/// where the rest is small, with what `instead` gives, if it gives anything.
fn compare(
    own: &[(usize, Pair)],
    all: &[(usize, Pair)],
    instead: impl Fn(usize) -> Option<Pair>,
) -> Test {
    let (mut excess, mut surplus, mut variance) = (0.0, 0.0, 0.0);
    let (mut ours, mut theirs) = (Pair::default(), Pair::default());
    let mut all = all.iter();
    for &(stratum, own) in own.iter().filter(|(_, own)| own.valid > 0) {
        let (_, all) = all.find(|sum| sum.0 == stratum).expect("all holds every stratum of own");
        let rest = Pair { valid: all.valid - own.valid, bad: all.bad - own.bad };
        let small = rest.valid < REST_VALID_MIN;
        let rest = if small { instead(stratum).unwrap_or(rest) } else { rest };
        let (n1, n0) = (own.valid as f64, rest.valid as f64);
        let failed = (own.bad + rest.bad) as f64;
        excess += own.bad as f64 - n1 * rest.ratio();
        let n = n1 + n0;
        if rest.valid > 0 && n > 1.0 {
            surplus += own.bad as f64 - n1 * failed / n;
            variance += n1 * n0 * failed * (n - failed) / (n * n * (n - 1.0));
        }
        ours = Pair { valid: ours.valid + own.valid, bad: ours.bad + own.bad };
        theirs = Pair { valid: theirs.valid + rest.valid, bad: theirs.bad + rest.bad };
    }
    let z = if variance > 0.0 { (surplus - 0.5) / variance.sqrt() } else { 0.0 };
    let lift = (theirs.bad > 0).then(|| ours.ratio() / theirs.ratio());
    Test { excess, lift, z, p_value: normal_tail(z) }
}

/// `P(Z >= z)` for Z standard normal, to 7 digits and more.
///
/// For z above 2 the continued fraction `phi(z) / (z + 1 / (z + 2 / (z + 3 / …)))` (Laplace;
/// DLMF 7.9.2), below it the series of the distribution function around 0 (DLMF 7.6.2).
fn normal_tail(z: f64) -> f64 {
    let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z > 2.0 {
        let fraction = (1..=100).rev().fold(z, |below, k| z + f64::from(k) / below);
        return density / fraction;
    }
    if z < -2.0 {
        return 1.0 - normal_tail(-z);
    }
    let (mut term, mut sum) = (z, z);
    for odd in (3..100).step_by(2) {
        term *= z * z / f64::from(odd);
        sum += term;
    }
    0.5 - density * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIMENSIONS: [&str; 4] = ["release", "cohort", "region", "route"];

    /// Thirty minutes of one service: every mix of values has 100 events a minute. One mix
    /// and minute in 29 has a failure by chance, beside those that `fails` says.
    fn incident(fails: impl Fn([&'static str; 4], u32) -> u64) -> Vec<Row<'static>> {
        let mut rows = Vec::new();
        for minute in 0..30 {
            for (r, release) in ["r41", "r42"].into_iter().enumerate() {
                for (c, cohort) in ["stable", "canary"].into_iter().enumerate() {
                    for (g, region) in ["eu", "us"].into_iter().enumerate() {
                        for (t, route) in ["GET /a", "GET /b", "POST /c"].into_iter().enumerate() {
                            let values = [release, cohort, region, route];
                            let seed = minute as usize * 7 + r * 31 + c * 17 + g * 13 + t * 11;
                            let chance = u64::from(seed.is_multiple_of(29));
                            let bad = chance + fails(values, minute);
                            let minute = Minute(1_000 + minute);
                            let values = values.to_vec();
                            rows.push(Row { minute, service: "api", values, valid: 100, bad });
                        }
                    }
                }
            }
        }
        rows
    }

    fn before() -> BTreeMap<&'static str, Counts> {
        BTreeMap::from([("api", Counts { valid: 144_000, bad: 50, excluded: 0 })])
    }

    fn named(causes: &[Cause]) -> Vec<Vec<(&str, &str)>> {
        causes
            .iter()
            .map(|cause| cause.dimensions.iter().map(|(d, v)| (d.as_str(), v.as_str())).collect())
            .collect()
    }

    #[test]
    fn a_canary_release_is_one_cause_under_both_names() {
        let mut rows =
            incident(
                |[release, cohort, ..], minute| {
                    if release == "r42" && cohort == "canary" && minute >= 10 { 40 } else { 0 }
                },
            );
        // All of r42 is canary and all of the canary is on r42: the same events.
        rows.retain(|row| (row.values[0] == "r42") == (row.values[1] == "canary"));
        let found = causes(&DIMENSIONS, &rows, &before());
        assert_eq!(named(&found), [[("cohort", "canary"), ("release", "r42")]]);
        let cause = &found[0];
        assert_eq!((cause.valid, cause.p_value < 1e-100), (18_000, true));
        assert!((cause.share_of_excess.unwrap() - 1.0).abs() < 0.05, "{cause:?}");
        assert!(cause.lift.unwrap() > 50.0);
    }

    #[test]
    fn a_pair_is_the_cause_where_neither_part_is() {
        let rows = incident(
            |[release, cohort, ..], _| {
                if release == "r42" && cohort == "canary" { 30 } else { 0 }
            },
        );
        let found = causes(&DIMENSIONS, &rows, &before());
        assert_eq!(named(&found), [[("cohort", "canary"), ("release", "r42")]]);
        assert_eq!(found[0].valid, 18_000);
    }

    #[test]
    fn a_single_value_is_not_dressed_up_as_a_pair() {
        let rows = incident(|[release, ..], _| if release == "r42" { 20 } else { 0 });
        assert_eq!(named(&causes(&DIMENSIONS, &rows, &before())), [[("release", "r42")]]);
    }

    #[test]
    fn a_pair_that_leads_by_chance_gives_way_to_its_part() {
        // The 20 events of r42 outside the canary happen to be good, which 20% errors leave to
        // chance one time in 87: r42 explains as much.
        let row = |release, cohort, valid, bad| {
            let values = vec![release, cohort];
            Row { minute: Minute(1_000), service: "api", values, valid, bad }
        };
        let rows = [
            row("r42", "canary", 1_000, 200),
            row("r42", "stable", 20, 0),
            row("r41", "canary", 4_000, 0),
            row("r41", "stable", 4_980, 0),
        ];
        assert_eq!(named(&causes(&DIMENSIONS[..2], &rows, &before())), [[("release", "r42")]]);
    }

    #[test]
    fn a_cohort_that_fails_where_it_runs_a_release_of_its_own_is_that_release() {
        // In checkout the canary runs r42 and fails; in search it runs r41, and one request of it
        // fails by chance, which makes the cohort the larger deviation.
        let row = |service, release, cohort, valid, bad| {
            let values = vec![release, cohort];
            Row { minute: Minute(1_000), service, values, valid, bad }
        };
        let rows = |elsewhere| {
            [
                row("checkout", "r42", "canary", 95, 38),
                row("checkout", "r41", "stable", 900, 1),
                row("search", "r41", "canary", 160, elsewhere),
                row("search", "r41", "stable", 1_500, 1),
            ]
        };
        let release = [("cohort", "canary"), ("release", "r42")];
        assert_eq!(named(&causes(&DIMENSIONS[..2], &rows(1), &before())), [&release[..]]);
        // Where the cohort fails everywhere, it is the cohort.
        let everywhere = causes(&DIMENSIONS[..2], &rows(40), &before());
        assert_eq!(named(&everywhere)[0], [("cohort", "canary")]);
    }

    #[test]
    fn two_causes_are_found_one_after_the_other() {
        let rows = incident(|[release, _, region, route], _| {
            let slow_route = if route == "POST /c" { 10 } else { 0 };
            if release == "r42" && region == "us" { 60 } else { slow_route }
        });
        let found = causes(&DIMENSIONS, &rows, &before());
        let expect: [&[(&str, &str)]; 2] =
            [&[("region", "us"), ("release", "r42")], &[("route", "POST /c")]];
        assert_eq!(named(&found), expect);
        let shares: f64 = found.iter().map(|cause| cause.share_of_excess.unwrap()).sum();
        assert!((shares - 1.0).abs() < 0.05, "{shares}");
    }

    #[test]
    fn failures_of_everyone_have_no_cause() {
        let rows = incident(|_, minute| if minute >= 10 { 25 } else { 0 });
        assert_eq!(causes(&DIMENSIONS, &rows, &before()), []);
        assert_eq!(causes(&DIMENSIONS, &incident(|_, _| 0), &before()), []);
        assert_eq!(causes(&DIMENSIONS, &[], &before()), []);
    }

    #[test]
    fn a_release_that_grows_while_all_fail_more_is_not_blamed() {
        // The share of r42 grows from 1% to 99% as everyone's error ratio grows likewise.
        let mut rows = incident(|_, minute| u64::from(minute));
        for row in &mut rows {
            let minute = u64::from(row.minute.0 - 1_000);
            let scale = if row.values[0] == "r42" { 1 + minute * 3 } else { 100 - minute * 3 };
            (row.valid, row.bad) = (100 * scale, minute * scale);
        }
        assert_eq!(causes(&DIMENSIONS, &rows, &before()), []);
    }

    #[test]
    fn a_lonely_value_is_judged_by_the_hour_before() {
        // One release serves all of `api`; another service makes it a part of the events.
        let row = |service, release: &'static str, minute, bad| Row {
            minute: Minute(minute),
            service,
            values: vec![release],
            valid: 100,
            bad,
        };
        let rows: Vec<_> = (0..10)
            .flat_map(|minute| [row("api", "r42", minute, 20), row("web", "w1", minute, 0)])
            .collect();
        let found = causes(&["release"], &rows, &before());
        assert_eq!(named(&found), [[("release", "r42")]]);
        // 20% of the hour before as well: nothing is in excess.
        let usual = BTreeMap::from([("api", Counts { valid: 1_000, bad: 200, excluded: 0 })]);
        assert_eq!(causes(&["release"], &rows, &usual), []);
    }

    #[test]
    fn a_few_failures_of_the_rest_by_chance_are_no_unexplained_part() {
        // 50 of r42 fail; of the rest 26, where the hour before lets expect 19.
        let share = |rest_bad: u64| {
            let row = |release, valid, bad| {
                let minute = Minute(1_000);
                Row { minute, service: "api", values: vec![release], valid, bad }
            };
            let rows = [row("r42", 1_000, 50), row("r41", 38_000, rest_bad)];
            let usual = BTreeMap::from([("api", Counts { valid: 120_000, bad: 60, excluded: 0 })]);
            causes(&["release"], &rows, &usual)[0].share_of_excess.unwrap()
        };
        assert!(share(26) > 0.95, "{}", share(26));
        // Sixty more are something else that has no name.
        assert!(share(79) < 0.5, "{}", share(79));
    }

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let mut rows = incident(|[release, _, region, route], _| {
            if release == "r42" && region == "us" { 60 } else { u64::from(route == "POST /c") * 9 }
        });
        let found = causes(&DIMENSIONS, &rows, &before());
        rows.reverse();
        assert_eq!(causes(&DIMENSIONS, &rows, &before()), found);
        rows.sort_by_key(|row| (row.bad, row.minute));
        assert_eq!(causes(&DIMENSIONS, &rows, &before()), found);
    }

    #[test]
    fn the_normal_tail_has_its_known_values() {
        let check = |z: f64, expect: f64| {
            let found = normal_tail(z);
            assert!((found - expect).abs() <= 1e-6 * expect, "{z}: {found:e}");
        };
        check(0.0, 0.5);
        check(1.0, 0.158_655_253_9);
        check(-1.0, 0.841_344_746_1);
        check(1.959_963_985, 0.025);
        check(2.0, 0.022_750_131_9);
        check(3.090_232_306, 0.001);
        check(-3.090_232_306, 0.999);
        check(6.0, 9.865_876_45e-10);
    }
}
