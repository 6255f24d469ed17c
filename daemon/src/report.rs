//! `sotpd check`, `sotpd config` and the manual pages: what is printed without
//! starting anything.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::failure::{Failure, chain};
use crate::settings;

/// Checks the settings in `file`, and the rules they name or those in `rules`.
pub(crate) fn check(file: &Path, rules: Option<&Path>) -> ExitCode {
    let settings = settings::read(file).map(|loaded| loaded.settings);
    let rules = match (rules, &settings) {
        (Some(rules), _) => Some(rules.to_owned()),
        (None, Ok(settings)) => Some(settings.rules.dir.clone()),
        (None, Err(_)) => None,
    };
    let rules = rules.map_or(Ok(Vec::new()), |dir| {
        config::read_rules(&dir).map_err(Failure::Settings)
    });
    let mail = match &settings {
        Ok(settings) => settings::check_mail(settings),
        Err(_) => Ok(Vec::new()),
    };
    let templates = mail.as_ref().cloned().unwrap_or_default();
    let mut code = ExitCode::SUCCESS;
    for failure in [settings.err(), rules.err(), mail.err()]
        .into_iter()
        .flatten()
    {
        complain(&chain(&failure));
        code = failure.exit_code();
    }
    for problem in templates {
        complain(&format!(
            "warning: {problem}; the built-in one takes its place"
        ));
    }
    if code == ExitCode::SUCCESS {
        print(&format!("{}: ok\n", file.display()));
    }
    code
}

/// Prints every setting with its value and where it comes from.
pub(crate) fn config(file: &Path) -> ExitCode {
    match settings::read(file) {
        Ok(loaded) => {
            let lines: String = loaded
                .effective
                .iter()
                .map(|one| format!("{} = {}  # {}\n", one.key, one.value, one.origin))
                .collect();
            print(&lines);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            complain(&chain(&failure));
            failure.exit_code()
        }
    }
}

/// Makes a file with a new key.
pub(crate) fn new_key(file: &Path) -> ExitCode {
    match crate::sealing::make_key(file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("cannot make {}: {error}", file.display()));
            ExitCode::FAILURE
        }
    }
}

/// Prints sotpd(8) or sotp.toml(5).
pub(crate) fn man(section: u8, command: &clap::Command) -> ExitCode {
    match section {
        5 => print(&settings_page()),
        8 => print(&daemon_page(command)),
        _ => return ExitCode::from(crate::failure::EX_USAGE),
    }
    ExitCode::SUCCESS
}

/// sotp.toml(5), made from the table that the reader itself uses.
fn settings_page() -> String {
    let mut page = [
        ".TH SOTP.TOML 5 \"\" \"sotp\" \"File formats\"",
        ".SH NAME",
        "sotp.toml \\- settings of sotpd",
        ".SH DESCRIPTION",
        "/etc/sotp/sotp.toml is TOML. Every key has a default; an unknown one is refused.",
        ".B sotpd check",
        "says everything that is wrong,",
        ".B sotpd config",
        "prints what is in force,",
        ".B systemctl reload sotpd",
        "takes a changed file, or keeps the old settings if it is not valid.",
        "Keys marked (restart) are taken at the next start.",
        "",
    ]
    .join("\n");
    for section in config::sections_reference() {
        page.push_str(&format!(
            ".SH [{}]\n{}\n",
            section.name,
            troff(&section.help)
        ));
        for key in &section.keys {
            let restart = if key.restart { " (restart)" } else { "" };
            page.push_str(&format!(
                ".TP\n.BR {} \"{restart}\"\n{} Default: {}.\n",
                troff(&key.key),
                troff(&key.help),
                troff(&key.default)
            ));
        }
    }
    page.push_str(".SH SEE ALSO\n.BR sotpd (8),\n.BR sotp (1)\n");
    page
}

fn daemon_page(command: &clap::Command) -> String {
    let help = command.clone().render_long_help().to_string();
    format!(
        ".TH SOTPD 8 \"\" \"sotp\" \"System administration\"\n.SH NAME\nsotpd \\- watches over a network\n\
         .SH DESCRIPTION\n.nf\n{}\n.fi\n{}",
        troff(&help),
        include_str!("sotpd.8.in")
    )
}

/// Text in troff: a backslash and a leading dot or quote mean nothing special.
fn troff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    escaped
        .lines()
        .map(|line| match line.chars().next() {
            Some('.' | '\'') => format!("\\&{line}"),
            _ => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Standard output; a reader who went away is no error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

#[expect(
    clippy::print_stderr,
    reason = "a command's answer to whoever typed it"
)]
fn complain(text: &str) {
    eprintln!("{text}");
}
