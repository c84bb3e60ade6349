//! What all routes share: the answers, the options, and how a question is asked.
//!
//! [`Answers`] block, so a question runs on a blocking thread, under one of
//! [`Options::questions_max`] permits that it keeps until it is done. A caller who gives up or
//! runs into the time-out therefore frees its connection at once but its permit only when the
//! thread is free: slow questions queue, threads do not pile up.
//!
//! What is asked most, about one customer from memory, is mostly answered [at once](App::at_once):
//! the way to another thread and back takes longer than the answer.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use ninefold_engine::query::body::{Fleet, Incidents};
use ninefold_engine::query::{Answers, AskError, Health};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use crate::Options;
use crate::ingest::Desk;
use crate::pages::Overview;
use crate::problem::{Kind, Problem};
use crate::rate::Limits;

/// The state of the router; a clone is a handle to the same one, and cheap, since every layer
/// clones it for every request.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

/// What the handles share.
pub(crate) struct Shared {
    /// Who answers.
    answers: Arc<dyn Answers>,
    /// What the binary decided.
    pub(crate) options: Options,
    /// One permit per running question.
    questions: Arc<Semaphore>,
    /// One permit per open stream.
    pub(crate) streams: Arc<Semaphore>,
    /// How much each token may ask and send.
    pub(crate) limits: Arc<Limits>,
    /// Takes events, where any are taken.
    pub(crate) desk: Option<Arc<Desk>>,
    /// The fleet, shared by all streams.
    fleet: Fresh<Fleet>,
    /// The incidents, shared by all streams.
    incidents: Fresh<Incidents>,
    /// What the first page shows, shared by all who look at it.
    overview: Fresh<Overview>,
    /// The health, asked by one thread at a time.
    health: Fresh<Health>,
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// The state over `answers`.
    pub(crate) fn new(answers: Arc<dyn Answers>, options: Options) -> App {
        App(Arc::new(Shared {
            answers,
            questions: Arc::new(Semaphore::new(options.questions_max)),
            streams: Arc::new(Semaphore::new(options.streams_max)),
            desk: options.intake.clone().map(|intake| Arc::new(Desk::new(intake))),
            limits: Arc::new(Limits::new(&options.tokens)),
            options,
            fleet: Fresh::default(),
            incidents: Fresh::default(),
            overview: Fresh::default(),
            health: Fresh::default(),
        }))
    }

    /// The wall clock in epoch milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        (self.options.clock)()
    }

    /// Asks a question that may have its answer at once, on the thread of the caller, which waits
    /// for nothing; under a permit like any other, so that it does not pass by those who wait for
    /// one. `None` where it has none, or no permit is free: then it has to be [asked](App::ask).
    pub(crate) fn at_once<T>(
        &self,
        question: impl FnOnce(&dyn Answers) -> Option<Result<T, AskError>>,
    ) -> Option<Result<T, Problem>> {
        let _held_until_answered = self.questions.try_acquire().ok()?;
        Some(question(&*self.answers)?.map_err(Problem::from))
    }

    /// Asks one question on a blocking thread.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Answers) -> Result<T, AskError> + Send + 'static,
    ) -> Result<T, Problem> {
        let answers = self.answers.clone();
        let questions = self.questions.clone();
        let asked = async move {
            let permit = questions.acquire_owned().await.expect("the semaphore is never closed");
            let answered = tokio::task::spawn_blocking(move || {
                let _held_until_answered = permit;
                question(&*answers)
            });
            match answered.await {
                Ok(answer) => answer.map_err(Problem::from),
                Err(_panicked) => Err(Problem::internal()),
            }
        };
        self.in_time(asked).await
    }

    /// The health. It takes no permit, so that slow questions do not make a live process look
    /// dead, and is asked by one caller after the other, so that it takes one thread at most.
    pub(crate) async fn health(&self) -> Result<Arc<Health>, Problem> {
        let answers = self.answers.clone();
        let ask = || async move {
            let answered = tokio::task::spawn_blocking(move || answers.health());
            answered.await.map_err(|_panicked| Problem::internal())
        };
        self.in_time(self.health.get(Duration::ZERO, ask)).await
    }

    /// The fleet, at most half a stream interval old.
    pub(crate) async fn fleet(&self) -> Result<Arc<Fleet>, Problem> {
        let now_ms = self.now_ms();
        let ask = || self.ask(move |answers| answers.fleet(now_ms));
        self.in_time(self.fleet.get(self.fresh_for(), ask)).await
    }

    /// The incidents, at most half a stream interval old.
    pub(crate) async fn incidents(&self) -> Result<Arc<Incidents>, Problem> {
        let ask = || self.ask(|answers| answers.incidents(None, None));
        self.in_time(self.incidents.get(self.fresh_for(), ask)).await
    }

    /// What the first page shows, at most half a stream interval old.
    pub(crate) async fn overview(&self) -> Result<Arc<Overview>, Problem> {
        let now_ms = self.now_ms();
        let ask = || self.ask(move |answers| Overview::ask(answers, now_ms));
        self.in_time(self.overview.get(self.fresh_for(), ask)).await
    }

    /// Half the interval: a stream that ticks each interval never gets the same fleet twice,
    /// and any number of streams asks at most twice an interval.
    fn fresh_for(&self) -> Duration {
        self.options.stream_interval / 2
    }

    /// What `answer` gives within the time-out.
    pub(crate) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, Problem>>,
    ) -> Result<T, Problem> {
        tokio::time::timeout(self.options.timeout, answer).await.unwrap_or_else(|_| {
            let limit_s = self.options.timeout.as_secs_f64();
            let detail = format!("no answer within {limit_s} s; ask for less or try again");
            Err(Problem::new(Kind::Timeout, detail))
        })
    }
}

/// A value that is computed again once it is too old, by one asker at a time.
struct Fresh<T> {
    slot: Mutex<Option<(Instant, Arc<T>)>>,
}

impl<T> Default for Fresh<T> {
    fn default() -> Self {
        Fresh { slot: Mutex::new(None) }
    }
}

impl<T> Fresh<T> {
    /// The value, computed by `ask` where it is older than `fresh_for`; a failure is not kept.
    async fn get<F>(&self, fresh_for: Duration, ask: impl FnOnce() -> F) -> Result<Arc<T>, Problem>
    where
        F: Future<Output = Result<T, Problem>>,
    {
        let mut slot = self.slot.lock().await;
        if let Some((computed_at, value)) = &*slot
            && computed_at.elapsed() < fresh_for
        {
            return Ok(value.clone());
        }
        let value = Arc::new(ask().await?);
        *slot = Some((Instant::now(), value.clone()));
        Ok(value)
    }
}
