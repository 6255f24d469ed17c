//! Between Rhai's values and everyone else's.

use contract::{Oid, SnmpValue};
use rhai::{Array, Blob, Dynamic, Map};
use serde_json::{Number, Value};

/// A JSON value as Rhai has it.
pub(crate) fn from_json(value: Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => value.into(),
        Value::Number(number) => match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64().unwrap_or_default().into(),
        },
        Value::String(text) => text.into(),
        Value::Array(values) => {
            Dynamic::from_array(values.into_iter().map(from_json).collect::<Array>())
        }
        Value::Object(entries) => Dynamic::from_map(
            entries
                .into_iter()
                .map(|(key, value)| (key.into(), from_json(value)))
                .collect::<Map>(),
        ),
    }
}

/// Values within each other that JSON may have: as many as it can be read with.
const JSON_DEPTH: usize = 100;

/// A value as JSON.
pub(crate) fn to_json(value: &Dynamic) -> Result<Value, String> {
    json_within(value, JSON_DEPTH)
}

fn json_within(value: &Dynamic, depth: usize) -> Result<Value, String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(format!(
            "JSON of more than {JSON_DEPTH} values in each other"
        ));
    };
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(value) = value.as_bool() {
        return Ok(Value::Bool(value));
    }
    if let Ok(number) = value.as_int() {
        return Ok(Value::Number(number.into()));
    }
    if let Ok(number) = value.as_float() {
        let json = Number::from_f64(number).map(Value::Number);
        return json.ok_or_else(|| format!("{number} is no number that JSON has"));
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return Ok(Value::String(text.to_string()));
    }
    if let Ok(letter) = value.as_char() {
        return Ok(Value::String(letter.to_string()));
    }
    if let Ok(array) = value.as_array_ref() {
        let values = array.iter().map(|value| json_within(value, depth));
        return values
            .collect::<Result<Vec<Value>, String>>()
            .map(Value::Array);
    }
    if let Ok(map) = value.as_map_ref() {
        let entries = map
            .iter()
            .map(|(key, value)| json_within(value, depth).map(|value| (key.to_string(), value)));
        return entries.collect::<Result<_, String>>().map(Value::Object);
    }
    Err(format!("a {} cannot be written as JSON", name_of(value)))
}

/// What a value is called in messages.
pub(crate) fn name_of(value: &Dynamic) -> String {
    match value.type_name() {
        "()" => "nothing, ()".to_owned(),
        "i64" => "integer".to_owned(),
        "f64" => "float".to_owned(),
        "string" => "text".to_owned(),
        other => other.rsplit("::").next().unwrap_or(other).to_owned(),
    }
}

/// A number, of whatever sort; `None` if it is none.
pub(crate) fn number(value: &Dynamic) -> Option<f64> {
    if let Ok(number) = value.as_int() {
        #[expect(clippy::cast_precision_loss, reason = "samples are floats")]
        return Some(number as f64);
    }
    if let Ok(flag) = value.as_bool() {
        return Some(f64::from(u8::from(flag)));
    }
    value.as_float().ok()
}

/// A value as the text of a label or an attribute.
pub(crate) fn label(value: &Dynamic) -> Option<String> {
    let is_plain = value.is_int() || value.is_float() || value.is_bool();
    if is_plain || value.is_string() || value.is_char() {
        return Some(value.to_string());
    }
    None
}

/// One value of a device's, wherever it came from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Datum<'a> {
    Int(i64),
    Uint(u64),
    Text(&'a str),
    Bytes(&'a [u8]),
    Oid(&'a Oid),
    Address([u8; 4]),
    Absent,
}

impl<'a> From<&'a SnmpValue> for Datum<'a> {
    fn from(value: &'a SnmpValue) -> Datum<'a> {
        match value {
            SnmpValue::Integer(number) => Datum::Int((*number).into()),
            SnmpValue::Unsigned32(number)
            | SnmpValue::Counter32(number)
            | SnmpValue::TimeTicks(number) => Datum::Uint((*number).into()),
            SnmpValue::Counter64(number) => Datum::Uint(*number),
            SnmpValue::Octets(octets) | SnmpValue::Opaque(octets) => Datum::Bytes(&octets.0),
            SnmpValue::ObjectId(oid) => Datum::Oid(oid),
            SnmpValue::IpAddress(a, b, c, d) => Datum::Address([*a, *b, *c, *d]),
            SnmpValue::Null
            | SnmpValue::NoSuchObject
            | SnmpValue::NoSuchInstance
            | SnmpValue::EndOfMibView => Datum::Absent,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "samples are floats")]
impl Datum<'_> {
    /// A whole number; of text, the number that it is.
    pub(crate) fn int(self) -> Option<i64> {
        match self {
            Datum::Int(number) => Some(number),
            Datum::Uint(number) => i64::try_from(number).ok(),
            Datum::Text(_) | Datum::Bytes(_) => self.text()?.trim().parse().ok(),
            Datum::Oid(_) | Datum::Address(_) | Datum::Absent => None,
        }
    }

    /// A number; of text, the number that it is.
    pub(crate) fn float(self) -> Option<f64> {
        match self {
            Datum::Int(number) => Some(number as f64),
            Datum::Uint(number) => Some(number as f64),
            Datum::Text(_) | Datum::Bytes(_) => {
                let number: f64 = self.text()?.trim().parse().ok()?;
                number.is_finite().then_some(number)
            }
            Datum::Oid(_) | Datum::Address(_) | Datum::Absent => None,
        }
    }

    /// How it is written. Agents end texts with NUL now and then.
    pub(crate) fn text(self) -> Option<String> {
        match self {
            Datum::Int(number) => Some(number.to_string()),
            Datum::Uint(number) => Some(number.to_string()),
            Datum::Text(text) => Some(text.trim_end_matches('\0').to_owned()),
            Datum::Bytes(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                Some(text.trim_end_matches('\0').to_owned())
            }
            Datum::Oid(oid) => Some(oid.to_string()),
            Datum::Address([a, b, c, d]) => Some(format!("{a}.{b}.{c}.{d}")),
            Datum::Absent => None,
        }
    }

    /// Its bytes.
    pub(crate) fn bytes(self) -> Option<Blob> {
        match self {
            Datum::Text(text) => Some(text.as_bytes().to_vec()),
            Datum::Bytes(bytes) => Some(bytes.to_vec()),
            Datum::Address(bytes) => Some(bytes.to_vec()),
            Datum::Int(_) | Datum::Uint(_) | Datum::Oid(_) | Datum::Absent => None,
        }
    }

    /// Integer, float (beyond 63 bits) or text.
    pub(crate) fn dynamic(self) -> Dynamic {
        match self {
            Datum::Int(number) => number.into(),
            Datum::Uint(number) => match i64::try_from(number) {
                Ok(number) => number.into(),
                Err(_) => (number as f64).into(),
            },
            Datum::Absent => Dynamic::UNIT,
            _ => self.text().map_or(Dynamic::UNIT, Dynamic::from),
        }
    }
}
