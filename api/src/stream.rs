//! `GET /v1/stream`: the fleet each second as server-sent events.
//!
//! `event: fleet`, `id:` the clock in epoch milliseconds, `data:` the body of `/v1/fleet` on one
//! line. Each event is a whole state, so a `Last-Event-ID` needs no replay and is ignored. Where
//! the fleet has no answer an `event: problem` carries the problem detail and the stream goes
//! on. `event: incident` has an incident that is open or has changed, once for each change: after
//! a new connection the open ones. Comments keep the connection alive. The stream ends with the server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use async_stream::stream;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderName, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::app::App;
use crate::arguments::Arguments;
use crate::problem::{Kind, Problem};

/// How often an otherwise idle stream sends a comment: below the usual 60 s of proxies.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// What a browser waits before it connects again.
const RETRY: Duration = Duration::from_secs(2);

/// Becomes true when the server shuts down.
#[derive(Clone)]
pub(crate) struct Closing(pub(crate) watch::Receiver<bool>);

impl Closing {
    /// Ready once the server shuts down.
    async fn wait(&mut self) {
        // An error means that the server is gone, which is the same thing.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// The route.
pub(crate) async fn stream(
    State(app): State<App>,
    closing: Option<Extension<Closing>>,
    uri: Uri,
) -> Result<Response, Problem> {
    Arguments::read(&uri, &[])?;
    let Ok(permit) = app.streams.clone().try_acquire_owned() else {
        let detail = format!("{} streams are open already", app.options.streams_max);
        return Err(Problem::new(Kind::Busy, detail));
    };
    let mut closing = closing.map(|Extension(closing)| closing);
    let events = stream! {
        let _held_while_open = permit;
        let mut tick = tokio::time::interval(app.options.stream_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = BTreeMap::new();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = closed(&mut closing) => break,
            }
            tokio::select! {
                event = fleet_event(&app) => yield Ok::<_, Infallible>(event),
                () = closed(&mut closing) => break,
            }
            tokio::select! {
                events = incident_events(&app, &mut seen) => {
                    for event in events {
                        yield Ok(event);
                    }
                }
                () = closed(&mut closing) => break,
            }
        }
    };
    let alive = KeepAlive::new().interval(HEARTBEAT).text("heartbeat");
    // Tells nginx to pass events on as they come.
    let unbuffered = [(HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((unbuffered, Sse::new(events).keep_alive(alive)).into_response())
}

/// Never ready where the router is used without a server around it.
async fn closed(closing: &mut Option<Closing>) {
    match closing {
        Some(closing) => closing.wait().await,
        None => std::future::pending().await,
    }
}

/// The incidents that have changed since they were `seen`, by their id and their last change.
async fn incident_events(app: &App, seen: &mut BTreeMap<String, String>) -> Vec<Event> {
    // The fleet before it has told the problem, where there is one.
    let Ok(incidents) = app.incidents().await else { return Vec::new() };
    let mut events = Vec::new();
    for incident in &incidents.incidents {
        let known = seen.get(&incident.id);
        let is_news = known.map_or(incident.state == "open", |at| *at != incident.at);
        if let (true, Ok(body)) = (is_news, serde_json::to_string(incident)) {
            seen.insert(incident.id.clone(), incident.at.clone());
            events.push(Event::default().id(app.now_ms().to_string()).event("incident").data(body));
        }
    }
    events
}

async fn fleet_event(app: &App) -> Event {
    let event = Event::default().retry(RETRY).id(app.now_ms().to_string());
    let body = match app.fleet().await {
        Ok(fleet) => serde_json::to_string(&*fleet).map_err(|_| Problem::internal()),
        Err(problem) => Err(problem),
    };
    match body {
        Ok(fleet) => event.event("fleet").data(fleet),
        Err(problem) => event.event("problem").data(problem.body().to_string()),
    }
}
