//! The routes: one table of them, and the handlers that turn a request into one question.
//!
//! [`table`] is what the router is built of and what `/openapi.json` is held against, so a route
//! cannot exist undocumented. Handlers only read arguments and ask; the bodies are the engine's.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use axum::{Extension, Router};
use ninefold_engine::query::{Answers, AskError, body};
use ninefold_engine::report;
use ninefold_engine::time::Minute;
use serde::Serialize;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::access::{Caller, Need, Needs, authorize};
use crate::app::App;
use crate::arguments::{self, ALERTS_MAX, Arguments, IMPACT_MINUTES_MAX, RANGE_MINUTES_MAX};
use crate::guard::guard;
use crate::problem::{Kind, Problem};
use crate::{assets, docs, ingest, metrics, pages, silences, stream};

/// A path as axum hands it over: a customer whose escapes are no UTF-8 is a rejection.
pub(crate) type PathText = Result<Path<String>, PathRejection>;

/// Where events are sent to.
pub(crate) const EVENTS: &str = "/v1/events";

/// Where silences are made.
const SILENCES: &str = "/v1/silences";

/// Every route with its handler, and what it asks of its caller. Each takes GET and HEAD, but
/// for [`EVENTS`], which takes POST, and [`SILENCES`], which takes it too; one of them DELETE.
fn table() -> Vec<(&'static str, MethodRouter<App>, Need)> {
    vec![
        ("/", get(pages::fleet), Need::Read),
        ("/customers/{customer}", get(pages::customer), Need::Customer),
        ("/incidents/{id}", get(pages::incident), Need::Read),
        ("/docs", get(docs::docs), Need::Token),
        ("/openapi.json", get(openapi), Need::Token),
        ("/assets/{name}", get(assets::asset), Need::Token),
        ("/healthz", get(healthz), Need::Nothing),
        ("/readyz", get(readyz), Need::Read),
        ("/metrics", get(metrics::metrics), Need::Read),
        ("/v1/customers", get(customers), Need::Read),
        ("/v1/customers/{customer}", get(sla), Need::Customer),
        ("/v1/customers/{customer}/timeseries", get(timeseries), Need::Customer),
        ("/v1/customers/{customer}/sla", get(statement), Need::Customer),
        ("/v1/objectives", get(objectives), Need::Read),
        ("/v1/alerts", get(alerts), Need::Read),
        ("/v1/incidents", get(incidents), Need::Read),
        ("/v1/incidents/{id}", get(incident), Need::Read),
        ("/v1/incidents/{id}/review", get(review), Need::Read),
        ("/v1/impact", get(impact), Need::Read),
        ("/v1/risks", get(risks), Need::Read),
        ("/v1/releases/{release}/verdict", get(release_verdict), Need::Read),
        ("/v1/attributes/{name}/{value}/verdict", get(value_verdict), Need::Read),
        ("/v1/reports/{month}", get(month_report), Need::Read),
        ("/v1/burn", get(burn), Need::Read),
        ("/v1/pools", get(pools), Need::Read),
        ("/v1/silent", get(silent), Need::Read),
        ("/v1/fleet", get(fleet), Need::Read),
        ("/v1/stream", get(stream::stream), Need::Read),
        (EVENTS, post(ingest::events), Need::Ingest),
        (SILENCES, get(silences::list).post(silences::make), Need::Admin),
        ("/v1/silences/{id}", delete(silences::end), Need::Admin),
    ]
}

/// The paths of all routes, spelled as in `/openapi.json`.
///
/// ```
/// assert!(ninefold_api::paths().contains(&"/v1/customers/{customer}"));
/// ```
pub fn paths() -> Vec<&'static str> {
    table().into_iter().map(|(path, ..)| path).collect()
}

/// The router: routes inside, then panics, compression, access and the guard around them.
pub(crate) fn router(app: App) -> Router {
    let needs: Needs = Arc::new(table().into_iter().map(|(path, _, need)| (path, need)).collect());
    let routes = table()
        .into_iter()
        .fold(Router::new(), |router, (path, handlers, _)| router.route(path, handlers));
    routes
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        // The outermost first, as one: each layer that a router knows of is a box that is cloned
        // for every request.
        .layer((
            from_fn_with_state(app.clone(), guard),
            from_fn_with_state((app.clone(), needs), authorize),
            CompressionLayer::new(),
            CatchPanicLayer::custom(|_panic| Problem::internal().into_response()),
        ))
        .with_state(app)
}

async fn no_such_route(uri: Uri) -> Problem {
    let detail = format!("there is nothing at {:?}; /docs lists what there is", uri.path());
    Problem::new(Kind::Route, detail)
}

