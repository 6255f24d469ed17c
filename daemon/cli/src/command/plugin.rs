//! The words about plugins: of who writes them, and of who runs them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand)]
pub(crate) enum Plugin {
    /// Begins one, with a test that passes
    #[command(
        after_help = "Examples:\n  sotp plugin new acme-ups\n  sotp plugin new acme-ups --lang rust\n  sotp plugin new acme-chat --kind notifier\n\nThen: cd acme-ups; sotp plugin test --watch"
    )]
    New {
        /// Its id: a-z, 0-9, - and .; fixed for ever
        id: String,
        /// In what it is written
        #[arg(long, value_enum, default_value_t = Lang::Rhai)]
        lang: Lang,
        /// What it does
        #[arg(long, value_enum, default_value_t = KindOfPlugin::Parser)]
        kind: KindOfPlugin,
        /// Where; by default in a directory of its name
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Saves what a device answers as a golden case; names, addresses and serial numbers are masked
    #[command(
        after_help = "Examples:\n  sotp plugin record 10.0.0.5\n  sotp plugin record ups1 --name on-battery --dir acme-ups\n\nThe daemon asks the device, with its own credential, for what [[collect]] in plugin.toml says. What is expected is written by `sotp plugin test --bless`."
    )]
    Record(PluginRecord),
    /// Runs its golden cases, with the limits that it has in the daemon
    #[command(
        after_help = "Examples:\n  sotp plugin test\n  sotp plugin test acme-ups --watch\n  sotp plugin test --bless   # what comes now is what is expected\n\nExit code 1: a case differs, has no expectation, or the plugin cannot be loaded."
    )]
    Test(PluginTest),
    /// Says what a reviewer would say
    #[command(after_help = "Example:\n  sotp plugin lint acme-ups")]
    Lint {
        /// The plugin's directory
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Runs it for one device of a running daemon, again at every change
    #[command(
        after_help = "Examples:\n  sotp plugin dev --device ups1\n  sotp plugin dev acme-ups --device ups1 --once\n\nIt need not be signed, runs for that device alone and ends with Ctrl-C, or a minute after it is not heard of."
    )]
    Dev {
        /// The plugin's directory
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// The device's name, address or id
        #[arg(long)]
        device: String,
        /// Once, and no more
        #[arg(long)]
        once: bool,
    },
    /// Makes a package of it; its golden cases have to hold
    #[command(after_help = "Example:\n  sotp plugin pack acme-ups   # acme-ups-0.1.0.sotp-plugin")]
    Pack {
        /// The plugin's directory
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// The package; by default ID-VERSION.sotp-plugin
        #[arg(short = 'f', long, value_name = "FILE", alias = "out")]
        file: Option<PathBuf>,
        /// The code, which something else than cargo built
        #[arg(long, value_name = "FILE")]
        wasm: Option<PathBuf>,
        /// Do not run its golden cases
        #[arg(long)]
        no_test: bool,
    },
    /// Keys that packages are signed with
    #[command(subcommand)]
    Key(PluginKey),
    /// Signs a package
    #[command(
        after_help = "Example:\n  sotp plugin sign acme-ups-0.1.0.sotp-plugin --key-file ~/acme.key"
    )]
    Sign {
        /// The package
        package: PathBuf,
        /// The file with the private key, which `sotp plugin key new` made
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
    /// Checks a package, and whose it is
    #[command(
        after_help = "Examples:\n  sotp plugin verify acme-ups-0.1.0.sotp-plugin\n  sotp plugin verify acme-ups-0.1.0.sotp-plugin --key \"$ACME_KEY\""
    )]
    Verify {
        /// The package
        package: PathBuf,
        /// The public key that it has to be signed with
        #[arg(long)]
        key: Option<String>,
    },
    /// Prints the reference of everything that a script can use
    #[command(after_help = "Example:\n  sotp plugin reference | less")]
    Reference,
    /// Lists what is installed and how it does; or what can be
    #[command(after_help = "Examples:\n  sotp plugin ls\n  sotp plugin ls --bundled")]
    Ls {
        /// What came with the daemon and can be installed
        #[arg(long)]
        bundled: bool,
    },
    /// Shows one: what it may do, its settings, its last failure
    #[command(after_help = "Example:\n  sotp plugin show slack")]
    Show {
        /// What it is called here
        name: String,
    },
    /// Installs a package, or a newer version; it does not run before it is granted and enabled
    #[command(
        after_help = "Examples:\n  sotp plugin install acme-ups-0.1.0.sotp-plugin\n  sotp plugin install --bundled slack --as slack-noc"
    )]
    Install {
        /// The package
        #[arg(required_unless_present = "bundled", conflicts_with = "bundled")]
        package: Option<PathBuf>,
        /// One that came with the daemon, by its id
        #[arg(long, value_name = "ID")]
        bundled: Option<String>,
        /// What it is called here; by default its id
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
    },
    /// Lets one do what it asks for
    #[command(
        after_help = "Examples:\n  sotp plugin grant slack          # says what it asks for\n  sotp plugin grant slack --all\n  sotp plugin grant webhook --capability http=https://ops.example.net/* --capability secrets"
    )]
    Grant {
        /// What it is called here
        name: String,
        /// Everything that it asks for
        #[arg(long, conflicts_with = "capability")]
        all: bool,
        /// This, in the place of what it may now; with = a pattern of what
        #[arg(long, value_name = "CAPABILITY[=PATTERN]")]
        capability: Vec<String>,
    },
    /// Lets one run
    #[command(after_help = "Example:\n  sotp plugin enable slack")]
    Enable {
        /// What it is called here
        name: String,
    },
    /// Stops one
    #[command(after_help = "Example:\n  sotp plugin disable slack")]
    Disable {
        /// What it is called here
        name: String,
    },
    /// Goes back to the version before
    #[command(after_help = "Example:\n  sotp plugin rollback acme-ups")]
    Rollback {
        /// What it is called here
        name: String,
    },
    /// Changes its settings
    #[command(
        after_help = "Examples:\n  sotp plugin set slack webhook=secret://slack-hook\n  sotp plugin set flap-detector changes=5 --unset window\n\nA secret is named, never given: sotp secrets set slack-hook --value-file FILE."
    )]
    Set {
        /// What it is called here
        name: String,
        /// Settings: KEY=VALUE, the value as JSON or as plain text
        settings: Vec<String>,
        /// Back to its default
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Removes one with all that it kept
    #[command(after_help = "Example:\n  sotp plugin rm acme-ups --yes")]
    Rm {
        /// What it is called here
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Shows what one logged, and its failures
    #[command(after_help = "Example:\n  sotp plugin log acme-ups")]
    Log {
        /// What it is called here
        name: String,
    },
    /// Calls one for a device now, and shows what comes of it; nothing is kept
    #[command(after_help = "Example:\n  sotp plugin try acme-ups --device ups1")]
    Try {
        /// What it is called here
        name: String,
        /// The device's name, address or id
        #[arg(long)]
        device: String,
    },
    /// Sends a test through a notifier
    #[command(after_help = "Example:\n  sotp plugin send-test slack")]
    SendTest {
        /// What it is called here
        name: String,
    },
    /// Shows what a remediation would do about an alert; nothing is done
    #[command(after_help = "Example:\n  sotp plugin plan interface-bounce 17")]
    Plan {
        /// What it is called here
        name: String,
        /// The alert's number
        alert: u64,
    },
}

/// What a plugin does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindOfPlugin {
    /// Reads what devices answer
    Parser,
    /// Says what devices are asked
    Poller,
    /// Judges what was measured, and fires alerts
    Rule,
    /// Takes alerts elsewhere, by HTTP
    Notifier,
    /// Plans a repair
    Remediation,
}

/// In what a plugin is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lang {
    /// A script: nothing to install
    Rhai,
    /// A crate, built to WebAssembly
    Rust,
}

#[derive(Args)]
pub(crate) struct PluginRecord {
    /// The device's name, address or id
    pub(crate) device: String,
    /// The case's name; by default the device's vendor and number
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The plugin's directory
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Mask nothing
    #[arg(long)]
    pub(crate) unmasked: bool,
}

#[derive(Args)]
pub(crate) struct PluginTest {
    /// The plugin's directory
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Again at every change, until Ctrl-C
    #[arg(long, conflicts_with = "bless")]
    pub(crate) watch: bool,
    /// Write what comes as what is expected
    #[arg(long)]
    pub(crate) bless: bool,
    /// Only this case
    #[arg(long, value_name = "NAME")]
    pub(crate) case: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum PluginKey {
    /// Makes a key; never over a file that is there
    #[command(after_help = "Example:\n  sotp plugin key new ~/acme.key")]
    New {
        /// The file to make, with mode 0600
        file: PathBuf,
    },
    /// Prints the public key of a private one
    #[command(after_help = "Example:\n  sotp plugin key show ~/acme.key")]
    Show {
        /// The file with the private key
        file: PathBuf,
    },
}
