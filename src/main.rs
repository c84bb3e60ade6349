//! The `ninefold` command: arguments in, one of the verbs of this binary's modules out.
//!
//! `batch` counts files, `prove` proves a table and its place, `ask` answers questions from one,
//! `live` runs the service (and alone reads the wall clock), `demo` runs it on made-up traffic.
//! Exit codes: 0 fine, 1 failed, 2 usage. Standard output carries answers alone; what else is to be said goes
//! to standard error. A reader of the output that has gone (`| head`) is no failure.

mod allocator;
mod ask;
mod backtest;
mod batch;
mod certificate;
mod costly;
mod decide;
mod demo;
#[cfg(feature = "kafka")]
mod kafka;
mod limits;
mod live;
mod prove;
mod remembered;
mod serve;
mod show;
mod states;
mod token;
mod upkeep;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use ninefold_engine::decode::Format;
use ninefold_engine::notify::matcher::Matcher;
use ninefold_engine::query::AskError;
use ninefold_engine::slo::period::month_range;
use ninefold_engine::synth::OptionsError;
use ninefold_engine::time::{Minute, TS_MS_END, TS_MS_MIN, parse_rfc3339};

/// Exact SLOs, uptime and burn-rate alerts from request events, per customer.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = FIRST_STEPS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Worker threads; all cores unless given. Results are the same for any.
    #[arg(long, global = true, value_name = "N", display_order = 900)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Say on standard error what is read, and where counting goes on.
    #[arg(short, long, global = true, display_order = 901)]
    verbose: bool,
}

/// Below the list of commands.
const FIRST_STEPS: &str = "\
First steps:
  ninefold demo                                   watch an incident, nothing to set up
  ninefold replay access.log --data d             count a log into a table
  ninefold report --data d --month 2026-10        to whom was the promise broken?
  ninefold top --data d                           who is worst off?
  ninefold init access.log -o ninefold.toml       a configuration of your own

Times are RFC 3339, such as 2026-11-01T12:00:00Z.
Exit codes: 0 fine, 1 failed, 2 usage.";