async fn no_such_method(method: Method, uri: Uri) -> Response {
    let (takes, allow) = match uri.path() {
        EVENTS => ("POST", "POST"),
        SILENCES => ("GET, HEAD and POST", "GET, HEAD, POST"),
        path if path.starts_with(SILENCES) => ("DELETE", "DELETE"),
        _ => ("GET and HEAD", "GET, HEAD"),
    };
    let detail = format!("{method} on {:?}; takes {takes}", uri.path());
    let mut response = Problem::new(Kind::Method, detail).into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

async fn sla(State(app): State<App>, path: PathText, uri: Uri) -> Result<Response, Problem> {
    let customer = customer_of(path)?;
    let arguments = Arguments::read(&uri, &["service", "at"])?;
    let service = arguments.text("service")?;
    let at = arguments.minute("at")?;
    match app.at_once(|answers| answers.sla_at_once(&customer, service.as_deref(), at)) {
        Some(body) => Ok((json_headers(), Bytes::from_owner(body?)).into_response()),
        None => json(&app, move |answers| answers.sla(&customer, service.as_deref(), at)).await,
    }
}

/// The minutes of a time series for which no `from` was given: three hours.
const TIMESERIES_MINUTES_DEFAULT: u32 = 180;

async fn timeseries(State(app): State<App>, path: PathText, uri: Uri) -> Result<Response, Problem> {
    let customer = customer_of(path)?;
    let arguments = Arguments::read(&uri, &["from", "to", "step"])?;
    let to = match arguments.minute("to")? {
        Some(to) => to,
        None => newest_minute(&app).await?,
    };
    let from = arguments.minute("from")?.unwrap_or(to.minus(TIMESERIES_MINUTES_DEFAULT - 1));
    arguments::check_range(from, to, RANGE_MINUTES_MAX)?;
    let step_minutes = arguments.step_minutes(to.0 - from.0 + 1)?;
    json(&app, move |answers| answers.timeseries(Some(&customer), from, to, step_minutes)).await
}

/// The newest counted minute, or that of the clock where nothing was counted.
async fn newest_minute(app: &App) -> Result<Minute, Problem> {
    let now_ms = app.now_ms();
    let health = app.health().await?;
    Ok(pages::minute_of(health.as_of.as_deref()).unwrap_or(Minute::of_ms(now_ms)))
}

async fn statement(State(app): State<App>, path: PathText, uri: Uri) -> Result<Response, Problem> {
    let customer = customer_of(path)?;
    let arguments = Arguments::read(&uri, &["month", "tz"])?;
    let missing = || Problem::argument("month", "missing; takes a month such as 2026-10");
    let month = arguments::month(&arguments.text("month")?.ok_or_else(missing)?)?;
    let tz = arguments.text("tz")?;
    json(&app, move |answers| answers.report(&month, tz.as_deref(), Some(&customer))).await
}

async fn customers(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let arguments = Arguments::read(&uri, &["sort", "limit", "cursor", "at"])?;
    let (by, limit, at) = (arguments.sort()?, arguments.limit()?, arguments.minute("at")?);
    let cursor = arguments.text("cursor")?;
    json(&app, move |answers| answers.top(by, at, limit, cursor.as_deref())).await
}

async fn objectives(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Arguments::read(&uri, &[])?;
    json(&app, |answers| Ok(answers.objectives())).await
}

async fn alerts(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let arguments = Arguments::read(&uri, &["from", "to", "basis"])?;
    let (from, to) = arguments.open_range()?;
    let basis = arguments.basis()?;
    json(&app, move |answers| {
        let found = answers.alerts(from, to, basis)?;
        arguments::check_rows(found.alerts.len(), ALERTS_MAX)?;
        Ok(found)
    })
    .await
}

async fn incidents(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let (from, to) = Arguments::read(&uri, &["from", "to"])?.open_range()?;
    json(&app, move |answers| answers.incidents(from, to)).await
}

async fn incident(State(app): State<App>, path: PathText, uri: Uri) -> Result<Response, Problem> {
    let id = text_of(path, "id")?;
    Arguments::read(&uri, &[])?;
    json(&app, move |answers| answers.incident(&id)).await
}

async fn review(State(app): State<App>, path: PathText, uri: Uri) -> Result<Response, Problem> {
    let id = text_of(path, "id")?;
    let arguments = Arguments::read(&uri, &["format"])?;
    let formats = [("json", Format::Json), ("md", Format::Markdown)];
    let ask = move |answers: &dyn Answers| answers.review(&id);
    if let Format::Markdown = arguments.one_of("format", &formats)? {
        let text = app.ask(move |answers| Ok(report::review::markdown(&ask(answers)?))).await?;
        return Ok(([(header::CONTENT_TYPE, MARKDOWN)], text).into_response());
    }
    json(&app, ask).await
}

async fn risks(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let arguments = Arguments::read(&uri, &["quarter", "from", "to"])?;
    let (from, to) = arguments.open_range()?;
    let quarter = arguments.text("quarter")?;
    json(&app, move |answers| answers.risks(quarter.as_deref(), from, to)).await
}

async fn impact(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let (from, to) = Arguments::read(&uri, &["from", "to"])?.range(IMPACT_MINUTES_MAX)?;
    json(&app, move |answers| answers.impact(from, to)).await
}

async fn release_verdict(
    State(app): State<App>,
    path: PathText,
    uri: Uri,
) -> Result<Response, Problem> {
    verdict(app, "release".to_owned(), text_of(path, "release")?, uri).await
}

async fn value_verdict(
    State(app): State<App>,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: Uri,
) -> Result<Response, Problem> {
    let escapes = |_| Problem::argument("value", "its percent escapes are no UTF-8");
    let Path((name, value)) = path.map_err(escapes)?;
    verdict(app, name, value, uri).await
}

async fn verdict(app: App, name: String, value: String, uri: Uri) -> Result<Response, Problem> {
    let arguments = Arguments::read(&uri, &["service", "from", "to"])?;
    let service = arguments.text("service")?;
    let (from, to) = arguments.open_range()?;
    if let (Some(from), Some(to)) = (from, to) {
        arguments::check_range(from, to, IMPACT_MINUTES_MAX)?;
    }
    json(&app, move |answers| answers.verdict(&name, &value, service.as_deref(), from, to)).await
}

/// The media type of Markdown.
const MARKDOWN: &str = "text/markdown; charset=utf-8";

/// The forms of a document.
#[derive(Clone, Copy)]
enum Format {
    Json,
    Csv,
    Markdown,
}

async fn month_report(
    State(app): State<App>,
    path: PathText,
    uri: Uri,
) -> Result<Response, Problem> {
    let month = arguments::month(&text_of(path, "month")?)?;
    let arguments = Arguments::read(&uri, &["format", "tz", "customer"])?;
    let formats = [("json", Format::Json), ("csv", Format::Csv), ("md", Format::Markdown)];
    let format = arguments.one_of("format", &formats)?;
    let tz = arguments.text("tz")?;
    let customer = arguments.text("customer")?.map(arguments::customer).transpose()?;
    let name = format!("ninefold-{month}");
    let ask =
        move |answers: &dyn Answers| answers.report(&month, tz.as_deref(), customer.as_deref());
    let (media_type, extension, text) = match format {
        Format::Json => return json(&app, ask).await,
        Format::Csv => {
            let text = app.ask(move |answers| Ok(report::csv(&ask(answers)?))).await?;
            ("text/csv; charset=utf-8; header=present", "csv", text)
        }
        Format::Markdown => {
            let text = app.ask(move |answers| Ok(report::markdown(&ask(answers)?))).await?;
            (MARKDOWN, "md", text)
        }
    };
    let disposition = format!("attachment; filename=\"{name}.{extension}\"");
    let headers =
        [(header::CONTENT_TYPE, media_type.to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, text).into_response())
}

async fn burn(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Arguments::read(&uri, &[])?;
    json(&app, |answers| answers.burn()).await
}

async fn pools(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Arguments::read(&uri, &[])?;
    json(&app, |answers| answers.pools()).await
}

async fn silent(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let at = Arguments::read(&uri, &["at"])?.minute("at")?;
    json(&app, move |answers| answers.silent(at)).await
}

async fn fleet(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Arguments::read(&uri, &[])?;
    let now_ms = app.now_ms();
    json(&app, move |answers| answers.fleet(now_ms)).await
}

async fn openapi(uri: Uri) -> Result<Response, Problem> {
    Arguments::read(&uri, &[])?;
    Ok(([(header::CONTENT_TYPE, "application/json")], assets::OPENAPI).into_response())
}

/// The process answers: all that a restart could mend. Who may not read is told no figures.
async fn healthz(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Problem> {
    Arguments::read(&uri, &[])?;
    let health = app.health().await?;
    if !caller.reads {
        return Ok(axum::Json(serde_json::json!({ "ready": health.ready })).into_response());
    }
    Ok(axum::Json(&*health).into_response())
}

/// Answers are complete, or 503: a problem detail with the health's keys beside its own.
async fn readyz(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Arguments::read(&uri, &[])?;
    let health = app.health().await?;
    if health.ready {
        return Ok(axum::Json(&*health).into_response());
    }
    let reasons = match health.notes.as_slice() {
        [] => "answers are not complete yet".to_owned(),
        notes => notes.join("; "),
    };
    let extension = serde_json::to_value(&*health).map_err(|_| Problem::internal())?;
    Ok(Problem::new(Kind::NotReady, reasons).into_response_with(extension))
}

/// Asks one question and sends its body as it is; it is written on the blocking thread too,
/// since the largest ones are many megabytes.
async fn json<T: Serialize>(
    app: &App,
    question: impl FnOnce(&dyn Answers) -> Result<T, AskError> + Send + 'static,
) -> Result<Response, Problem> {
    let body = app.ask(|answers| Ok(body::json(&question(answers)?))).await?;
    Ok((json_headers(), body).into_response())
}

fn json_headers() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

/// The customer of a path: one segment, percent-decoded, taken as it is.
pub(crate) fn customer_of(path: PathText) -> Result<String, Problem> {
    arguments::customer(text_of(path, "customer")?)
}

/// The text in a path.
pub(crate) fn text_of(path: PathText, field: &'static str) -> Result<String, Problem> {
    match path {
        Ok(Path(text)) => Ok(text),
        Err(_) => Err(Problem::argument(field, "its percent escapes are no UTF-8")),
    }
}
