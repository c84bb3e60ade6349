//! The HTTP API and the pages of Ninefold, over anything that implements [`Answers`].
//!
//! A request goes one way: guard (host, sizes, security headers) → access → route → arguments
//! → a blocking question to [`Answers`] → its body as JSON, byte for byte what `--json` prints.
//! Events go the other way: `POST /v1/events` hands bodies to an [`Ingest`].
//! The pages render the same bodies as HTML; `/v1/stream` sends the fleet each second.
//!
//! Invariants:
//! - This crate reads no wall clock and opens no file: time is [`Options::clock`], assets are in
//!   the binary, and no page names another host.
//! - Every error is a problem detail (RFC 9457) that names the field and what it takes.
//! - A question runs on a blocking thread under a permit, so that slow ones can neither stall
//!   the connections nor take more threads than [`Options::questions_max`].
//!
//! ```no_run
//! # use std::sync::Arc;
//! # async fn example(answers: Arc<dyn ninefold_engine::query::Answers>) -> std::io::Result<()> {
//! let options = ninefold_api::Options::new(|| 1_764_547_200_000);
//! let router = ninefold_api::router(answers, options);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
//! let listening = ninefold_api::Listening::default();
//! ninefold_api::serve(listener, router, listening, async { /* until a signal comes */ }).await
//! # }
//! ```

mod access;
mod app;
mod arguments;
mod assets;
mod docs;
mod guard;
mod ingest;
mod listen;
mod metrics;
mod pages;
mod problem;
mod rate;
mod routes;
mod silences;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ninefold_engine::config::Token;
use ninefold_engine::query::Answers;

pub use ingest::{Coding, Held, Ingest, IngestFigures, Intake, Media, Refusal, Upload};
pub use listen::{Listening, Tls, serve};
pub use rate::Meter;
pub use routes::paths;
pub use silences::{Silencer, Silencing};

/// What the binary decides about the API.
///
/// ```
/// let options = ninefold_api::Options::new(|| 1_764_547_200_000);
/// assert!(options.loopback_only);
/// assert_eq!(options.target, 0.998);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The wall clock in epoch milliseconds: this crate never asks one itself.
    pub clock: fn() -> i64,
    /// Stands beside the name on every page: `demo`, `production`. Empty by default.
    pub title: String,
    /// The default availability target, against which the first page holds the fleet: 0.998.
    pub target: f64,
    /// How often `/v1/stream` sends the fleet: one second.
    pub stream_interval: Duration,
    /// After how long a question is answered with 503: 30 seconds.
    pub timeout: Duration,
    /// How many questions may run at once; the others wait: 16.
    pub questions_max: usize,
    /// How many streams may be open at once; one more gets 503: 256.
    pub streams_max: usize,
    /// How many of the largest customers, and of the burning ones, `/metrics` lists: 100 each.
    pub metrics_customers: usize,
    /// Refuses requests for a host that is not the loopback one, as a page elsewhere makes them
    /// by DNS rebinding. True by default; set it to false only when bound to another address.
    pub loopback_only: bool,
    /// Who may ask; empty by default: then everybody who reaches the address.
    pub tokens: Vec<Token>,
    /// Takes events that are sent; `None` by default: then `POST /v1/events` is 404.
    pub intake: Option<Intake>,
    /// Keeps silences; `None` by default: then `/v1/silences` is 404.
    pub silencer: Option<Silencer>,
}

impl Options {
    /// The defaults, on the wall clock `clock` (epoch milliseconds).
    pub fn new(clock: fn() -> i64) -> Options {
        Options {
            clock,
            title: String::new(),
            target: 0.998,
            stream_interval: Duration::from_secs(1),
            timeout: Duration::from_secs(30),
            questions_max: 16,
            streams_max: 256,
            metrics_customers: 100,
            loopback_only: true,
            tokens: Vec::new(),
            intake: None,
            silencer: None,
        }
    }
}

/// The whole service over `answers`: API, stream, metrics, documents and pages.
///
/// The router is complete: every path that it does not have is answered by a problem detail.
pub fn router(answers: Arc<dyn Answers>, options: Options) -> Router {
    routes::router(app::App::new(answers, options))
}
