//! Serves the made-up fleet of the tests on `127.0.0.1:8099`, to look at the pages.
//!
//! `cargo run -p ninefold-api --example fake [incident|quiet|empty|silent] [PORT]`

#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/fake/mod.rs"]
mod fake;

use std::sync::Arc;

use fake::{Fake, Scene};

#[expect(clippy::disallowed_methods, reason = "an example is a binary: it gives the clock")]
fn clock() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.expect("the clock is past 1970").as_millis() as i64
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let scene = match arguments.next().as_deref() {
        None | Some("incident") => Scene::Incident,
        Some("quiet") => Scene::Quiet,
        Some("empty") => Scene::Empty,
        Some("silent") => Scene::Silent,
        Some(other) => panic!("unknown scene {other:?}; takes incident, quiet, empty or silent"),
    };
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(8099);
    let mut options = ninefold_api::Options::new(clock);
    options.title = "demo".to_owned();
    let router = ninefold_api::router(Arc::new(Fake::new(scene, clock)), options);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}", listener.local_addr()?);
    ninefold_api::serve(listener, router, ninefold_api::Listening::default(), async {
        tokio::signal::ctrl_c().await.expect("a signal handler can be set");
    })
    .await
}
