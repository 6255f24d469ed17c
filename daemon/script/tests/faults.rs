//! Limits, mistakes and where they are.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Bench, bench, on_stack, parse, parser, table, text};
use contract::{Failure, Fault, FaultClass, Kind, Limits, Payload, Plugin, PluginError};

fn fault(body: &str) -> Fault {
    parser(body).fault(text("hello"))
}

/// Line and column; the body begins at line 3.
fn place(fault: &Fault) -> (u32, u32) {
    let place = fault.place.as_ref().unwrap_or_else(|| panic!("{fault:?}"));
    assert_eq!(place.file, "main.rhai");
    (place.line, place.column)
}

/// With little time, so that the test has enough.
fn hasty(body: &str) -> Bench {
    let mut bench = parser(body);
    bench.limits = Limits {
        cpu_ms: 400,
        wall_ms: 60_000,
        operations: 200_000,
        ..bench.limits
    };
    bench
}

#[test]
fn the_place_of_an_endless_loop_is_the_loop() {
    let endless = |body: &str| {
        let fault = hasty(body).fault(text(""));
        assert_eq!(fault.class, FaultClass::Cpu, "{fault:?}");
        (place(&fault), fault.trace)
    };
    assert_eq!(endless("  loop { }"), ((3, 3), vec![]));
    assert_eq!(endless("let x = 0;\nwhile true {\n x += 1;\n}").0, (4, 1));
    assert_eq!(
        endless("let x = 0;\nwhile x < 1 {\n for i in 0..9 { let y = i; }\n}").0,
        (4, 1)
    );
    assert_eq!(
        endless("loop {\n for i in 0..9 { let y = i; }\n}").0,
        (3, 1)
    );
    assert_eq!(
        endless("helper();\n}\nfn helper() {\n  loop { let y = 1; }"),
        ((6, 3), vec!["helper() at main.rhai:3:1".to_owned()])
    );
    assert_eq!(
        endless("loop {\n helper(); }\n}\nfn helper() { for i in 0..9 { let y = 1; }").0,
        (3, 1)
    );
}

#[test]
fn processor_time_ends_a_call_and_so_does_time() {
    let mut slow = parser("let x = 0;\nloop { x += 1; }");
    slow.limits.operations = u64::MAX;
    slow.limits.cpu_ms = 30;
    let fault = slow.fault(text(""));
    assert_eq!(fault.class, FaultClass::Cpu);
    assert!(fault.message.contains("30 ms of processor time"), "{fault}");
    assert_eq!(place(&fault), (4, 1));
    slow.limits.cpu_ms = 10_000;
    slow.limits.wall_ms = 30;
    let ended = slow.ended(text(""));
    let Err(Failure::Fault(fault)) = ended.result else {
        panic!("{ended:?}")
    };
    assert_eq!(fault.class, FaultClass::Time);
    assert!(ended.usage.wall_ns >= 30_000_000);
    assert!(ended.usage.cpu_ns > 0);
}

#[test]
fn recursion_has_an_end_and_a_trace() {
    let fault = fault("deeper(1);\n}\nfn deeper(n) {\n 1 + deeper(n + 1)");
    assert_eq!(fault.class, FaultClass::Stack, "{fault:?}");
    assert_eq!(place(&fault).0, 6);
    assert!(
        fault
            .trace
            .last()
            .unwrap()
            .starts_with("deeper() at main.rhai:3:")
    );
    assert!(fault.trace.len() < 12, "{:?}", fault.trace);
}

#[test]
fn no_value_grows_without_end() {
    for body in [
        "let s = \"x\";\nloop { s += s; }",
        "let a = [1];\nloop { a += a; }",
        "let a = [];\nloop { a.push(a); }",
        "let m = #{};\nlet i = 0; loop { m += #{a: m}; let n = #{}; for k in 0..60 { n[`${i}-${k}-x`] = m; } m = n; i += 1; }",
        "let s = \"x\";\ns.pad(2000000, \"y\");",
        "let b =\nblob(2000000000);",
        "let s = \"abc\";\nloop { s.replace(\"a\", \"aaaaaaaaaaaaaaaa\"); }",
    ] {
        let fault = fault(body);
        assert_eq!(fault.class, FaultClass::Memory, "{body}: {fault:?}");
        assert_eq!(place(&fault).0, 4, "{body}: {fault:?}");
    }
}

