//! The API and the pages: over a table at rest, or beside a running service.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context;
use ninefold_api::{Intake, Options};
use ninefold_engine::config::{Access, Config};
use ninefold_engine::query::Answers;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::ask::Asker;
use crate::live::{Service, clock_ms};
use crate::states::{TableStates, open_table};
use crate::{Place, batch};

/// `ninefold serve`: until Ctrl-C or SIGTERM.
pub fn serve_table(place: &Place, listen: Option<SocketAddr>) -> anyhow::Result<ExitCode> {
    let config = batch::load(place)?;
    let table = open_table(&batch::table_dir(place, &config)?)?;
    let listen = listen.unwrap_or(config.listen);
    let (options, access) = (options(&config, ""), config.access.clone());
    let (slis, values_max) = (config.slis.clone(), config.dimension_values_max);
    let states = TableStates::new(table, slis, values_max, clock_ms);
    let answers = Arc::new(Asker::new(states, config));
    let runtime = Runtime::new()?;
    runtime
        .block_on(async {
            let listener = bind(listen, &access).await?;
            eprintln!("ninefold: http://{}/", listener.local_addr()?);
            let router = ninefold_api::router(answers, options);
            Ok(ninefold_api::serve(listener, router, asked_to_stop()).await?)
        })
        .map(|()| ExitCode::SUCCESS)
}

/// Runs a service's loop on this thread, with API and pages beside it, until the loop ends or a
/// signal asks for it; `announce` is told the address before the loop begins. `intake` takes
/// the events that are sent, where any are taken.
///
/// # Errors
/// The address cannot be bound, or the loop fails.
pub fn beside(
    service: &Service,
    listen: SocketAddr,
    title: &str,
    intake: Option<Intake>,
    announce: impl FnOnce(SocketAddr) -> anyhow::Result<()>,
    run: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let answers: Arc<dyn Answers> = Arc::new(service.answers()?);
    let mut options = options(service.config(), title);
    options.intake = intake;
    let router = ninefold_api::router(answers, options);
    let runtime = Runtime::new()?;
    let listener = runtime.block_on(bind(listen, &service.config().access))?;
    let address = listener.local_addr()?;
    let stop = Arc::clone(&service.stop);
    runtime.spawn(async move {
        asked_to_stop().await;
        stop.store(true, Ordering::Relaxed);
    });
    let (ended, mut ending) = watch::channel(false);
    let serving = runtime.spawn(ninefold_api::serve(listener, router, async move {
        // An error says that the sender is gone: the loop has ended as well.
        let _ = ending.wait_for(|ended| *ended).await;
    }));
    announce(address)?;
    let outcome = run();
    service.stop.store(true, Ordering::Relaxed);
    ended.send_replace(true);
    runtime.block_on(serving)??;
    outcome
}

fn options(config: &Config, title: &str) -> Options {
    let default = config.objectives.default.first();
    let mut options = Options::new(clock_ms);
    options.title = title.to_owned();
    // A page elsewhere can reach the loopback by DNS rebinding, but has no token to send.
    options.loopback_only = config.access.tokens.is_empty();
    options.tokens.clone_from(&config.access.tokens);
    if let Some(objective) = default {
        options.target = objective.target.to_f64();
    }
    options
}

async fn bind(listen: SocketAddr, access: &Access) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(access.check_listen(listen)?).await;
    listener.with_context(|| format!("cannot listen on {listen}: give another --listen or --port"))
}

/// Ready at the first Ctrl-C or SIGTERM; where signals cannot be had, never.
async fn asked_to_stop() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
