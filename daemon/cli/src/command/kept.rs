//! The words about what was measured, and about backups of everything.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand)]
pub(crate) enum Metrics {
    /// Lists what is measured: of a device with its newest values, or everywhere
    #[command(
        after_help = "Examples:\n  sotp metrics ls\n  sotp metrics ls core1\n  sotp metrics ls core1 -o tsv | grep ifHCIn"
    )]
    Ls {
        /// The device's name or id
        device: Option<String>,
    },
    /// Shows values over time: a few series side by side, many of them as one line each
    #[command(
        after_help = "Examples:\n  sotp metrics get 'icmp_rtt_seconds{device=\"core1\"}'\n  sotp metrics get 'ifHCInOctets{device=\"core1\",ifName=~\"Gi.*\"}' --from -1d --step 15m --aggregate max\n  sotp metrics get 'ifHCInOctets{site=\"berlin\"}' --across sum --from -90d --step 1h -o json\n\nA selector needs quotes, for the shell. What was not measured is shown as —, never as a number. A table without --step has 60 rows at most; -o tsv and jsonl have a line per value. Warnings, such as of parts that are missing, go to standard error."
    )]
    Get(MetricsGet),
    /// Writes values over time as CSV or JSON lines, however many there are
    #[command(
        after_help = "Examples:\n  sotp metrics export 'icmp_rtt_seconds{device=\"core1\"}' --from -30d --file rtt.csv\n  sotp metrics export ifHCInOctets --from 2026-01-01 --until 2027-01-01 --step 1h --format jsonl | gzip > year.jsonl.gz\n\nAs it was measured, counters as the device gave them, unless --step is given. Exit code 1 with everything written: some of it is missing, and standard error says what. A text in CSV that a spreadsheet would take for a formula has a ' before it."
    )]
    Export(MetricsExport),
    /// Deletes what was measured of a device, for good; the device stays
    #[command(after_help = "Example:\n  sotp metrics rm sw7 --yes")]
    Rm {
        /// Its name or id
        device: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Which values, of when.
#[derive(Args)]
pub(crate) struct Asked {
    /// Which series, as in PromQL: METRIC{LABEL="VALUE",LABEL=~"REGEX"}; device is a label too
    pub(crate) selector: String,
    /// From when: RFC 3339, a date, seconds since 1970, or a span before now such as -6h
    #[arg(
        long,
        value_name = "TIME",
        default_value = "-1h",
        allow_hyphen_values = true
    )]
    pub(crate) from: String,
    /// Until when
    #[arg(
        long,
        value_name = "TIME",
        default_value = "now",
        allow_hyphen_values = true
    )]
    pub(crate) until: String,
    /// How the values within a step become one, such as min, max, avg, last, count, increase or rate
    #[arg(long, value_name = "HOW")]
    pub(crate) aggregate: Option<String>,
    /// Make one series of all, such as their sum, avg, min, max or count
    #[arg(long, value_name = "HOW")]
    pub(crate) across: Option<String>,
    /// What to read: auto, raw, 15m or 1h; auto takes what is fine enough for the step and reaches back so far
    #[arg(long, value_name = "WHICH")]
    pub(crate) source: Option<String>,
}

#[derive(Args)]
pub(crate) struct MetricsGet {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// One value per such a span, such as 1m; raw: every value as it was measured
    #[arg(long, value_name = "SPAN")]
    pub(crate) step: Option<String>,
    /// No more than a chart so many pixels wide can show
    #[arg(long, value_name = "PIXELS")]
    pub(crate) width: Option<u32>,
}

#[derive(Args)]
pub(crate) struct MetricsExport {
    #[command(flatten)]
    pub(crate) asked: Asked,
    /// One value per such a span, such as 1h; raw: every value as it was measured
    #[arg(long, value_name = "SPAN", default_value = "raw")]
    pub(crate) step: String,
    /// As what
    #[arg(long, value_enum, default_value_t = TableFormat::Csv)]
    pub(crate) format: TableFormat,
    /// Into this file, complete or not at all; without it to standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// How many values are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TableFormat {
    /// RFC 4180, with a header line
    Csv,
    /// One JSON object per line
    Jsonl,
}

