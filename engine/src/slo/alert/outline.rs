//! The history of a series in outline: could an alert ever have fired?
//!
//! Whether an alert fires depends on the whole history, and of nearly every series it is plain that
//! it never did. Sums over runs of minutes bound what any window holds: at most the bad events of
//! all runs that it may touch, and at least the valid ones of those that lie in it. An error ratio,
//! and the evidence that it is no chance, are highest for the most bad and the fewest valid events.

use super::evidence::binomial_tail;
use super::{COVERAGE_PARTS, Severity, Tier};
use crate::model::Counts;
use crate::slo::decimal::burn_at_least;
use crate::time::Minute;

/// What a tail may be off by, as a share: a bound that is as good as the limit counts as below it.
const TAIL_TOLERANCE: f64 = 1e-6;

/// Minutes one after another, summed up.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The first of them.
    pub first: Minute,
    /// The last of them, or a later one before the next run.
    pub last: Minute,
    /// Their sum.
    pub counts: Counts,
}

/// The counts of one series by one SLI.
#[derive(Clone, Debug)]
pub struct Outline {
    /// Most minutes, in order; the last run may go on beyond `last`.
    pub runs: Vec<Run>,
    /// What is in no run, sorted by minute: may lie anywhere, also within one.
    pub cells: Vec<(Minute, Counts)>,
    /// The first counted minute of the series, by any SLI.
    pub first: Minute,
    /// The minute that is asked about.
    pub last: Minute,
}

impl Outline {
    /// Whether something bad may have been since a minute; where not, nothing was.
    pub fn may_fail_since(&self, start: Minute) -> bool {
        let in_run = |run: &Run| run.last >= start && run.counts.bad > 0;
        let in_cell = |cell: &(Minute, Counts)| cell.0 >= start && cell.1.bad > 0;
        self.cells.iter().any(in_cell) || self.runs.iter().any(in_run)
    }

    /// Whether `tier` may have begun to fire at any minute up to `last`; where not, it never did.
    pub fn may_ever_fire(&self, tier: &Tier) -> bool {
        // Sums of the runs before each, to take differences of.
        let mut before = vec![(0, 0)];
        for run in &self.runs {
            let (valid, bad) = before[before.len() - 1];
            before.push((valid + run.counts.valid, bad + run.counts.bad));
        }
        let begins = self.runs.first().map_or(self.last.next(), |run| run.first);
        let ends = self.runs.last().map_or(self.last, |run| run.last);
        // Windows by where they end: before the runs, in each, and behind them.
        let in_runs = self.runs.iter().map(|run| (run.first, run.last));
        let around = [(self.first, begins.minus(1)), (ends.next(), self.last)];
        let zones = in_runs.chain(around).filter(|(from, to)| from <= to && *from <= self.last);
        let mut zones = zones.map(|(from, to)| (from, to.min(self.last)));
        zones.any(|(from, to)| self.may_fire_within(tier, &before, from, to))
    }

    /// Whether it may have begun to fire at a minute of `from..=to`, none of which is in two runs.
    fn may_fire_within(
        &self,
        tier: &Tier,
        before: &[(u64, u64)],
        from: Minute,
        to: Minute,
    ) -> bool {
        let long = tier.spec.long.1;
        let covered = u64::from((to.0 + 1).saturating_sub(self.first.0));
        if tier.spec.severity == Severity::Ticket && COVERAGE_PARTS * covered < u64::from(long) {
            return false;
        }
        let (earliest, latest) = (from.minus(long - 1), to.minus(long - 1));
        let touched = self.runs.partition_point(|run| run.last < earliest)
            ..self.runs.partition_point(|run| run.first <= to);
        let cells = self.cells.partition_point(|cell| cell.0 < earliest)
            ..self.cells.partition_point(|cell| cell.0 <= to);
        let in_cells: u64 = self.cells[cells].iter().map(|cell| cell.1.bad).sum();
        let bad = in_cells + before[touched.end].1 - before[touched.start.min(touched.end)].1;
        if bad < tier.options.min_bad {
            return false;
        }
        let inside = self.runs.partition_point(|run| run.first < latest)
            ..self.runs.partition_point(|run| run.last <= from);
        let inside = before[inside.end].0.saturating_sub(before[inside.start].0);
        let valid = inside.max(bad);
        burn_at_least(Counts { valid, bad, excluded: 0 }, tier.target, tier.factor)
            && binomial_tail(bad, valid, tier.allowed_ratio)
                <= (1.0 - tier.options.confidence) * (1.0 + TAIL_TOLERANCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slo::alert::{AlertOptions, tiers_of};
    use crate::slo::objective::Objectives;

    #[test]
    fn a_window_that_begins_within_a_run_may_hold_its_failures() {
        let options = AlertOptions::default();
        let tiers = tiers_of(&Objectives::default().default[0], &options).active;
        let tier = tiers.iter().find(|tier| tier.spec.name == "page_1h").expect("a default tier");
        let check = |bad: [u64; 2], expect: bool| {
            let run = |first: u32, bad| {
                let counts = Counts { valid: 10, bad, excluded: 0 };
                Run { first: Minute(first), last: Minute(first + 59), counts }
            };
            let runs = vec![run(1_040, bad[0]), run(1_100, bad[1])];
            let (first, last) = (Minute(1_040), Minute(1_159));
            let outline = Outline { runs, cells: Vec::new(), first, last };
            assert_eq!(outline.may_ever_fire(tier), expect, "{bad:?}");
        };
        assert_eq!(options.min_bad, 3);
        check([2, 2], true);
        check([2, 0], false);
        check([0, 2], false);
    }
}