/// Where the table is, and what is promised.
#[derive(Args, Clone)]
struct Place {
    /// Folder of the table; `[table] dir` of the configuration unless given.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Configuration; without one, everyone is promised 99.8% over 30 days.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// A busy service with an incident, streamed live: no set-up, prints the address of its page.
    Demo {
        /// Port on loopback; a free one unless given.
        #[arg(long, value_name = "PORT")]
        port: Option<u16>,
        /// Seed of the made-up traffic.
        #[arg(long, default_value_t = 1, value_name = "N")]
        seed: u64,
        /// Stop after so many seconds; else at Ctrl-C.
        #[arg(long, value_name = "SECONDS")]
        for_s: Option<u64>,
    },
    /// Write a commented configuration to standard output, from a sample log if one is given.
    Init {
        /// A log whose format and services the configuration should name.
        #[arg(value_name = "FILE")]
        sample: Option<PathBuf>,
        /// Write it there instead; an existing file is not overwritten.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// The service: count what is configured, evaluate alerts, answer over HTTP.
    ///
    /// Without --follow, and with standard input, it ends where its sources end; a SIGTERM or
    /// Ctrl-C ends it at any time. Either way everything is committed first.
    #[command(after_help = "\
Examples:
  ninefold run -c ninefold.toml
  ninefold run --data d --follow /var/log/nginx/access.log
  tail -F app.ndjson | ninefold run --data d -
  ninefold run --data d --push")]
    Run {
        #[command(flatten)]
        place: Place,
        /// Files or globs; `-` is standard input. Those of the configuration unless given.
        #[arg(value_name = "FILE")]
        files: Vec<String>,
        /// Go on at the end of the files, through rotations.
        #[arg(long)]
        follow: bool,
        /// Take events that are sent to POST /v1/events, as with [source.http].
        #[arg(long)]
        push: bool,
        /// Address of API and pages, 127.0.0.1:8089 unless given or configured.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<std::net::SocketAddr>,
        /// Format of the files, such as combined; told from their first lines unless given.
        #[arg(long)]
        format: Option<Format>,
    },
    /// Count files into a table and print the summary; what was counted before adds nothing.
    ///
    /// A file is known by its content: a second replay, also of a copy that was moved or
    /// compressed, adds nothing, and a file that has grown adds its new lines.
    #[command(after_help = "\
Examples:
  ninefold replay access.log --data d
  ninefold replay '/var/log/nginx/access.log*' --data d
  zcat old.gz | ninefold replay - --data d --json")]
    Replay {
        #[command(flatten)]
        place: Place,
        /// Files or globs; gzip and zstd are inflated, `-` is standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<String>,
        /// Format of the files, such as combined; told from their first lines unless given.
        #[arg(long)]
        format: Option<Format>,
        /// Print the summary as JSON.
        #[arg(long)]
        json: bool,
    },
    /// One customer: windows, budget, burn rates, latency.
    Sla {
        #[command(flatten)]
        place: Place,
        /// Whose.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        customer: String,
        /// One service only.
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// As of the whole minute of this time; the newest counted one unless given.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        at: Option<Minute>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The monthly statement of every customer, or of one.
    #[command(after_help = "\
Examples:
  ninefold report --data d --month 2026-10
  ninefold report --data d --month 2026-10 --tz Europe/Berlin --format csv > october.csv")]
    Report {
        #[command(flatten)]
        place: Place,
        /// Calendar month, such as 2026-10.
        #[arg(long, value_name = "MONTH", value_parser = month)]
        month: String,
        /// IANA zone of the month; that of the configuration unless given.
        #[arg(long, value_name = "ZONE")]
        tz: Option<String>,
        /// One customer only.
        #[arg(long, value_name = "NAME")]
        customer: Option<String>,
        /// What to print.
        #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
        format: ReportFormat,
    },
    /// Who was hit in a span of time, and what caused it.
    #[command(after_help = "\
Example:
  ninefold impact --data d --from 2026-11-01T12:00:00Z --to 2026-11-01T12:20:00Z")]
    Impact {
        #[command(flatten)]
        place: Place,
        /// First minute.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        from: Minute,
        /// Last minute, included.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        to: Minute,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// An incident afterwards: timeline, impact by customer, causes, budget by cause.
    ///
    /// Also while it is open. Every count is of the final ones, and can be recounted.
    #[command(after_help = "\
Examples:
  ninefold review 5f1c0f4e2f2d43b6a1a0f8f1c7e09b3d --data d > review.md
  ninefold review 5f1c0f4e2f2d43b6a1a0f8f1c7e09b3d --data d --json")]
    Review {
        #[command(flatten)]
        place: Place,
        /// Its id, as notifications, its page and /v1/incidents name it.
        #[arg(value_name = "INCIDENT", value_parser = NonEmptyStringValueParser::new())]
        incident: String,
        /// What to print.
        #[arg(long, value_enum, default_value_t = ReviewFormat::Md)]
        format: ReviewFormat,
        /// Print JSON.
        #[arg(long, conflicts_with = "format")]
        json: bool,
    },
    /// What has spent the error budget of a quarter: causes, by the customers they hit.
    ///
    /// Of whole UTC days. Each day of the table is read once: it takes as long as that, and about
    /// one day's memory.
    #[command(after_help = "\
Examples:
  ninefold risks --data d --quarter 2026-Q4
  ninefold risks --data d --from 2026-11-01T00:00:00Z --to 2026-11-07T23:59:00Z --json")]
    Risks {
        #[command(flatten)]
        place: Place,
        /// Calendar quarter, UTC, such as 2026-Q4; the running one, so far, unless given.
        #[arg(long, value_name = "QUARTER", conflicts_with_all = ["from", "to"])]
        quarter: Option<String>,
        /// Its day is the first one.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        from: Option<Minute>,
        /// Its day is the last one; the newest counted one unless given.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        to: Option<Minute>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Did a release, a flag or another value make things worse? Good, bad or insufficient.
    ///
    /// A test that may be looked at any number of times; docs/verdict.md says how it works.
    #[command(after_help = "\
Examples:
  ninefold verdict r42 --data d
  ninefold verdict eu-west-1 --by region --from 2026-11-01T12:00:00Z --data d")]
    Verdict {
        #[command(flatten)]
        place: Place,
        /// The release, or the value of the dimension of --by.
        #[arg(value_name = "RELEASE", value_parser = NonEmptyStringValueParser::new())]
        value: String,
        /// The dimension: release, cohort, region, route or an attribute.
        #[arg(long, value_name = "NAME", default_value = "release")]
        by: String,
        /// One service only.
        #[arg(long, value_name = "NAME")]
        service: Option<String>,
        /// Its first minute; the first one it was seen in the day before --to unless given.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        from: Option<Minute>,
        /// Last minute, included; the newest counted one unless given.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        to: Option<Minute>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The worst customers.
    Top {
        #[command(flatten)]
        place: Place,
        /// What is worst: burn rate of the last hour, budget left, bad or valid events.
        #[arg(long, value_enum, default_value_t = TopBy::Burn)]
        by: TopBy,
        /// As of the whole minute of this time; the newest counted one unless given.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        at: Option<Minute>,
        /// How many.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Who has fallen silent: sends far less than always at this hour of the week.
    ///
    /// Not to be confused with `silence`, which keeps people from being told of alerts.
    Silent {
        #[command(flatten)]
        place: Place,
        /// As of the whole minute of this time; the newest counted one unless given.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        at: Option<Minute>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Alert history: what fired, when, and on which counts; or what another configuration's
    /// alerts would have told, how long before a budget was exhausted, and what was false.
    #[command(after_help = "\
Examples:
  ninefold alerts --data d --from 2026-11-01T00:00:00Z
  ninefold alerts --data d --backtest changed.toml")]
    Alerts {
        #[command(flatten)]
        place: Place,
        /// First minute; from the begin unless given.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        from: Option<Minute>,
        /// Last minute, included; to the end unless given.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        to: Option<Minute>,
        /// Try this configuration's objectives and alert tiers on the history.
        #[arg(long, value_name = "CONFIG", conflicts_with = "basis")]
        backtest: Option<PathBuf>,
        /// Settled: judged from the final counts. Live: what `run` knew then.
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
        /// Address of API and pages, 127.0.0.1:8089 unless given or configured.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<std::net::SocketAddr>,
    },
    /// Recount sources and compare the table with them, minute by minute.
    ///
    /// Without files, the topics of [source.kafka] are read again, as far as the brokers still
    /// have them; what they have let go of is named, and never taken for equal.
    #[command(after_help = "\
Examples:
  ninefold verify access.log --data d
  ninefold verify --data d -c ninefold.toml")]
    Verify {
        #[command(flatten)]
        place: Place,
        /// The files that were counted, or copies of them; folders of write-ahead logs.
        #[arg(value_name = "FILE")]
        files: Vec<String>,
        /// Format of the files, such as combined; told from their first lines unless given.
        #[arg(long)]
        format: Option<Format>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Merge small files of the table; `run` does it by itself, this takes what is fresh too.
    ///
    /// The sums of every file are proven equal before a commit. Safe beside a running service
    /// and readers.
    Compact {
        #[command(flatten)]
        place: Place,
    },
    /// Remove files that the table needs no more: replaced 7 days ago, or never committed.
    Vacuum {
        #[command(flatten)]
        place: Place,
        /// Only say which.
        #[arg(long)]
        dry_run: bool,
        /// Also remove from the table the days older than 13 months; their files go 7 days later.
        #[arg(long, conflicts_with = "dry_run")]
        expired: bool,
    },
    /// Prove the table from itself: offsets tile, counts add up, files are whole.
    ///
    /// Also while it is being written. Exit 1 where something does not hold; each finding says
    /// where, and what to do.
    Audit {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Look at disk, clock, log and files of a table, and say what is wrong and what to do.
    Doctor {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The partitions of the sources, and gaps in them.
    Source {
        #[command(subcommand)]
        command: SourceCommand,
    },
    /// Exclude events that were counted: they are in no ratio any more, and every statement of
    /// their time shows why.
    ///
    /// For maintenance that was announced and not configured. Late events of these minutes are
    /// excluded, too.
    #[command(after_help = "\
Examples:
  ninefold exclude --data d --from 2026-11-01T02:00:00Z --to 2026-11-01T03:59:00Z \\
    --service api --reason 'database upgrade, announced' --yes
  ninefold exclude --data d --list
  ninefold exclude --data d --undo ID --reason 'it was the wrong night' --yes")]
    Exclude {
        #[command(flatten)]
        place: Place,
        /// First minute.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        #[arg(required_unless_present_any = ["undo", "list"])]
        from: Option<Minute>,
        /// Last minute, included.
        #[arg(long, value_name = "TIME", value_parser = minute)]
        #[arg(required_unless_present_any = ["undo", "list"])]
        to: Option<Minute>,
        /// Count what this exclusion left out again.
        #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
        #[arg(conflicts_with_all = ["from", "to", "customers", "services", "list"])]
        undo: Option<String>,
        /// List what was excluded and undone, with ids.
        #[arg(long, conflicts_with_all = ["from", "to", "customers", "services", "reason", "yes"])]
        list: bool,
        /// Whose events; everybody's unless given.
        #[arg(long = "customer", value_name = "NAME")]
        customers: Vec<String>,
        /// Of which services; all unless given.
        #[arg(long = "service", value_name = "NAME")]
        services: Vec<String>,
        /// Why: it is shown beside the figures.
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        #[arg(required_unless_present = "list")]
        reason: Option<String>,
        /// Do it; without this, only say what would be done.
        #[arg(long)]
        yes: bool,
    },
    /// For some time nobody is told of some alerts; their states go on.
    Silence {
        #[command(subcommand)]
        command: SilenceCommand,
    },
    /// Check a configuration: every problem at once, or what it means.
    Check {
        /// The configuration.
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Alert rules for Prometheus over the series of /metrics, to standard output.
    #[command(after_help = "\
Example:
  ninefold rules -c ninefold.toml > /etc/prometheus/ninefold.rules.yml")]
    Rules {
        /// Configuration; without one, everyone is promised 99.8% over 30 days.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Of which system.
        #[arg(long, value_enum, default_value_t = RulesFormat::Prometheus)]
        format: RulesFormat,
    },
    /// Make a configuration of what another tool's documents promise.
    Import {
        #[command(subcommand)]
        command: ImportCommand,
    },
    /// Make a bearer token for the API: print it, and the table that makes it known.
    #[command(after_help = "\
Examples:
  ninefold token --name gateway --role ingest
  ninefold token --name acme --role customer:acme")]
    Token {
        /// Whose it is.
        #[arg(long, value_name = "NAME")]
        name: String,
        /// What it allows: admin, read, ingest or customer:ID.
        #[arg(long, value_name = "ROLE")]
        role: String,
    },
    /// Made-up events, with their truth in a file beside them.
    #[command(after_help = "\
Example:
  ninefold generate --events 100000 --customers 500 --out events.ndjson \\
    --incident release=r42,cohort=canary,from=12:00,minutes=20,rate=0.2")]
    Generate(batch::GenerateArgs),
    /// Reads one partition of Kafka for a service that may not survive to read it itself.
    #[cfg(feature = "kafka")]
    #[command(hide = true)]
    KafkaScout,
}

#[derive(Subcommand)]
enum ImportCommand {
    /// OpenSLO documents, to standard output; what of them is not in it, to standard error.
    #[command(after_help = "\
Example:
  ninefold import openslo slos.yaml > ninefold.toml")]
    Openslo {
        /// YAML of one or more documents; `-` is standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum SourceCommand {
    /// How far each partition was counted, and the gaps that were accepted.
    List {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Accept that a part of a partition is never counted: from where it stands to an offset.
    ///
    /// For data that is gone, or that cannot be read. The gap is recorded with its reason, and
    /// shown in reports as a data gap. It cannot be undone.
    #[command(after_help = "\
Example:
  ninefold source skip --data d kafka/requests/7 --to 120000 --reason 'retention passed us' --yes")]
    Skip {
        #[command(flatten)]
        place: Place,
        /// Which, as `source list` names it.
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        partition: String,
        /// The first offset that is counted again.
        #[arg(long, value_name = "OFFSET")]
        to: u64,
        /// Why: it is kept with the gap.
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: String,
        /// Do it; without this, only say what would be done.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Subcommand)]
#[expect(clippy::large_enum_variant, reason = "a process has one of them")]
enum SilenceCommand {
    /// Make one, and print it.
    #[command(after_help = "\
Example:
  ninefold silence add --data d --customer acme --service reports --to 2026-11-02T12:00:00Z \\
    --reason 'the vendor mends it on Monday'")]
    Add {
        #[command(flatten)]
        place: Place,
        /// Whose alerts, where * is any text; everybody's unless given.
        #[arg(long = "customer", value_name = "NAME")]
        customers: Vec<String>,
        /// Of which services.
        #[arg(long = "service", value_name = "NAME")]
        services: Vec<String>,
        /// Of which objectives.
        #[arg(long = "objective", value_name = "NAME")]
        objectives: Vec<String>,
        /// By which alert tiers, such as page_1h.
        #[arg(long = "tier", value_name = "NAME")]
        tiers: Vec<String>,
        /// page or ticket.
        #[arg(long = "severity", value_name = "NAME")]
        severities: Vec<String>,
        /// Of customers of which tiers.
        #[arg(long = "customer-tier", value_name = "NAME")]
        customer_tiers: Vec<String>,
        /// Why.
        #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
        reason: String,
        /// Who; $USER unless given.
        #[arg(long, value_name = "NAME")]
        author: Option<String>,
        /// From when on; now unless given.
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// Until when, exclusive.
        #[arg(long, value_name = "TIME")]
        to: String,
    },
    /// All there are, ended ones too.
    List {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End one now, and print it.
    End {
        #[command(flatten)]
        place: Place,
        /// Its id, as `silence list` names it.
        #[arg(value_name = "ID")]
        id: String,
    },
}

impl SilenceCommand {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            SilenceCommand::Add {
                place,
                customers,
                services,
                objectives,
                tiers,
                severities,
                customer_tiers,
                reason,
                author,
                from,
                to,
            } => {
                let matcher =
                    Matcher { customers, services, objectives, tiers, severities, customer_tiers };
                decide::silence_add(&place, matcher, (author, reason), (from, to))
            }
            SilenceCommand::List { place, json } => decide::silence_list(&place, json),
            SilenceCommand::End { place, id } => decide::silence_end(&place, &id),
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ReportFormat {
    Table,
    Json,
    Csv,
    Md,
}

#[derive(Clone, Copy, ValueEnum)]
enum ReviewFormat {
    Md,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum RulesFormat {
    Prometheus,
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

/// The minute of a time on the command line.
fn minute(text: &str) -> Result<Minute, String> {
    let ms = parse_rfc3339(text.as_bytes()).filter(|ms| (TS_MS_MIN..TS_MS_END).contains(ms));
    let takes = "takes an RFC 3339 time of the years 2000 to 2100, such as 2026-11-01T12:00:00Z";
    ms.map(Minute::of_ms).ok_or_else(|| takes.to_owned())
}

/// A month on the command line.
fn month(text: &str) -> Result<String, String> {
    month_range(text, "UTC").map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// A command line that cannot be meant: exit code 2.
#[derive(Debug)]
struct Usage(String);

impl std::error::Error for Usage {}

impl std::fmt::Display for Usage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

fn main() -> ExitCode {
    allocator::keep_freed_memory();
    let cli = Cli::parse();
    let code = match run(cli) {
        Ok(code) => code,
        Err(error) if is_gone_reader(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ninefold: {}", message(&error));
            ExitCode::from(if is_usage(&error) { 2 } else { 1 })
        }
    };
    allocator::leave_memory();
    code
}

/// Whether nobody reads standard output any more, as after `| head`.
fn is_gone_reader(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

fn is_usage(error: &anyhow::Error) -> bool {
    let argument = |error: &AskError| matches!(error, AskError::Argument { .. });
    error.is::<Usage>()
        || error.is::<OptionsError>()
        || error.downcast_ref::<AskError>().is_some_and(argument)
}

/// An error with its causes, each told once: many quote theirs.
fn message(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    if let Some(AskError::Argument { .. }) = error.downcast_ref::<AskError>() {
        message.insert_str(0, "--");
    }
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message.push_str(": ");
            message.push_str(&cause);
        }
    }
    message
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Some(threads) = cli.threads {
        let threads = usize::from(threads);
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    match cli.command {
        Command::Demo { port, seed, for_s } => demo::demo(port, seed, for_s),
        Command::Init { sample, output } => batch::init(sample, output),
        Command::Run { place, files, follow, push, listen, format } => {
            let verbose = cli.verbose;
            live::run(&place, live::RunArgs { files, follow, push, listen, format, verbose })
        }
        Command::Replay { place, files, format, json } => {
            batch::replay(&place, &batch::Files { files, format, verbose: cli.verbose }, json)
        }
        Command::Verify { place, files, format, json } => {
            batch::verify(&place, &batch::Files { files, format, verbose: cli.verbose }, json)
        }
        Command::Compact { place } => upkeep::compact(&place),
        Command::Vacuum { place, dry_run, expired } => {
            upkeep::vacuum_command(&place, dry_run, expired)
        }
        Command::Audit { place, json } => prove::audit(&place, json),
        Command::Doctor { place, json } => prove::doctor(&place, json),
        Command::Source { command } => match command {
            SourceCommand::List { place, json } => prove::source_list(&place, json),
            SourceCommand::Skip { place, partition, to, reason, yes } => {
                prove::source_skip(&place, &partition, to, &reason, yes)
            }
        },
        #[cfg(feature = "kafka")]
        Command::KafkaScout => live::kafka::scout::main(),
        Command::Exclude { place, list: true, .. } => decide::exclusions(&place),
        Command::Exclude { place, undo: Some(id), reason, yes, .. } => {
            decide::undo_exclusion(&place, &id, &reason.unwrap_or_default(), yes)
        }
        Command::Exclude { place, from, to, customers, services, reason, yes, .. } => {
            let minutes = (from.unwrap_or_default(), to.unwrap_or_default());
            let scope = (customers, services);
            decide::exclude(&place, minutes, scope, &reason.unwrap_or_default(), yes)
        }
        Command::Silence { command } => command.run(),
        Command::Check { config } => batch::check(&config),
        Command::Rules { config, format: RulesFormat::Prometheus } => ask::rules(config),
        Command::Import { command: ImportCommand::Openslo { file } } => batch::import(&file),
        Command::Token { name, role } => token::token(&name, &role),
        Command::Generate(args) => batch::generate(&args),
        Command::Serve { place, listen } => serve::serve_table(&place, listen),
        Command::Sla { place, customer, service, at, json } => {
            ask::sla(&place, &customer, service.as_deref(), at, json)
        }
        Command::Report { place, month, tz, customer, format } => {
            ask::report(&place, &month, tz.as_deref(), customer.as_deref(), format)
        }
        Command::Impact { place, from, to, json } => ask::impact(&place, from, to, json),
        Command::Verdict { place, value, by, service, from, to, json } => {
            ask::verdict(&place, (&by, &value), service.as_deref(), from, to, json)
        }
        Command::Review { place, incident, json: true, .. } => {
            ask::review(&place, &incident, ReviewFormat::Json)
        }
        Command::Review { place, incident, format, json: false } => {
            ask::review(&place, &incident, format)
        }
        Command::Risks { place, quarter, from, to, json } => {
            ask::risks(&place, quarter.as_deref(), (from, to), json)
        }
        Command::Top { place, by, at, limit, json } => ask::top(&place, by, at, limit, json),
        Command::Silent { place, at, json } => ask::silent(&place, at, json),
        Command::Alerts { place, from, to, backtest: Some(config), json, .. } => {
            backtest::backtest(place, config, (from, to), json)
        }
        Command::Alerts { place, from, to, basis, json, backtest: None } => {
            ask::alerts(&place, from, to, basis, json)
        }
    }
}
