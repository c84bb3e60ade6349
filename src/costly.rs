//! Answers about everybody, which are made anew only so often that they stay cheap: a scrape or
//! a page each second must not cost what a million customers cost.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::states::lock;

/// The last answer of one kind. Who asks while one is being made waits for that one.
pub struct Costly<T> {
    /// For how many times as long as it took to make it is given again.
    times: u32,
    last: Mutex<Option<Made<T>>>,
}

struct Made<T> {
    value: T,
    at: Instant,
    took: Duration,
}

impl<T: Clone> Costly<T> {
    /// One that takes at most one in `times` of a core.
    pub fn new(times: u32) -> Costly<T> {
        Costly { times, last: Mutex::default() }
    }

    /// The last answer, or a new one.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let mut last = lock(&self.last);
        if let Some(made) = &*last
            && made.at.elapsed() < made.took * self.times
        {
            return Ok(made.value.clone());
        }
        let began = Instant::now();
        let value = make()?;
        let (at, took) = (Instant::now(), began.elapsed());
        *last = Some(Made { value: value.clone(), at, took });
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_costly_is_given_again_and_an_error_never() {
        let costly: Costly<u32> = Costly::new(1_000);
        let slow = |value: u32| {
            std::thread::sleep(Duration::from_millis(20));
            Ok::<u32, ()>(value)
        };
        assert_eq!(costly.get(|| Err("no")), Err("no"));
        assert_eq!(costly.get(|| slow(1)), Ok(1));
        assert_eq!(costly.get(|| slow(2)), Ok(1));
        let cheap: Costly<u32> = Costly::new(0);
        assert_eq!(cheap.get(|| slow(1)), Ok(1));
        assert_eq!(cheap.get(|| slow(2)), Ok(2));
    }
}
