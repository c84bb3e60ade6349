//! `POST /v1/events`: a body of events in, `{"accepted":n}` out once they are durable.
//!
//! Here is what is HTTP: headers, limits on the wire, time-outs, memory, and which refusal is
//! which status. What a body holds and where it is kept is up to [`Ingest`].
//!
//! Invariants: nothing of a body is read before its headers are found right; a refused body has
//! left no trace; all bodies together hold at most [`Intake::room_bytes`] of memory, whatever
//! they inflate to.
//!
//! `text/plain` and forms are not taken: a page elsewhere could send those to a loopback address
//! without being asked, and events with them.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;

use crate::access::Caller;
use crate::app::App;
use crate::arguments::Arguments;
use crate::problem::{Kind, Problem};
use crate::rate::{self, Meter};

/// The longest idempotency key.
const KEY_BYTES_MAX: usize = 128;

/// How many bodies may be taken at once; the others wait.
pub(crate) const TAKEN_MAX: usize = 64;

/// Takes events, for what is behind the API. Methods block.
pub trait Ingest: Send + Sync {
    /// Takes all events of a body, durable when this returns, or none of them.
    ///
    /// # Errors
    /// Why none.
    fn take(&self, upload: Upload) -> Result<u64, Refusal>;
    /// What `/metrics` shows.
    fn figures(&self) -> IngestFigures;
}

/// What a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// One JSON object a line.
    Lines,
    /// A JSON array.
    Array,
}

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// A body with what its headers say.
pub struct Upload {
    /// The idempotency key with the name of its sender; empty = none.
    pub key: Vec<u8>,
    /// What it holds.
    pub media: Media,
    /// How it is packed.
    pub coding: Coding,
    /// As it was sent.
    pub body: Vec<u8>,
    /// When it had come.
    pub received: Instant,
    /// The memory it takes. More has to be asked for before it is used.
    pub held: Held,
    /// To be charged with its bytes once it is inflated.
    pub meter: Meter,
}

/// Why a body was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is larger than it may be once inflated, or holds too many events.
    Large(String),
    /// It is not what its headers say.
    Broken(String),
    /// Its key was used for other events.
    KeyReused,
    /// Too much waits to be counted, or too much is being taken.
    Full(String),
    /// The sender has used up its rate; after so long it may send again.
    Rate(Duration),
    /// It could not be made durable.
    Log(String),
}

/// Figures of what takes the events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IngestFigures {
    /// Bytes of the write-ahead log.
    pub wal_bytes: u64,
    /// Of these, bytes that no commit has taken.
    pub wal_uncommitted_bytes: u64,
    /// Idempotency keys that are known.
    pub keys: u64,
    /// Reports of damage since the start.
    pub damages: u64,
    /// Writes that failed since the start.
    pub failures: u64,
    /// Upper ends in seconds, and how many syncs took no longer and longer than the one before.
    /// The last end is infinite.
    pub syncs: Vec<(f64, u64)>,
    /// All syncs together.
    pub sync_seconds: f64,
}

/// What the binary decides about taking events.
#[derive(Clone)]
pub struct Intake {
    /// Who takes them.
    pub ingest: Arc<dyn Ingest>,
    /// Longest body as it is sent.
    pub body_bytes_max: u64,
    /// How much memory all bodies take together; what does not fit is refused with 429.
    pub room_bytes: u64,
    /// How long a body may take to come: 30 s is 140 kB/s for one of 4 MiB.
    pub body_timeout: Duration,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Intake { body_bytes_max, room_bytes, body_timeout, .. } = self;
        write!(formatter, "Intake({body_bytes_max}, {room_bytes}, {body_timeout:?})")
    }
}

/// The memory that all bodies share.
#[derive(Debug)]
struct Room {
    free_bytes: AtomicU64,
}

/// A part of the memory that bodies share, given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    room: Arc<Room>,
    bytes: u64,
}

impl Held {
    /// Takes so much more; false, and nothing is taken, where it is not there.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let take = |free: u64| free.checked_sub(bytes);
        let free = &self.room.free_bytes;
        let taken = free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        self.bytes += if taken { bytes } else { 0 };
        taken
    }

    /// Gives so much back.
    ///
    /// # Panics
    /// If it is more than was taken.
    pub fn shrink(&mut self, bytes: u64) {
        self.bytes = self.bytes.checked_sub(bytes).expect("only what was taken is given back");
        self.room.free_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(self.bytes);
    }
}

