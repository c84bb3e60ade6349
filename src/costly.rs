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
        let costly: Costly<u32> = Costly::new(2);
        assert_eq!(costly.get(|| Err("no")), Err("no"));
        let made = |took| Some(Made { value: 1, at: Instant::now(), took });
        *lock(&costly.last) = made(Duration::from_hours(1));
        assert_eq!(costly.get(|| Ok::<u32, ()>(2)), Ok(1));
        *lock(&costly.last) = made(Duration::ZERO);
        assert_eq!(costly.get(|| Ok::<u32, ()>(2)), Ok(2));
    }
}
