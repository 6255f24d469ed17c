//! What can be said of a component without running it, and how one is made of
//! a core module.

use contract::limits::CODE_BYTES;
use contract::{Fault, FaultClass, Kind};
use wasmparser::{Parser, Validator};
use wit_component::{ComponentEncoder, DecodedWasm};

use crate::About;

/// The package of the contract, and the major version that this host speaks.
const PACKAGE: &str = "sotp:plugin";
const MAJOR: u64 = 1;

pub(crate) fn no(message: impl Into<String>) -> Fault {
    Fault::new(FaultClass::Load, message)
}

/// Looks at a component; runs nothing of it.
///
/// # Errors
///
/// Says why this is no component of the contract.
pub fn inspect(component: &[u8]) -> Result<About, Fault> {
    is_a_component(component)?;
    let decoded = wit_component::decode(component)
        .map_err(|error| no(format!("the component cannot be understood: {error:#}")))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(no("this is a description of interfaces, not a component"));
    };
    let world = &resolve.worlds[world];
    let names = |keys: Vec<_>| -> Vec<String> {
        keys.into_iter()
            .map(|key| resolve.name_world_key(key))
            .collect()
    };
    let imports = names(world.imports.keys().collect());
    let exports = names(world.exports.keys().collect());
    about(&imports, &exports)
}

fn is_a_component(bytes: &[u8]) -> Result<(), Fault> {
    if bytes.len() > CODE_BYTES {
        let message = format!(
            "{} bytes: a component has at most {CODE_BYTES}",
            bytes.len()
        );
        return Err(no(message));
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(no("this is not WebAssembly: it does not begin with \\0asm"));
    }
    if Parser::is_core_wasm(bytes) {
        return Err(no(
            "this is a core module, not a component: `sotp plugin pack` makes one of it",
        ));
    }
    if !Parser::is_component(bytes) {
        return Err(no(
            "this is WebAssembly of another version, not a component",
        ));
    }
    Validator::new().validate_all(bytes).map_err(|error| {
        let message = format!(
            "the component is damaged or cut off at byte {}: {}",
            error.offset(),
            error.message()
        );
        no(message).with_hint("build it again, and copy it whole")
    })?;
    Ok(())
}

/// What imports and exports say.
fn about(imports: &[String], exports: &[String]) -> Result<About, Fault> {
    let mut api = (MAJOR, 0);
    let mut ours = Vec::new();
    for name in imports {
        let import = Name::of_the_contract(name)?;
        api = api.max(import.version);
        if !is_types_only(import.interface) {
            ours.push(import.interface.to_owned());
        }
    }
    let mut kinds = Vec::new();
    for name in exports {
        // other exports are the author's own affair
        let Some(export) = Name::read(name).filter(|name| name.package == PACKAGE) else {
            continue;
        };
        export.speaks_our_version(name)?;
        if let Some(kind) = Kind::from_word(export.interface) {
            api = api.max(export.version);
            kinds.push(kind);
        }
    }
    match kinds.as_slice() {
        [kind] => Ok(About {
            kind: *kind,
            api,
            imports: ours,
        }),
        [] => Err(no(format!(
            "it exports none of {PACKAGE}'s parser, rule, remediation, notifier and poller"
        ))),
        [first, second, ..] => Err(no(format!(
            "it is both a {first} and a {second}: a plugin is one of them"
        ))),
    }
}

/// Interfaces without functions: whatever is granted, they may be imported.
pub(crate) fn is_types_only(interface: &str) -> bool {
    ["types", "metrics", "snmp", "http"].contains(&interface)
}

/// The name of an import or export: `sotp:plugin/kv@1.0.0`.
pub(crate) struct Name<'a> {
    package: &'a str,
    pub(crate) interface: &'a str,
    /// Major and minor.
    pub(crate) version: (u64, u64),
    is_release: bool,
}

