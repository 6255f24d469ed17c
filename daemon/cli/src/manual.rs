//! The manual pages, and what they say of every command.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use clap_mangen::Man;

use crate::error::Trouble;

/// What `sotp --help` ends with.
pub(crate) const TOP_HELP: &str = "Examples:\n  \
    sotp devices add core1 10.0.0.1 --snmp-community-file community\n  \
    sotp devices ls --state down\n  \
    sotp alerts ls\n  \
    sotp metrics get 'icmp_rtt_seconds{device=\"core1\"}' --from -1d\n  \
    sotp backup create /srv/sotp.tar\n  \
    sotp status -o json\n  \
    sotp login https://sotp.example.net:8443\n\n\
    A flag wins over the environment, that over the current context, that over the socket of this machine.\n\n\
    Exit codes: 0 ok, 1 failed, 2 usage, 3 refused or needs confirmation, 4 the daemon cannot be reached or does not know who asks.";

/// Variables that every command heeds.
const ENVIRONMENT: [(&str, &str); 9] = [
    ("SOTP_CONTEXT", "The context to use, as with --context."),
    (
        "SOTP_SERVER",
        "The server to ask, as with --server; SOTP_CONTEXT wins over it.",
    ),
    (
        "SOTP_SOCKET",
        "The socket to ask, as with --socket; the two above win over it.",
    ),
    (
        "SOTP_TOKEN_FILE",
        "A file with a token to show the server, as with --token-file.",
    ),
    (
        "SOTP_FINGERPRINT",
        "The SHA-256 of the server's certificate, as with --fingerprint.",
    ),
    (
        "SOTP_CA_FILE",
        "A file with the server's issuers, as with --ca-file.",
    ),
    (
        "NO_COLOR",
        "If set, there are no colours; TERM=dumb does the same. --color wins over both.",
    ),
    ("COLUMNS", "The width of tables on a terminal."),
    ("XDG_CONFIG_HOME, HOME", "Where the contexts are kept."),
];

/// Files that every command may use.
const FILES: [(&str, &str); 3] = [
    (
        "/run/sotp/sotp.sock",
        "The socket of this machine's daemon. Root and members of the group sotp may use it; the kernel says who asks, and nobody signs in.",
    ),
    (
        "$XDG_CONFIG_HOME/sotp/contexts.json",
        "Servers that somebody signed in to, and the tokens that they gave; ~/.config without XDG_CONFIG_HOME. Readable by its owner alone. It never holds a password.",
    ),
    (
        "$XDG_CONFIG_HOME/sotp/*.lock",
        "Locks; two commands at once do not spoil the file.",
    ),
];

/// Writes `sotp.1` and a page per command, as `sotp-devices-add.1`.
pub(crate) fn write(mut command: clap::Command, directory: &Path) -> Result<ExitCode, Trouble> {
    command.build();
    write_page(&command, "sotp", directory)?;
    Ok(ExitCode::SUCCESS)
}

fn write_page(command: &clap::Command, name: &str, directory: &Path) -> Result<(), Trouble> {
    let doing = || format!("write the page for {name}");
    let text = page(command, name).map_err(|source| Trouble::local(doing(), source))?;
    let path = directory.join(format!("{name}.1"));
    std::fs::write(&path, text).map_err(|source| Trouble::local(doing(), source))?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_page(sub, &format!("{name}-{}", sub.get_name()), directory)?;
    }
    Ok(())
}

fn page(command: &clap::Command, name: &str) -> std::io::Result<Vec<u8>> {
    let man = Man::new(command.clone().name(name.to_owned()));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    text.extend(examples(command));
    text.extend(section("ENVIRONMENT", &ENVIRONMENT));
    text.extend(section("FILES", &FILES));
    if name != "sotp" {
        text.extend(b".SH \"SEE ALSO\"\nsotp(1)\n");
    }
    if command.get_version().is_some() {
        man.render_version_section(&mut text)?;
    }
    Ok(text)
}

/// What the help ends with: indented lines as they stand there, others as
/// paragraphs.
fn examples(command: &clap::Command) -> Vec<u8> {
    let Some(help) = command.get_after_help() else {
        return Vec::new();
    };
    let mut text = String::from(".SH EXAMPLES\n");
    let mut as_it_stands = false;
    for line in help.to_string().lines() {
        let (indented, line) = match line.strip_prefix("  ") {
            Some(line) => (true, line),
            None => (false, line),
        };
        if line.is_empty() && !as_it_stands {
            text.push_str(".PP\n");
        }
        if matches!(line, "" | "Examples:" | "Example:") {
            continue;
        }
        if indented != as_it_stands {
            text.push_str(if indented { ".nf\n" } else { ".fi\n.PP\n" });
            as_it_stands = indented;
        }
        text.push_str(&escaped(line));
        text.push('\n');
    }
    text.push_str(".fi\n");
    text.into_bytes()
}

fn section(title: &str, entries: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!(".SH {title}\n");
    for (name, what) in entries {
        // writing to a String does not fail
        let _written = write!(text, ".TP\n\\fB{}\\fR\n{}\n", escaped(name), escaped(what));
    }
    text.into_bytes()
}

