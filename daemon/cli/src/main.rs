//! `sotp`: the client of a daemon, on this machine or elsewhere.
//!
//! Standard output carries data, standard error talk. Nothing is asked without
//! a terminal; no secret is taken from the command line or the environment;
//! text that came from a device loses its control characters before it is shown.

mod client;
mod command;
mod contexts;
mod error;
mod input;
mod manual;
mod output;
mod part;
mod place;
mod progress;
mod roles;
mod show;
mod tls;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, FromArgMatches, Parser};

use crate::command::Command;
use crate::error::Trouble;
use crate::output::{Colour, Format, Output};
use crate::place::{Chosen, Environment};

/// Watches over a network through sotpd, on this machine or elsewhere.
#[derive(Parser)]
#[command(
    name = "sotp",
    version,
    about,
    after_help = manual::TOP_HELP,
    disable_help_subcommand = true
)]
struct Args {
    /// How to print: a table on a terminal, tab-separated values in a pipe
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    output: Option<Format>,

    /// When to use colours: auto, always or never
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Colour::Auto, hide_possible_values = true)]
    color: Colour,

    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    chosen: Chosen,
}

/// What a command is carried out with.
struct World<'a> {
    chosen: Chosen,
    env: Environment<'a>,
}

fn main() -> ExitCode {
    if let Some(code) = plugin_process() {
        return code;
    }
    let args = match read_arguments() {
        Ok(args) => args,
        Err(error) => {
            // a closed pipe is no error
            let _printed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let output = Output::new(args.output, args.color);
    let done = match &args.command {
        Command::Completions { shell } => completions(*shell, &output),
        Command::Man { directory } => manual::write(Args::command(), directory),
        other => run(other, args.chosen.clone(), &output),
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

/// What the client starts itself as, for its author's plugins: before anything
/// is read.
fn plugin_process() -> Option<ExitCode> {
    match std::env::args_os().nth(1)?.to_str()? {
        "plugin-host" => Some(plugin::host_main()),
        "plugin-compile" => Some(plugin::compile_main()),
        _ => None,
    }
}

fn read_arguments() -> Result<Args, clap::Error> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let command = Args::command().color(help_colour(&words));
    Args::from_arg_matches(&command.try_get_matches_from(words)?)
}

/// Help and usage errors heed `--color` as well, and are printed before it is
/// read.
fn help_colour(words: &[OsString]) -> ColorChoice {
    let word = |place: usize| words.get(place).and_then(|word| word.to_str());
    let value = (0..words.len()).find_map(|place| match word(place)? {
        "--color" => word(place + 1),
        other => other.strip_prefix("--color="),
    });
    match value {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

fn run(command: &Command, chosen: Chosen, output: &Output) -> Result<ExitCode, Trouble> {
    let world = World {
        chosen,
        env: &place::environment,
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Trouble::local("start the client", source))?
        .block_on(async {
            tokio::select! {
                done = Box::pin(show::run(command, &world, output)) => done,
                () = interrupted() => Err(Trouble::Interrupted),
            }
        })
}

/// Ctrl-C, and then the end of what must not be torn apart.
async fn interrupted() {
    // without signals there is no Ctrl-C to wait for
    match tokio::signal::ctrl_c().await {
        Ok(()) => client::exchange_finished().await,
        Err(_none) => std::future::pending().await,
    }
}

fn completions(shell: clap_complete::Shell, output: &Output) -> Result<ExitCode, Trouble> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "sotp", &mut text);
    output.raw(&text)?;
    Ok(ExitCode::SUCCESS)
}
