//! What is wrong with a configuration: a list, since all of it is told at once.
//!
//! One line each, `file:line: key what; takes`, so that editors jump to the place:
//!
//! ```text
//! ninefold.toml:7: objective "api": target 99.8 is a percentage; write 0.998
//! ninefold.toml:9: alerts.min_bod is no key; did you mean min_bad?
//! ```
//!
//! Invariant: a [`Problems`] is never empty, and sorted by line.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: usize,
    /// The key with the table that holds it: `alerts.min_bad`, `objective "api": target`.
    /// Empty where the text is no TOML at that line.
    pub key: String,
    /// What is wrong, with the value that was found.
    pub what: String,
    /// What would be right: the allowed range, or the key that was probably meant. Empty where
    /// `what` says it all.
    pub takes: String,
}

/// Every problem of one file; at least one.
///
/// ```
/// use ninefold_engine::config::Config;
/// let problems = Config::parse("[alerts]\nmin_bad = 0\n", "ninefold.toml").unwrap_err();
/// assert_eq!(
///     problems.to_string(),
///     "ninefold.toml:2: alerts.min_bad 0 is out of range; takes 1 to 1000000",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
}

impl Problem {
    /// Whether the text is no TOML here, so that nothing more can be said of this line.
    pub(super) fn is_syntax(&self) -> bool {
        self.key.is_empty()
    }
}

impl Problems {
    /// Sorts `list` by line and drops repetitions.
    ///
    /// # Panics
    /// If `list` is empty: no problem is no error.
    pub(super) fn new(file: &str, mut list: Vec<Problem>) -> Problems {
        assert!(!list.is_empty(), "an error holds at least one problem");
        list.sort();
        list.dedup();
        Problems { file: file.to_owned(), list }
    }

    /// Name of the file, as it was given to the parser.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The problems, by line; at least one.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{} ", self.key)?;
        }
        f.write_str(&self.what)?;
        if !self.takes.is_empty() {
            write!(f, "; {}", self.takes)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{}:{}: {problem}", self.file, problem.line)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
