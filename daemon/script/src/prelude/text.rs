//! Text, numbers and encodings.

use rhai::{Array, Blob, Dynamic, Map, NativeCallContext};

use super::input::json;
use super::{Out, Prelude, mistake};
use crate::convert::{number, to_json};

pub(super) fn register(prelude: &mut Prelude) {
    texts(prelude);
    numbers(prelude);
    encodings(prelude);
}

fn texts(prelude: &mut Prelude) {
    prelude.section(
        "Text",
        &[],
        "Beside Rhai's own (`split`, `contains`, `starts_with`, `ends_with`, `index_of`, `sub_string`, `to_lower`, `to_upper`, `len`). \
         Mind that Rhai's `trim` and `replace` change the variable and return nothing; `trimmed` and `replaced` return the new text.",
    );
    prelude
        .def("trimmed(text)", "Without white space at both ends.", |text: &str| text.trim().to_owned())
        .def("replaced(text, from, to)", "With every `from` replaced.", |text: &str, from: &str, to: &str| text.replace(from, to))
        .def("lines(text)", "Its lines, an array.", |text: &str| array(text.lines()))
        .def("words(text)", "What stands between white space, an array.", |text: &str| array(text.split_whitespace()))
        .def("before(text, mark)", "What stands before the first `mark`; `()` without one.", |text: &str, mark: &str| {
            maybe(text.split_once(mark).map(|(before, _)| before))
        })
        .def("after(text, mark)", "What stands after the first `mark`; `()` without one.", |text: &str, mark: &str| {
            maybe(text.split_once(mark).map(|(_, after)| after))
        })
        .def("between(text, start, end)", "What stands between the first `start` and the next `end`; `()` without them. `end` `\"\"`: to the end of the line.", |text: &str, start: &str, end: &str| {
            let rest = text.split_once(start).map(|(_, rest)| rest);
            maybe(rest.and_then(|rest| match end {
                "" => rest.lines().next(),
                end => rest.split_once(end).map(|(between, _)| between),
            }))
        })
        .def("line_with(text, part)", "The first line that has `part` in it, or `()`.", |text: &str, part: &str| {
            maybe(text.lines().find(|line| line.contains(part)))
        });
}

fn array<'a>(parts: impl Iterator<Item = &'a str>) -> Array {
    parts.map(|part| part.to_owned().into()).collect()
}

fn maybe(text: Option<&str>) -> Dynamic {
    text.map_or(Dynamic::UNIT, |text| text.to_owned().into())
}

fn numbers(prelude: &mut Prelude) {
    prelude.section(
        "Numbers and units",
        &[],
        "Metrics are in base units: `scale(row.int(3), -1)` makes degrees of tenths. `parse_int` and `parse_float` are Rhai's own and end the call where there is no number.",
    );
    prelude
        .def("scale(value, digits)", "`value` times ten to the power of `digits`, as a float; `()` of `()`.", |c: NativeCallContext, value: Dynamic, digits: i64| -> Out<Dynamic> {
            if value.is_unit() {
                return Ok(value);
            }
            let Some(number) = number(&value) else {
                let message = format!("{} cannot be scaled", crate::convert::name_of(&value));
                return Err(mistake(&c, message, "give a number; number_in finds one in a text"));
            };
            Ok(scaled(number, digits).into())
        })
        .def("round_to(value, digits)", "A float rounded to so many digits after the point.", |value: f64, digits: i64| {
            let digits = digits.clamp(-15, 15);
            scaled(scaled(value, digits).round(), -digits)
        })
        .def("number_in(text)", "The first number in a text, as a float, or `()`: `number_in(\"Temp: -4.5 C\")` is -4.5.", |text: &str| {
            numbers_of(text).next().map_or(Dynamic::UNIT, |(number, _)| number.into())
        })
        .def("numbers_in(text)", "All of them, an array.", |text: &str| -> Array {
            numbers_of(text).map(|(number, _)| number.into()).collect()
        })
        .def("quantity(text)", "The first number with its prefix: `quantity(\"1.5 kW\")` is 1500.0, `quantity(\"4 KiB\")` is 4096.0; `()` without a number. n u m k K M G T P and Ki Mi Gi Ti are known.", |text: &str| {
            numbers_of(text).next().map_or(Dynamic::UNIT, |(number, rest)| (number * prefix(rest)).into())
        });
}

