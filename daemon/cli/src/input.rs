//! What is taken in: files, standard input, questions to a person.
//!
//! A secret comes from a file, from standard input or from a prompt that shows
//! nothing: never from a flag or the environment, where `ps`, a shell's history
//! or a crash report would keep it. Nothing is asked without a terminal.

use std::fs::File;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::error::Trouble;

/// The longest password or token.
const LINE_BYTES: u64 = 4096;

/// Does what may block for long on a thread of its own, so that Ctrl-C is heard
/// meanwhile: the process ends without waiting for it.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || done.send(work()));
    result.await.map_err(|_| Trouble::Interrupted)?
}

/// The content of `file` (- for standard input), if it is not larger than
/// `limit`.
pub(crate) async fn read(file: &Path, limit: u64) -> Result<Vec<u8>, Trouble> {
    let file = file.to_owned();
    aside(move || read_limited(&file, limit)).await
}

/// The one line of `file` (- for standard input), without its end.
pub(crate) async fn line(file: &Path, what: &str) -> Result<String, Trouble> {
    only_line(file, what, read(file, LINE_BYTES).await?)
}

pub(crate) fn only_line(file: &Path, what: &str, bytes: Vec<u8>) -> Result<String, Trouble> {
    let shown = match file == Path::new("-") {
        true => "standard input".to_owned(),
        false => file.display().to_string(),
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Trouble::Usage(format!("{shown} is not UTF-8 text")))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() || line.contains('\n') {
        return Err(Trouble::Usage(format!(
            "{shown} must hold {what} and nothing else, on one line"
        )));
    }
    Ok(line.to_owned())
}

fn read_limited(file: &Path, limit: u64) -> Result<Vec<u8>, Trouble> {
    let cannot = |source| Trouble::local(format!("read {}", file.display()), source);
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(limit + 1)
            .read_to_end(&mut bytes)
    } else {
        File::open(file)
            .map_err(cannot)?
            .take(limit + 1)
            .read_to_end(&mut bytes)
    };
    let length = read.map_err(cannot)?;
    if u64::try_from(length).unwrap_or(u64::MAX) > limit {
        return Err(Trouble::Usage(format!(
            "{} is larger than {limit} bytes",
            file.display()
        )));
    }
    Ok(bytes)
}

/// Whether somebody is there to answer a question.
pub(crate) fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a line that may be seen; the caller has made sure that somebody is
/// there.
pub(crate) async fn ask(question: String) -> Result<String, Trouble> {
    show(&question)?;
    stdin_line().await?.ok_or(Trouble::Interrupted)
}

/// One line of standard input, from a terminal or a program; `None` at its end.
pub(crate) async fn stdin_line() -> Result<Option<String>, Trouble> {
    aside(|| {
        let mut typed = String::new();
        let read = std::io::stdin()
            .lock()
            .take(LINE_BYTES)
            .read_line(&mut typed);
        match read.map_err(|source| Trouble::local("read the answer", source))? {
            0 => Ok(None),
            _ => Ok(Some(typed.trim().to_owned())),
        }
    })
    .await
}

/// Asks whether `what` is really to be removed, by its name, if somebody is
/// there.
pub(crate) async fn confirm(verb: &str, what: &str, yes: bool) -> Result<(), Trouble> {
    if yes {
        return Ok(());
    }
    let typed = match somebody_is_there() {
        true => ask(format!("{verb} {what}? Type its name to confirm: ")).await?,
        false => String::new(),
    };
    match typed == what {
        true => Ok(()),
        false => Err(Trouble::NeedsConfirmation(format!(
            "{what}: nothing was done; type its name, or give --yes"
        ))),
    }
}

/// A password from `file`, or else typed on the terminal without being shown.
pub(crate) async fn password(
    file: Option<&Path>,
    question: &str,
    flag: &str,
) -> Result<String, Trouble> {
    if let Some(file) = file {
        return line(file, "the password").await;
    }
    if !somebody_is_there() {
        return Err(Trouble::NeedsConfirmation(format!(
            "there is no terminal to type a password at: give it with {flag} (- for standard input)"
        )));
    }
    let question = question.to_owned();
    aside(move || hidden(&question)).await
}

