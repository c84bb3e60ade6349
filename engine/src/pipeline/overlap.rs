//! From the pieces that a source hands out to blocks, on all cores and beside commits.
//!
//! A commit leaves cores idle: between its parallel steps, and while it waits for the disk. What
//! comes next is made into blocks there, by threads that take only what nobody else wants: at the
//! priority of the rest they would slow the commit down where all of its cores are busy, and be
//! too far ahead to be of use where they are not.
//!
//! Invariants: blocks are counted in the order of their pieces; what stands before a piece that
//! cannot be read is counted; memory is bounded by [`PIECES_PER_THREAD`] and [`AHEAD_PER_THREAD`].

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rayon::prelude::*;

use super::{Pipeline, PipelineError};
use crate::source::chunk::Tail;
use crate::state::block::{Block, Rooms};

/// How many pieces become blocks at once, for each thread: enough to even out their load.
pub(super) const PIECES_PER_THREAD: usize = 4;

/// How many blocks are made during a commit, for each thread: about as many as a thread makes
/// in the time.
const AHEAD_PER_THREAD: usize = 16;

/// How long a piece is waited for before it is asked whether the commit has ended.
const WAIT: Duration = Duration::from_millis(1);

/// The niceness of threads that take what nobody else wants.
#[cfg(target_os = "linux")]
const NICE_MOST: i32 = 19;

/// A block, and what stands before its end; `None` where it has not moved to the end of its piece.
pub(super) type Made = (Block, Option<Tail>);

impl Pipeline {
    /// Makes blocks of what comes from `queue`, each thread with `tools` of its own, until nobody
    /// sends any more; gives them to `count`, some at a time. Commits whenever an epoch is full.
    ///
    /// # Errors
    /// What the pieces say, after all before it was counted, and as [`Pipeline::commit`].
    pub(super) fn drain<P: Send, T>(
        &mut self,
        queue: Receiver<P>,
        tools: impl Fn(Rooms) -> T + Sync,
        make: impl Fn(&mut T, P) -> Result<Option<Made>, PipelineError> + Sync,
        mut count: impl FnMut(&mut Pipeline, Vec<Made>),
    ) -> Result<(), PipelineError> {
        let threads = rayon::current_num_threads();
        // Gone with this function, whatever ends it: who sends must not wait for it.
        let mut queue = queue;
        let mut ahead = Vec::new();
        loop {
            let rooms = self.rooms;
            if ahead.is_empty() {
                let Ok(first) = queue.recv() else { return Ok(()) };
                let more = std::iter::from_fn(|| queue.try_recv().ok());
                let most = threads * PIECES_PER_THREAD;
                let pieces: Vec<P> = std::iter::once(first).chain(more.take(most - 1)).collect();
                ahead = pieces.into_par_iter().map_init(|| tools(rooms), &make).collect();
            }
            let mut failed = None;
            let whole = |one: Result<_, _>| one.map_err(|error| failed = Some(error)).ok();
            let made = std::mem::take(&mut ahead).into_iter().map_while(whole).flatten().collect();
            count(self, made);
            if let Some(error) = failed {
                return Err(error);
            }
            if self.epoch_is_full() {
                let most = threads * AHEAD_PER_THREAD;
                let make = Beside { tools: || tools(rooms), make: &make, most };
                let committed;
                (ahead, committed) = make.run(&mut queue, threads - 1, || self.commit());
                committed?;
            }
        }
    }
}

/// What is done beside something else.
struct Beside<F, M> {
    tools: F,
    make: M,
    /// How many pieces at most.
    most: usize,
}

impl<F, M> Beside<F, M> {
    /// Makes something of pieces while `busy` runs, by so many threads, at least one; in the order
    /// of the pieces.
    fn run<P: Send, T, B: Send, R>(
        &self,
        queue: &mut Receiver<P>,
        threads: usize,
        busy: impl FnOnce() -> R,
    ) -> (Vec<B>, R)
    where
        F: Fn() -> T + Sync,
        M: Fn(&mut T, P) -> B + Sync,
    {
        let pieces = Mutex::new((0..self.most, queue));
        let is_over = AtomicBool::new(false);
        let next = || {
            let mut pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
            while !is_over.load(Ordering::Relaxed) && !pieces.0.is_empty() {
                match pieces.1.recv_timeout(WAIT) {
                    Ok(piece) => return Some((pieces.0.next()?, piece)),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return None,
                }
            }
            None
        };
        let work = || {
            yield_cores();
            let mut tools = (self.tools)();
            let one = |(number, piece)| (number, (self.make)(&mut tools, piece));
            std::iter::from_fn(next).map(one).collect::<Vec<_>>()
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
            let over = Over(&is_over);
            let result = busy();
            drop(over);
            let joined = workers
                .into_iter()
                .flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
            let mut made: Vec<_> = joined.collect();
            made.sort_unstable_by_key(|(number, _)| *number);
            (made.into_iter().map(|(_, made)| made).collect(), result)
        })
    }
}

/// Says so when it is dropped, also by a panic: nobody is to be waited for in vain.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets this thread run where no other wants the core. Elsewhere than on Linux niceness is the
/// whole process's; where it cannot be had, the work is done all the same.
fn yield_cores() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE_MOST);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, sync_channel};

    use super::*;

    #[test]
    fn pieces_are_made_in_their_order_and_none_is_lost() {
        for threads in [0, 1, 4] {
            let (sender, mut queue) = channel();
            (0..100).for_each(|piece| sender.send(piece).unwrap());
            let beside = Beside { tools: || 0, make: |_: &mut i32, piece: i32| piece, most: 30 };
            let mut made = Vec::new();
            while made.len() < 90 {
                let before = made.len();
                let (more, answer) = beside.run(&mut queue, threads, || "done");
                assert_eq!(answer, "done");
                assert!(more.len() <= 30);
                made.extend(more);
                // What was busy may be over before anything was begun.
                assert!(made.len() >= before);
            }
            drop(sender);
            made.extend(queue.iter());
            assert!(made.into_iter().eq(0..100), "{threads} threads");
        }
    }

    #[test]
    fn a_sender_that_pauses_is_not_waited_for() {
        let (_sender, mut queue) = sync_channel::<()>(1);
        let beside = Beside { tools: || (), make: |(): &mut (), (): ()| (), most: 10 };
        let (made, ()) = beside.run(&mut queue, 1, || ());
        assert!(made.is_empty());
    }

    #[test]
    fn a_panic_of_either_ends_both() {
        let (sender, mut queue) = channel();
        sender.send(()).unwrap();
        let beside = Beside { tools: || (), make: |(): &mut (), (): ()| panic!("made"), most: 10 };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // Until the piece was taken.
            loop {
                beside.run(&mut queue, 1, || ());
            }
        }));
        assert!(caught.is_err());
        let (_sender, mut queue) = channel::<()>();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            beside.run(&mut queue, 1, || panic!("busy"))
        }));
        assert!(caught.is_err());
    }
}
