//! `sotp`: the client of the daemon on this machine.
//!
//! Standard output carries data, standard error talk. Nothing is asked without
//! a terminal; no secret is taken from the command line or the environment;
//! text that came from a device loses its control characters before it is shown.

mod client;
mod command;
mod error;
mod output;
mod show;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::command::Command;
use crate::error::Trouble;
use crate::output::{Format, Output};

/// Watches over a network through the sotpd of this machine.
#[derive(Parser)]
#[command(
    name = "sotp",
    version,
    about,
    after_help = "Examples:\n  sotp devices add core1 10.0.0.1 --snmp-community-file community\n  sotp devices ls --state down\n  sotp alerts ls\n  sotp status -o json\n\nExit codes: 0 ok, 1 failed, 2 usage, 3 refused or needs confirmation, 4 the daemon cannot be reached.",
    disable_help_subcommand = true
)]
struct Args {
    /// The daemon's socket
    #[arg(
        long,
        global = true,
        env = "SOTP_SOCKET",
        default_value = "/run/sotp/sotp.sock",
        value_name = "PATH"
    )]
    socket: std::path::PathBuf,

    /// How to print: a table on a terminal, tab-separated values in a pipe
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Format>,

    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(args.output);
    let done = match &args.command {
        Command::Completions { shell } => completions(*shell, &output),
        Command::Man { directory } => man_pages(directory),
        other => run(other, &args.socket, &output),
    };
    match done {
        Ok(code) => code,
        Err(Trouble::Closed) => ExitCode::SUCCESS,
        Err(trouble) => {
            output::complain(&trouble);
            trouble.exit_code()
        }
    }
}

fn run(command: &Command, socket: &std::path::Path, output: &Output) -> Result<ExitCode, Trouble> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Trouble::local("start the client", source))?
        .block_on(async {
            let client = client::Client::new(socket);
            tokio::select! {
                done = show::run(command, &client, output) => done,
                _ = tokio::signal::ctrl_c() => Err(Trouble::Interrupted),
            }
        })
}

fn completions(shell: clap_complete::Shell, output: &Output) -> Result<ExitCode, Trouble> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "sotp", &mut text);
    output.raw(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes `sotp.1` and a page per command, as `sotp-devices-add.1`.
fn man_pages(directory: &std::path::Path) -> Result<ExitCode, Trouble> {
    let mut command = Args::command();
    command.build();
    write_man_page(&command, "sotp", directory)?;
    Ok(ExitCode::SUCCESS)
}

fn write_man_page(
    command: &clap::Command,
    name: &str,
    directory: &std::path::Path,
) -> Result<(), Trouble> {
    let doing = || format!("write the page for {name}");
    let mut text = Vec::new();
    let page = command.clone().name(name.to_owned());
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(|source| Trouble::local(doing(), source))?;
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, text).map_err(|source| Trouble::local(doing(), source))?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_man_page(sub, &format!("{name}-{}", sub.get_name()), directory)?;
    }
    Ok(())
}
