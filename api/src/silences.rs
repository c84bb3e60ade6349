//! `/v1/silences`: what holds notifications back, made and ended by whoever may do everything.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use ninefold_engine::notify::matcher::Matcher;
use ninefold_engine::notify::silence::Silence;
use ninefold_engine::query::AskError;
use serde::Deserialize;

use crate::access::Caller;
use crate::app::App;
use crate::arguments::Arguments;
use crate::problem::{Kind, Problem};
use crate::routes::{PathText, text_of};

/// The longest body: a silence is a few names.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Keeps silences, for what is behind the API. Methods block.
pub trait Silencing: Send + Sync {
    /// All there are, ended ones too.
    ///
    /// # Errors
    /// They cannot be read.
    fn list(&self) -> Result<Vec<Silence>, AskError>;

    /// Makes one, durable when this returns; its id is chosen here.
    ///
    /// # Errors
    /// It is none, or cannot be kept.
    fn make(&self, silence: Silence) -> Result<Silence, AskError>;

    /// Ends one now.
    ///
    /// # Errors
    /// There is none of this id, or its end cannot be kept.
    fn end(&self, id: &str) -> Result<Silence, AskError>;
}

/// Who keeps the silences.
#[derive(Clone)]
pub struct Silencer(pub Arc<dyn Silencing>);

impl std::fmt::Debug for Silencer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Silencer")
    }
}

/// What is sent to make one: a silence without an id. `author` may be left to the token's name,
/// `from` to now.
#[derive(Deserialize)]
struct Wanted {
    author: Option<String>,
    reason: String,
    from: Option<String>,
    to: String,
    #[serde(default)]
    customers: Vec<String>,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default)]
    objectives: Vec<String>,
    #[serde(default)]
    tiers: Vec<String>,
    #[serde(default)]
    severities: Vec<String>,
    #[serde(default)]
    customer_tiers: Vec<String>,
}

async fn ask<T: Send + 'static>(
    app: &App,
    question: impl FnOnce(&dyn Silencing) -> Result<T, AskError> + Send + 'static,
) -> Result<T, Problem> {
    let Some(Silencer(silencer)) = app.options.silencer.clone() else {
        let detail = "this server keeps no silences; `ninefold run` does";
        return Err(Problem::new(Kind::Route, detail));
    };
    app.ask(move |_| question(&*silencer)).await
}

pub(crate) async fn list(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Arguments::read(&uri, &[])?;
    let silences = ask(&app, |silencer| silencer.list()).await?;
    Ok(axum::Json(serde_json::json!({ "silences": silences })).into_response())
}

pub(crate) async fn make(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    Arguments::read(&uri, &[])?;
    // A page elsewhere can send forms and plain text without being asked, but no JSON.
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = media.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if media != "application/json" {
        return Err(Problem::argument("Content-Type", "takes application/json"));
    }
    if body.len() > BODY_BYTES_MAX {
        return Err(Problem::argument("body", format!("takes at most {BODY_BYTES_MAX} bytes")));
    }
    let wanted: Wanted = serde_json::from_slice(&body)
        .map_err(|error| Problem::argument("body", format!("is no silence: {error}")))?;
    let now = ninefold_engine::time::rfc3339(app.now_ms());
    let silence = Silence {
        id: String::new(),
        matcher: Matcher {
            customers: wanted.customers,
            services: wanted.services,
            objectives: wanted.objectives,
            tiers: wanted.tiers,
            severities: wanted.severities,
            customer_tiers: wanted.customer_tiers,
        },
        author: wanted.author.unwrap_or(caller.name),
        reason: wanted.reason,
        from: wanted.from.unwrap_or(now),
        to: wanted.to,
    };
    let made = ask(&app, move |silencer| silencer.make(silence)).await?;
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

pub(crate) async fn end(
    State(app): State<App>,
    path: PathText,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = text_of(path, "id")?;
    Arguments::read(&uri, &[])?;
    let ended = ask(&app, move |silencer| silencer.end(&id)).await?;
    Ok(axum::Json(ended).into_response())
}