impl Name<'_> {
    fn read(name: &str) -> Option<Name<'_>> {
        let (package, rest) = name.split_once('/')?;
        let (interface, version) = rest.split_once('@').unwrap_or((rest, "0.0.0"));
        let mut numbers = version.split('.').map(str::parse::<u64>);
        let mut number = || numbers.next()?.ok();
        let (major, minor, patch) = (number(), number(), number());
        Some(Name {
            package,
            interface,
            version: (major.unwrap_or(0), minor.unwrap_or(0)),
            is_release: patch.is_some(),
        })
    }

    /// Reads the name of an import, which has to be one that the contract has.
    pub(crate) fn of_the_contract(name: &str) -> Result<Name<'_>, Fault> {
        let import = Name::read(name).filter(|import| import.package == PACKAGE);
        let Some(import) = import else {
            let message = format!("it imports {name}, which is not of {PACKAGE}");
            return Err(no(message).with_hint(
                "plugins do no input and output of their own: build for wasm32-unknown-unknown, without WASI",
            ));
        };
        import.speaks_our_version(name)?;
        Ok(import)
    }

    fn speaks_our_version(&self, name: &str) -> Result<(), Fault> {
        if self.version.0 == MAJOR && self.is_release {
            return Ok(());
        }
        let message = format!(
            "it was built for another contract: it has {name}, and this host speaks {PACKAGE}@{MAJOR}"
        );
        Err(no(message).with_hint(format!("build it again with an SDK for {PACKAGE}@{MAJOR}")))
    }
}

/// Makes a component of a core module that the SDK built.
///
/// # Errors
///
/// Says what is wrong with the module.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>, Fault> {
    if Parser::is_component(module) {
        return Err(no("this is a component already"));
    }
    if !Parser::is_core_wasm(module) {
        return Err(no("this is no WebAssembly module"));
    }
    if !describes_itself(module) {
        return Err(no("the module does not say which interfaces it has")
            .with_hint("build it with the SDK, whose macro says so"));
    }
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| no(format!("no component can be made of the module: {error:#}")))
}

/// Whether the SDK left its description in a module.
fn describes_itself(module: &[u8]) -> bool {
    let sections = Parser::new(0).parse_all(module);
    sections
        .filter_map(Result::ok)
        .any(|section| match section {
            wasmparser::Payload::CustomSection(section) => {
                section.name().starts_with("component-type")
            }
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(imports: &[&str], exports: &[&str]) -> String {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        match about(&owned(imports), &owned(exports)) {
            Ok(about) => format!("{} {:?} {:?}", about.kind, about.api, about.imports),
            Err(fault) => fault.message,
        }
    }

    #[test]
    fn a_component_is_known_by_what_it_imports_and_exports() {
        let imports = ["sotp:plugin/types@1.0.0", "sotp:plugin/kv@1.2.0"];
        let about = said(&imports, &["sotp:plugin/parser@1.0.0"]);
        assert_eq!(about, "parser (1, 2) [\"kv\"]");
        let about = said(
            &[],
            &["sotp:plugin/rule@1.0.0", "me:mine/extra@0.1.0", "run"],
        );
        assert_eq!(about, "rule (1, 0) []");
    }

    #[test]
    fn what_is_not_of_this_contract_is_named() {
        let parser = ["sotp:plugin/parser@1.0.0"];
        assert!(
            said(&["wasi:cli/environment@0.2.0"], &parser).contains("wasi:cli/environment@0.2.0")
        );
        assert!(said(&["print"], &parser).contains("imports print"));
        for other in [
            "sotp:plugin/log@2.0.0",
            "sotp:plugin/log@0.9.0",
            "sotp:plugin/log",
            "sotp:plugin/log@1.0.0-rc.1",
        ] {
            assert!(
                said(&[other], &parser).contains("another contract"),
                "{other}"
            );
        }
        assert!(said(&[], &["sotp:plugin/parser@2.0.0"]).contains("another contract"));
        assert!(said(&[], &["me:mine/parser@1.0.0"]).contains("exports none"));
        let two = ["sotp:plugin/parser@1.0.0", "sotp:plugin/rule@1.0.0"];
        assert_eq!(
            said(&[], &two),
            "it is both a parser and a rule: a plugin is one of them"
        );
    }
}
