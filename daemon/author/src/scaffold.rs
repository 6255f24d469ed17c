//! A new plugin: a directory whose test is green before its author wrote a
//! line.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use contract::Kind;
use include_dir::{Dir, include_dir};
use model::PluginName;
use package::Problem;

/// In what a plugin is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// A Rhai script: nothing to install.
    Rhai,
    /// A crate in Rust.
    Rust,
}

static RHAI: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../sdk/rhai/template");
static RUST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../sdk/rust/template");
/// Those of the guide, by kind and language.
static EXAMPLES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../sdk/examples");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../sdk/rust/src");
const SDK_MANIFEST: &str = include_str!("../../../sdk/rust/Cargo.toml");

/// Where an example has the SDK.
const IN_THE_TREE: &str = "../../rust";

/// What is not worth keeping.
const IGNORED: &str = "/target\n*.sotp-plugin\n";

/// What was begun.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where.
    pub folder: PathBuf,
    /// The files that its author will change, without those of the SDK.
    pub files: Vec<PathBuf>,
}

/// Begins a plugin called `id` in a new directory `folder`: a parser of its own, or
/// what the guide shows of another kind.
///
/// # Errors
///
/// `id` is none, there is something already, or the disk refuses.
pub fn start(id: &str, kind: Kind, language: Language, folder: &Path) -> Result<Started, Problem> {
    let name = PluginName::new(id).map_err(|why| Problem::new(why.to_string()))?;
    let taken = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    if taken || folder.is_file() {
        let message = format!("{} is there already", folder.display());
        return Err(Problem::new(message).with_hint("choose another name, or remove it first"));
    }
    let failed =
        |error: io::Error| Problem::new(format!("{} cannot be written: {error}", folder.display()));
    let template = template(kind, language)
        .ok_or_else(|| Problem::new(format!("there is no example of a {kind}")))?;
    let mut files = Vec::new();
    write_all(template, folder, name.as_str(), &mut files).map_err(failed)?;
    if language == Language::Rust {
        let vendor = folder.join("vendor/sotp-plugin");
        let mut own = Vec::new();
        write_all(&SDK, &vendor.join("src"), name.as_str(), &mut own).map_err(failed)?;
        fs::write(vendor.join("Cargo.toml"), SDK_MANIFEST).map_err(failed)?;
    }
    fs::write(folder.join(".gitignore"), IGNORED).map_err(failed)?;
    files.sort();
    Ok(Started {
        folder: folder.to_owned(),
        files,
    })
}

fn template(kind: Kind, language: Language) -> Option<&'static Dir<'static>> {
    let word = match (kind, language) {
        (Kind::Parser, Language::Rhai) => return Some(&RHAI),
        (Kind::Parser, Language::Rust) => return Some(&RUST),
        (_, Language::Rhai) => "rhai",
        (_, Language::Rust) => "rust",
    };
    EXAMPLES.get_dir(format!("{kind}-{word}"))
}

fn write_all(from: &Dir<'_>, to: &Path, id: &str, files: &mut Vec<PathBuf>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for file in from.files() {
        let name = file.path().file_name().unwrap_or_default();
        let path = to.join(name);
        match file.contents_utf8() {
            Some(text) => fs::write(&path, renamed(&filled(text, id), name, id))?,
            None => fs::write(&path, file.contents())?,
        }
        files.push(path);
    }
    for folder in from.dirs() {
        let name = folder.path().file_name().unwrap_or_default();
        write_all(folder, &to.join(name), id, files)?;
    }
    Ok(())
}

fn filled(text: &str, id: &str) -> String {
    text.replace("{{id}}", id)
        .replace("{{crate}}", &id.replace('.', "-"))
        .replace("{{metric}}", &id.replace(['.', '-'], "_"))
}

/// A file of an example, as that of a plugin which is called `id` and has the
/// SDK beside it.
fn renamed(text: &str, file: &OsStr, id: &str) -> String {
    let line = |line: &str| match file.to_str() {
        Some("plugin.toml") if line.starts_with("id = ") => format!("id = \"{id}\""),
        Some("plugin.toml") if line.starts_with("version = ") => "version = \"0.1.0\"".to_owned(),
        Some("Cargo.toml") if line.starts_with("name = ") => {
            format!("name = \"{}\"", id.replace('.', "-"))
        }
        Some("Cargo.toml") if line == "[workspace]" && text.contains(IN_THE_TREE) => {
            "[workspace]\nexclude = [\"vendor\"]".to_owned()
        }
        Some("Cargo.toml") => line.replace(IN_THE_TREE, "vendor/sotp-plugin"),
        _ => line.to_owned(),
    };
    let lines: Vec<String> = text.split('\n').map(line).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_plugin_is_written_once_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("acme-ups");
        let started = start("acme-ups", Kind::Parser, Language::Rhai, &at).unwrap();
        assert!(started.files.iter().any(|file| file.ends_with("main.rhai")));
        let manifest = fs::read_to_string(at.join("plugin.toml")).unwrap();
        assert!(manifest.contains("id = \"acme-ups\""), "{manifest}");
        assert!(!manifest.contains("{{"), "{manifest}");
        let again = start("acme-ups", Kind::Parser, Language::Rhai, &at).unwrap_err();
        assert!(again.message.contains("is there already"), "{again}");
        assert!(
            start(
                "Acme UPS",
                Kind::Parser,
                Language::Rhai,
                &folder.path().join("x")
            )
            .is_err()
        );
    }

    #[test]
    fn a_plugin_in_rust_brings_its_sdk_along() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("acme.ups");
        start("acme.ups", Kind::Parser, Language::Rust, &at).unwrap();
        assert!(
            at.join("vendor/sotp-plugin/src/bindings/parser.rs")
                .is_file()
        );
        let manifest = fs::read_to_string(at.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("name = \"acme-ups\""), "{manifest}");
    }
}
