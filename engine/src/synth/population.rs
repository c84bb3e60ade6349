//! The customers of synthetic data: their names, how busy each is, cohort and home region.

use super::numeric::{Weighted, exp, ln};
use super::random::Random;
use super::traffic::{COHORT_SHARES, REGIONS};
use super::{Format, Options};

/// Names that break software which trusts its input: paths, spreadsheet formulas, markup,
/// control characters, look-alikes. Each is a valid customer: 1 to 256 bytes of Unicode.
pub(crate) const HOSTILE_NAMES: [&str; 30] = [
    "../../etc/passwd",
    "=1+1",
    "<script>alert(1)</script>",
    "two\nlines",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
     xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "🦀 crab & söhne 🇪🇺",
    "\"double\" 'single' `back`",
    "  leading and trailing  ",
    "tab\tand back\\slash",
    "..\\..\\windows\\system32",
    "@SUM(A1:A9)",
    "a,b;c|d",
    "%2e%2e%2f%00",
    "customer=a/service=b",
    "null",
    "0",
    "ACME",
    "acme",
    "e\u{301}",
    "\u{e9}",
    "\u{202e}evil",
    "\u{0}",
    "\u{1}\u{1f}\u{7f}",
    "__other__",
    "default",
    ".",
    "{\"customer\":\"x\"}",
    "'; DROP TABLE rollups; --",
    "| a | [b](javascript:alert(1)) |",
    "\u{feff}bom\u{2028}line",
];

/// One customer.
pub(crate) struct Customer {
    /// Its name, unescaped.
    pub(crate) name: String,
    /// Index into the cohorts, fixed for all time.
    pub(crate) cohort: u8,
    /// Index into the regions: where most of its requests are served.
    pub(crate) home: u8,
}

/// All customers, and how often each comes by.
pub(crate) struct Population {
    pub(crate) customers: Vec<Customer>,
    busy: Weighted,
}

impl Population {
    /// The customers of these options. Ranks are shuffled, so that a low number in a name does
    /// not mean a busy customer; the hostile ones are among the busiest, so that few events
    /// meet them all.
    pub(crate) fn new(options: &Options) -> Population {
        let mut random = Random::new(options.seed, 1);
        let count = options.customers as usize;
        let by_rank = shuffled(count, &mut random);
        let mut weights = vec![0.0; count];
        for (rank, customer) in by_rank.iter().enumerate() {
            weights[*customer] = exp(-options.zipf * ln(rank as f64 + 1.0));
        }
        let mut customers: Vec<Customer> =
            (0..count).map(|index| customer(index, options, &mut random)).collect();
        if options.hostile {
            for (name, customer) in HOSTILE_NAMES.iter().zip(by_rank.iter().skip(1)) {
                customers[*customer].name = (*name).to_owned();
            }
        }
        Population { customers, busy: Weighted::new(&weights) }
    }

    /// Who sends the next request.
    #[inline]
    pub(crate) fn draw(&self, random: &mut Random) -> usize {
        self.busy.draw(random)
    }
}

fn customer(index: usize, options: &Options, random: &mut Random) -> Customer {
    let drawn = random.ratio();
    let cohort = COHORT_SHARES.iter().take_while(|share| drawn >= **share).count();
    let name = match options.format {
        Format::Ndjson => format!("cust_{index:07}"),
        Format::Combined => {
            format!("10.{}.{}.{}", index >> 16 & 0xff, index >> 8 & 0xff, index & 0xff)
        }
    };
    Customer { name, cohort: cohort as u8, home: random.below(REGIONS.len() as u64) as u8 }
}

/// `0..count` in random order (Fisher and Yates).
fn shuffled(count: usize, random: &mut Random) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CUSTOMER_BYTES_MAX;

    #[test]
    fn hostile_names_are_valid_distinct_customers() {
        let distinct: std::collections::BTreeSet<&str> = HOSTILE_NAMES.into_iter().collect();
        assert_eq!(distinct.len(), HOSTILE_NAMES.len());
        assert!(HOSTILE_NAMES.iter().all(|name| (1..=CUSTOMER_BYTES_MAX).contains(&name.len())));
        assert_eq!(HOSTILE_NAMES[4].len(), 200);
    }
}