/// Text that roff takes as it is.
fn escaped(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|letter| match letter {
            '\\' => "\\e".to_owned(),
            '-' => "\\-".to_owned(),
            letter if letter.is_ascii() => letter.to_string(),
            other => format!("\\[u{:04X}]", u32::from(other)),
        })
        .collect();
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Args;
    use clap::CommandFactory;

    /// Every command with its name, the top one first.
    fn all() -> Vec<(String, clap::Command)> {
        fn add(command: &clap::Command, name: &str, found: &mut Vec<(String, clap::Command)>) {
            found.push((name.to_owned(), command.clone()));
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                add(sub, &format!("{name} {}", sub.get_name()), found);
            }
        }
        let mut command = Args::command();
        command.build();
        let mut found = Vec::new();
        add(&command, "sotp", &mut found);
        found
    }

    #[test]
    fn the_words_fit_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example_that_it_understands() {
        for (name, command) in all() {
            if command.has_subcommands() && name != "sotp" {
                continue;
            }
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("Example"), "{name} has no example");
            for line in help.lines().filter(|line| line.starts_with("  ")) {
                assert!(understood(line), "{name}: {line}");
            }
        }
    }

    /// Whether the words of `sotp` in this line of a help text are right.
    fn understood(line: &str) -> bool {
        let line = line.split(" #").next().unwrap_or(line);
        let words: Vec<String> = words(line);
        let Some(start) = words.iter().position(|word| word == "sotp") else {
            return true;
        };
        let ours = words[start..]
            .iter()
            .take_while(|word| !matches!(word.as_str(), "|" | ">"))
            .map(|word| match word.contains('…') {
                // a value that is cut short
                true if !starts_with_a_number(word) => "ab".repeat(32),
                true => format!("1:{}", "ab".repeat(32)),
                false => word.clone(),
            });
        match Args::try_parse_from(ours) {
            Ok(_args) => true,
            Err(error) => error.kind() == clap::error::ErrorKind::DisplayHelp,
        }
    }

    /// As `7:9f2c…` does, and `3A:9F:…` does not.
    fn starts_with_a_number(word: &str) -> bool {
        let number = word.split(':').next().unwrap_or_default();
        number.bytes().all(|byte| byte.is_ascii_digit())
    }

    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quoted = false;
        for letter in line.trim().chars() {
            match letter {
                '"' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                other => words.last_mut().unwrap().push(other),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    use clap::Parser;

    #[test]
    fn no_secret_is_taken_from_a_flag() {
        for (name, command) in all() {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let secret = ["password", "token", "community", "value", "totp"]
                    .iter()
                    .any(|word| id.contains(word));
                let takes_text = argument.get_action().takes_values();
                let harmless = id.ends_with("_file")
                    || ["require_totp", "samples_per_second"].contains(&id)
                    || (name.starts_with("sotp tokens") && id == "token");
                assert!(!secret || !takes_text || harmless, "{name} --{id}");
            }
        }
        for words in [
            &["login", "https://h", "--password", "x"][..],
            &["--token", "x", "status"],
            &["secrets", "set", "smtp", "hunter2"],
            &["secrets", "set", "smtp", "--value", "hunter2"],
            &["credentials", "set", "campus", "--snmp-community", "x"],
            &["credentials", "set", "campus", "--secret", "hunter2"],
            &["users", "add", "jane", "--password", "x"],
        ] {
            let words = [&["sotp"], words].concat();
            let error = Args::try_parse_from(&words).err().unwrap();
            assert!(error.use_stderr(), "{words:?}");
        }
    }

    #[test]
    fn roff_takes_text_as_it_is() {
        assert_eq!(escaped("a\\-…"), "a\\e\\-\\[u2026]");
        assert_eq!(escaped(".SH"), "\\&.SH");
    }

    #[test]
    fn every_page_says_which_variables_and_files_count() {
        for (name, command) in all() {
            let text = String::from_utf8(page(&command, &name.replace(' ', "-")).unwrap()).unwrap();
            for part in [
                ".SH ENVIRONMENT",
                "SOTP_CONTEXT",
                ".SH FILES",
                "contexts.json",
            ] {
                assert!(text.contains(part), "{name}: {part}");
            }
        }
    }

    /// The help of every command, as it was when somebody last read it through.
    /// After a change: `SOTP_WRITE_GOLDEN=1 cargo test -p sotp`, and read the difference.
    #[test]
    fn the_help_is_the_one_that_was_read_through() {
        let mut text = String::new();
        for (name, command) in all() {
            let mut command = command.term_width(100).color(clap::ColorChoice::Never);
            // the flags that all have in common stand at the top only
            if name != "sotp" {
                let global: Vec<_> = command
                    .get_arguments()
                    .filter(|argument| argument.is_global_set())
                    .map(|argument| argument.get_id().clone())
                    .collect();
                for id in global {
                    command = command.mut_arg(id, |argument| argument.hide(true));
                }
            }
            writeln!(text, "=== {name}").unwrap();
            for line in command.render_long_help().to_string().lines() {
                writeln!(text, "{}", line.trim_end()).unwrap();
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help.txt");
        if std::env::var_os("SOTP_WRITE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        for (now, then) in text.lines().zip(golden.lines()) {
            assert_eq!(now, then, "{} is out of date", path.display());
        }
        assert_eq!(text.lines().count(), golden.lines().count());
    }
}
