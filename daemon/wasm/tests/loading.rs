//! What is no plugin of this contract is refused with a reason, before a byte
//! of it runs.
#![allow(
    clippy::unwrap_used,
    reason = "in a test, what cannot be prepared has failed"
)]

mod common;

use common::{ENGINE, FOR_ITS_AUTHOR, call, code, component, fault, grants, module, value};
use contract::limits::CODE_BYTES;
use contract::{Fault, FaultClass, Grants, Kind, Limits};
use wasm::{About, Compiling, Engine, compile, componentize, inspect, key};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

fn why(component: &[u8]) -> String {
    let fault = inspect(component).unwrap_err();
    assert_eq!(fault.class, FaultClass::Load);
    assert_eq!(compile(component, Compiling::default()).unwrap_err(), fault);
    fault.message
}

/// A component of a world: it has every function, and each traps.
fn of_world(wit: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().validate(true);
    encoder.module(&module).unwrap().encode().unwrap()
}

const CONTRACT: &str = include_str!("../../../sdk/wit/v1/plugin.wit");

fn load(component: &[u8], kind: Kind, grants: &Grants) -> Result<(), Fault> {
    let code = compile(component, Compiling::default()).unwrap();
    let limits = Limits {
        wall_ms: 60_000,
        ..Limits::of(kind)
    };
    ENGINE.load(&code, kind, grants, &limits).map(drop)
}

#[test]
fn a_guest_of_the_sdk_is_known_for_what_it_is() {
    let about = inspect(component()).unwrap();
    let imports = ["config", "inventory", "kv", "log"];
    let expected = About {
        kind: Kind::Parser,
        api: (1, 0),
        imports: imports.map(str::to_owned).to_vec(),
    };
    let mut about = about;
    about.imports.sort();
    assert_eq!(about, expected);
}

#[test]
fn every_kind_is_loaded_and_called() {
    for kind in Kind::ALL {
        let component = of_world(CONTRACT, &format!("{kind}-plugin"));
        assert_eq!(inspect(&component).unwrap().kind, kind);
        let all = Grants {
            kv: true,
            inventory: true,
            series: vec!["*".to_owned()],
        };
        load(&component, kind, &all).unwrap();
        for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
            let refused = load(&component, other, &all).unwrap_err();
            assert!(
                refused.message.starts_with(&format!("it is no {other}")),
                "{refused}"
            );
        }
    }
}

#[test]
fn what_is_no_webassembly_is_refused() {
    assert!(why(b"").contains("not WebAssembly"));
    assert!(why(b"(module)").contains("not WebAssembly"));
    assert!(why(b"\x7fELF....").contains("not WebAssembly"));
    assert!(why(b"\0asm\x63\0\x63\0").contains("another version"));
}

#[test]
fn a_core_module_is_refused_with_the_way_out() {
    assert_eq!(
        why(module()),
        "this is a core module, not a component: `sotp plugin pack` makes one of it"
    );
}

#[test]
fn a_component_that_is_cut_off_anywhere_is_refused() {
    let whole = component();
    for part in 1..8 {
        let cut = whole.len() * part / 8;
        assert!(inspect(&whole[..cut]).is_err(), "{cut} of {}", whole.len());
    }
    assert!(why(&whole[..whole.len() - 1]).contains("damaged or cut off at byte"));
}

#[test]
fn a_component_with_damage_anywhere_is_refused_or_still_one() {
    let whole = of_world(CONTRACT, "notifier-plugin");
    for place in (0..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x55;
        // a changed letter of a name may go unnoticed; nothing may panic
        let _ = inspect(&damaged);
    }
}

#[test]
fn a_component_that_is_too_large_is_refused_unread() {
    let mut large = component().to_vec();
    large.resize(CODE_BYTES + 1, 0);
    assert_eq!(
        why(&large),
        "33554433 bytes: a component has at most 33554432"
    );
}

#[test]
fn a_component_of_another_contract_is_refused() {
    let next = CONTRACT.replace("sotp:plugin@1.0.0", "sotp:plugin@2.0.0");
    let said = why(&of_world(&next, "parser-plugin"));
    assert!(
        said.contains("another contract") && said.contains("@2.0.0"),
        "{said}"
    );
    let before = CONTRACT.replace("sotp:plugin@1.0.0", "sotp:plugin@0.9.0");
    assert!(why(&of_world(&before, "parser-plugin")).contains("another contract"));
    let draft = CONTRACT.replace("sotp:plugin@1.0.0", "sotp:plugin@1.1.0-rc.1");
    assert!(why(&of_world(&draft, "parser-plugin")).contains("another contract"));
    let unversioned = CONTRACT.replace("sotp:plugin@1.0.0", "sotp:plugin");
    assert!(why(&of_world(&unversioned, "parser-plugin")).contains("another contract"));
}