/// Exact where a power of ten is.
fn scaled(number: f64, digits: i64) -> f64 {
    let digits = i32::try_from(digits.clamp(-400, 400)).unwrap_or(0);
    let power = 10_f64.powi(digits.abs());
    if digits < 0 {
        number / power
    } else {
        number * power
    }
}

/// Numbers in a text, each with what stands behind it. A `-` is a sign unless
/// it joins two words: `1-2` is 1 and 2.
fn numbers_of(text: &str) -> impl Iterator<Item = (f64, &str)> {
    let mut seen = 0;
    let digits = |text: &str| {
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len())
    };
    std::iter::from_fn(move || {
        let start = seen + text[seen..].find(|c: char| c.is_ascii_digit())?;
        let mut end = start + digits(&text[start..]);
        if let Some(fraction) = text[end..].strip_prefix('.')
            && fraction.starts_with(|c: char| c.is_ascii_digit())
        {
            end += 1 + digits(fraction);
        }
        seen = end;
        let number: f64 = text[start..end].parse().ok()?;
        let before = text[..start].strip_suffix('-');
        let is_negative = before.is_some_and(|b| !b.ends_with(char::is_alphanumeric));
        Some((if is_negative { -number } else { number }, &text[end..]))
    })
}

fn prefix(rest: &str) -> f64 {
    let unit = rest.trim_start();
    let binary = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
    ];
    if let Some((_, factor)) = binary.iter().find(|(prefix, _)| unit.starts_with(prefix)) {
        return *factor;
    }
    let mut letters = unit.chars();
    let factor = match letters.next() {
        Some('n') => 1e-9,
        Some('u' | 'µ') => 1e-6,
        Some('m') => 1e-3,
        Some('k' | 'K') => 1e3,
        Some('M') => 1e6,
        Some('G') => 1e9,
        Some('T') => 1e12,
        Some('P') => 1e15,
        _ => return 1.0,
    };
    // a prefix has its unit behind it: 3 m is metres, 3 mV is not
    let short = matches!(unit.chars().next(), Some('k' | 'K' | 'M' | 'G' | 'T' | 'P'));
    if letters.next().is_some_and(char::is_alphabetic) || short {
        factor
    } else {
        1.0
    }
}

fn encodings(prelude: &mut Prelude) {
    prelude.section("JSON, bytes and encodings", &[], "");
    prelude
        .def(
            "json_parse(text)",
            "JSON as maps, arrays, texts and numbers; a text that is none is `malformed`.",
            |c: NativeCallContext, text: &str| json(&c, text),
        )
        .def(
            "to_json(value)",
            "A map, an array or any other value as JSON.",
            |c: NativeCallContext, value: Dynamic| json_text(&c, &value),
        )
        .also("to_json", |c: NativeCallContext, map: Map| {
            json_text(&c, &map.into())
        })
        .def(
            "hex(bytes, separator)",
            "Bytes in hexadecimal: `hex(row.bytes(6), \":\")` is a MAC address.",
            |bytes: Blob, separator: &str| {
                let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                digits.join(separator)
            },
        )
        .def(
            "text_of(bytes)",
            "Bytes as text; what is no UTF-8 becomes U+FFFD.",
            |bytes: Blob| String::from_utf8_lossy(&bytes).into_owned(),
        )
        .def(
            "url_encode(text)",
            "For a part of an address.",
            |text: &str| url_encoded(text),
        )
        .def(
            "escape_html(text)",
            "`&`, `<`, `>` and `\"` as HTML has them.",
            |text: &str| {
                text.replace('&', "&amp;")
                    .replace('<', "&lt;")
                    .replace('>', "&gt;")
                    .replace('"', "&quot;")
            },
        )
        .def(
            "shortened(text, letters)",
            "At most so many letters, the last of them `…` where some were cut.",
            |text: &str, letters: i64| {
                let letters = usize::try_from(letters).unwrap_or(0);
                if text.chars().count() <= letters {
                    return text.to_owned();
                }
                let kept: String = text.chars().take(letters.saturating_sub(1)).collect();
                if letters == 0 { kept } else { kept + "…" }
            },
        );
}

fn json_text(context: &NativeCallContext, value: &Dynamic) -> Out<String> {
    let json = to_json(value).map_err(|error| mistake(context, error, ""))?;
    Ok(json.to_string())
}

/// Percent encoding (RFC 3986 §2.3).
pub(super) fn url_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
