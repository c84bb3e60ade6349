//! The API and the pages: over a table at rest, or beside a running service.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use ninefold_api::{Intake, Listening, Options, Silencer};
use ninefold_engine::config::Config;
use ninefold_engine::query::Answers;
use ninefold_engine::slo::objective::TARGET_DEFAULT;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::ask::Asker;
use crate::certificate::Certificate;
use crate::live::{Current, Handle, Service, clock_ms};
use crate::states::{TableStates, open_table};
use crate::{Place, batch};

/// `ninefold serve`: until Ctrl-C or SIGTERM.
pub fn serve_table(place: &Place, listen: Option<SocketAddr>) -> anyhow::Result<ExitCode> {
    let config = batch::load(place)?;
    let table = open_table(&batch::table_dir(place, &config)?)?;
    let listen = listen.unwrap_or(config.listen);
    let options = options(&config, "");
    let config = Current::new(config);
    let states = TableStates::new(table, config.clone(), clock_ms);
    let answers = Arc::new(Asker::new(states, config.clone()));
    let runtime = Runtime::new()?;
    runtime
        .block_on(async {
            let Bound { listener, url, listening, certificate } =
                bind(listen, &config.get()).await?;
            eprintln!("ninefold: {url}");
            if let Some(certificate) = certificate {
                tokio::spawn(certificate.keep(|_| {}));
            }
            let router = ninefold_api::router(answers, options);
            let asked = async {
                match Signals::new() {
                    Some(mut signals) => signals.next().await,
                    None => std::future::pending().await,
                }
            };
            Ok(ninefold_api::serve(listener, router, listening, asked).await?)
        })
        .map(|()| ExitCode::SUCCESS)
}

/// Runs a service's loop on this thread, with API and pages beside it, until the loop ends or a
/// signal asks for it; `announce` is told the address, as a URL, before the loop begins. `intake`
/// takes the events that are sent, where any are taken.
///
/// # Errors
/// The address cannot be bound, its certificate cannot be used, or the loop fails.
pub fn beside(
    service: &Service,
    listen: SocketAddr,
    title: &str,
    intake: Option<Intake>,
    announce: impl FnOnce(&str) -> anyhow::Result<()>,
    run: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let answers: Arc<dyn Answers> = Arc::new(service.answers()?);
    let mut options = options(&service.config(), title);
    options.intake = intake;
    options.silencer = Some(Silencer(Arc::new(service.silences()?)));
    let router = ninefold_api::router(answers, options);
    let runtime = Runtime::new()?;
    let Bound { listener, url, listening, certificate } =
        runtime.block_on(bind(listen, &service.config()))?;
    if let Some(certificate) = certificate {
        let board = service.handle().board;
        runtime.spawn(certificate.keep(move |refused| board.note_certificate(refused)));
    }
    // Heard from now on: whoever knows the address may send a signal.
    let inside = runtime.enter();
    let signals = Signals::new();
    let hangup = signal(SignalKind::hangup()).ok().filter(|_| service.handle().can_reload);
    drop(inside);
    if let Some(signals) = signals {
        runtime.spawn(stop_when_asked(service.handle(), signals));
    }
    if let Some(hangup) = hangup {
        runtime.spawn(reload_when_asked(service.handle(), hangup));
    }
    let (ended, mut ending) = watch::channel(false);
    let serving = runtime.spawn(ninefold_api::serve(listener, router, listening, async move {
        // An error says that the sender is gone: the loop has ended as well.
        let _ = ending.wait_for(|ended| *ended).await;
    }));
    announce(&url)?;
    let outcome = run();
    service.stop.store(true, Ordering::Relaxed);
    ended.send_replace(true);
    runtime.block_on(serving)??;
    // A question that still runs is of no interest to anybody.
    runtime.shutdown_timeout(QUESTION_END);
    outcome
}

fn options(config: &Config, title: &str) -> Options {
    let mut options = Options::new(clock_ms);
    options.title = title.to_owned();
    // A page elsewhere can reach the loopback by DNS rebinding, but has no token to send.
    options.loopback_only = config.access.tokens.is_empty();
    options.tokens.clone_from(&config.access.tokens);
    options.target = default_target(config);
    options.metrics_customers = config.metrics_customers_max;
    options
}

/// What the fleet is held against: the target of the first objective of everyone.
pub fn default_target(config: &Config) -> f64 {
    let default = config.objectives.default.first();
    default.map_or(TARGET_DEFAULT, |objective| objective.target).to_f64()
}

/// An address that is listened on.
struct Bound {
    listener: TcpListener,
    /// With its port, and the scheme that it speaks.
    url: String,
    listening: Listening,
    certificate: Option<Certificate>,
}

async fn bind(listen: SocketAddr, config: &Config) -> anyhow::Result<Bound> {
    let access = &config.access;
    let certificate = match &access.tls {
        Some(files) => Some(Certificate::open(files).await?),
        None => None,
    };
    let listener = TcpListener::bind(access.check_listen(listen)?).await;
    let listener = listener
        .with_context(|| format!("cannot listen on {listen}: give another --listen or --port"))?;
    let scheme = if certificate.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}/", listener.local_addr()?);
    let listening = Listening {
        tls: certificate.as_ref().map(|certificate| certificate.tls.clone()),
        header_timeout: Duration::from_millis(config.header_timeout_ms),
        connections_max: config.connections_max,
    };
    Ok(Bound { listener, url, listening, certificate })
}

/// How long a question that runs may keep the process from ending.
const QUESTION_END: Duration = Duration::from_secs(1);

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// `None` where signals cannot be had.
    fn new() -> Option<Signals> {
        let interrupt = signal(SignalKind::interrupt()).ok()?;
        Some(Signals { interrupt, terminate: signal(SignalKind::terminate()).ok()? })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Asks the loop to end at the first signal; at a second one, or when that takes too long, ends
/// the process there and then. What is not committed is read again at the next start.
async fn stop_when_asked(service: Handle, mut signals: Signals) {
    signals.next().await;
    service.stop.store(true, Ordering::Relaxed);
    let limit = Duration::from_millis(service.config.get().stop_timeout_ms);
    let why = tokio::select! {
        () = signals.next() => "a second signal".to_owned(),
        () = tokio::time::sleep(limit) => format!("no end within {} s", limit.as_secs_f64()),
    };
    let health = service.board.read();
    let (lines, age_s) = (health.uncommitted_lines, health.uncommitted_age_ms as f64 / 1e3);
    eprintln!(
        "ninefold: {why}: ends with {lines} lines of the last {age_s:.1} s uncommitted; \
         they are read again at the next start"
    );
    std::process::exit(1);
}

/// Asks the loop to read the configuration again at each SIGHUP.
async fn reload_when_asked(service: Handle, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        service.reload.store(true, Ordering::Relaxed);
    }
}