/// What the route works with.
pub(crate) struct Desk {
    pub(crate) intake: Intake,
    room: Arc<Room>,
    /// One permit per body that is being taken.
    taken: Arc<tokio::sync::Semaphore>,
    accepted: AtomicU64,
    /// By the anchor of the problem.
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Desk {
    pub(crate) fn new(intake: Intake) -> Desk {
        let room = Arc::new(Room { free_bytes: AtomicU64::new(intake.room_bytes) });
        let taken = Arc::new(tokio::sync::Semaphore::new(TAKEN_MAX));
        Desk { intake, room, taken, accepted: AtomicU64::new(0), refused: Mutex::default() }
    }

    /// How many events were acknowledged since the start, repetitions included, and how many
    /// requests were refused, by reason.
    pub(crate) fn counts(&self) -> (u64, BTreeMap<&'static str, u64>) {
        let refused = self.refused.lock().expect("nobody panics while holding it");
        (self.accepted.load(Ordering::Relaxed), refused.clone())
    }
}

/// The route.
pub(crate) async fn events(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Some(desk) = app.desk.clone() else {
        let detail = "this server takes no events; `ninefold run --push` does";
        return Err(Problem::new(Kind::Route, detail));
    };
    let taken = take(&app, &desk, &caller, &uri, &headers, body).await;
    match &taken {
        Ok(count) => {
            desk.accepted.fetch_add(*count, Ordering::Relaxed);
        }
        Err(problem) => {
            let (_, anchor, _) = problem.kind.facts();
            let mut refused = desk.refused.lock().expect("nobody panics while holding it");
            *refused.entry(anchor).or_default() += 1;
        }
    }
    Ok(axum::Json(serde_json::json!({ "accepted": taken? })).into_response())
}

async fn take(
    app: &App,
    desk: &Arc<Desk>,
    caller: &Caller,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<u64, Problem> {
    Arguments::read(uri, &[])?;
    let (media, coding) = (media(headers)?, coding(headers)?);
    let key = key(headers, &caller.name)?;
    check_length(headers, desk.intake.body_bytes_max)?;
    let meter = Meter { limits: Arc::clone(&app.limits), name: caller.name.clone() };
    // Who has nothing left need not send the body.
    meter.charge(0)?;
    let mut held = Held { room: Arc::clone(&desk.room), bytes: 0 };
    let read = read_body(body, desk.intake.body_bytes_max, &mut held);
    let body = tokio::time::timeout(desk.intake.body_timeout, read).await.map_err(|_| {
        let seconds = desk.intake.body_timeout.as_secs_f64();
        Problem::new(Kind::SlowBody, format!("the body has to come within {seconds} s"))
    })??;
    let upload = Upload { key, media, coding, body, received: Instant::now(), held, meter };
    let desk = Arc::clone(desk);
    app.in_time(async move {
        let taken = Arc::clone(&desk.taken);
        let permit = taken.acquire_owned().await.expect("the semaphore is never closed");
        let taken = tokio::task::spawn_blocking(move || {
            let _held_until_durable = permit;
            desk.intake.ingest.take(upload)
        });
        taken.await.map_err(|_panicked| Problem::internal())?.map_err(Problem::from)
    })
    .await
}

/// Reads a body, up to `bytes_max` of it, as far as there is room.
async fn read_body(body: Body, bytes_max: u64, held: &mut Held) -> Result<Vec<u8>, Problem> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = next_piece(&mut stream).await {
        let piece = piece.map_err(|_| Problem::new(Kind::Content, "the body was cut off"))?;
        if bytes.len() as u64 + piece.len() as u64 > bytes_max {
            return Err(too_long(bytes_max));
        }
        if !held.grow(piece.len() as u64) {
            let detail = "other bodies take all the memory that there is for them";
            return Err(Problem::new(Kind::Full, detail));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

async fn next_piece(stream: &mut BodyDataStream) -> Option<Result<axum::body::Bytes, axum::Error>> {
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

fn too_long(bytes_max: u64) -> Problem {
    Problem::new(Kind::Body, format!("the body is longer than {bytes_max} bytes; send it in parts"))
}

/// What the request says of its length, before anything of it is read.
fn check_length(headers: &HeaderMap, bytes_max: u64) -> Result<(), Problem> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok());
    let declared = declared.and_then(|text| text.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > bytes_max) { Err(too_long(bytes_max)) } else { Ok(()) }
}

fn media(headers: &HeaderMap) -> Result<Media, Problem> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|text| text.to_str().ok());
    let essence = text.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match &*essence.to_ascii_lowercase() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Media::Lines),
        "application/json" => Ok(Media::Array),
        other => {
            let takes = "takes application/x-ndjson (one event a line) or application/json (an \
                         array of events)";
            Err(Problem::new(Kind::Media, format!("Content-Type is {other:?}; {takes}")))
        }
    }
}

fn coding(headers: &HeaderMap) -> Result<Coding, Problem> {
    let values: Vec<&[u8]> =
        headers.get_all(header::CONTENT_ENCODING).iter().map(|value| value.as_bytes()).collect();
    let is = |value: &[u8], name: &str| value.eq_ignore_ascii_case(name.as_bytes());
    match &values[..] {
        [] => Ok(Coding::Identity),
        [value] if is(value, "identity") => Ok(Coding::Identity),
        [value] if is(value, "gzip") => Ok(Coding::Gzip),
        [value] if is(value, "zstd") => Ok(Coding::Zstd),
        _ => Err(Problem::new(Kind::Media, "Content-Encoding takes gzip or zstd, once")),
    }
}

/// The key as the log keeps it: with its sender, so that two of them never meet in one key.
fn key(headers: &HeaderMap, sender: &str) -> Result<Vec<u8>, Problem> {
    let name = "Idempotency-Key";
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(Vec::new()) };
    if values.next().is_some() {
        return Err(Problem::argument(name, "given twice; takes one header"));
    }
    let key = value.as_bytes();
    let is_plain = key.iter().all(u8::is_ascii_graphic);
    if key.is_empty() || key.len() > KEY_BYTES_MAX || !is_plain {
        let takes = format!("takes 1 to {KEY_BYTES_MAX} visible ASCII characters");
        return Err(Problem::argument(name, takes));
    }
    Ok([sender.as_bytes(), b" ", key].concat())
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        match refusal {
            Refusal::Large(detail) => Problem::new(Kind::Body, detail),
            Refusal::Broken(detail) => Problem::new(Kind::Content, detail),
            Refusal::Full(detail) => Problem::new(Kind::Full, detail),
            Refusal::Rate(wait) => rate::problem(wait, "bytes"),
            Refusal::Log(detail) => Problem::new(Kind::Log, detail),
            Refusal::KeyReused => {
                let detail = "the Idempotency-Key came before, with other events";
                Problem::new(Kind::Key, detail)
            }
        }
    }
}
