//! Errors as problem details: RFC 9457, `application/problem+json`.
//!
//! Body: `{"type", "title", "status", "detail", "field"?}`. `type` is a link into `/docs`, one
//! per [`Kind`]; `field` is the argument at fault, as the caller spelled it.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ninefold_engine::query::AskError;

/// The media type of RFC 9457.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// What kind of problem it is: decides status, title and `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An argument is missing, unknown or cannot be used.
    Argument,
    /// The body is not what its headers say.
    Content,
    /// There is no token, or one that is not known.
    Token,
    /// The request names a host that this server does not answer for.
    Host,
    /// The token does not allow this.
    Role,
    /// There is no such route.
    Route,
    /// The route exists, what it names does not.
    Unknown,
    /// The route takes other methods.
    Method,
    /// The body took too long to come.
    SlowBody,
    /// The body is larger than the route takes.
    Body,
    /// The address is too long.
    Address,
    /// The body has a media type or a coding that is not read.
    Media,
    /// The idempotency key was used for something else.
    Key,
    /// Too much waits to be counted.
    Full,
    /// The token has used up its rate.
    Rate,
    /// The headers are too large.
    Headers,
    /// A bug.
    Internal,
    /// The table could not be read.
    Table,
    /// The answer took too long.
    Timeout,
    /// Too many streams are open.
    Busy,
    /// What was sent could not be made durable.
    Log,
    /// Answers are not complete yet.
    NotReady,
}

impl Kind {
    /// All of them, in the order of their status; what `/docs` lists.
    pub(crate) const ALL: [Kind; 22] = [
        Kind::Argument,
        Kind::Content,
        Kind::Token,
        Kind::Host,
        Kind::Role,
        Kind::Route,
        Kind::Unknown,
        Kind::Method,
        Kind::SlowBody,
        Kind::Body,
        Kind::Address,
        Kind::Media,
        Kind::Key,
        Kind::Full,
        Kind::Rate,
        Kind::Headers,
        Kind::Internal,
        Kind::Table,
        Kind::Timeout,
        Kind::Busy,
        Kind::Log,
        Kind::NotReady,
    ];

    /// Status, the anchor in `/docs`, and the title.
    pub(crate) fn facts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Kind::Argument => (StatusCode::BAD_REQUEST, "argument", "an argument cannot be used"),
            Kind::Content => (StatusCode::BAD_REQUEST, "content", "the body cannot be read"),
            Kind::Token => (StatusCode::UNAUTHORIZED, "token", "a token is needed"),
            Kind::Host => (StatusCode::FORBIDDEN, "host", "this host is not served"),
            Kind::Role => (StatusCode::FORBIDDEN, "role", "the token does not allow this"),
            Kind::Route => (StatusCode::NOT_FOUND, "route", "no such route"),
            Kind::Unknown => (StatusCode::NOT_FOUND, "unknown", "nothing is known by that name"),
            Kind::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "method", "the route takes other methods")
            }
            Kind::SlowBody => {
                (StatusCode::REQUEST_TIMEOUT, "slow-body", "the body took too long to come")
            }
            Kind::Body => (StatusCode::PAYLOAD_TOO_LARGE, "body", "the body is too large"),
            Kind::Address => (StatusCode::URI_TOO_LONG, "address", "the address is too long"),
            Kind::Media => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media", "the body has another form")
            }
            Kind::Key => {
                (StatusCode::UNPROCESSABLE_ENTITY, "key", "the key was used for something else")
            }
            Kind::Full => (StatusCode::TOO_MANY_REQUESTS, "full", "too much waits to be counted"),
            Kind::Rate => (StatusCode::TOO_MANY_REQUESTS, "rate", "the token has used up its rate"),
            Kind::Headers => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers",
                "the headers are too large",
            ),
            Kind::Log => (StatusCode::SERVICE_UNAVAILABLE, "log", "the log cannot be written"),
            Kind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "a bug in ninefold"),
            Kind::Table => {
                (StatusCode::SERVICE_UNAVAILABLE, "table", "the table could not be read")
            }
            Kind::Timeout => {
                (StatusCode::SERVICE_UNAVAILABLE, "timeout", "the answer took too long")
            }
            Kind::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy", "too many streams are open"),
            Kind::NotReady => {
                (StatusCode::SERVICE_UNAVAILABLE, "not-ready", "answers are not complete yet")
            }
        }
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Decides status, title and `type`.
    pub(crate) kind: Kind,
    /// What is wrong here, and what would be right.
    pub(crate) detail: String,
    /// The argument at fault.
    pub(crate) field: Option<String>,
    /// After how many seconds it may be tried again, where the status says that it may.
    pub(crate) retry_after_s: u64,
}

/// What is overloaded is given so many seconds.
const RETRY_AFTER_S: u64 = 2;

impl Problem {
    /// A problem with the request as a whole.
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: detail.into(), field: None, retry_after_s: RETRY_AFTER_S }
    }

    /// An argument that cannot be used; `problem` says what is wrong and what it takes.
    pub(crate) fn argument(field: &str, problem: impl std::fmt::Display) -> Problem {
        let detail = format!("{field}: {problem}");
        Problem { field: Some(field.to_owned()), ..Problem::new(Kind::Argument, detail) }
    }

    /// A bug. Its message goes to standard error with the panic, not to the caller.
    pub(crate) fn internal() -> Problem {
        Problem::new(Kind::Internal, "the question hit a bug; standard error has its message")
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        self.kind.facts().0
    }

    /// The body.
    pub(crate) fn body(&self) -> serde_json::Value {
        let (status, anchor, title) = self.kind.facts();
        let mut body = serde_json::json!({
            "type": format!("/docs#problem-{anchor}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
        });
        if let Some(field) = &self.field {
            body["field"] = field.as_str().into();
        }
        body
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Problem {
        let detail = error.to_string();
        let (kind, field) = match error {
            AskError::Unknown { what, .. } => (Kind::Unknown, Some(what)),
            AskError::Argument { field, .. } => (Kind::Argument, Some(field)),
            AskError::Table(_) => (Kind::Table, None),
        };
        Problem { field: field.map(str::to_owned), ..Problem::new(kind, detail) }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.into_response_with(serde_json::Value::Null)
    }
}

impl Problem {
    /// The response, with the keys of `extension` (an object) beside those of the problem.
    pub(crate) fn into_response_with(self, extension: serde_json::Value) -> Response {
        let (status, retry_after_s) = (self.status(), self.retry_after_s);
        let mut body = self.body();
        if let (serde_json::Value::Object(more), Some(body)) = (extension, body.as_object_mut()) {
            for (key, value) in more {
                body.entry(key).or_insert(value);
            }
        }
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        match status {
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
            }
            _ => {}
        }
        response
    }
}
