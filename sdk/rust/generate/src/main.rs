//! Writes the bindings of the contract that are checked in: `../src/bindings`
//! for Rust and `../../c/bindings` for C. Run it when `sdk/wit/v1` changes:
//!
//!     cargo run --manifest-path sdk/rust/generate/Cargo.toml
//!
//! Authors do not need it: what it writes is part of the SDK.

use std::error::Error;
use std::fs;
use std::path::Path;

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator};
use wit_bindgen_rust::WithOption;

type Outcome<T> = Result<T, Box<dyn Error>>;

const KINDS: [&str; 5] = ["parser", "rule", "remediation", "notifier", "poller"];

/// Interfaces whose Rust types all kinds share.
const SHARED: [&str; 10] = [
    "types",
    "metrics",
    "snmp",
    "http",
    "log",
    "clock",
    "config",
    "kv",
    "inventory",
    "series-query",
];

fn main() -> Outcome<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let wit = here.join("../../wit/v1/plugin.wit");
    let rust = here.join("../src/bindings");
    fs::create_dir_all(&rust)?;
    write(&rust, "sdk.rs", rust_world(&wit, "sdk")?)?;
    for kind in KINDS {
        write(&rust, &format!("{kind}.rs"), rust_world(&wit, kind)?)?;
    }
    let c = here.join("../../c/bindings");
    fs::create_dir_all(&c)?;
    for (name, bytes) in c_world(&wit, "parser-plugin")?.iter() {
        fs::write(c.join(name), bytes)?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, files: Files) -> Outcome<()> {
    let (_, bytes) = files.iter().next().ok_or("nothing was generated")?;
    // half of it is indentation, and it is copied into every plugin
    let text = std::str::from_utf8(bytes)?;
    let text = text.replace("```rust", "```text");
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    fs::write(folder.join(name), lines.join("\n") + "\n")?;
    Ok(())
}

fn resolve(wit: &Path, world: &str) -> Outcome<(Resolve, wit_bindgen_core::wit_parser::WorldId)> {
    let mut resolve = Resolve::default();
    let package = resolve.push_path(wit)?.0;
    let world = resolve.select_world(&[package], Some(world))?;
    Ok((resolve, world))
}

fn rust_world(wit: &Path, kind: &str) -> Outcome<Files> {
    let is_shared = kind == "sdk";
    let name = if is_shared {
        "sdk".to_owned()
    } else {
        format!("{kind}-plugin")
    };
    let (mut resolve, world) = resolve(wit, &name)?;
    let to_shared = |interface: &&str| {
        let module = interface.replace('-', "_");
        let path = format!("crate::bindings::sdk::sotp::plugin::{module}");
        (
            format!("sotp:plugin/{interface}@1.0.0"),
            WithOption::Path(path),
        )
    };
    let uses = resolve.worlds[world]
        .imports
        .keys()
        .map(|key| resolve.name_world_key(key))
        .collect::<Vec<_>>();
    let options = wit_bindgen_rust::Opts {
        format: true,
        runtime_path: Some("crate::runtime".to_owned()),
        additional_derive_attributes: vec!["PartialEq".to_owned()],
        generate_all: is_shared,
        generate_unused_types: true,
        with: if is_shared {
            Vec::new()
        } else {
            SHARED
                .iter()
                .map(to_shared)
                .filter(|(key, _)| uses.contains(key))
                .collect()
        },
        pub_export_macro: true,
        export_macro_name: Some(format!("__export_{kind}")),
        default_bindings_module: Some(format!("sotp_plugin::bindings::{kind}")),
        disable_run_ctors_once_workaround: true,
        disable_custom_section_link_helpers: true,
        ..wit_bindgen_rust::Opts::default()
    };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    Ok(files)
}

fn c_world(wit: &Path, name: &str) -> Outcome<Files> {
    let (mut resolve, world) = resolve(wit, name)?;
    let mut files = Files::default();
    wit_bindgen_c::Opts::default()
        .build()
        .generate(&mut resolve, world, &mut files)?;
    Ok(files)
}
