//! What a parser is given, and devices.

use std::sync::Arc;

use contract::{Kind, ParserInput, Payload};
use rhai::{Array, Blob, Dynamic, Map, NativeCallContext};

use super::snmp::{Table, Varbinds};
use super::{Out, Prelude, attribute_map, mistake, seconds};
use crate::convert::from_json;

/// A parser's input; its payload is taken apart when it is asked for.
#[derive(Clone)]
pub(super) struct Input(Arc<Given>);

struct Given {
    device: Device,
    source: String,
    at: i64,
    payload: Content,
}

enum Content {
    Varbinds(Varbinds),
    Table(Table),
    Text(String),
    Json(String),
    Syslog(contract::SyslogMessage),
    Bytes(Vec<u8>),
    Extension(contract::Extension),
}

impl Content {
    fn word(&self) -> &'static str {
        match self {
            Content::Varbinds(_) => "varbinds",
            Content::Table(_) => "table",
            Content::Text(_) => "text",
            Content::Json(_) => "json",
            Content::Syslog(_) => "syslog",
            Content::Bytes(_) => "bytes",
            Content::Extension(_) => "extension",
        }
    }
}

/// A device.
#[derive(Clone)]
pub(super) struct Device(pub(super) Arc<contract::Device>);

pub(super) fn device(device: contract::Device) -> Dynamic {
    Dynamic::from(Device(Arc::new(device)))
}

pub(super) fn parser(input: ParserInput) -> Dynamic {
    let payload = match input.payload {
        Payload::Snmp(varbinds) => Content::Varbinds(varbinds.into()),
        Payload::SnmpTable(table) => Content::Table(table.into()),
        Payload::Text(text) => Content::Text(text),
        Payload::Json(text) => Content::Json(text),
        Payload::Syslog(message) => Content::Syslog(message),
        Payload::Bytes(bytes) => Content::Bytes(bytes.0),
        Payload::Extension(extension) => Content::Extension(extension),
    };
    Dynamic::from(Input(Arc::new(Given {
        device: Device(Arc::new(input.device)),
        source: input.source,
        at: seconds(input.collected_at),
        payload,
    })))
}

