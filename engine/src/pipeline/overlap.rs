//! From the pieces that a source hands out to blocks, all of it at once: one thread reads ahead,
//! some make blocks, one counts them and commits.
//!
//! Nobody waits for a whole batch, and the cores that a commit leaves idle (between its parallel
//! steps, and while it waits for the disk) make blocks of what comes next. That is done by threads
//! of a lower priority: at the same one they would slow the commit down where all of its cores
//! are busy, and be too far ahead to be of use where they are not.
//!
//! Invariants: blocks are counted in the order of their pieces; what stands before a piece that
//! cannot be read is counted; memory is bounded by [`PIECES_PER_THREAD`] and what the source says.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Pipeline, PipelineError};
use crate::source::chunk::Tail;
use crate::state::block::{Block, Rooms};

/// How many pieces are read ahead of those that make blocks of them, for each thread.
const PIECES_PER_THREAD: usize = 2;

/// How many blocks are counted at once, for each thread, whatever is ready: by so much an epoch
/// may be larger than it should.
const COUNTED_PER_THREAD: usize = 4;

/// A block, and what stands before its end; `None` where it has not moved to the end of its piece.
pub(super) type Made = (Block, Option<Tail>);

type Answer = Result<Option<Made>, PipelineError>;

impl Pipeline {
    /// Makes blocks of `pieces`, each thread with `tools` of its own; gives them to `count`, some
    /// that are ready at a time. Commits whenever an epoch is full. For each thread, `ahead` pieces at
    /// most are read and not counted.
    ///
    /// # Errors
    /// What `make` says, after all before it was counted, and as [`Pipeline::commit`].
    pub(super) fn drain<P: Send, T>(
        &mut self,
        (pieces, ahead): (impl Iterator<Item = P> + Send, usize),
        tools: impl Fn(Rooms) -> T + Sync,
        make: impl Fn(&mut T, P) -> Answer + Sync,
        mut count: impl FnMut(&mut Pipeline, Vec<Made>),
    ) -> Result<(), PipelineError> {
        let threads = rayon::current_num_threads();
        let rooms = self.rooms;
        let (sender, jobs) = sync_channel(threads * PIECES_PER_THREAD);
        let (promise, promised) = sync_channel(threads * ahead);
        let (jobs, gate) = (Mutex::new(jobs), Gate::default());
        let work = |phase| {
            if phase == Phase::Committing {
                yield_cores();
            }
            let mut tools = tools(rooms);
            while let Some(Job { piece, answer }) = gate.next(phase, &jobs) {
                // Nobody to answer: the counting has failed.
                let _ = answer.send(make(&mut tools, piece));
            }
        };
        thread::scope(|scope| {
            // Ends with the pieces, or when nobody waits for blocks any more.
            scope.spawn(move || {
                for piece in pieces {
                    let (answer, answered) = sync_channel(1);
                    if promise.send(answered).is_err()
                        || sender.send(Job { piece, answer }).is_err()
                    {
                        break;
                    }
                }
            });
            (0..threads).for_each(|_| drop(scope.spawn(|| work(Phase::Counting))));
            (0..threads.max(2) - 1).for_each(|_| drop(scope.spawn(|| work(Phase::Committing))));
            let _over = Over(&gate);
            let mut ready = Ready { promised, first: None };
            loop {
                let mut made = Vec::new();
                let ended = ready.take(threads * COUNTED_PER_THREAD, &mut made);
                if !made.is_empty() {
                    count(self, made);
                }
                if let Some(outcome) = ended {
                    return outcome;
                }
                if self.epoch_is_full() {
                    gate.set(Phase::Committing);
                    self.commit()?;
                    gate.set(Phase::Counting);
                }
            }
        })
    }
}

/// A piece, and who waits for its block.
struct Job<P> {
    piece: P,
    answer: SyncSender<Answer>,
}

/// The blocks to come, in order.
struct Ready {
    promised: Receiver<Receiver<Answer>>,
    /// Of the first that is not ready.
    first: Option<Receiver<Answer>>,
}

impl Ready {
    /// Waits for the next block; takes it and those behind it that are ready, up to `most`. How the
    /// pieces have ended, if they have.
    fn take(&mut self, most: usize, made: &mut Vec<Made>) -> Option<Result<(), PipelineError>> {
        let Some(next) = self.first.take().or_else(|| self.promised.recv().ok()) else {
            return Some(Ok(()));
        };
        let mut answer = next.recv().expect("who makes blocks answers, or has panicked");
        loop {
            match answer {
                Ok(block) => made.extend(block),
                Err(error) => return Some(Err(error)),
            }
            if made.len() >= most {
                return None;
            }
            let next = self.promised.try_recv().ok()?;
            answer = match next.try_recv() {
                Ok(answer) => answer,
                Err(_) => {
                    self.first = Some(next);
                    return None;
                }
            };
        }
    }
}

