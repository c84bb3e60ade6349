//! Rows on their way, by customer: those of one customer that follow each other, as files have
//! them, are a run under one name.
//!
//! Invariants: all text is owned; a run has a row; the order is that of the rows.

/// Runs of rows.
pub struct Runs<R> {
    names: String,
    /// Of each run: where its name ends, and where its rows do.
    ends: Vec<(usize, usize)>,
    rows: Vec<R>,
}

impl<R> Default for Runs<R> {
    fn default() -> Runs<R> {
        Runs { names: String::new(), ends: Vec::new(), rows: Vec::new() }
    }
}

impl<R> Runs<R> {
    /// Drops all rows, and keeps their room.
    pub fn clear(&mut self) {
        self.names.clear();
        self.ends.clear();
        self.rows.clear();
    }

    /// Begins a run of rows of this customer, of whom a row is to follow.
    pub fn begin(&mut self, customer: &str) {
        self.names.push_str(customer);
        self.ends.push((self.names.len(), self.rows.len()));
    }

    /// Adds a row to the last run.
    ///
    /// # Panics
    /// If none has begun.
    pub fn push(&mut self, row: R) {
        self.rows.push(row);
        self.ends.last_mut().expect("a run has begun").1 = self.rows.len();
    }

    /// The customer of the last run.
    pub fn last_name(&self) -> Option<&str> {
        self.ends.len().checked_sub(1).map(|last| self.get(last).0)
    }

    /// How many runs there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// A run by its place: whose, and the rows.
    pub fn get(&self, at: usize) -> (&str, &[R]) {
        let (name_start, row_start) = at.checked_sub(1).map_or((0, 0), |before| self.ends[before]);
        let (name_end, row_end) = self.ends[at];
        (&self.names[name_start..name_end], &self.rows[row_start..row_end])
    }

    /// All runs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[R])> {
        (0..self.count()).map(|at| self.get(at))
    }
}