/// Rhai walks values by recursion: deep ones would overflow a small stack.
#[test]
fn values_within_values_do_not_break_the_host() {
    let nested = "let a = [1]; for i in 0..900 { a = [[[[[[[[[[a]]]]]]]]]]; }";
    let ended = parser(&format!("{nested} to_json(a);")).ended(text(""));
    let Err(Failure::Fault(fault)) = ended.result else {
        panic!("{ended:?}")
    };
    assert_eq!(fault.message, "JSON of more than 100 values in each other");
    let fault = parser(&format!("{nested} throw a;")).fault(text(""));
    assert_eq!(fault.class, FaultClass::Trap);
}

#[test]
fn floods_end_at_their_line_and_cannot_be_caught() {
    let log = fault("try {\n loop {\n  log_info(\"x\"); } } catch { }\nemit(\"acme_one\", 1);");
    assert_eq!((log.class, place(&log)), (FaultClass::Log, (5, 3)));
    let print = fault("loop {\n print(\"x\"); }");
    assert_eq!((print.class, place(&print).0), (FaultClass::Log, 4));
    let asked = fault("loop {\n kv_get(\"a\"); }");
    assert_eq!(
        (asked.class, place(&asked)),
        (FaultClass::HostCalls, (4, 2))
    );
    let mut many = parser("let i = 0; loop { kv_set(`k${i}`, \"x\"); i += 1; }");
    many.limits.kv_keys = 50;
    let Failure::Said(PluginError::Unavailable(why)) = many.failure(text("")) else {
        panic!()
    };
    assert!(why.contains("at most 50 keys"), "{why}");
    let ended = parser("kv_set(\"a\", 1);\nloop { log_warn(\"x\"); }").ended(text(""));
    assert_eq!((ended.kv.len(), ended.log.len()), (0, 100));
}

#[test]
fn a_huge_result_ends_at_the_value_too_many() {
    let mut huge = parser("for i in 0..100000 {\n emit(\"acme_many\", #{fan: \"x\"}, i); }");
    huge.limits.output = 10_000;
    let fault = huge.fault(text(""));
    assert_eq!(
        (fault.class, place(&fault)),
        (FaultClass::ResultSize, (4, 2))
    );
    let fault = parser("for i in 0..2000 {\n warn(\"x\"); }").fault(text(""));
    assert_eq!(
        (fault.class, place(&fault)),
        (FaultClass::ResultSize, (4, 2))
    );
}

#[test]
fn what_is_emitted_wrongly_is_found_at_its_line() {
    let wrong = |body: &str, message: &str, hint: &str| {
        let fault = fault(body);
        assert_eq!(fault.class, FaultClass::BadResult, "{fault:?}");
        assert_eq!(place(&fault), (3, 1));
        assert!(fault.message.contains(message), "{fault:?}");
        assert!(fault.hint.as_ref().unwrap().contains(hint), "{fault:?}");
    };
    wrong(
        "emit(\"acme_one\", 0.0 / 0.0);",
        "acme_one is NaN",
        "leave out",
    );
    wrong(
        "emit(\"acme_one\", 1.0 / 0.0);",
        "acme_one is inf",
        "leave out",
    );
    wrong(
        "emit(\"acme_ine\", 1);",
        "not declared",
        "did you mean \"acme_one\"?",
    );
    wrong(
        "emit(\"other\", 1);",
        "not declared",
        "declare it in describe()",
    );
    wrong(
        "emit(\"acme_many\", #{fun: 1}, 1);",
        "no label \"fun\"",
        "the labels fan",
    );
    wrong(
        "emit(\"acme_many\", 1);",
        "needs the label \"fan\"",
        "the labels fan",
    );
    wrong(
        "fact(\"seriel\", 1);",
        "not declared",
        "did you mean \"serial\"?",
    );
    wrong(
        "event(\"hut\", \"info\", \"x\");",
        "not declared",
        "did you mean \"hot\"?",
    );
    let nested = fault("inner();\n}\nfn inner() {\n emit(\"acme_ine\", 1);");
    assert_eq!(place(&nested), (6, 2));
    assert_eq!(nested.trace, ["inner() at main.rhai:3:1"]);
}

