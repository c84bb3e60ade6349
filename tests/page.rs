//! The first page of the demo, in a real browser: the incident, its cause and whom it hits.
//!
//! Needs Chromium (`NINEFOLD_CHROMIUM`); the screenshot lies in `target/test-pages` then.

#[path = "common/service.rs"]
mod service;
#[path = "common/session.rs"]
mod session;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use service::Service;
use session::Session;

#[test]
fn the_first_page_shows_the_incident_and_whom_it_hits() {
    let Some(chromium) = std::env::var_os("NINEFOLD_CHROMIUM").map(PathBuf::from) else {
        println!("skipped: NINEFOLD_CHROMIUM names no browser");
        return;
    };
    let session = Session::new();
    let mut service = Service::start(&session, "demo --port 0");
    let burning = service.until("an incident with its cause", |service| {
        let fleet = service.json("/v1/fleet");
        let burning = burning_customers(&fleet);
        (fleet["causes"].to_string().contains("r42") && !burning.is_empty()).then_some(burning)
    });
    let page = dump(&chromium, &session, &service.address);
    screenshot(&chromium, &session, &service.address);
    for part in ["r42", "canary"] {
        assert!(page.contains(part), "{part} is on the page: {page}");
    }
    assert!(
        burning.iter().any(|customer| page.contains(&escaped(customer))),
        "one of {burning:?} is on the page: {page}"
    );
    let ended = service.stop();
    assert_eq!(ended.code, Some(0), "{ended}");
}

fn burning_customers(fleet: &Value) -> Vec<String> {
    let burning = fleet["alerts"].as_array().expect("a list");
    burning.iter().filter_map(|row| Some(row["customer"].as_str()?.to_owned())).collect()
}

/// Text as HTML has it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The page as the browser has it after its scripts ran.
fn dump(chromium: &Path, session: &Session, address: &str) -> String {
    let output = browser(chromium, session).arg("--dump-dom").arg(address).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", chromium.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a page is UTF-8")
}

fn screenshot(chromium: &Path, session: &Session, address: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../test-pages");
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    let path = folder.join("fleet.png");
    let file = format!("--screenshot={}", path.display());
    let taken = browser(chromium, session).arg(file).arg(address).output();
    assert!(taken.expect("it ran before").status.success());
    let size = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    assert!(size > 10_000, "{} has {size} bytes", path.display());
}

/// A browser with a profile of its own. The page keeps a stream open for ever, so the browser is
/// told when to look.
fn browser(chromium: &Path, session: &Session) -> Command {
    let mut command = Command::new(chromium);
    let profile = format!("--user-data-dir={}", session.path("profile").display());
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
    command.args(["--window-size=1280,1600", "--timeout=4000", &profile]);
    command
}
