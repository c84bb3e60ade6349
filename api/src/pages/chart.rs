//! A chart of minutes: the failing share above, the requests below, gaps where no data is.
//!
//! The failing share is drawn on a square-root scale, since a promise of 99.8% breaks at 0.2%
//! and an outage reaches 100%: both have to be seen. Grid lines carry their value. All positions
//! are percentages of the drawing, so that text keeps its size on every screen, and a minute
//! without data is a hatched column: neither zero nor good.

use ninefold_engine::query::body::Step;

use crate::pages::format;

/// Values at which a grid line may stand.
const GRID: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5];
/// The least distance between two grid lines, as a share of the height.
const GRID_DISTANCE_MIN: f64 = 0.2;
/// The height of the lowest bar that stands for something, in percent: a pixel or two.
const BAR_MIN: f64 = 1.5;
/// The share of its column that a bar fills.
const BAR_WIDTH: f64 = 0.78;

/// One minute of the chart; positions and sizes in percent.
pub(crate) struct Column {
    /// Left edge of the column.
    pub(crate) x: String,
    /// Left edge of the bar.
    pub(crate) bar_x: String,
    /// Whether anything was valid.
    pub(crate) has_data: bool,
    /// Whether more failed than the target allows.
    pub(crate) over: bool,
    /// Top and height of the failing share.
    pub(crate) share_y: String,
    /// See `share_y`; `0` where nothing failed.
    pub(crate) share_height: String,
    /// Top and height of the requests.
    pub(crate) valid_y: String,
    /// See `valid_y`.
    pub(crate) valid_height: String,
    /// What a reader sees on pointing at it.
    pub(crate) title: String,
    /// For the table beside the chart.
    pub(crate) row: Row,
}

/// One minute as text.
pub(crate) struct Row {
    pub(crate) at: String,
    pub(crate) valid: String,
    pub(crate) bad: String,
    pub(crate) availability: String,
}

/// A labelled line.
pub(crate) struct Line {
    /// From the top, or from the left, in percent.
    pub(crate) at: String,
    /// Its value.
    pub(crate) label: String,
    /// How the label is set against a vertical line: `start`, `middle` or `end`.
    pub(crate) anchor: &'static str,
}

/// All that the template draws.
pub(crate) struct Chart {
    pub(crate) columns: Vec<Column>,
    /// Width of a column and of a bar, in percent.
    pub(crate) column_width: String,
    pub(crate) bar_width: String,
    pub(crate) grid: Vec<Line>,
    /// Where the failing share is exactly what the target allows.
    pub(crate) allowed: Line,
    pub(crate) times: Vec<Line>,
    /// The most requests of one step.
    pub(crate) valid_max: String,
    /// The chart in one sentence, for who cannot see it.
    pub(crate) summary: String,
}

impl Chart {
    /// Draws `steps` (minutes unless `unit` says otherwise) against `target`.
    pub(crate) fn new(steps: &[Step], target: f64) -> Chart {
        let share = |step: &Step| step.bad as f64 / step.valid.max(1) as f64;
        let allowed = 1.0 - target;
        let worst = steps.iter().map(share).fold(0.0, f64::max);
        let top = (worst * 1.15).max(allowed * 5.0).min(1.0);
        let valid_max = steps.iter().map(|step| step.valid).max().unwrap_or(0);
        let width = 100.0 / steps.len().max(1) as f64;
        let column = |(at, step): (usize, &Step)| {
            let share_height = match step.bad {
                0 => 0.0,
                _ => (height(share(step), top)).max(BAR_MIN),
            };
            let valid_height = match step.valid {
                0 => 0.0,
                valid => (valid as f64 / valid_max.max(1) as f64 * 100.0).max(BAR_MIN),
            };
            let x = at as f64 * width;
            let row = Row::new(step, target);
            Column {
                x: number(x),
                bar_x: number(x + width * (1.0 - BAR_WIDTH) / 2.0),
                has_data: step.valid > 0,
                over: format::met(step.valid, step.bad, target) == Some(false),
                share_y: number(100.0 - share_height),
                share_height: number(share_height),
                valid_y: number(100.0 - valid_height),
                valid_height: number(valid_height),
                title: row.sentence(),
                row,
            }
        };
        Chart {
            columns: steps.iter().enumerate().map(column).collect(),
            column_width: number(width),
            bar_width: number(width * BAR_WIDTH),
            grid: grid(allowed, top),
            allowed: line(100.0 - height(allowed, top), format!("{} allowed", percent(allowed))),
            times: times(steps),
            valid_max: format::grouped(valid_max),
            summary: summary(steps, target),
        }
    }
}