#[test]
fn mistakes_are_told_in_the_authors_words() {
    let told = |body: &str| {
        let fault = fault(body);
        assert_eq!(fault.class, FaultClass::Trap, "{fault:?}");
        format!("{} | {}", fault, fault.hint.clone().unwrap_or_default())
    };
    assert_eq!(
        told("input.device.hostnam;"),
        "Device has no property `hostnam` (main.rhai:3:14) | did you mean `hostname`?"
    );
    assert!(
        told("let x = 1 + ();")
            .starts_with("`+` does not work on (integer, nothing) (main.rhai:3:11)")
    );
    assert_eq!(
        told("between(1, 2, 3);"),
        "no function `between` takes (integer, integer, integer) (main.rhai:3:1) | there is `between(text, start, end)`"
    );
    assert!(told("input.table;").starts_with("the payload of \"snmp:test\" is text, not table"));
    assert_eq!(
        told("throw \"boom\";"),
        "it threw \"boom\" (main.rhai:3:1) | "
    );
    assert!(told("emit(\"acme_one\", \"12\");").starts_with("the value of acme_one is text (12)"));
    assert!(
        told("event(\"hot\", \"bad\", \"x\");")
            .contains("it is one of \"info\", \"warning\", \"critical\"")
    );
    let nested = fault("inner(3) }\nfn inner(n) { pct(n) }\nfn pct(x) { x / 0");
    assert_eq!(
        nested.trace,
        ["pct() at main.rhai:4:15", "inner() at main.rhai:3:1"]
    );
    assert_eq!(place(&nested), (5, 15));
}

#[test]
fn a_cell_that_is_missing_says_which_there_are() {
    let script = parser("for row in input.table {\n row.int(3);\n row.int(9); }");
    let fault = script.fault(parse(Payload::SnmpTable(table())));
    assert_eq!(fault.message, "row 1 has no column 9");
    assert!(
        fault.hint.as_ref().unwrap().contains("the columns 2, 3, 4"),
        "{fault:?}"
    );
    assert_eq!(place(&fault), (5, 6));
}

#[test]
fn what_is_not_granted_compiles_and_ends_the_call_where_it_is_used() {
    let mut poor = parser("if input.text == \"go\" {\n kv_get(\"a\"); }\nemit(\"acme_one\", 1);");
    poor.grants = contract::Grants::default();
    assert!(poor.ended(text("no")).result.is_ok());
    let fault = poor.fault(text("go"));
    assert_eq!(
        (fault.class, place(&fault)),
        (FaultClass::NotGranted, (4, 2))
    );
    for body in [
        "device(\"7\");",
        "try { links(\"7\"); } catch { }",
        "fact_of(\"7\", \"serial\");",
    ] {
        let mut poor = parser(body);
        poor.grants = contract::Grants::default();
        assert_eq!(poor.fault(text("")).class, FaultClass::NotGranted, "{body}");
    }
}

#[test]
fn what_a_script_throws_is_what_it_says() {
    let said = |throw: &str| match parser(throw).failure(text("")) {
        Failure::Said(error) => error,
        Failure::Fault(fault) => panic!("{fault:?}"),
    };
    assert_eq!(
        said("throw not_mine(\"a\");"),
        PluginError::NotMine("a".to_owned())
    );
    assert_eq!(
        said("throw malformed(\"b\");"),
        PluginError::Malformed("b".to_owned())
    );
    assert_eq!(
        said("throw config_error(\"c\");"),
        PluginError::Config("c".to_owned())
    );
    assert_eq!(
        said("inner() }\nfn inner() { throw unavailable(\"d\");"),
        PluginError::Unavailable("d".to_owned())
    );
    assert!(matches!(
        said("json_parse(\"{\");"),
        PluginError::Malformed(_)
    ));
    let caught = parser("try { throw malformed(\"x\"); } catch (e) { warn(e.message); }");
    assert!(caught.ended(text("")).result.is_ok());
}

