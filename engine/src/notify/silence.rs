//! Silences: for some time nobody is told of what a matcher picks.
//!
//! A silence holds notifications back, not states: what still fires when it ends is told then.
//! It is never changed but for its end, which only comes sooner, so that of several rows of one
//! silence the earliest end is right in any order. Pure.

use serde::{Deserialize, Serialize};

use super::matcher::{Matcher, Scope};
use crate::time::{parse_rfc3339, rfc3339};

/// One silence, as the API and the table have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Names it; `config-N` for those of the configuration.
    pub id: String,
    /// What it picks.
    #[serde(flatten)]
    pub matcher: Matcher,
    /// Who made it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// From when on, RFC 3339.
    pub from: String,
    /// Until when, exclusive, RFC 3339.
    pub to: String,
}

/// Why a silence is refused: the field, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct SilenceError {
    /// Which field.
    pub field: &'static str,
    /// What is wrong, and what it takes.
    pub problem: &'static str,
}

impl Silence {
    /// The same silence with its times as [`rfc3339`] writes them, if it is one: it has an
    /// author, a reason, and ends after it begins.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn checked(mut self) -> Result<Silence, SilenceError> {
        let refuse = |field, problem| Err(SilenceError { field, problem });
        for (field, text) in [("author", &self.author), ("reason", &self.reason)] {
            if text.trim().is_empty() {
                return refuse(field, "is empty: say who, and why");
            }
        }
        let Some(from_ms) = parse_rfc3339(self.from.as_bytes()) else {
            return refuse("from", "takes an RFC 3339 time, such as 2026-11-01T12:00:00Z");
        };
        let Some(to_ms) = parse_rfc3339(self.to.as_bytes()) else {
            return refuse("to", "takes an RFC 3339 time, such as 2026-11-01T12:00:00Z");
        };
        if to_ms <= from_ms {
            return refuse("to", "is not after from");
        }
        (self.from, self.to) = (rfc3339(from_ms), rfc3339(to_ms));
        Ok(self)
    }

    /// Whether it is in force at `now_ms`.
    pub fn is_active(&self, now_ms: i64) -> bool {
        let at = |text: &str| parse_rfc3339(text.as_bytes());
        at(&self.from).is_some_and(|from| from <= now_ms)
            && at(&self.to).is_some_and(|to| now_ms < to)
    }

    /// Whether it holds back what is told of `scope` at `now_ms`.
    pub fn holds(&self, scope: &Scope, now_ms: i64) -> bool {
        self.is_active(now_ms) && self.matcher.picks(scope)
    }

    /// The same, ended at `now_ms` where it would last longer; one that has not begun ends where
    /// it begins.
    pub fn ended(&self, now_ms: i64) -> Silence {
        let from_ms = parse_rfc3339(self.from.as_bytes()).unwrap_or(now_ms);
        let end = rfc3339(now_ms.max(from_ms));
        let to = if end < self.to { end } else { self.to.clone() };
        Silence { to, ..self.clone() }
    }
}

/// One silence for each id of `rows`, with the earliest of its ends; sorted by begin and id.
pub fn merged(rows: impl IntoIterator<Item = Silence>) -> Vec<Silence> {
    let mut merged: Vec<Silence> = Vec::new();
    for row in rows {
        match merged.iter_mut().find(|known| known.id == row.id) {
            // One form of text for all times: they sort as they follow.
            Some(known) if row.to < known.to => known.to = row.to,
            Some(_) => {}
            None => merged.push(row),
        }
    }
    merged.sort_by(|a, b| (&a.from, &a.id).cmp(&(&b.from, &b.id)));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(from_ms: i64, to_ms: i64) -> Silence {
        Silence {
            id: "s".into(),
            matcher: Matcher { customers: vec!["acme".into()], ..Matcher::default() },
            author: "ops".into(),
            reason: "known".into(),
            from: rfc3339(from_ms),
            to: rfc3339(to_ms),
        }
    }

    #[test]
    fn it_holds_from_its_begin_to_before_its_end() {
        let scope = Scope { customer: "acme".into(), ..Scope::default() };
        let one = silence(1_000, 5_000);
        let held = |now_ms| one.holds(&scope, now_ms);
        assert_eq!([999, 1_000, 4_999, 5_000].map(held), [false, true, true, false]);
        assert!(!one.holds(&Scope::default(), 2_000), "of somebody else");
    }

    #[test]
    fn of_several_rows_the_earliest_end_counts_in_any_order() {
        let (long, ended) = (silence(1_000, 60_000), silence(1_000, 60_000).ended(3_000));
        assert_eq!(ended.to, rfc3339(3_000));
        assert_eq!(merged([long.clone(), ended.clone()]), vec![ended.clone()]);
        assert_eq!(merged([ended.clone(), long.clone()]), vec![ended]);
        assert_eq!(long.ended(90_000).to, long.to, "it was over");
        assert_eq!(long.ended(0).to, long.from, "it had not begun");
    }

    #[test]
    fn it_needs_a_reason_an_author_and_an_end() {
        let good = silence(0, 1_000);
        assert!(good.clone().checked().is_ok());
        let field = |one: Silence| one.checked().unwrap_err().field;
        assert_eq!(field(Silence { reason: " ".into(), ..good.clone() }), "reason");
        assert_eq!(field(Silence { author: String::new(), ..good.clone() }), "author");
        assert_eq!(field(Silence { to: good.from.clone(), ..good.clone() }), "to");
        assert_eq!(field(Silence { from: "yesterday".into(), ..good }), "from");
        let zoned = Silence { from: "2026-11-01T01:00:00+01:00".into(), ..silence(0, 1) };
        let zoned = Silence { to: "2026-11-01T03:00:00+01:00".into(), ..zoned };
        assert_eq!(zoned.checked().unwrap().from, "2026-11-01T00:00:00Z");
    }
}
