//! Who may ask what: bearer tokens and their roles.
//!
//! Every route has a [`Need`]; the middleware holds the caller's token against it before the
//! route is asked and before a body is read. What is sent is hashed and compared with every
//! configured hash in constant time; it is kept nowhere and told to nobody. Where no token is
//! configured, everybody may do everything: then only the loopback is listened on.
//! A token that has a rate is charged for every request that needs one, refused ones included.
//!
//! Another customer is *unknown* to a customer's token, word by word as one that does not exist.

use std::collections::HashMap;
use std::sync::Arc;

use axum::RequestExt;
use axum::extract::{MatchedPath, Path, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use ninefold_engine::config::{Role, Token, token_hash};
use ninefold_engine::query::AskError;
use subtle::ConstantTimeEq;

use crate::app::App;
use crate::problem::{Kind, Problem};

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    Nothing,
    /// Any token.
    Token,
    /// To read everything.
    Read,
    /// To read about the customer in the path.
    Customer,
    /// To send events.
    Ingest,
    /// To change what holds for everybody.
    Admin,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The name of the token; empty where none is needed.
    pub(crate) name: String,
    /// Whether it may see what is not public.
    pub(crate) reads: bool,
}

/// What each route needs, by its path.
pub(crate) type Needs = Arc<HashMap<&'static str, Need>>;

/// The middleware. A path that no route has is answered without a token: there is nothing.
pub(crate) async fn authorize(
    State((app, needs)): State<(App, Needs)>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    let need = path.and_then(|path| needs.get(path.as_str()).copied()).unwrap_or(Need::Nothing);
    match caller(&app, need, &mut request).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn caller(app: &App, need: Need, request: &mut Request) -> Result<Caller, Problem> {
    let tokens = &app.options.tokens;
    if tokens.is_empty() {
        return Ok(Caller { name: String::new(), reads: true });
    }
    let token = match bearer(request.headers())? {
        // What is public stays so for who sends a wrong token, and is no way to try one.
        _ if need == Need::Nothing && !has_token(app, request.headers()) => None,
        bearer => Some(known(tokens, bearer, app.now_ms())?),
    };
    let Some(token) = token else { return Ok(Caller { name: String::new(), reads: false }) };
    if need != Need::Nothing {
        app.limits.request(&token.name)?;
    }
    let is_allowed = match (need, &token.role) {
        (_, Role::Admin) | (Need::Nothing | Need::Token, _) => true,
        (Need::Read | Need::Customer, Role::Read) | (Need::Ingest, Role::Ingest) => true,
        (Need::Customer, Role::Customer(own)) => {
            is_own_customer(own, request).await?;
            true
        }
        _ => false,
    };
    if !is_allowed {
        let detail = format!("the token {:?} is {}", token.name, role_text(&token.role));
        return Err(Problem::new(Kind::Role, detail));
    }
    let reads = matches!(token.role, Role::Admin | Role::Read);
    Ok(Caller { name: token.name.clone(), reads })
}

fn has_token(app: &App, headers: &HeaderMap) -> bool {
    let token = bearer(headers).and_then(|bearer| known(&app.options.tokens, bearer, app.now_ms()));
    token.is_ok()
}

fn role_text(role: &Role) -> &'static str {
    match role {
        Role::Admin => "for everything",
        Role::Read => "for questions alone",
        Role::Ingest => "for sending events alone",
        Role::Customer(_) => "for one customer's answers alone",
    }
}

/// What stands behind `Bearer` in the one `Authorization` header; empty where there is none.
fn bearer(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let first = values.next().map(|value| value.as_bytes()).unwrap_or_default();
    if values.next().is_some() {
        return Err(Problem::argument("Authorization", "given twice; takes one header"));
    }
    let scheme = first.get(..7).unwrap_or_default();
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
    Ok(if is_bearer { first[7..].trim_ascii() } else { b"" })
}

/// The token that was sent. All hashes are compared, so that the time says nothing about which.
fn known<'t>(tokens: &'t [Token], bearer: &[u8], now_ms: i64) -> Result<&'t Token, Problem> {
    let hash = token_hash(bearer);
    let mut found = None;
    for token in tokens {
        if bool::from(token.sha256.ct_eq(&hash)) {
            found = Some(token);
        }
    }
    let refuse = |detail: &str| Err(Problem::new(Kind::Token, detail));
    match found {
        _ if bearer.is_empty() => refuse("takes a header Authorization: Bearer TOKEN"),
        None => refuse("the token is not known"),
        Some(token) if token.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms) => {
            refuse("the token has expired")
        }
        Some(token) => Ok(token),
    }
}

/// Whether the path names the token's own customer.
async fn is_own_customer(own: &str, request: &mut Request) -> Result<(), Problem> {
    let parts = request.extract_parts::<Path<HashMap<String, String>>>().await;
    let named = parts.ok().and_then(|Path(mut parts)| parts.remove("customer"));
    match named {
        Some(named) if named == own => Ok(()),
        named => {
            let name = named.unwrap_or_default();
            Err(Problem::from(AskError::Unknown { what: "customer", name }))
        }
    }
}
