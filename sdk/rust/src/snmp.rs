//! Tables and values as a parser reads them.

use std::borrow::Cow;

use crate::contract::snmp::{Cells, Column, Oid, Table, Value, Varbind};

/// The object identifier that is written `1.3.6.1.2.1.1.3.0`; what is no number
/// in it counts as 0.
#[must_use]
pub fn oid(text: &str) -> Oid {
    text.split('.')
        .filter(|arc| !arc.is_empty())
        .map(|arc| arc.parse().unwrap_or(0))
        .collect()
}

/// `1.3.6.1.2.1.1.3.0`
#[must_use]
pub fn dotted(oid: &[u32]) -> String {
    let arcs: Vec<String> = oid.iter().map(u32::to_string).collect();
    arcs.join(".")
}

impl Table {
    /// The table at `oid` (the table's or its entry's) of what was walked.
    /// Tables that the daemon collects as such come pivoted already.
    #[must_use]
    pub fn pivot(oid: &str, walked: &[Varbind]) -> Table {
        let mut base = self::oid(oid);
        let is_below = |v: &Varbind| v.name.strip_prefix(&base[..])?.first().copied();
        let parts: Vec<u32> = walked.iter().filter_map(is_below).collect();
        // below a table there is its entry alone, which is 1
        let is_entry = |varbind: &Varbind| varbind.name.len() > base.len() + 2;
        if parts.iter().all(|part| *part == 1) && walked.iter().any(is_entry) {
            base.push(1);
        }
        let mut indexes: Vec<Oid> = Vec::new();
        let mut columns: Vec<(Oid, Vec<u32>, Vec<Value>)> = Vec::new();
        for varbind in walked {
            let Some([column, index @ ..]) = varbind.name.strip_prefix(&base[..]) else {
                continue;
            };
            let row = position(&mut indexes, |known| known == index, || index.to_vec());
            let column = [&base[..], &[*column]].concat();
            let is_known = |(known, ..): &(Oid, _, _)| *known == column;
            let at = position(&mut columns, is_known, || (column.clone(), vec![], vec![]));
            columns[at].1.push(u32::try_from(row).unwrap_or(u32::MAX));
            columns[at].2.push(varbind.value.clone());
        }
        let columns = columns.into_iter().map(|(base, rows, values)| Column {
            base,
            rows,
            cells: cells(values),
        });
        Table {
            indexes,
            columns: columns.collect(),
        }
    }

    /// The rows, as the agent orders them.
    pub fn rows(&self) -> impl Iterator<Item = TableRow<'_>> {
        (0..self.indexes.len()).map(|place| TableRow { table: self, place })
    }

    /// The column with this number: the last part of its object identifier.
    #[must_use]
    pub fn column(&self, number: u32) -> Option<&Column> {
        self.columns.iter().find(|c| c.base.last() == Some(&number))
    }

    /// The row with this index.
    #[must_use]
    pub fn row(&self, index: &[u32]) -> Option<TableRow<'_>> {
        let place = self.indexes.iter().position(|i| i == index)?;
        Some(TableRow { table: self, place })
    }
}

/// Where it stands, or is put.
fn position<T>(all: &mut Vec<T>, is: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> usize {
    all.iter().position(is).unwrap_or_else(|| {
        all.push(make());
        all.len() - 1
    })
}

/// Uniform columns are plain lists.
fn cells(values: Vec<Value>) -> Cells {
    let is_int = |v: &Value| matches!(v, Value::Integer(_));
    if values.iter().all(is_int) {
        return Cells::Ints(values.iter().filter_map(Value::i64).collect());
    }
    if values.iter().all(|v| !is_int(v) && v.u64().is_some()) {
        return Cells::Uints(values.iter().filter_map(Value::u64).collect());
    }
    if !values.iter().all(|v| matches!(v, Value::Octets(_))) {
        return Cells::Mixed(values);
    }
    let octets = values.iter().filter_map(Value::octets);
    let texts = octets.clone().map(|o| String::from_utf8(o.to_vec()));
    match texts.collect() {
        Ok(texts) => Cells::Texts(texts),
        Err(_) => Cells::Octets(octets.map(<[u8]>::to_vec).collect()),
    }
}

impl Column {
    /// Where the cell of row `row` stands.
    fn place(&self, row: usize) -> Option<usize> {
        let row = u32::try_from(row).ok()?;
        // almost every column has a cell in every row
        if self.rows.get(row as usize) == Some(&row) {
            return Some(row as usize);
        }
        self.rows.iter().position(|r| *r == row)
    }
}

/// One row of a table. Columns are called by their numbers in the MIB; a cell
/// that the agent did not send, or that is of another type, is `None`.
#[derive(Clone, Copy, Debug)]
pub struct TableRow<'a> {
    table: &'a Table,
    place: usize,
}