/// A new password from `file`, or else typed twice.
pub(crate) async fn new_password(file: Option<&Path>, flag: &str) -> Result<String, Trouble> {
    let first = password(file, "New password: ", flag).await?;
    if file.is_none() && password(None, "Again: ", flag).await? != first {
        return Err(Trouble::Usage("the two were not the same".into()));
    }
    Ok(first)
}

#[expect(clippy::print_stderr, reason = "a question to a person")]
fn show(question: &str) -> Result<(), Trouble> {
    eprint!("{question}");
    std::io::stderr()
        .flush()
        .map_err(|source| Trouble::local("ask", source))
}

/// Reads a line without showing it. Key by key and without signals, so that
/// Ctrl-C too leaves the terminal as it was.
fn hidden(question: &str) -> Result<String, Trouble> {
    let failed = |source: std::io::Error| Trouble::local("ask for a password", source);
    let terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(failed)?;
    // quiet first: who reads the question may type at once
    let quiet = Quiet::new(&terminal).map_err(|error| failed(error.into()))?;
    show(question)?;
    let typed = keys(std::io::BufReader::new(&terminal).bytes());
    drop(quiet);
    show("\n")?;
    typed
}

/// While it lives, the terminal shows nothing and gives each key at once.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl Quiet<'_> {
    fn new(terminal: &File) -> nix::Result<Quiet<'_>> {
        let before = tcgetattr(terminal.as_fd())?;
        let mut quiet = before.clone();
        quiet
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
        tcsetattr(terminal.as_fd(), SetArg::TCSAFLUSH, &quiet)?;
        Ok(Quiet { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // nobody is left to tell if even this fails
        let _tried = tcsetattr(self.terminal.as_fd(), SetArg::TCSAFLUSH, &self.before);
    }
}

/// What the keys come to, up to Enter.
fn keys(bytes: impl Iterator<Item = std::io::Result<u8>>) -> Result<String, Trouble> {
    const CTRL_C: u8 = 3;
    const CTRL_D: u8 = 4;
    const CTRL_U: u8 = 21;
    const BACKSPACE: [u8; 2] = [8, 127];
    let mut typed: Vec<u8> = Vec::new();
    for byte in bytes {
        match byte.map_err(|source| Trouble::local("read the password", source))? {
            b'\n' | b'\r' => return text_of(typed),
            CTRL_C => return Err(Trouble::Interrupted),
            CTRL_D if typed.is_empty() => return Err(Trouble::Interrupted),
            CTRL_U => typed.clear(),
            key if BACKSPACE.contains(&key) => remove_last(&mut typed),
            key => typed.push(key),
        }
    }
    Err(Trouble::Interrupted)
}

fn text_of(typed: Vec<u8>) -> Result<String, Trouble> {
    String::from_utf8(typed).map_err(|_| Trouble::Usage("what was typed is not UTF-8 text".into()))
}

/// The last character, which may be of several bytes.
fn remove_last(typed: &mut Vec<u8>) {
    while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys_pressed: &[u8]) -> Result<String, Trouble> {
        keys(keys_pressed.iter().copied().map(Ok))
    }

    #[test]
    fn a_typed_password_can_be_mended_and_given_up() {
        assert_eq!(typed(b"secret\n").unwrap(), "secret");
        assert_eq!(typed("aü\u{7f}b\r".as_bytes()).unwrap(), "ab");
        assert_eq!(typed(b"wrong\x15right\n").unwrap(), "right");
        assert_eq!(typed(b"\x7f\x7fa\n").unwrap(), "a");
        assert!(matches!(typed(b"abc\x03"), Err(Trouble::Interrupted)));
        assert!(matches!(typed(b"\x04"), Err(Trouble::Interrupted)));
        assert!(matches!(typed(b"no end"), Err(Trouble::Interrupted)));
    }

    #[test]
    fn a_file_with_a_secret_holds_one_line() {
        let line = |text: &[u8]| only_line(Path::new("f"), "the password", text.to_vec());
        assert_eq!(line(b"secret\r\n").unwrap(), "secret");
        assert_eq!(line(b" spaces count ").unwrap(), " spaces count ");
        for bad in [&b""[..], b"\n", b"a\nb\n", b"\xff"] {
            assert!(line(bad).is_err(), "{bad:?}");
        }
        assert!(
            line(b"secret\nhunter2")
                .err()
                .unwrap()
                .to_string()
                .contains("f must hold the password")
        );
    }
}
