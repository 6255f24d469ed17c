//! Single values, as the SMI means them and as agents send them.
//!
//! NaN stands for "not measured": a missing cell, a value of another type, a
//! number that its object cannot have.

use std::borrow::Cow;

use model::{Oid, SnmpAnswer, SnmpColumn, SnmpValue, Varbind};

use crate::text::safe;

/// 2^32.
const MODULUS_32: f64 = 4_294_967_296.0;

/// A number that is not negative.
pub(crate) fn number(value: &SnmpValue) -> f64 {
    value.as_f64().filter(|n| *n >= 0.0).unwrap_or(f64::NAN)
}

/// A number of 32 bits. Agents send those above 2^31 as negative ones where
/// the MIB says Integer32 (disks above 2^31 blocks) or where they mix up the
/// types (counters).
pub(crate) fn unsigned_32(value: &SnmpValue) -> f64 {
    match value.as_f64() {
        Some(n) if (-MODULUS_32 / 2.0..0.0).contains(&n) => n + MODULUS_32,
        Some(n) if n >= 0.0 => n,
        Some(_) | None => f64::NAN,
    }
}

/// Seconds, of hundredths of seconds.
pub(crate) fn seconds(value: &SnmpValue) -> f64 {
    number(value) / 100.0
}

/// A number that stands for a word.
pub(crate) fn code(value: &SnmpValue) -> Option<u32> {
    match value {
        SnmpValue::Integer(n) => u32::try_from(*n).ok(),
        SnmpValue::Gauge32(n) | SnmpValue::Counter32(n) => Some(*n),
        SnmpValue::Octets(_)
        | SnmpValue::ObjectId(_)
        | SnmpValue::IpAddress(_)
        | SnmpValue::TimeTicks(_)
        | SnmpValue::Counter64(_)
        | SnmpValue::Opaque(_)
        | SnmpValue::Null => None,
    }
}

/// The octets of a string.
pub(crate) fn octets(value: &SnmpValue) -> Option<&[u8]> {
    match value {
        SnmpValue::Octets(bytes) => Some(bytes),
        SnmpValue::Integer(_)
        | SnmpValue::ObjectId(_)
        | SnmpValue::IpAddress(_)
        | SnmpValue::Counter32(_)
        | SnmpValue::Gauge32(_)
        | SnmpValue::TimeTicks(_)
        | SnmpValue::Counter64(_)
        | SnmpValue::Opaque(_)
        | SnmpValue::Null => None,
    }
}

/// A string, safe to show; it may be empty.
pub(crate) fn text(value: &SnmpValue) -> Option<Cow<'_, str>> {
    octets(value).map(safe)
}

/// The scalar `root`.`object`.0.
pub(crate) fn scalar<'a>(
    answer: &'a SnmpAnswer,
    root: &[u32],
    object: u32,
) -> Option<&'a SnmpValue> {
    let is_it = |varbind: &&Varbind| varbind.oid.0.strip_prefix(root) == Some(&[object, 0]);
    answer.scalars.iter().find(is_it).map(|found| &found.value)
}

/// The columns below `entry` with their numbers.
pub(crate) fn columns<'a>(
    answer: &'a SnmpAnswer,
    entry: &'a [u32],
) -> impl Iterator<Item = (u32, &'a SnmpColumn)> {
    let number = |oid: &Oid| match oid.0.strip_prefix(entry) {
        Some([number]) => Some(*number),
        Some(_) | None => None,
    };
    let all = answer.tables.iter().flat_map(|table| &table.columns);
    all.filter_map(move |column| Some((number(&column.oid)?, column)))
}

/// Whether the table called `name` was walked and is not complete.
pub(crate) fn is_incomplete(answer: &SnmpAnswer, name: &str) -> bool {
    let failed = |table: &model::SnmpTable| table.name == name && table.failure.is_some();
    answer.tables.iter().any(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(found: f64, expected: f64) {
        assert!(
            found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
            "{found} is not {expected}"
        );
    }

    #[test]
    fn a_number_that_cannot_be_is_not_measured() {
        same(number(&SnmpValue::Integer(-1)), f64::NAN);
        same(
            number(&SnmpValue::Octets(b"12".as_slice().into())),
            f64::NAN,
        );
        same(number(&SnmpValue::Null), f64::NAN);
        same(number(&SnmpValue::Gauge32(12)), 12.0);
    }

    #[test]
    fn a_negative_32_bit_number_is_a_large_one() {
        same(unsigned_32(&SnmpValue::Integer(-1)), 4_294_967_295.0);
        same(
            unsigned_32(&SnmpValue::Integer(i64::from(i32::MIN))),
            2_147_483_648.0,
        );
        same(unsigned_32(&SnmpValue::Integer(-5_000_000_000)), f64::NAN);
        same(unsigned_32(&SnmpValue::Counter32(7)), 7.0);
    }
}
