//! Runs a simulated site, prints its inventory, or passes a command to a
//! running one.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};
use simulate::control::{self, Control};
use simulate::{
    Network, Plan, Site, SiteOptions, StartError, USUAL_RESPONSE_BYTES, describe, inventory,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Simulated devices that answer SNMP (and ICMP) on loopback.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Subcommand)]
enum Command {
    /// Print the inventory of a site
    Site {
        #[command(flatten)]
        what: What,
        /// How
        #[arg(long, value_enum, default_value_t = Format::Csv)]
        format: Format,
        /// The credential that the devices refer to
        #[arg(long, default_value = "public")]
        credential: String,
    },
    /// Pass a command to a running simulation, such as `down sw-berlin-03`
    Ctl {
        /// The simulation's control socket
        #[arg(long)]
        control: PathBuf,
        /// The command; `help` lists them
        #[arg(required = true)]
        words: Vec<String>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Csv,
    Json,
}

/// Which devices, and where.
#[derive(Args)]
struct What {
    /// Devices of a company with a core and branches
    #[arg(long, default_value_t = 50)]
    devices: usize,
    /// So many equal switches instead
    #[arg(long, value_name = "DEVICES", conflicts_with_all = ["devices", "snmprec"])]
    uniform: Option<usize>,
    /// Ports of each equal switch
    #[arg(long, default_value_t = 48, requires = "uniform")]
    ports: u32,
    /// Replay a recording instead; may be given more than once
    #[arg(long, value_name = "FILE", conflicts_with = "devices")]
    snmprec: Vec<PathBuf>,
    /// Their addresses, inside 127.0.0.0/8
    #[arg(long, default_value_t)]
    network: Network,
    /// The UDP port of all agents; 0 picks a free one
    #[arg(long, default_value_t = 1161)]
    port: u16,
    /// Another seed gives other traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    what: What,
    /// A file with the one community that is answered, instead of "public"
    #[arg(long, value_name = "FILE")]
    community_file: Option<PathBuf>,
    /// The longest response in bytes
    #[arg(long, value_name = "BYTES", default_value_t = USUAL_RESPONSE_BYTES)]
    response_bytes: usize,
    /// Answer echo requests too; needs a network namespace with
    /// net.ipv4.icmp_echo_ignore_all=1 and CAP_NET_RAW in it
    #[arg(long)]
    icmp: bool,
    /// Take commands on this Unix socket
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

/// Why the program ends with an error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot read the community file {path}")]
    CommunityFile { path: PathBuf, source: io::Error },
    #[error("cannot open the control socket {path}")]
    Control { path: PathBuf, source: io::Error },
    #[error("no simulation answers at {path}")]
    Ask { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Refused(String),
    #[error("cannot start the runtime or listen for signals")]
    Runtime(#[source] io::Error),
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    let done = match arguments.command {
        None => run(&arguments.run),
        Some(Command::Site {
            what,
            format,
            credential,
        }) => print_site(&what, format, &credential),
        Some(Command::Ctl { control, words }) => pass(control, &words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!(error = %chain(&failure), "giving up");
            ExitCode::FAILURE
        }
    }
}

fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .without_time()
        .init();
}

/// An error and its causes, joined by ": ".
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

impl What {
    fn options(&self) -> SiteOptions {
        let plan = match self.uniform {
            Some(devices) => Plan::Uniform {
                devices,
                ports: self.ports,
            },
            None if self.snmprec.is_empty() => Plan::Company {
                devices: self.devices,
            },
            None => Plan::Recordings(self.snmprec.clone()),
        };
        SiteOptions {
            plan,
            network: self.network,
            port: self.port,
            seed: self.seed,
            ..SiteOptions::default()
        }
    }
}

impl Run {
    fn options(&self) -> Result<SiteOptions, Failure> {
        let mut options = SiteOptions {
            icmp: self.icmp,
            response_bytes: self.response_bytes,
            ..self.what.options()
        };
        if let Some(path) = &self.community_file {
            let read = fs::read(path).map_err(|source| Failure::CommunityFile {
                path: path.clone(),
                source,
            })?;
            options.community = read.trim_ascii_end().to_vec();
        }
        Ok(options)
    }
}

fn run(run: &Run) -> Result<(), Failure> {
    let options = run.options()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Runtime)?;
        let site = Arc::new(Site::start(options)?);
        let control = run.control.as_deref().map(Control::open).transpose();
        let control = control.map_err(|source| Failure::Control {
            path: run.control.clone().unwrap_or_default(),
            source,
        })?;
        announce(&site)?;
        tokio::select! {
            () = serve_control(control.as_ref(), &site) => {}
            _ = terminate.recv() => info!("stopping: terminated"),
            _ = interrupt.recv() => info!("stopping: interrupted"),
        }
        Ok(())
    })
}

fn announce(site: &Site) -> Result<(), Failure> {
    let devices = site.devices();
    if let (Some(first), Some(last)) = (devices.first(), devices.last()) {
        info!(devices = devices.len(), first = %first.address, last = %last.address, "answering");
    }
    print("ready\n")
}

/// Never ends by itself.
async fn serve_control(control: Option<&Control>, site: &Arc<Site>) {
    match control {
        Some(control) => control.serve(Arc::clone(site)).await,
        None => std::future::pending().await,
    }
}

fn print_site(what: &What, format: Format, credential: &str) -> Result<(), Failure> {
    let devices = describe(&what.options())?;
    match format {
        Format::Csv => print(&inventory::csv(&devices, credential)),
        Format::Json => print(&format!("{:#}\n", inventory::json(&devices, credential))),
    }
}

fn pass(path: PathBuf, words: &[String]) -> Result<(), Failure> {
    match control::ask(&path, &words.join(" ")) {
        Ok(Ok(lines)) => lines
            .iter()
            .try_for_each(|line| print(&format!("{line}\n"))),
        Ok(Err(refusal)) => Err(Failure::Refused(refusal)),
        Err(source) => Err(Failure::Ask { path, source }),
    }
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Failure::Output)
}