#[test]
fn a_component_of_a_later_minor_version_runs_if_it_needs_nothing_new() {
    let later = CONTRACT.replace("sotp:plugin@1.0.0", "sotp:plugin@1.3.0");
    let component = of_world(&later, "notifier-plugin");
    assert_eq!(inspect(&component).unwrap().api, (1, 3));
    load(&component, Kind::Notifier, &grants()).unwrap();
    let newer = later.replace(
        "    enabled: func(at: level) -> bool;",
        "    enabled: func(at: level) -> bool;\n    flush: func();",
    );
    let refused = load(
        &of_world(&newer, "notifier-plugin"),
        Kind::Notifier,
        &grants(),
    )
    .unwrap_err();
    assert!(refused.message.contains("flush"), "{refused}");
    let newer = later.replace(
        "world base { import log;",
        "interface secrets { get: func() -> string; }\nworld base { import secrets; import log;",
    );
    let refused = load(
        &of_world(&newer, "notifier-plugin"),
        Kind::Notifier,
        &grants(),
    )
    .unwrap_err();
    assert!(
        refused
            .message
            .contains("secrets@1.3.0, which this host does not offer"),
        "{refused}"
    );
}

#[test]
fn a_record_with_one_field_more_is_noticed_before_the_first_call() {
    let other = CONTRACT.replace(
        "record point { at: timestamp, value: f64 }",
        "record point { at: timestamp, value: f64, note: string }",
    );
    assert_ne!(other, CONTRACT);
    let refused = load(
        &of_world(&other, "rule-plugin"),
        Kind::Rule,
        &Grants {
            inventory: true,
            series: vec!["*".to_owned()],
            kv: false,
        },
    );
    let refused = refused.unwrap_err();
    assert_eq!(refused.class, FaultClass::Load);
    assert!(
        refused.message.contains("does not fit the contract"),
        "{refused}"
    );
}

#[test]
fn foreign_worlds_are_named() {
    let foreign = "package wasi:cli@0.2.0;
        interface environment { get: func() -> string; }
        world command { import environment; export run: func(); }";
    let said = why(&of_world(foreign, "command"));
    assert!(
        said.contains("it imports wasi:cli/environment@0.2.0"),
        "{said}"
    );
    let nothing = "package me:mine@1.0.0; world nothing { export run: func(); }";
    let said = why(&of_world(nothing, "nothing"));
    assert!(
        said.contains("exports none of sotp:plugin's parser"),
        "{said}"
    );
}

#[test]
fn two_kinds_in_one_component_are_refused() {
    let both = format!("{CONTRACT}\nworld both {{ export notifier; export remediation; }}");
    let said = why(&of_world(&both, "both"));
    assert!(said.starts_with("it is both a "), "{said}");
}

#[test]
fn an_import_that_is_not_granted_is_named_with_its_capability() {
    let none = Grants::default();
    let kv = Grants {
        kv: true,
        ..Grants::default()
    };
    for (world, grants, import, capability) in [
        ("notifier-plugin", &none, "sotp:plugin/kv@1.0.0", "kv"),
        (
            "parser-plugin",
            &kv,
            "sotp:plugin/inventory@1.0.0",
            "inventory",
        ),
        (
            "remediation-plugin",
            &grants(),
            "sotp:plugin/series-query@1.0.0",
            "series",
        ),
    ] {
        let component = of_world(CONTRACT, world);
        let kind = inspect(&component).unwrap().kind;
        let refused = load(&component, kind, grants).unwrap_err();
        assert_eq!(refused.class, FaultClass::NotGranted);
        let expected = format!("it imports {import}, and {capability} was not granted");
        assert_eq!(refused.message, expected);
    }
}

#[test]
fn a_module_of_another_toolchain_is_no_component() {
    let said = |module: &[u8]| componentize(module).unwrap_err().message;
    let bare = wat::parse_str("(module (func (export \"run\")))").unwrap();
    assert!(said(&bare).contains("does not say which interfaces"));
    assert!(said(component()).contains("a component already"));
    assert!(said(b"#!/bin/sh").contains("no WebAssembly module"));
    assert!(componentize(&module()[..module().len() / 2]).is_err());
}

#[test]
fn code_for_other_settings_is_refused_and_so_is_damaged_code() {
    let limits = Limits::of(Kind::Parser);
    let load = |code: &[u8]| ENGINE.load(code, Kind::Parser, &grants(), &limits);
    let refused = load(code(FOR_ITS_AUTHOR)).unwrap_err();
    assert!(
        refused.message.contains("was compiled for wasmtime-"),
        "{refused}"
    );
    assert_ne!(key(FOR_ITS_AUTHOR), key(Compiling::default()));

    let whole = code(Compiling::default());
    let mut damaged = whole.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    assert!(load(&damaged).unwrap_err().message.contains("damaged"));
    assert!(
        load(&whole[..middle])
            .unwrap_err()
            .message
            .contains("damaged")
    );
    assert!(
        load(b"")
            .unwrap_err()
            .message
            .contains("no compiled component")
    );
    assert!(
        load(component())
            .unwrap_err()
            .message
            .contains("no compiled component")
    );
}