#[test]
fn a_script_that_cannot_work_is_refused_with_its_line() {
    let refused = |source: &str| {
        let fault = bench(Kind::Parser, source).refused();
        assert_eq!(fault.class, FaultClass::Load);
        format!("{} | {}", fault, fault.hint.clone().unwrap_or_default())
    };
    let with = |body: &str| {
        refused(&format!(
            "fn describe() {{ }}\nfn parse(input) {{\n{body}\n}}"
        ))
    };
    assert!(refused("fn describe() {").contains("main.rhai:1:16"));
    assert_eq!(
        with("guage(\"a\", \"b\", \"c\");"),
        "there is no function `guage` (main.rhai:3:1) | did you mean `gauge`?"
    );
    assert_eq!(
        with("emit(rwos, 1); let rows = 2;"),
        "there is no variable `rwos` (main.rhai:3:6) | did you mean `rows`?"
    );
    assert!(with("firing(\"a\", \"b\", \"c\");").contains("is for a rule; this is a parser"));
    assert!(with("emit(\"a\");").contains(
        "no function `emit` takes 1 argument (main.rhai:3:1) | there is `emit(name, value)`"
    ));
    assert!(with("input.table.rowz(1);").contains("did you mean `row`?"));
    assert!(with("eval(\"1\");").contains("it has no `eval`"));
    assert!(with("import \"x\" as y;").contains("it has no `import`"));
    assert!(with("sleep(1);").starts_with("there is no function `sleep`"));
    assert!(with("timestamp();").starts_with("there is no function `timestamp`"));
    assert!(with("let x = \"abc").contains("(main.rhai:3:9)"));
    assert!(refused("fn describe() { }").contains("the function `parse` is missing"));
    assert!(
        refused("fn describe() { } fn parse(a, b) { }").contains("has 2 parameters and needs 1")
    );
    assert!(refused("let x = 1; fn describe() { } fn parse(a) { }").contains("write `const`"));
    assert!(
        refused("const X = { loop { } }; fn describe() { } fn parse(a) { }")
            .contains("cannot be worked out")
    );
    let long = "/".repeat(300 << 10);
    assert!(refused(&long).contains("at most 262144"));
}

#[test]
fn the_same_call_twice_gives_the_same_and_no_call_sees_another() {
    let bench = parser(
        "let n = input.text.len; for i in 0..n { emit(\"acme_many\", #{fan: i}, i); } fact(\"serial\", input.text);",
    );
    let script = bench.compile().unwrap();
    let call = |words: &str| on_stack(|| script.call(text(words), bench.session()).result.unwrap());
    let first = call("abc");
    call("something else");
    assert_eq!(call("abc"), first);
    let threads: Vec<bool> = std::thread::scope(|scope| {
        let call = &call;
        let first = &first;
        let spawned: Vec<_> = (0..4)
            .map(|_| scope.spawn(move || call("abc") == *first))
            .collect();
        spawned
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(threads, [true; 4]);
}

/// Any text: the compiler neither panics nor takes long.
mod any_text {
    use std::time::{Duration, Instant};

    use contract::{Grants, Kind};
    use proptest::prelude::*;
    use script::Script;

    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("fn describe() {".to_owned()),
            Just("fn parse(input) {".to_owned()),
            Just("}".to_owned()),
            Just("loop { ".to_owned()),
            Just("if x { } else { ".to_owned()),
            Just("emit(\"a\", #{".to_owned()),
            Just("switch 1 { 1 => ".to_owned()),
            Just("|x| x + ".to_owned()),
            Just("const X = ".to_owned()),
            Just("`${".to_owned()),
            Just("[[[[[[[[".to_owned()),
            Just("((((((((".to_owned()),
            Just("- - - - ".to_owned()),
            "[a-z(){};=.,0-9\"' ]{0,12}",
            any::<String>(),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn is_compiled_or_refused_in_time(source in pieces()) {
            let started = Instant::now();
            let compiled = Script::compile("main.rhai", &source, Kind::Parser, &Grants::default());
            if let Err(fault) = compiled {
                prop_assert!(!fault.message.contains("the compiler broke"), "{fault}");
            }
            prop_assert!(started.elapsed() < Duration::from_secs(20));
        }
    }
}
