//! The files of the pages, in the binary: no build step, no outside host.
//!
//! They are revalidated on each use (`no-cache` and an `ETag` over their bytes), so that a new
//! binary never meets an old script.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::problem::{Kind, Problem};

/// Name, media type, bytes.
const ASSETS: [(&str, &str, &[u8]); 3] = [
    ("ninefold.css", "text/css; charset=utf-8", include_bytes!("../assets/ninefold.css")),
    ("ninefold.js", "text/javascript; charset=utf-8", include_bytes!("../assets/ninefold.js")),
    ("icon.svg", "image/svg+xml", include_bytes!("../assets/icon.svg")),
];

/// The OpenAPI 3.1 description of every route.
pub(crate) const OPENAPI: &str = include_str!("../assets/openapi.json");

/// `GET /assets/{name}`.
pub(crate) async fn asset(
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some((_, media_type, bytes)) = ASSETS.iter().find(|(known, ..)| *known == name) else {
        return Err(Problem::new(Kind::Route, format!("there is no asset {name:?}")));
    };
    let tag = format!("\"{:016x}\"", fnv1a(bytes));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == tag.as_str());
    let mut response = match known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, *media_type)], *bytes).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, HeaderValue::from_str(&tag).expect("hex digits in quotes"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

/// FNV-1a, 64 bits: tells two builds apart; nothing depends on it being hard to collide.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