impl<'a> TableRow<'a> {
    /// The row's index.
    #[must_use]
    pub fn index(&self) -> &'a [u32] {
        &self.table.indexes[self.place]
    }

    /// The row's index as a label: `7` or `1.4`.
    #[must_use]
    pub fn index_text(&self) -> String {
        dotted(self.index())
    }

    fn cell(&self, column: u32) -> Option<(&'a Cells, usize)> {
        let column = self.table.column(column)?;
        Some((&column.cells, column.place(self.place)?))
    }

    /// A cell as text.
    #[must_use]
    pub fn text(&self, column: u32) -> Option<Cow<'a, str>> {
        match self.cell(column)? {
            (Cells::Texts(cells), place) => cells.get(place).map(|t| Cow::Borrowed(t.as_str())),
            (Cells::Octets(cells), place) => cells.get(place).map(|o| String::from_utf8_lossy(o)),
            (Cells::Mixed(cells), place) => cells.get(place)?.text(),
            _ => None,
        }
    }

    /// A cell's bytes.
    #[must_use]
    pub fn octets(&self, column: u32) -> Option<&'a [u8]> {
        match self.cell(column)? {
            (Cells::Texts(cells), place) => cells.get(place).map(|t| t.as_bytes()),
            (Cells::Octets(cells), place) => cells.get(place).map(Vec::as_slice),
            (Cells::Mixed(cells), place) => cells.get(place)?.octets(),
            _ => None,
        }
    }

    /// A cell as a whole number, whatever its sign.
    #[must_use]
    pub fn i64(&self, column: u32) -> Option<i64> {
        match self.cell(column)? {
            (Cells::Ints(cells), place) => cells.get(place).copied(),
            (Cells::Uints(cells), place) => i64::try_from(*cells.get(place)?).ok(),
            (Cells::Mixed(cells), place) => cells.get(place)?.i64(),
            _ => None,
        }
    }

    /// A cell as a whole number that is not negative.
    #[must_use]
    pub fn u64(&self, column: u32) -> Option<u64> {
        match self.cell(column)? {
            (Cells::Uints(cells), place) => cells.get(place).copied(),
            (Cells::Ints(cells), place) => u64::try_from(*cells.get(place)?).ok(),
            (Cells::Mixed(cells), place) => cells.get(place)?.u64(),
            _ => None,
        }
    }

    /// A cell as a number; text is read as one.
    #[must_use]
    pub fn f64(&self, column: u32) -> Option<f64> {
        if let Some(number) = self.i64(column) {
            return Some(number as f64);
        }
        if let Some(number) = self.u64(column) {
            return Some(number as f64);
        }
        let number: f64 = self.text(column)?.trim().parse().ok()?;
        number.is_finite().then_some(number)
    }
}

impl Value {
    /// As a whole number, whatever its sign.
    #[must_use]
    pub fn i64(&self) -> Option<i64> {
        match self {
            Value::Integer(number) => Some(i64::from(*number)),
            _ => i64::try_from(self.u64()?).ok(),
        }
    }

    /// As a whole number that is not negative.
    #[must_use]
    pub fn u64(&self) -> Option<u64> {
        match self {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Unsigned32(number) | Value::Counter32(number) | Value::TimeTicks(number) => {
                Some(u64::from(*number))
            }
            Value::Counter64(number) => Some(*number),
            _ => None,
        }
    }

    /// As a number; text is read as one.
    #[must_use]
    pub fn f64(&self) -> Option<f64> {
        if let Some(number) = self.i64() {
            return Some(number as f64);
        }
        if let Value::Counter64(number) = self {
            return Some(*number as f64);
        }
        let number: f64 = self.text()?.trim().parse().ok()?;
        number.is_finite().then_some(number)
    }

    /// Its bytes.
    #[must_use]
    pub fn octets(&self) -> Option<&[u8]> {
        match self {
            Value::Octets(octets) | Value::Opaque(octets) => Some(octets),
            _ => None,
        }
    }

    /// As text: of octets, addresses and object identifiers.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::Octets(octets) => Some(String::from_utf8_lossy(octets)),
            Value::ObjectId(oid) => Some(dotted(oid).into()),
            Value::IpAddress((a, b, c, d)) => Some(format!("{a}.{b}.{c}.{d}").into()),
            _ => None,
        }
    }
}

/// The value of an object in a list of varbinds; what agents send for what they
/// do not have is `None`.
pub(crate) fn find<'a>(varbinds: &'a [Varbind], name: &str) -> Option<&'a Value> {
    let name = oid(name);
    let value = &varbinds.iter().find(|v| v.name == name)?.value;
    let is_absent = matches!(
        value,
        Value::Null | Value::NoSuchObject | Value::NoSuchInstance | Value::EndOfMibView
    );
    (!is_absent).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::table;

    const FANS: &str = "1.3.6.1.4.1.9.1.1.1|2|1
        1.3.6.1.4.1.9.1.1.7|2|7
        1.3.6.1.4.1.9.1.2.1|4|left
        1.3.6.1.4.1.9.1.2.7|4|right
        1.3.6.1.4.1.9.1.3.7|66|4294967295
        1.3.6.1.4.1.9.1.3.9|66|3
        1.3.6.1.4.1.9.1.4.9|4x|ff00
        1.3.6.1.4.1.9.1.5.1|2|-3
        1.3.6.1.4.1.9.1.5.7|4| 2.5 ";

    #[test]
    fn a_row_gives_its_cells_and_none_where_the_agent_had_none() {
        for oid in ["1.3.6.1.4.1.9", "1.3.6.1.4.1.9.1"] {
            let table = table(oid, FANS);
            let rows: Vec<TableRow<'_>> = table.rows().collect();
            let names: Vec<_> = rows.iter().map(|row| row.text(2)).collect();
            assert_eq!(names, [Some("left".into()), Some("right".into()), None]);
            let speeds: Vec<_> = rows.iter().map(|row| row.u64(3)).collect();
            assert_eq!(speeds, [None, Some(4_294_967_295), Some(3)]);
            assert_eq!(rows[2].index_text(), "9");
            assert_eq!(rows[2].octets(4), Some(&[0xff, 0][..]));
            assert_eq!(rows[0].i64(5), Some(-3));
            assert_eq!(rows[0].u64(5), None);
            assert_eq!(rows[1].f64(5), Some(2.5));
            assert_eq!(rows[1].text(9), None);
            assert_eq!(table.row(&[7]).and_then(|row| row.u64(1)), Some(7));
        }
    }
}
