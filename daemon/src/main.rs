//! The daemon's front door: read the settings, start the pipeline, wait for a
//! reason to stop, stop.

mod app;
mod audit;
mod backups;
mod clock;
mod failure;
mod https;
mod journal;
mod judge;
mod limits;
mod mail;
mod plugins;
mod poll;
mod quota;
mod reload;
mod report;
mod sealing;
mod settings;
mod status;
mod systemd;
mod watchdog;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::app::App;
use crate::failure::{EX_USAGE, Failure, chain};
use crate::settings::Everything;

/// Watches over a network.
#[derive(Parser)]
#[command(
    name = "sotpd",
    version,
    about,
    after_help = "Exit codes: 0 stopped on request, 64 usage, 65 the store is newer than this build, 71 the system refused,\n74 the store is damaged, 75 the store is in use, 78 bad settings."
)]
struct Args {
    /// The settings file
    #[arg(
        short,
        long,
        global = true,
        default_value = "/etc/sotp/sotp.toml",
        value_name = "FILE"
    )]
    config: PathBuf,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Checks a settings file and the rules it names, and says everything that is wrong
    Check {
        /// The file; by default that of --config
        file: Option<PathBuf>,
        /// Check the rules in this directory instead of the one the file names
        #[arg(long, value_name = "DIR")]
        rules: Option<PathBuf>,
    },
    /// Prints every setting with its value and where it comes from
    Config,
    /// Makes a file with a new key for sealing secrets; never over one that is there
    #[command(after_help = "Example:\n  sotpd new-key /etc/sotp/sotp-kek")]
    NewKey {
        /// The file to make, with mode 0600
        file: PathBuf,
    },
    /// Prints the manual page sotpd(8), or sotp.toml(5), as troff
    #[command(hide = true)]
    Man {
        /// 5 or 8
        section: u8,
    },
}

/// Worker threads at the most: two carry 10,000 devices, and TasksMax= of the unit
/// must suffice on a machine with 256 cores.
const WORKERS: usize = 8;

/// Threads for reads of history and name look-ups of the mail server.
const BLOCKING_THREADS: usize = 64;

fn main() -> ExitCode {
    if let Some(code) = plugin_process() {
        return code;
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    match &args.command {
        Some(Command::Check { file, rules }) => {
            report::check(file.as_ref().unwrap_or(&args.config), rules.as_deref())
        }
        Some(Command::Config) => report::config(&args.config),
        Some(Command::NewKey { file }) => report::new_key(file),
        Some(Command::Man { section }) => report::man(*section, &args_command()),
        None => run(&args.config),
    }
}

/// What the daemon starts itself as, for plugins: before anything is read or
/// started, so that such a process has nothing to give away.
fn plugin_process() -> Option<ExitCode> {
    match std::env::args_os().nth(1)?.to_str()? {
        "plugin-host" => Some(plugin::host_main()),
        "plugin-compile" => Some(plugin::compile_main()),
        _ => None,
    }
}

fn args_command() -> clap::Command {
    use clap::CommandFactory;
    Args::command()
}

/// Prints what clap says; its own exit code 2 would not stop systemd.
fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() || printed.is_err() {
        ExitCode::from(EX_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

fn run(config: &Path) -> ExitCode {
    let log_level = journal::start(tracing::level_filters::LevelFilter::INFO);
    match watch(config, log_level) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let why = chain(&failure);
            error!(error = %why, "giving up: {why}");
            systemd::status(&format!("gave up: {why}"));
            failure.exit_code()
        }
    }
}

fn watch(config: &Path, log_level: journal::LogLevel) -> Result<(), Failure> {
    limits::no_core_dumps()?;
    let everything = Everything::read(config)?;
    log_level.set(everything.log_level());
    limits::open_files(everything.settings())?;
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().min(WORKERS));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let ended = runtime.block_on(serve(config, everything, log_level));
    // a name server or a disk that hangs holds threads; they are not waited for
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// Runs the pipeline until a signal or a fault ends it.
async fn serve(
    config: &Path,
    everything: Everything,
    log_level: journal::LogLevel,
) -> Result<(), Failure> {
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Runtime)?;

    let mut app = tokio::select! {
        app = App::start(everything, log_level) => app?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    systemd::ready();
    systemd::status(&app.knobs.board.line());
    info!(version = env!("CARGO_PKG_VERSION"), "watching");
    let why = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok("SIGTERM"),
            _ = interrupt.recv() => break Ok("SIGINT"),
            _ = hangup.recv() => app.reload(config).await,
            fault = app.fault() => break Err(fault),
        }
    };
    systemd::stopping();
    match why {
        Ok(signal) => {
            info!(signal, "stopping");
            app.drain().await
        }
        Err(fault) => {
            let why = chain(&fault);
            error!(error = %why, "stopping after a fault: {why}");
            if let Err(error) = app.drain().await {
                let why = chain(&error);
                error!(error = %why, "not everything reached the disk: {why}");
            }
            Err(fault)
        }
    }
}
