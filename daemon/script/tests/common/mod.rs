//! The one way in which the tests call scripts.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part of it")]

use std::sync::Arc;

use contract::{
    Call, Cells, Column, Device, Ended, Failure, Fault, Grants, HostAnswer, HostAsk, HostCalls,
    Kind, Limits, Nanos, Octets, Oid, ParserInput, Payload, Plugin, Reply, RuleInput, RuleTrigger,
    Series, Session, Settings, Table,
};
use script::Script;

/// 2026-11-21T12:00:00Z.
pub(crate) const NOW: Nanos = Nanos(1_795_262_400_000_000_000);

/// A script under test, with what surrounds it.
pub(crate) struct Bench {
    pub(crate) source: String,
    pub(crate) kind: Kind,
    pub(crate) limits: Limits,
    pub(crate) grants: Grants,
    pub(crate) settings: serde_json::Value,
    pub(crate) host: Arc<dyn HostCalls>,
}

/// A host that knows a little.
pub(crate) struct Little;

impl HostCalls for Little {
    fn ask(&self, ask: HostAsk) -> Result<HostAnswer, Fault> {
        Ok(match ask {
            HostAsk::KvGet(key) if key == "count" => {
                HostAnswer::Value(Some(Octets(b"41".to_vec())))
            }
            HostAsk::KvGet(_) => HostAnswer::Value(None),
            HostAsk::KvKeys { .. } => HostAnswer::Keys(vec!["count".to_owned()]),
            HostAsk::Device(id) if id == "7" => HostAnswer::Device(Some(device())),
            HostAsk::Device(_) => HostAnswer::Device(None),
            HostAsk::Fact { .. } => {
                HostAnswer::Fact(Some(contract::Scalar::Text("8F3A".to_owned())))
            }
            HostAsk::Links(_) => HostAnswer::Links(vec![contract::Link {
                local_port: "ether1".to_owned(),
                remote_device: "8".to_owned(),
                remote_port: "ether2".to_owned(),
                protocol: "lldp".to_owned(),
            }]),
            HostAsk::Query { start, end, .. } => {
                let span = i64::try_from((end.0 - start.0) / 1_000_000_000).unwrap();
                #[expect(clippy::cast_precision_loss, reason = "a small number")]
                let span = span as f64;
                HostAnswer::Series(Ok(vec![series("asked", &[1.0, span])]))
            }
        })
    }
}

pub(crate) fn bench(kind: Kind, source: &str) -> Bench {
    Bench {
        source: source.to_owned(),
        kind,
        // slow machines and debug builds are not what is tested
        limits: Limits {
            cpu_ms: 20_000,
            wall_ms: 30_000,
            ..Limits::of(kind)
        },
        grants: Grants {
            kv: true,
            inventory: true,
            series: vec!["*".to_owned()],
        },
        settings: serde_json::json!({}),
        host: Arc::new(Little),
    }
}

/// A parser with one metric of each shape, and this for the body of `parse`.
pub(crate) fn parser(body: &str) -> Bench {
    bench(
        Kind::Parser,
        &format!(
            r#"fn describe() {{ gauge("acme_one", "", "h"); gauge("acme_many", "", "h", ["fan"]); facts(["serial"]); events(["hot"]); }}
fn parse(input) {{
{body}
}}"#
        ),
    )
}

impl Bench {
    pub(crate) fn compile(&self) -> Result<Script, Fault> {
        Script::compile("main.rhai", &self.source, self.kind, &self.grants)
    }

    pub(crate) fn session(&self) -> Session {
        let settings = Settings {
            values: std::collections::BTreeMap::new(),
            json: self.settings.to_string(),
        };
        let (limits, grants) = (self.limits.clone(), self.grants.clone());
        Session::new(
            NOW,
            limits,
            grants,
            Arc::new(settings),
            Arc::clone(&self.host),
        )
    }

    /// Compiles and calls, on a thread with the stack that calls need.
    pub(crate) fn ended(&self, call: Call) -> Ended {
        let script = self.compile().unwrap_or_else(|fault| panic!("{fault:?}"));
        on_stack(|| script.call(call, self.session()))
    }

    pub(crate) fn reply(&self, call: Call) -> Reply {
        let ended = self.ended(call);
        ended.result.unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    pub(crate) fn failure(&self, call: Call) -> Failure {
        self.ended(call).result.expect_err("it should fail")
    }

    pub(crate) fn fault(&self, call: Call) -> Fault {
        match self.failure(call) {
            Failure::Fault(fault) => fault,
            said @ Failure::Said(_) => panic!("{said:?}"),
        }
    }

    pub(crate) fn refused(&self) -> Fault {
        self.compile().expect_err("it should not compile")
    }
}

pub(crate) fn on_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(script::STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work).unwrap();
        thread.join().unwrap()
    })
}

pub(crate) fn device() -> Device {
    Device {
        id: "7".to_owned(),
        hostname: "core-1".to_owned(),
        address: "10.0.0.5".to_owned(),
        vendor: "acme".to_owned(),
        attrs: vec![("site".to_owned(), "cellar".to_owned())],
        ..Device::default()
    }
}

pub(crate) fn oid(text: &str) -> Oid {
    text.parse().unwrap()
}

pub(crate) fn parse(payload: Payload) -> Call {
    Call::Parse(ParserInput {
        device: device(),
        source: "snmp:test".to_owned(),
        collected_at: NOW,
        payload,
    })
}

pub(crate) fn text(text: &str) -> Call {
    parse(Payload::Text(text.to_owned()))
}

/// Two rows: 1 and 2.7; column 2 names, column 3 numbers, which row 2.7 lacks.
pub(crate) fn table() -> Table {
    let column = |number: u32, rows: &[u32], cells| Column {
        base: oid(&format!("1.3.6.1.4.1.99.1.{number}")),
        rows: rows.to_vec(),
        cells,
    };
    let names = ["left\0", "right"].map(|name| Octets(name.as_bytes().to_vec()));
    Table {
        indexes: vec![oid("1"), oid("2.7")],
        columns: vec![
            column(2, &[0, 1], Cells::Octets(names.to_vec())),
            column(3, &[0], Cells::Ints(vec![-45])),
            column(4, &[0, 1], Cells::Uints(vec![7, u64::MAX])),
        ],
    }
}

pub(crate) fn evaluate(series: Vec<Series>, state: &str) -> Call {
    Call::Evaluate(RuleInput {
        rule_id: "acme".to_owned(),
        device: Some(device()),
        at: NOW,
        trigger: RuleTrigger::Window(vec![("state".to_owned(), series)]),
        state: Octets(state.as_bytes().to_vec()),
    })
}

/// A series with a sample every 30 s until now.
pub(crate) fn series(port: &str, values: &[f64]) -> Series {
    let count = values.len() as u64;
    let at = |n: usize| Nanos(NOW.0 - (count - 1 - n as u64) * 30_000_000_000);
    Series {
        metric: "ifOperStatus".to_owned(),
        labels: vec![("interface".to_owned(), port.to_owned())],
        points: values
            .iter()
            .enumerate()
            .map(|(n, value)| contract::Point {
                at: at(n),
                value: *value,
            })
            .collect(),
    }
}