pub(super) fn register(prelude: &mut Prelude) {
    prelude.section(
        "A parser's input",
        &[Kind::Parser],
        "`parse(input)` is called with one payload at a time: one for each `[[collect]]` of the manifest. \
         Asking for a payload of another sort is a mistake that names the one that there is.",
    );
    prelude
        .name::<Input>("Input")
        .prop("input.source", "Where it is from: `snmp:` and the name of the `[[collect]]`; `syslog`, `cli:show version`, `http:/api`.", |i: &mut Input| i.0.source.clone())
        .prop("input.device", "The device.", |i: &mut Input| i.0.device.clone())
        .prop("input.at", "When it was collected, in seconds since 1970.", |i: &mut Input| i.0.at)
        .prop("input.kind", "`varbinds`, `table`, `text`, `json`, `syslog`, `bytes` or `extension`.", |i: &mut Input| i.0.payload.word())
        .prop("input.varbinds", "Of a `get` or `walk`: see *SNMP values*.", |c: NativeCallContext, i: &mut Input| -> Out<Varbinds> {
            match &i.0.payload {
                Content::Varbinds(varbinds) => Ok(varbinds.clone()),
                other => Err(other_payload(&c, i, other, "varbinds")),
            }
        })
        .prop("input.table", "Of a `table`: see *SNMP tables*.", |c: NativeCallContext, i: &mut Input| -> Out<Table> {
            match &i.0.payload {
                Content::Table(table) => Ok(table.clone()),
                other => Err(other_payload(&c, i, other, "table")),
            }
        })
        .prop("input.text", "The text, of at most 1 MiB.", |c: NativeCallContext, i: &mut Input| -> Out<String> {
            text_of(&c, i).map(str::to_owned)
        })
        .prop("input.lines", "The lines of the text, for `for line in input.lines`.", |c: NativeCallContext, i: &mut Input| -> Out<Array> {
            Ok(text_of(&c, i)?.lines().map(|line| line.to_owned().into()).collect())
        })
        .prop("input.json", "JSON as maps, arrays, texts and numbers.", |c: NativeCallContext, i: &mut Input| -> Out<Dynamic> {
            match &i.0.payload {
                Content::Json(text) => json(&c, text),
                Content::Extension(extension) => json(&c, &extension.body),
                other => Err(other_payload(&c, i, other, "json")),
            }
        })
        .prop("input.bytes", "The bytes.", |c: NativeCallContext, i: &mut Input| -> Out<Blob> {
            match &i.0.payload {
                Content::Bytes(bytes) => Ok(bytes.clone()),
                other => Err(other_payload(&c, i, other, "bytes")),
            }
        })
        .prop("input.syslog", "A map: `facility`, `severity` (numbers), `at` (seconds, or `()`), `hostname`, `app`, `procid`, `msgid`, `message` and `structured` (a map).", |c: NativeCallContext, i: &mut Input| -> Out<Map> {
            match &i.0.payload {
                Content::Syslog(message) => Ok(syslog(message)),
                other => Err(other_payload(&c, i, other, "syslog")),
            }
        });
    prelude.section("Devices", &[], "What is not known is an empty text.");
    prelude
        .name::<Device>("Device")
        .prop(
            "device.id",
            "Its number in the inventory.",
            |d: &mut Device| d.0.id.clone(),
        )
        .prop(
            "device.hostname",
            "Its name in the inventory.",
            |d: &mut Device| d.0.hostname.clone(),
        )
        .prop(
            "device.address",
            "Where it is reached.",
            |d: &mut Device| d.0.address.clone(),
        )
        .prop("device.vendor", "Who made it.", |d: &mut Device| {
            d.0.vendor.clone()
        })
        .prop(
            "device.model",
            "Its model; sysObjectID as long as that is not known.",
            |d: &mut Device| d.0.model.clone(),
        )
        .prop("device.os", "sysDescr.", |d: &mut Device| d.0.os.clone())
        .prop(
            "device.os_version",
            "The version of that, once it is known.",
            |d: &mut Device| d.0.os_version.clone(),
        )
        .prop(
            "device.attrs",
            "A map: `site`, `kind`, `sys_object_id`, `sys_name` and the like.",
            |d: &mut Device| attribute_map(&d.0.attrs),
        )
        .def(
            "device.attr(key)",
            "One of them, or `()`.",
            |d: &mut Device, key: &str| -> Dynamic {
                let found = d.0.attrs.iter().find(|(name, _)| name == key);
                found.map_or(Dynamic::UNIT, |(_, value)| value.clone().into())
            },
        );
}

fn text_of<'a>(context: &NativeCallContext, input: &'a Input) -> Out<&'a str> {
    match &input.0.payload {
        Content::Text(text) | Content::Json(text) => Ok(text),
        other => Err(other_payload(context, input, other, "text")),
    }
}

fn other_payload(
    context: &NativeCallContext,
    input: &Input,
    is: &Content,
    wanted: &str,
) -> Box<rhai::EvalAltResult> {
    let (source, is) = (&input.0.source, is.word());
    let message = format!("the payload of {source:?} is {is}, not {wanted}");
    let hint = format!("use input.{is}, or look at input.source or input.kind first");
    mistake(context, message, hint)
}

/// Reads JSON; a text that is none is the device's trouble.
pub(super) fn json(context: &NativeCallContext, text: &str) -> Out<Dynamic> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(from_json(value)),
        Err(error) => {
            let said = contract::PluginError::Malformed(format!("this is no JSON: {error}"));
            let thrown = Dynamic::from(super::Thrown::Said(said));
            Err(rhai::EvalAltResult::ErrorRuntime(thrown, context.call_position()).into())
        }
    }
}

fn syslog(message: &contract::SyslogMessage) -> Map {
    let at = message.at.map_or(Dynamic::UNIT, |at| seconds(at).into());
    let text = |text: &String| Dynamic::from(text.clone());
    [
        ("facility", i64::from(message.facility).into()),
        ("severity", i64::from(message.severity).into()),
        ("at", at),
        ("hostname", text(&message.hostname)),
        ("app", text(&message.app)),
        ("procid", text(&message.procid)),
        ("msgid", text(&message.msgid)),
        ("message", text(&message.message)),
        ("structured", attribute_map(&message.structured).into()),
    ]
    .into_iter()
    .map(|(key, value)| (key.into(), value))
    .collect()
}
