//! Latency histograms: sparse (slot, count) pairs in the layout of HdrHistogram, 1 µs to 1 h,
//! 2 significant digits.

/// A sparse latency histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Sorted by slot, no slot twice, no count zero.
    slots: Vec<(u16, u64)>,
}

impl Histogram {
    /// How many values it holds.
    pub fn count(&self) -> u64 {
        self.slots.iter().map(|(_, count)| count).sum()
    }
}