/// What the counting thread is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Counting,
    Committing,
    /// It has ended: what was read is dropped.
    Over,
}

/// Who may make blocks now.
#[derive(Default)]
struct Gate {
    phase: Mutex<Phase>,
    changed: Condvar,
}

impl Gate {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.phase() = phase;
        self.changed.notify_all();
    }

    /// The next job, in `phase`; `None` where there are no more. Those that nobody waits for are
    /// dropped, so that who reads ahead does not wait for ever.
    fn next<P>(&self, phase: Phase, jobs: &Mutex<Receiver<Job<P>>>) -> Option<Job<P>> {
        loop {
            let is_other = |now: &mut Phase| *now != phase && *now != Phase::Over;
            drop(self.changed.wait_while(self.phase(), is_other));
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()?;
            if *self.phase() != Phase::Over {
                return Some(job);
            }
        }
    }
}

/// Says so when it is dropped, also by a panic: nobody is to wait at the gate in vain.
struct Over<'a>(&'a Gate);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.set(Phase::Over);
    }
}

/// Lets this thread run where no other wants the core. A core that runs nothing else counts as
/// free for those that wake up: with niceness alone two threads of a commit shared one core
/// beside it, and a replay of Parquet took an eighth longer. Where it cannot be had, the work is
/// done all the same. Where other programs want all cores, a piece may be waited for at the end of
/// a commit; meanwhile those behind it become blocks.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "no safe interface is at hand")]
fn yield_cores() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads the parameters, which outlive it, and changes how this thread alone is
    // scheduled; it may be made at any time.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
}

#[cfg(not(target_os = "linux"))]
fn yield_cores() {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::block::BlockBuilder;

    fn block(first: u64) -> Made {
        let mut builder = BlockBuilder::new(0, false);
        builder.begin(0, first);
        (builder.finish(first + 1), None)
    }

    /// So many promises, with who is to keep them.
    fn promises(count: usize) -> (Ready, Vec<SyncSender<Answer>>) {
        let (promise, promised) = sync_channel(count);
        let answers = (0..count).map(|_| {
            let (answer, answered) = sync_channel(1);
            promise.send(answered).unwrap();
            answer
        });
        (Ready { promised, first: None }, answers.collect())
    }

    #[test]
    fn blocks_are_taken_in_their_order_whoever_is_ready_first() {
        let (mut ready, answers) = promises(5);
        let take = |ready: &mut Ready| {
            let mut made = Vec::new();
            let ended = ready.take(2, &mut made);
            (made.iter().map(|(block, _)| block.first).collect::<Vec<_>>(), ended)
        };
        let answer = |at: usize| answers[at].send(Ok(Some(block(at as u64)))).unwrap();
        [3, 0].into_iter().for_each(answer);
        let (made, ended) = take(&mut ready);
        assert_eq!(made, [0], "1 is not ready");
        assert!(ended.is_none());
        [1, 2].into_iter().for_each(answer);
        let (made, ended) = take(&mut ready);
        assert_eq!(made, [1, 2], "no more than two at once");
        assert!(ended.is_none());
        answers[4].send(Err(PipelineError::Overload)).unwrap();
        let (made, ended) = take(&mut ready);
        assert_eq!(made, [3], "what stands before an error is counted");
        assert!(matches!(ended, Some(Err(PipelineError::Overload))));
        assert!(matches!(take(&mut ready), (none, Some(Ok(()))) if none.is_empty()), "the end");
    }

    #[test]
    fn jobs_wait_for_their_phase_and_are_dropped_when_all_is_over() {
        let gate = Gate::default();
        let (sender, jobs) = sync_channel(4);
        let jobs = Mutex::new(jobs);
        let send = |piece| sender.send(Job { piece, answer: sync_channel(1).0 }).unwrap();
        let took = |phase| gate.next(phase, &jobs).map(|job: Job<i32>| job.piece);
        send(1);
        assert_eq!(took(Phase::Counting), Some(1));
        thread::scope(|scope| {
            let beside = scope.spawn(|| took(Phase::Committing));
            send(2);
            assert_eq!(
                took(Phase::Counting),
                Some(2),
                "no commit runs, so that nobody else takes it"
            );
            send(3);
            gate.set(Phase::Committing);
            assert_eq!(beside.join().unwrap(), Some(3));
        });
        send(4);
        drop(Over(&gate));
        drop(sender);
        assert_eq!(took(Phase::Counting), None);
        assert_eq!(took(Phase::Committing), None);
    }
}