#[test]
fn the_engine_looks_at_its_own_settings_in_code_as_well() {
    // what another version or another configuration would have written
    let other = wasmtime::Engine::new(wasmtime::Config::new().epoch_interruption(false)).unwrap();
    let foreign = other.precompile_component(component()).unwrap();
    let packed = relabelled(code(Compiling::default()), &foreign);
    let limits = Limits::of(Kind::Parser);
    let refused = ENGINE
        .load(&packed, Kind::Parser, &grants(), &limits)
        .unwrap_err();
    assert!(refused.message.contains("does not fit"), "{refused}");
}

/// Other code under the label of `packed`: a cache that was filled wrongly.
fn relabelled(packed: &[u8], code: &[u8]) -> Vec<u8> {
    use sha2::Digest as _;
    let key_len = usize::from(u16::from_be_bytes([packed[44], packed[45]]));
    let mut other = packed[..46 + key_len].to_vec();
    other.extend_from_slice(code);
    let digest = sha2::Sha256::digest(&other[44..]);
    other[12..44].copy_from_slice(&digest);
    other
}

#[test]
fn an_engine_can_be_made_and_dropped_while_another_runs() {
    let limits = common::limits();
    for _ in 0..3 {
        let engine = Engine::new(Compiling::default()).unwrap();
        let code = code(Compiling::default());
        let guest = engine.load(code, Kind::Parser, &grants(), &limits).unwrap();
        drop(engine);
        // the component keeps what it needs, the thread that ends loops as well
        assert_eq!(value(&call(&guest, &limits, "honest", 3)), 3.0);
        assert_eq!(
            fault(call(&guest, &limits, "loop", 0)).class,
            FaultClass::Cpu
        );
    }
}

#[test]
fn a_start_function_that_never_ends_is_ended_when_it_is_loaded() {
    let endless = with_start("(loop $more br $more)");
    let refused = load(&endless, Kind::Notifier, &grants()).unwrap_err();
    assert_eq!(refused.class, FaultClass::Cpu, "{refused}");
    let traps = with_start("unreachable");
    let refused = load(&traps, Kind::Notifier, &grants()).unwrap_err();
    assert_eq!(refused.class, FaultClass::Trap, "{refused}");
}

/// A notifier whose core module runs `code` when it is instantiated.
fn with_start(code: &str) -> Vec<u8> {
    notifier(|text| {
        let end = text.rfind(')').unwrap();
        format!("{}(func $begin {code}) (start $begin))", &text[..end])
    })
}

/// A notifier whose core module was changed.
fn notifier(change: impl FnOnce(&str) -> String) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", CONTRACT).unwrap();
    let world = resolve
        .select_world(&[package], Some("notifier-plugin"))
        .unwrap();
    let module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    let text = change(&wasmprinter::print_bytes(&module).unwrap());
    let mut module = wat::parse_str(&text).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().validate(true);
    encoder.module(&module).unwrap().encode().unwrap()
}

/// A notifier whose core module has another memory or table.
fn with_space(from: &str, to: &str) -> Vec<u8> {
    notifier(|text| {
        assert!(text.contains(from), "{text}");
        text.replacen(from, to, 1)
    })
}

#[test]
fn memory_and_tables_that_are_too_large_from_the_start_are_refused() {
    for pages in [1_100, 5_000, 60_000] {
        let component = with_space("(memory (;0;) 0)", &format!("(memory (;0;) {pages})"));
        let refused = load(&component, Kind::Notifier, &grants()).unwrap_err();
        let is_named = [FaultClass::Memory, FaultClass::Load].contains(&refused.class);
        assert!(is_named, "{pages}: {refused:?}");
    }
    let table = "(memory (;0;) 0) (table 10000000 funcref)";
    let component = with_space("(memory (;0;) 0)", table);
    assert!(load(&component, Kind::Notifier, &grants()).is_err());
}

#[test]
fn compiling_takes_time_in_proportion() {
    let functions = |count: usize| {
        notifier(|text| {
            let end = text.rfind(')').unwrap();
            let one = "(func (param i32) (result i32)
                (if (result i32) (local.get 0) (then (i32.const 1)) (else (local.get 0))))";
            format!("{}{})", &text[..end], one.repeat(count))
        })
    };
    let took = |count: usize| {
        let component = functions(count);
        let cpu = || nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
        let began = std::time::Duration::from(cpu().unwrap());
        let code = compile(&component, Compiling::default()).unwrap();
        assert!(code.len() < component.len() * 100, "{} bytes", code.len());
        std::time::Duration::from(cpu().unwrap()) - began
    };
    let (few, many) = (took(200), took(800));
    assert!(many < few * 16, "{few:?} for a quarter, {many:?} for all");
}
