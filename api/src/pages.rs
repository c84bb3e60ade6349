//! The pages: the same bodies as the API, rendered on the server.
//!
//! A page is complete without a script. With one, the module listens to `/v1/stream` and asks
//! for the live part again (`?part=live`), so that there is one renderer and one place where a
//! number becomes text. Errors are HTML for who asks for HTML, problem details for the rest.

mod chart;
mod customer;
mod fleet;
pub(crate) mod format;
mod incident;
mod pools;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use ninefold_engine::time::{Minute, TS_MS_END, TS_MS_MIN, parse_rfc3339};

pub(crate) use fleet::Overview;

use crate::app::App;
use crate::arguments::Arguments;
use crate::problem::Problem;
use crate::routes::{PathText, customer_of, text_of};

/// How old the newest counted minute may be before a page says so: two minutes.
const STALE_S: i64 = 120;

/// The whole page or the part of it that changes.
#[derive(Clone, Copy)]
enum Part {
    Page,
    Live,
}

/// What stands around the live part of every page.
#[derive(Template)]
#[template(path = "page.html")]
struct Page<'a> {
    /// For the tab.
    title: String,
    /// What the script asks for again.
    part: String,
    /// The live part, rendered.
    live: &'a str,
}

/// An error for people.
#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    title: String,
    status: u16,
    detail: &'a str,
}

/// Newest minute and its age, as every page shows them.
pub(crate) struct AsOf {
    /// RFC 3339; empty where nothing was counted.
    pub(crate) at: String,
    /// `23:14`, with its date where it is not of today.
    pub(crate) clock: String,
    /// Seconds.
    pub(crate) age_s: i64,
    /// `12 s`.
    pub(crate) age: String,
    /// Older than two minutes.
    pub(crate) is_stale: bool,
    /// Nothing was ever counted.
    pub(crate) is_empty: bool,
}

impl AsOf {
    fn new(at: &str, now_ms: i64) -> AsOf {
        let at_ms = parse_rfc3339(at.as_bytes());
        let age_s = at_ms.map_or(0, |at_ms| (now_ms - at_ms).max(0) / 1_000);
        let today = ninefold_engine::time::rfc3339(now_ms);
        AsOf {
            at: at.to_owned(),
            clock: format::moment(at, &today),
            age_s,
            age: format::duration(age_s.unsigned_abs()),
            is_stale: at_ms.is_some() && age_s > STALE_S,
            is_empty: at_ms.is_none(),
        }
    }
}

/// A customer's name as text and as a link.
pub(crate) struct Who {
    /// With all that hides made visible.
    pub(crate) name: String,
    /// `None` where no browser could follow it.
    pub(crate) href: Option<String>,
}

impl Who {
    fn new(customer: &str) -> Who {
        Who { name: format::visible(customer), href: format::href(customer) }
    }
}

/// The minute of an RFC 3339 time; `None` where it is none, or of no year that is admitted.
pub(crate) fn minute_of(at: Option<&str>) -> Option<Minute> {
    let at_ms = parse_rfc3339(at?.as_bytes())?;
    (TS_MS_MIN..TS_MS_END).contains(&at_ms).then(|| Minute::of_ms(at_ms))
}

/// `GET /`.
pub(crate) async fn fleet(State(app): State<App>, headers: HeaderMap, uri: Uri) -> Response {
    let page = async {
        let part = part_of(&uri)?;
        let overview = app.overview().await?;
        let options = &app.options;
        let live = fleet::Live::new(&overview, &options.title, options.target, app.now_ms());
        let title = match options.title.as_str() {
            "" => "Ninefold".to_owned(),
            title => format!("{title} · Ninefold"),
        };
        html(&uri, part, title, &live)
    };
    or_problem_page(page.await, &headers)
}

/// `GET /customers/{customer}`.
pub(crate) async fn customer(
    State(app): State<App>,
    path: PathText,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let page = async {
        let name = customer_of(path)?;
        let part = part_of(&uri)?;
        let now_ms = app.now_ms();
        let title = format!("{} · Ninefold", format::visible(&name));
        let answered = app.ask(move |answers| customer::Answered::ask(answers, &name)).await?;
        let live = customer::Live::new(&answered, &app.options.title, now_ms);
        html(&uri, part, title, &live)
    };
    or_problem_page(page.await, &headers)
}

/// `GET /incidents/{id}`.
pub(crate) async fn incident(
    State(app): State<App>,
    path: PathText,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let page = async {
        let id = text_of(path, "id")?;
        let part = part_of(&uri)?;
        let now_ms = app.now_ms();
        let status = app.ask(move |answers| answers.incident(&id)).await?;
        let title = format!("Incident in {} · Ninefold", format::visible(&status.incident.service));
        let live = incident::Live::new(&status, &app.options.title, now_ms);
        html(&uri, part, title, &live)
    };
    or_problem_page(page.await, &headers)
}

fn part_of(uri: &Uri) -> Result<Part, Problem> {
    Arguments::read(uri, &["part"])?.one_of("part", &[("page", Part::Page), ("live", Part::Live)])
}

fn html(uri: &Uri, part: Part, title: String, live: &impl Template) -> Result<Response, Problem> {
    let live = live.render().map_err(|_| Problem::internal())?;
    if let Part::Live = part {
        return Ok(Html(live).into_response());
    }
    let part = format!("{}?part=live", uri.path());
    let page = Page { title, part, live: &live };
    Ok(Html(page.render().map_err(|_| Problem::internal())?).into_response())
}

fn or_problem_page(page: Result<Response, Problem>, headers: &HeaderMap) -> Response {
    let problem = match page {
        Ok(page) => return page,
        Err(problem) => problem,
    };
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if !accept.is_some_and(|accept| accept.contains("text/html")) {
        return problem.into_response();
    }
    let (status, _, title) = problem.kind.facts();
    let page =
        ProblemPage { title: title.to_owned(), status: status.as_u16(), detail: &problem.detail };
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(_) => problem.into_response(),
    }
}