impl Row {
    fn new(step: &Step, target: f64) -> Row {
        Row {
            at: format::clock(&step.at),
            valid: format::grouped(step.valid),
            bad: format::grouped(step.bad),
            availability: format::availability(step.valid, step.bad, target),
        }
    }

    fn sentence(&self) -> String {
        if self.availability == format::NO_DATA {
            return format!("{} UTC: no data", self.at);
        }
        format!("{} UTC: {} of {} failed, {}", self.at, self.bad, self.valid, self.availability)
    }
}

/// Height in percent on the square-root scale.
fn height(share: f64, top: f64) -> f64 {
    (share / top).sqrt().min(1.0) * 100.0
}

/// Lines at round values, apart from each other and from the line of what is allowed.
fn grid(allowed: f64, top: f64) -> Vec<Line> {
    let mut taken = vec![height(allowed, top), 0.0];
    let mut lines = Vec::new();
    for value in GRID.into_iter().rev().filter(|value| *value < top) {
        let at = height(value, top);
        let is_free = |taken: &f64| (taken - at).abs() >= GRID_DISTANCE_MIN * 100.0;
        if at < 96.0 && taken.iter().all(is_free) {
            taken.push(at);
            lines.push(line(100.0 - at, percent(value)));
        }
    }
    lines
}

/// The first, the middle and the last time, and those between them at the quarters.
fn times(steps: &[Step]) -> Vec<Line> {
    let Some(last) = steps.len().checked_sub(1).filter(|last| *last > 0) else {
        return Vec::new();
    };
    let anchors = ["start", "middle", "middle", "middle", "end"];
    anchors
        .into_iter()
        .enumerate()
        .map(|(quarter, anchor)| {
            let at = last * quarter / 4;
            let x = (at as f64 + 0.5) / steps.len() as f64 * 100.0;
            let x = match anchor {
                "start" => 0.0,
                "end" => 100.0,
                _ => x,
            };
            Line { at: number(x), label: format::clock(&steps[at].at), anchor }
        })
        .collect()
}

fn summary(steps: &[Step], target: f64) -> String {
    let valid: u64 = steps.iter().map(|step| step.valid).sum();
    let bad: u64 = steps.iter().map(|step| step.bad).sum();
    let over = steps
        .iter()
        .filter(|step| format::met(step.valid, step.bad, target) == Some(false))
        .count();
    let silent = steps.iter().filter(|step| step.valid == 0).count();
    format!(
        "{} of {} requests failed in {} minutes; {over} minutes failed more than {} allows; \
         {silent} minutes have no data",
        format::grouped(bad),
        format::grouped(valid),
        steps.len(),
        format::target(target),
    )
}

fn line(at: f64, label: String) -> Line {
    Line { at: number(at), label, anchor: "start" }
}

fn percent(ratio: f64) -> String {
    format!("{}%", (ratio * 1e6).round() / 1e4)
}

/// A position with two digits: a hundredth of a percent is finer than any screen.
fn number(value: f64) -> String {
    format!("{value:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(valid: u64, bad: u64) -> Step {
        Step {
            at: "2026-11-01T00:00:00Z".to_owned(),
            valid,
            bad,
            excluded: 0,
            availability: None,
            latency_mean_ms: None,
        }
    }

    #[test]
    fn a_minute_without_data_is_a_gap_and_not_a_zero() {
        let chart = Chart::new(&[step(100, 0), step(0, 0), step(100, 50)], 0.998);
        let gaps: Vec<bool> = chart.columns.iter().map(|column| !column.has_data).collect();
        assert_eq!(gaps, [false, true, false]);
        assert_eq!(chart.columns[1].title, "00:00 UTC: no data");
        assert!(chart.columns[2].over);
    }

    #[test]
    fn one_failure_among_many_is_seen() {
        let chart = Chart::new(&[step(1_000_000, 1), step(10, 10)], 0.998);
        let height: f64 = chart.columns[0].share_height.parse().expect("a number");
        assert!(height >= BAR_MIN, "{height}");
        assert!(!chart.columns[0].over);
    }

    #[test]
    fn no_steps_draw_nothing() {
        let chart = Chart::new(&[], 0.998);
        assert!(chart.columns.is_empty() && chart.times.is_empty());
    }
}
