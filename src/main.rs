//! The `ninefold` command: arguments in, one of the verbs of this binary's modules out.
//!
//! `batch` counts files and proves the table, `ask` answers questions from a table, `live` runs
//! the service (and alone reads the wall clock), `demo` runs it on made-up traffic. Exit codes:
//! 0 fine, 1 failed, 2 usage.

mod allocator;
mod ask;
mod batch;
mod demo;
mod live;
mod serve;
mod show;
mod states;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Exact SLOs, uptime and burn-rate alerts from request events, per customer.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Worker threads; all cores unless given.
    #[arg(long, global = true, value_name = "N")]
    threads: Option<usize>,
    /// Say more on standard error.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// Where the table is, and what is promised.
#[derive(Args, Clone)]
struct Place {
    /// Folder that holds the table.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration; the defaults promise everyone 99.8% over 30 days.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// A busy service with an incident, streamed live: no set-up, prints the address of its page.
    Demo {
        /// Port on loopback; a free one unless given.
        #[arg(long)]
        port: Option<u16>,
        /// Seed of the made-up traffic.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Stop after so many seconds; else at Ctrl-C.
        #[arg(long, value_name = "SECONDS")]
        for_s: Option<u64>,
    },
    /// Write a commented configuration to standard output, from a sample log if one is given.
    Init {
        /// A log whose format and customers the configuration should name.
        sample: Option<PathBuf>,
        /// Write it there instead; an existing file is not overwritten.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// The service: count what is configured (or standard input), evaluate, answer.
    Run {
        #[command(flatten)]
        place: Place,
        /// Files to count; `-` is standard input. Else those of the configuration.
        files: Vec<String>,
        /// Go on at the end of the files, through rotations.
        #[arg(long)]
        follow: bool,
        /// Address of API and pages.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<std::net::SocketAddr>,
        /// Format of the files; told from their first lines unless given.
        #[arg(long)]
        format: Option<String>,
    },
    /// Count files into a table and print the summary; what was counted before adds nothing.
    Replay {
        #[command(flatten)]
        place: Place,
        /// Files or globs; gzip and zstd are inflated, `-` is standard input.
        #[arg(required = true)]
        files: Vec<String>,
        /// Format of the files; told from their first lines unless given.
        #[arg(long)]
        format: Option<String>,
        /// Print the summary as JSON.
        #[arg(long)]
        json: bool,
    },
    /// One customer: windows, budget, burn rates, latency.
    Sla {
        #[command(flatten)]
        place: Place,
        /// Who.
        customer: String,
        /// One service only.
        #[arg(long)]
        service: Option<String>,
        /// As of the minute of this time (RFC 3339); the newest counted one unless given.
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The monthly statement of every customer, or of one.
    Report {
        #[command(flatten)]
        place: Place,
        /// Calendar month, `2026-10`.
        #[arg(long)]
        month: String,
        /// IANA zone of the month; that of the configuration unless given.
        #[arg(long, value_name = "ZONE")]
        tz: Option<String>,
        /// One customer only.
        #[arg(long)]
        customer: Option<String>,
        /// What to print.
        #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
        format: ReportFormat,
    },
    /// Who was hit in a span of time, and what caused it.
    Impact {
        #[command(flatten)]
        place: Place,
        /// First minute (RFC 3339).
        #[arg(long, value_name = "TIME")]
        from: String,
        /// Last minute, included.
        #[arg(long, value_name = "TIME")]
        to: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The worst customers.
    Top {
        #[command(flatten)]
        place: Place,
        /// What is worst.
        #[arg(long, value_enum, default_value_t = TopBy::Burn)]
        by: TopBy,
        /// As of the minute of this time.
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Alert history.
    Alerts {
        #[command(flatten)]
        place: Place,
        /// First minute.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Last minute, included.
        #[arg(long, value_name = "TIME")]
        to: Option<String>,
        /// From final counts, or as it was known then.
        #[arg(long, value_enum, default_value_t = AlertBasis::Settled)]
        basis: AlertBasis,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// API and pages over a table, read-only.
    Serve {
        #[command(flatten)]
        place: Place,
        /// Address; that of the configuration unless given.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<std::net::SocketAddr>,
    },
    /// Recount files and compare the table with them, minute by minute.
    Verify {
        #[command(flatten)]
        place: Place,
        /// The files that were counted.
        #[arg(required = true)]
        files: Vec<String>,
        /// Format of the files; told from their first lines unless given.
        #[arg(long)]
        format: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check a configuration and say what it means.
    Check {
        /// The configuration.
        config: PathBuf,
    },
    /// Made-up events with a known truth beside them.
    Generate(batch::GenerateArgs),
}

#[derive(Clone, Copy, ValueEnum)]
enum ReportFormat {
    Table,
    Json,
    Csv,
    Md,
}

#[derive(Clone, Copy, ValueEnum)]
enum TopBy {
    Burn,
    Budget,
    Bad,
    Valid,
}

#[derive(Clone, Copy, ValueEnum)]
enum AlertBasis {
    Live,
    Settled,
}

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ninefold: {error:#}");
            ExitCode::from(1)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Some(threads) = cli.threads {
        anyhow::ensure!(threads > 0, "--threads takes 1 or more");
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    match cli.command {
        Command::Demo { port, seed, for_s } => demo::demo(port, seed, for_s),
        Command::Init { sample, output } => batch::init(sample, output),
        Command::Run { place, files, follow, listen, format } => {
            live::run(&place, live::RunArgs { files, follow, listen, format })
        }
        Command::Replay { place, files, format, json } => {
            batch::replay(&place, &files, format.as_deref(), json)
        }
        Command::Verify { place, files, format, json } => {
            batch::verify(&place, &files, format.as_deref(), json)
        }
        Command::Check { config } => batch::check(&config),
        Command::Generate(args) => batch::generate(&args),
        Command::Serve { place, listen } => serve::serve_table(&place, listen),
        Command::Sla { place, customer, service, at, json } => {
            ask::sla(&place, &customer, service.as_deref(), at.as_deref(), json)
        }
        Command::Report { place, month, tz, customer, format } => {
            ask::report(&place, &month, tz.as_deref(), customer.as_deref(), format)
        }
        Command::Impact { place, from, to, json } => ask::impact(&place, &from, &to, json),
        Command::Top { place, by, at, limit, json } => {
            ask::top(&place, by, at.as_deref(), limit, json)
        }
        Command::Alerts { place, from, to, basis, json } => {
            ask::alerts(&place, from.as_deref(), to.as_deref(), basis, json)
        }
    }
}
