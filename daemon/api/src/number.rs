//! Measured numbers as JSON: what was not measured is null, and infinities,
//! for which JSON has no number, are text as in Prometheus.

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// A number that was measured; NaN: none was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Number(pub(crate) f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            f64::INFINITY => serializer.serialize_str("+Inf"),
            f64::NEG_INFINITY => serializer.serialize_str("-Inf"),
            nan if nan.is_nan() => serializer.serialize_none(),
            number => serializer.serialize_f64(number),
        }
    }
}

impl PartialSchema for Number {
    fn schema() -> RefOr<Schema> {
        let types = SchemaType::from_iter([Type::Number, Type::String, Type::Null]);
        ObjectBuilder::new()
            .schema_type(types)
            .description(Some(
                "null: not measured; the texts \"+Inf\" and \"-Inf\" are infinities",
            ))
            .build()
            .into()
    }
}

impl ToSchema for Number {}

/// Many of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers<'a>(pub(crate) &'a [f64]);

impl Serialize for Numbers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut numbers = serializer.serialize_seq(Some(self.0.len()))?;
        for number in self.0 {
            numbers.serialize_element(&Number(*number))?;
        }
        numbers.end()
    }
}

/// A point of a series: seconds since 1970, the value, and `true` where a
/// counter does not go on from the point before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point(pub(crate) f64, pub(crate) f64, pub(crate) bool);

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Point(at, value, broken) = *self;
        match broken {
            true => (at, Number(value), true).serialize(serializer),
            false => (at, Number(value)).serialize(serializer),
        }
    }
}

impl PartialSchema for Point {
    fn schema() -> RefOr<Schema> {
        let item = SchemaType::from_iter([Type::Number, Type::String, Type::Boolean]);
        ArrayBuilder::new()
            .items(ObjectBuilder::new().schema_type(item))
            .min_items(Some(2))
            .max_items(Some(3))
            .description(Some(
                "Seconds since 1970, the value (\"+Inf\" and \"-Inf\" are infinities), and true where a counter does not go on from the point before",
            ))
            .build()
            .into()
    }
}

impl ToSchema for Point {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_cannot_say_is_null_or_text() {
        let numbers = [1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0];
        let written = serde_json::to_string(&Numbers(&numbers)).unwrap();
        assert_eq!(written, r#"[1.5,null,"+Inf","-Inf",-0.0]"#);
    }

    #[test]
    fn a_point_says_where_a_counter_does_not_go_on() {
        let points = [Point(1.5, 2.0, false), Point(2.0, f64::INFINITY, true)];
        let written = serde_json::to_string(&points).unwrap();
        assert_eq!(written, r#"[[1.5,2.0],[2.0,"+Inf",true]]"#);
    }
}
