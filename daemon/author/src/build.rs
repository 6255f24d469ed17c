//! From a plugin's directory to something that can be loaded: a script as it
//! is, a crate through cargo.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use package::{Package, Problem};

/// A plugin's directory, read, with its code built.
#[derive(Clone, Debug)]
pub struct Built {
    /// All of it.
    pub package: Package,
    /// How long cargo took; `None`: there was nothing to build.
    pub took: Option<Duration>,
}

/// Reads the plugin in `folder`; builds it first, if it is a crate. `release`
/// builds without what only its author needs. Blocks.
///
/// # Errors
///
/// Everything that is wrong; what cargo says goes to standard error.
pub fn build(folder: &Path, release: bool) -> Result<Built, Vec<Problem>> {
    if !folder.join("plugin.toml").is_file() {
        let message = format!("there is no plugin.toml in {}", folder.display());
        let hint = "name a plugin's directory, or begin one: sotp plugin new NAME";
        return Err(vec![Problem::new(message).with_hint(hint)]);
    }
    if !folder.join("Cargo.toml").is_file() {
        let package = Package::read_folder(folder, None)?;
        return Ok(Built {
            package,
            took: None,
        });
    }
    let began = Instant::now();
    let module = cargo(folder, release).map_err(|problem| vec![problem])?;
    Ok(Built {
        package: with_module(folder, &module)?,
        took: Some(began.elapsed()),
    })
}

/// Reads the plugin in `folder`, with a core module that something else built,
/// a C compiler say; a component is taken as it is. Blocks.
///
/// # Errors
///
/// Everything that is wrong.
pub fn with_module(folder: &Path, module: &Path) -> Result<Package, Vec<Problem>> {
    let module = std::fs::read(module).map_err(|error| {
        let message = format!("{} cannot be read: {error}", module.display());
        vec![Problem::new(message)]
    })?;
    let component = wasm::componentize(&module).map_err(|fault| {
        let mut problem = Problem::new(fault.message);
        problem.hint = fault.hint;
        vec![problem]
    })?;
    Package::read_folder(folder, Some(&component))
}

const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the crate and finds the module that it gives.
fn cargo(folder: &Path, release: bool) -> Result<PathBuf, Problem> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(folder)
        .args(["build", "--release", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(std::process::Stdio::inherit());
    if !release {
        // places in the source cost nothing but room
        command.env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
        command.env("CARGO_PROFILE_RELEASE_STRIP", "none");
    }
    let output = command.output().map_err(|error| {
        Problem::new(format!("cargo cannot be started: {error}"))
            .with_hint("a plugin in Rust needs Rust: https://rustup.rs")
    })?;
    if !output.status.success() {
        return Err(
            Problem::new("cargo could not build the plugin; what it says is above").with_hint(
                format!("if it lacks the target: rustup target add {TARGET}"),
            ),
        );
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let mut modules = said.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let files = message.get("filenames")?.as_array()?.clone();
        let files = files
            .into_iter()
            .filter_map(|file| Some(PathBuf::from(file.as_str()?)));
        files
            .into_iter()
            .find(|file| file.extension().is_some_and(|e| e == "wasm"))
    });
    modules.next_back().ok_or_else(|| {
        Problem::new("cargo built no WebAssembly module")
            .with_hint("the crate needs `crate-type = [\"cdylib\"]` under [lib]")
    })
}