#[derive(Subcommand)]
pub(crate) enum Backup {
    /// Makes one while the daemon runs: into a file here, or where the settings say
    #[command(
        after_help = "Examples:\n  sotp backup create /srv/sotp-monday.tar\n  sotp backup create                             # where [backup] in the settings says\n  sotp backup create s3://backups/noc\n  sotp backup create - | ssh vault 'cat > sotp.tar'\n\nA file is made here, by this client: complete, on the disk, or not at all. Anything else the daemon makes itself."
    )]
    Create {
        /// A file, - for standard output, or s3://bucket/prefix
        #[arg(value_name = "FILE|s3://BUCKET/PREFIX")]
        to: Option<String>,
    },
    /// Lists those that are kept where the settings say
    #[command(after_help = "Example:\n  sotp backup ls")]
    Ls,
    /// Reads one to its end and checks every byte, without a daemon
    #[command(
        after_help = "Examples:\n  sotp backup verify /srv/sotp-monday.tar\n  sotp backup verify /srv/sotp-monday.tar.age --identity key.txt\n  ssh vault cat sotp.tar | sotp backup verify -\n  sotp backup verify s3://backups/noc --endpoint https://s3.example.net --access-key sotp --secret-key-file secret\n\nThe issuers of an S3 server of one's own are given with --ca-file."
    )]
    Verify {
        #[command(flatten)]
        opened: Opened,
    },
    /// Puts one into an empty directory, checked and complete or not at all, without a daemon
    #[command(
        after_help = "Examples:\n  sudo sotp backup restore /srv/sotp-monday.tar /var/lib/sotp.restored\n  sudo sotp backup restore /srv/sotp-monday.tar.age /var/lib/sotp.restored --identity key.txt\n  sudo sotp backup restore s3://backups/noc/sotp-core-20261121T023000Z.tar /var/lib/sotp.restored --access-key sotp --secret-key-file secret\n\nThe directory of a running daemon is not touched; what is left to do is said at the end. The key that secrets are sealed with is in no backup."
    )]
    Restore {
        #[command(flatten)]
        opened: Opened,
        /// An empty directory, or one that is not there yet
        directory: PathBuf,
    },
}

/// A backup that is read, and what that takes.
#[derive(Args)]
pub(crate) struct Opened {
    /// A file, - for standard input, or s3://bucket/prefix/NAME; without a NAME the newest there
    #[arg(value_name = "FILE|s3://BUCKET/NAME")]
    pub(crate) from: String,
    /// The file with the private key of age, for one that is encrypted
    #[arg(long, value_name = "FILE")]
    pub(crate) identity: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) s3: S3,
}

/// What stands above the flags for a bucket.
const S3_HEADING: &str = "In an S3 bucket";

/// How a bucket is reached.
#[derive(Args)]
pub(crate) struct S3 {
    /// The server, such as https://s3.example.net; without it AWS, by region
    #[arg(long, help_heading = S3_HEADING, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// The bucket's region; most servers but AWS take any
    #[arg(long, help_heading = S3_HEADING, value_name = "NAME", default_value = "us-east-1")]
    pub(crate) region: String,
    /// The access key's ID
    #[arg(long, help_heading = S3_HEADING, value_name = "ID")]
    pub(crate) access_key: Option<String>,
    /// The file with the access key's secret (- for standard input)
    #[arg(long, help_heading = S3_HEADING, value_name = "FILE")]
    pub(crate) secret_key_file: Option<PathBuf>,
    /// The bucket stands in the server's name (https://bucket.server/), not in the path
    #[arg(long, help_heading = S3_HEADING)]
    pub(crate) bucket_in_host: bool,
}
