//! The command line: one table of commands, from which help, completions and the dispatch come.
//!
//! stdout is data, stderr is talk. With `--json` the data is JSON, also when the command is refused
//! ([`refusal`]). Exit codes: 0 done, 1 it failed,
//! 2 the command line was wrong, 3 the manifests have mistakes, 4 no node runs.

mod alerts;
mod cache;
mod cert;
mod check;
mod dead;
mod deploy;
mod down;
mod events;
mod explain;
mod jobs;
mod key;
mod live;
mod logs;
mod map;
mod metrics;
mod new;
mod output;
mod ps;
mod refusal;
mod token;
mod top;
mod traces;
mod up;
mod watch;
mod why;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use atoll_base::{Code, Coded, HumanDuration, ServiceName, TraceId};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::admin::client::{CallError, Client};
use crate::manifest::{APPLICATION_FILE, Report};
use output::Output;
use refusal::Refusal;

/// A microservice platform in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "atoll",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 mistakes in manifests, \
                        4 no node runs.\nStart with: atoll init && atoll new service hello"
)]
pub struct Cli {
    /// The application's folder. Default: this one, or the nearest above with an atoll.toml.
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print data as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// When to use colors.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    color: ColorWhen,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the application and stay (Ctrl-C stops it).
    Up(UpArgs),
    /// Stop the application that runs here.
    Down,
    /// Show services and instances.
    Ps,
    /// Show what services printed.
    Logs(LogsArgs),
    /// Show where a request went, as a waterfall.
    Trace(TraceArgs),
    /// Show traces, the newest first.
    Traces(TracesArgs),
    /// Tell what may be the matter with a service or a request: errors, and what changed before them.
    Why(WhyArgs),
    /// Show who works most, as it happens (Ctrl-C ends it).
    Top(top::TopArgs),
    /// Show who calls whom: how often, how well, how fast.
    Map(MapArgs),
    /// Show metrics: which there are, and how one went.
    Metrics(metrics::MetricsArgs),
    /// Show alerts: budgets that burn too fast. Also silences them, and shows those of the past.
    Alerts(AlertsArgs),
    /// Show what services promise, and how much of their budgets is left.
    Objectives,
    /// Make a new revision of a service and let it take over, without losing a request.
    Deploy(DeployArgs),
    /// Bring an earlier revision of a service back.
    Rollback(RollbackArgs),
    /// Show the deployments of a service.
    History(HistoryArgs),
    /// Change how many instances of a service run.
    Scale(ScaleArgs),
    /// Replace the instances of a service by new ones, without losing a request.
    Restart(RestartArgs),
    /// Publish, look at topics and dead letters, deliver again.
    Events(events::EventsArgs),
    /// Look for mistakes in all manifests.
    Check,
    /// Print the JSON Schema of a manifest, for editors.
    Schema(SchemaArgs),
    /// Begin an application here.
    Init,
    /// Write a starting point.
    New(NewArgs),
    /// Tell more about an error code; `breaker`: why calls are refused or instances left out now.
    Explain(ExplainArgs),
    /// Print a link that logs a browser in to the console.
    Console,
    /// Make, show and take back tokens for the console and the admin API.
    Token(TokenArgs),
    /// Make, show and take back API keys, for routes whose `auth` has the kind "api_key".
    Key(KeyArgs),
    /// Show or empty the gateway's cache.
    Cache(CacheArgs),
    /// Make certificates.
    Cert(CertArgs),
    /// Print a shell's completion script.
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
struct UpArgs {
    /// The application's folder.
    dir: Option<PathBuf>,
    /// Return when it is up, and leave it running.
    #[arg(short, long, conflicts_with = "watch")]
    detach: bool,
    /// With --detach: how long to wait until every service is ready or has failed. Then this
    /// command fails, and the node runs on.
    #[arg(long, value_name = "SPAN", default_value = "10m", requires = "detach")]
    timeout: HumanDuration,
    /// Rebuild and roll over a service when its files change.
    #[arg(short, long)]
    watch: bool,
    /// Build every service, even if nothing has changed.
    #[arg(long)]
    build: bool,
    /// This is the process that `--detach` has left behind.
    #[arg(long, hide = true)]
    background: bool,
}

#[derive(Debug, Args)]
struct LogsArgs {
    /// Only of these services (`atoll` is the node itself), and what fits these conditions, in the query
    /// language: `level>=warn`, `'"timed out" -path:/health'`.
    #[arg(value_name = "SERVICE|CONDITION")]
    wanted: Vec<String>,
    /// Stay, and show lines as they come.
    #[arg(short, long)]
    follow: bool,
    /// Not older than this: a time span (10m) or a moment (RFC 3339).
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Not newer than this: a time span (5m) or a moment (RFC 3339).
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
    /// Only lines that match this regular expression.
    #[arg(short, long, value_name = "RE")]
    grep: Option<String>,
    /// Only what belongs to this trace, and the way that the request went.
    #[arg(short, long, value_name = "ID", value_parser = trace_id)]
    trace: Option<TraceId>,
    /// Only the last so many lines. Default: 100, or all if a time, a text or a trace is given.
    #[arg(short = 'n', long, value_name = "COUNT")]
    tail: Option<usize>,
}

#[derive(Debug, Args)]
struct TraceArgs {
    /// The trace, or a whole traceparent.
    #[arg(value_name = "ID", value_parser = trace_id)]
    trace: TraceId,
}

#[derive(Debug, Args)]
struct WhyArgs {
    /// A service, a trace, or a whole traceparent.
    #[arg(value_name = "SERVICE|TRACE")]
    subject: String,
}

#[derive(Debug, Args)]
struct MapArgs {
    /// From when: a time span (10m) or a moment (RFC 3339). Rates are of the whole time.
    #[arg(long, value_name = "WHEN", default_value = "15m")]
    since: String,
}

#[derive(Debug, Args)]
struct TracesArgs {
    /// Only traces with a span that fits, in the query language: `status:>=500`, `duration:>100ms`.
    #[arg(value_name = "CONDITION")]
    wanted: Vec<String>,
    /// The slowest first.
    #[arg(long)]
    slow: bool,
    /// Only traces in which something failed.
    #[arg(long)]
    error: bool,
    /// Only traces that this service took part in.
    #[arg(long, value_name = "NAME")]
    service: Option<ServiceName>,
    /// Not older than this: a time span (10m) or a moment (RFC 3339).
    #[arg(long, value_name = "WHEN", default_value = "1h")]
    since: String,
    /// So many at most.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, Args)]
struct AlertsArgs {
    #[command(subcommand)]
    what: Option<alerts::Alerts>,
}

#[derive(Debug, Args)]
struct DeployArgs {
    /// The service.
    service: ServiceName,
    /// The folder to make the revision of. Default: the service's own.
    folder: Option<PathBuf>,
    /// The reason, for the history.
    #[arg(short, long, default_value = "", value_name = "TEXT")]
    message: String,
}

#[derive(Debug, Args)]
struct RollbackArgs {
    /// The service.
    service: ServiceName,
    /// The number of the revision. Default: the one whose place the current one took.
    #[arg(value_parser = revision)]
    revision: Option<u32>,
    /// The reason, for the history.
    #[arg(short, long, default_value = "", value_name = "TEXT")]
    message: String,
}

#[derive(Debug, Args)]
struct HistoryArgs {
    /// The service.
    service: ServiceName,
    /// So many at most, up to 1000.
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Those before this one.
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
}

#[derive(Debug, Args)]
struct ScaleArgs {
    /// The service.
    service: ServiceName,
    /// The number of instances.
    instances: u32,
    /// The reason, for the history.
    #[arg(short, long, default_value = "", value_name = "TEXT")]
    message: String,
}

#[derive(Debug, Args)]
struct RestartArgs {
    /// The service.
    service: ServiceName,
    /// The reason, for the history.
    #[arg(short, long, default_value = "", value_name = "TEXT")]
    message: String,
}

#[derive(Debug, Args)]
struct SchemaArgs {
    /// Which file.
    #[arg(value_enum, default_value = "service")]
    file: SchemaFile,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaFile {
    /// service.toml
    Service,
    /// atoll.toml
    Application,
}

#[derive(Debug, Args)]
struct NewArgs {
    #[command(subcommand)]
    what: New,
}

#[derive(Debug, Subcommand)]
enum New {
    /// A service in services/NAME, with a health check, a route and a test.
    Service {
        /// Its name.
        name: ServiceName,
        /// Its language.
        #[arg(long, value_enum, default_value = "python")]
        lang: new::Language,
    },
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// The code, such as ATL0102, or `breaker`. Default: list all codes.
    code: Option<String>,
}

#[derive(Debug, Args)]
struct KeyArgs {
    #[command(subcommand)]
    what: Key,
}

#[derive(Debug, Subcommand)]
enum Key {
    /// Make a key and print it, this once.
    Create {
        /// Who will have it: services see it as the subject.
        name: String,
        /// What it allows; may be given several times.
        #[arg(short, long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// How long it is valid (90d), or until when (RFC 3339). Default: until it is revoked.
        #[arg(short, long, value_name = "WHEN")]
        expires: Option<String>,
    },
    /// Show all keys, but for their secrets.
    List,
    /// Refuse a key from now on.
    Revoke {
        /// Its id, or the whole key.
        id: String,
    },
}

#[derive(Debug, Args)]
struct TokenArgs {
    #[command(subcommand)]
    what: token::Token,
}

#[derive(Debug, Args)]
struct CacheArgs {
    #[command(subcommand)]
    what: Cache,
}

#[derive(Debug, Subcommand)]
enum Cache {
    /// Forget answers that are kept.
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Purge {
        /// Those that their service has marked with this (`Cache-Tag`, `Surrogate-Key`).
        #[arg(long, group = "which")]
        tag: Option<String>,
        /// Those of this path, with any query; `/**` at its end stands for all below.
        #[arg(long, group = "which")]
        path: Option<String>,
        /// All.
        #[arg(long, group = "which")]
        all: bool,
    },
    /// Show how much is kept, and how often it was of use.
    Status,
}

#[derive(Debug, Args)]
struct CertArgs {
    #[command(subcommand)]
    what: Cert,
}

#[derive(Debug, Subcommand)]
enum Cert {
    /// A certificate for this machine, by an issuer of your own that browsers can be told to trust.
    Dev {
        /// Names and addresses. Default: localhost, *.localhost, 127.0.0.1 and ::1.
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// A failure with the exit code that scripts see.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It was tried and did not work.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
    /// The manifests have mistakes.
    #[error("{0}")]
    Manifest(Report),
    /// The node refused or is not there.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Everything was said already.
    #[error("")]
    Told,
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Told => 1,
            Self::Manifest(_) => 3,
            Self::Call(CallError::NotRunning(_)) => 4,
            Self::Call(CallError::Refused(problem)) if problem.drawing.is_some() => 3,
            Self::Call(_) => 1,
        }
    }
}

/// Parses the command line, does it, and tells the exit code.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return wrong_usage(&error),
    };
    let out = Output::new(cli.json, cli.color);
    match dispatch(cli, &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Help and version come here too; they are no mistakes.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    let mut arguments = std::env::args_os().take_while(|argument| argument != "--");
    if !error.use_stderr() || !arguments.any(|argument| argument == "--json") {
        error.exit();
    }
    Output::new(true, ColorWhen::Never).json_line(&Refusal::of_usage(error));
    ExitCode::from(2)
}

fn dispatch(cli: Cli, out: &Output) -> Result<(), Failure> {
    let here = cli.dir.as_deref();
    match cli.command {
        Command::Up(args) => up::run(here, args, out),
        Command::Check => check::run(&application_dir(here), out),
        Command::Schema(args) => check::schema(args.file, out),
        Command::Init => new::init(here.unwrap_or(Path::new(".")), out),
        Command::New(NewArgs {
            what: New::Service { name, lang },
        }) => new::service(&application_dir(here), &name, lang, out),
        Command::Explain(args) if args.code.as_deref() != Some("breaker") => {
            explain::run(args.code.as_deref(), out)
        }
        Command::Cert(CertArgs {
            what: Cert::Dev { names },
        }) => cert::dev(&application_dir(here), &names, out),
        Command::Completions(args) => {
            let mut command = Cli::command();
            clap_complete::generate(args.shell, &mut command, "atoll", &mut std::io::stdout());
            Ok(())
        }
        online => talk_to_node(&application_dir(here), online, out),
    }
}

/// The commands that need a node.
fn talk_to_node(dir: &Path, command: Command, out: &Output) -> Result<(), Failure> {
    let client = Client::new(dir);
    let work = async {
        match command {
            Command::Down => down::run(&client, out).await,
            Command::Ps => ps::run(&client, out).await,
            Command::Logs(args) => logs::run(&client, args, out).await,
            Command::Trace(args) => traces::one(&client, args.trace, out).await,
            Command::Traces(args) => traces::list(&client, &args, out).await,
            Command::Why(args) => why::run(&client, &args.subject, out).await,
            Command::Top(args) => top::run(&client, &args, out).await,
            Command::Map(args) => map::run(&client, &args.since, out).await,
            Command::Metrics(args) => metrics::run(&client, &args, out).await,
            Command::Alerts(AlertsArgs { what }) => alerts::run(&client, what, out).await,
            Command::Objectives => alerts::objectives(&client, out).await,
            Command::History(args) => {
                deploy::history(&client, &args.service, args.limit, args.before, out).await
            }
            Command::Explain(_) => explain::breaker(&client, out).await,
            Command::Events(events::EventsArgs { what }) => events::run(&client, what, out).await,
            Command::Cache(CacheArgs { what }) => cache::run(&client, what, out).await,
            Command::Console => token::link(&client, out).await,
            Command::Token(TokenArgs { what }) => token::run(&client, what, out).await,
            Command::Key(KeyArgs { what }) => key::run(&client, what, out).await,
            other => deploy::run(&client, other, out).await,
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(anyhow::Error::from)?.block_on(work)
}

/// The nearest folder with an `atoll.toml`, from `start` or from here upwards.
fn application_dir(start: Option<&Path>) -> PathBuf {
    let start = start.unwrap_or(Path::new("."));
    let absolute = start.canonicalize().unwrap_or_else(|_| start.to_owned());
    let found = absolute
        .ancestors()
        .find(|folder| folder.join(APPLICATION_FILE).is_file());
    found.map_or_else(|| absolute.clone(), Path::to_owned)
}

/// The code of the first error in a chain that has one.
fn coded(error: &anyhow::Error) -> Option<Code> {
    fn code<E: Coded + Send + Sync + 'static>(error: &anyhow::Error) -> Option<Code> {
        error.downcast_ref::<E>().map(Coded::code)
    }
    code::<atoll_store::Error>(error)
        .or_else(|| code::<atoll_proxy::Error>(error))
        .or_else(|| code::<atoll_supervisor::Error>(error))
        .or_else(|| code::<atoll_deploy::Error>(error))
        .or_else(|| code::<atoll_telemetry::Error>(error))
        .or_else(|| code::<live::Late>(error))
}

fn trace_id(text: &str) -> Result<TraceId, String> {
    // A whole traceparent is as good as the id within it.
    let digits = text
        .strip_prefix("00-")
        .and_then(|rest| rest.get(..32))
        .unwrap_or(text);
    TraceId::parse(digits.as_bytes())
        .ok_or_else(|| "a trace id is 32 lowercase hexadecimal digits".to_owned())
}

fn revision(text: &str) -> Result<u32, String> {
    text.trim_start_matches('r')
        .parse()
        .map_err(|_| "a revision is a number, such as 3".to_owned())
}

/// A moment, from `10m` (so long ago) or from RFC 3339.
fn moment(text: &str) -> Result<atoll_base::Timestamp, anyhow::Error> {
    if let Ok(HumanDuration(span)) = text.parse() {
        return Ok(atoll_base::Timestamp::now().before(span));
    }
    text.parse().map_err(|_| {
        anyhow::anyhow!(
            "`{text}` is neither a time span such as 10m nor a moment such as 2026-11-21T08:00:00Z"
        )
    })
}
