//! Tables for plugins: what was walked, laid out in rows and columns.
//!
//! An instance is `column.index` below its table's entry. Authors write the
//! table's OID (`ifTable`, 1.3.6.1.2.1.2.2) or its entry's (`ifEntry`,
//! 1.3.6.1.2.1.2.2.1), and nothing in an answer says which it was. The rule:
//!
//! > If every instance has at least three arcs below the root, and the first of
//! > them is 1 in all of them, the root is a table: the arcs are 1, the column,
//! > the index. Otherwise it is an entry: the column, then the index.
//!
//! An entry is the child 1 of its table in every MIB (RFC 2578 §7.1.12). What
//! the rule takes for a table though it is an entry has nothing but column 1 and
//! an index of several numbers; then name the table.

use std::collections::BTreeMap;
use std::fmt;

use model::{Oid, SnmpTable, SnmpValue, Varbind};

/// The least that lies below a table: the entry, a column, one number of index.
const ARCS_BELOW_A_TABLE: usize = 3;

/// The entry below its table.
const ENTRY: u32 = 1;

/// Rows and columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pivoted<'a> {
    /// Each row's index, in their order (RFC 2578 §7.7), each once.
    pub indexes: Vec<Oid>,
    /// In the order of their OIDs.
    pub columns: Vec<PivotColumn<'a>>,
    /// Instances that have no index, or lie elsewhere: they are left out.
    pub odd_instances: u32,
}

/// One column of a [`Pivoted`].
#[derive(Clone, Debug, PartialEq)]
pub struct PivotColumn<'a> {
    /// Its OID: the instances' without the index.
    pub base: Oid,
    /// Places in [`Pivoted::indexes`], rising, and what stands there.
    pub cells: Vec<(u32, &'a SnmpValue)>,
}

/// What was walked is no table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoTable {
    /// Where.
    pub root: Oid,
    /// The first instance that has no place in a table.
    pub instance: Oid,
}

impl fmt::Display for NoTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NoTable { root, instance } = self;
        write!(
            f,
            "{root} is no table: {instance} has no column and index below it; \
             name the table or its entry, not a column or a scalar"
        )
    }
}

impl std::error::Error for NoTable {}

/// An instance, taken apart.
struct Cell<'a> {
    column: u32,
    index: &'a [u32],
    value: &'a SnmpValue,
}

/// Lays out what a walk of `root`, a table or its entry, brought.
///
/// # Errors
///
/// There are instances, and none of them has a place in a table.
pub fn pivot<'a>(root: &Oid, varbinds: &'a [Varbind]) -> Result<Pivoted<'a>, NoTable> {
    let below = |varbind: &'a Varbind| varbind.oid.below(root);
    let is_of_a_table =
        |arcs: &[u32]| arcs.len() >= ARCS_BELOW_A_TABLE && arcs.first() == Some(&ENTRY);
    let is_table = varbinds.iter().filter_map(below).all(is_of_a_table);

    let cells = varbinds.iter().filter_map(|varbind| {
        let arcs = below(varbind)?;
        let arcs = if is_table { arcs.get(1..)? } else { arcs };
        let (column, index) = arcs.split_first()?;
        (!index.is_empty()).then_some(Cell {
            column: *column,
            index,
            value: &varbind.value,
        })
    });
    let cells: Vec<Cell<'a>> = cells.collect();
    if let (Some(first), true) = (varbinds.first(), cells.is_empty()) {
        return Err(NoTable {
            root: root.clone(),
            instance: first.oid.clone(),
        });
    }
    let mut entry = root.clone();
    if is_table {
        entry.0.push(ENTRY);
    }
    let odd = varbinds.len() - cells.len();
    Ok(Pivoted {
        odd_instances: u32::try_from(odd).unwrap_or(u32::MAX),
        ..lay_out(&entry, &cells)
    })
}

/// Lays out a built-in table of an answer.
#[must_use]
pub fn pivot_table(table: &SnmpTable) -> Pivoted<'_> {
    let cells = table.columns.iter().flat_map(|column| &column.cells);
    let mut indexes: Vec<u32> = cells.map(|(index, _)| *index).collect();
    indexes.sort_unstable();
    indexes.dedup();
    let columns = table.columns.iter().map(|column| PivotColumn {
        base: column.oid.clone(),
        cells: placed(column.cells.iter().filter_map(|(index, value)| {
            let place = indexes.binary_search(index);
            Some((place.ok()?, value))
        })),
    });
    let mut columns: Vec<PivotColumn<'_>> = columns.collect();
    columns.retain(|column| !column.cells.is_empty());
    columns.sort_by(|a, b| a.base.cmp(&b.base));
    Pivoted {
        columns,
        indexes: indexes.iter().map(|index| Oid(vec![*index])).collect(),
        odd_instances: table.odd_instances,
    }
}

fn lay_out<'a>(entry: &Oid, cells: &[Cell<'a>]) -> Pivoted<'a> {
    // a walk gives a sorted run for each column: quick to sort together
    let mut indexes: Vec<&[u32]> = cells.iter().map(|cell| cell.index).collect();
    indexes.sort();
    indexes.dedup();
    let mut columns: BTreeMap<u32, Vec<&Cell<'a>>> = BTreeMap::new();
    for cell in cells {
        columns.entry(cell.column).or_default().push(cell);
    }
    let columns = columns.into_iter().map(|(number, cells)| {
        let mut base = entry.clone();
        base.0.push(number);
        let cells = cells.into_iter().filter_map(|cell| {
            let place = indexes.binary_search(&cell.index);
            Some((place.ok()?, cell.value))
        });
        PivotColumn {
            base,
            cells: placed(cells),
        }
    });
    Pivoted {
        columns: columns.collect(),
        indexes: indexes.iter().map(|index| Oid(index.to_vec())).collect(),
        odd_instances: 0,
    }
}

/// Cells in the order of their rows; of two in one place, the first.
fn placed<'a>(cells: impl Iterator<Item = (usize, &'a SnmpValue)>) -> Vec<(u32, &'a SnmpValue)> {
    let cells = cells.filter_map(|(place, value)| Some((u32::try_from(place).ok()?, value)));
    let mut cells: Vec<(u32, &SnmpValue)> = cells.collect();
    cells.sort_by_key(|(place, _)| *place);
    cells.dedup_by_key(|(place, _)| *place);
    cells
}

#[cfg(test)]
mod tests {
    use model::SnmpColumn;

    use super::*;

    const TABLE: &str = "1.3.6.1.4.1.14988.1.1.3.100";

    fn oid(text: &str) -> Oid {
        text.parse().unwrap()
    }

    /// Instances below `root`, each with its number as its value.
    fn walked(root: &str, instances: &[&str]) -> Vec<Varbind> {
        let numbered = instances.iter().zip(0..);
        let varbinds = numbered.map(|(instance, number)| Varbind {
            oid: oid(&format!("{root}.{instance}")),
            value: SnmpValue::Integer(number),
        });
        varbinds.collect()
    }

    /// `column[index=value ...]` of each column below `entry`, and the odd ones.
    fn shown(pivoted: &Pivoted<'_>, entry: &str) -> Vec<String> {
        let columns = pivoted.columns.iter().map(|column| {
            let number = column.base.below(&oid(entry)).unwrap();
            let cells = column.cells.iter().map(|(place, value)| {
                let index = &pivoted.indexes[*place as usize];
                format!("{index}={}", value.as_f64().unwrap())
            });
            let cells: Vec<String> = cells.collect();
            format!("{}[{}]", Oid(number.to_vec()), cells.join(" "))
        });
        columns.collect()
    }

    #[test]
    fn a_table_and_its_entry_give_the_same() {
        let entry = format!("{TABLE}.1");
        let cells = ["2.7", "2.9", "3.7", "3.9"];
        let varbinds = walked(&entry, &cells);
        let by_table = pivot(&oid(TABLE), &varbinds).unwrap();
        let by_entry = pivot(&oid(&entry), &varbinds).unwrap();
        assert_eq!(by_table, by_entry);
        assert_eq!(shown(&by_table, &entry), ["2[7=0 9=1]", "3[7=2 9=3]"]);
    }

    #[test]
    fn indexes_of_several_numbers_are_rows_in_their_order() {
        let varbinds = walked(TABLE, &["1.4.10.1", "1.4.2.300", "1.5.2.300", "1.5.2.7.7"]);
        let pivoted = pivot(&oid(TABLE), &varbinds).unwrap();
        let indexes: Vec<String> = pivoted.indexes.iter().map(Oid::to_string).collect();
        assert_eq!(indexes, ["2.7.7", "2.300", "10.1"]);
        let entry = format!("{TABLE}.1");
        let expected = ["4[2.300=1 10.1=0]", "5[2.7.7=3 2.300=2]"];
        assert_eq!(shown(&pivoted, &entry), expected);
    }

    #[test]
    fn a_table_with_one_column_is_one() {
        let varbinds = walked(TABLE, &["1.4.1", "1.4.2"]);
        let pivoted = pivot(&oid(TABLE), &varbinds).unwrap();
        assert_eq!(shown(&pivoted, &format!("{TABLE}.1")), ["4[1=0 2=1]"]);
    }

    #[test]
    fn an_entry_with_column_1_and_a_short_index_is_one() {
        let varbinds = walked(TABLE, &["1.1", "1.2"]);
        let pivoted = pivot(&oid(TABLE), &varbinds).unwrap();
        assert_eq!(shown(&pivoted, TABLE), ["1[1=0 2=1]"]);
        let varbinds = walked(TABLE, &["1.1.9", "2.1.9"]);
        let pivoted = pivot(&oid(TABLE), &varbinds).unwrap();
        assert_eq!(shown(&pivoted, TABLE), ["1[1.9=0]", "2[1.9=1]"]);
    }

    #[test]
    fn scalars_side_by_side_are_a_row() {
        let varbinds = walked(TABLE, &["1.0", "2.0"]);
        let pivoted = pivot(&oid(TABLE), &varbinds).unwrap();
        assert_eq!(shown(&pivoted, TABLE), ["1[0=0]", "2[0=1]"]);
    }

    #[test]
    fn what_has_no_index_is_counted_and_left_out() {
        let mut varbinds = walked(TABLE, &["2.7", "3"]);
        varbinds.extend(walked("1.3.6.1.9", &["1"]));
        let pivoted = pivot(&oid(TABLE), &varbinds).unwrap();
        assert_eq!(shown(&pivoted, TABLE), ["2[7=0]"]);
        assert_eq!(pivoted.odd_instances, 2);
    }

    #[test]
    fn a_column_is_no_table_and_the_author_is_told() {
        let varbinds = walked(TABLE, &["7", "8"]);
        let error = pivot(&oid(TABLE), &varbinds).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("{TABLE} is no table")), "{text}");
        assert!(text.contains(&format!("{TABLE}.7")), "{text}");
        let itself = walked(&TABLE[..TABLE.len() - 4], &["100"]);
        assert!(pivot(&oid(TABLE), &itself).is_err());
    }

    #[test]
    fn nothing_at_all_is_an_empty_table() {
        assert_eq!(pivot(&oid(TABLE), &[]), Ok(Pivoted::default()));
    }

    #[test]
    fn a_built_in_table_has_the_same_shape() {
        let column = |number: u32, cells: &[(u32, i64)]| SnmpColumn {
            oid: oid(&format!("{TABLE}.1.{number}")),
            cells: cells
                .iter()
                .map(|(index, value)| (*index, SnmpValue::Integer(*value)))
                .collect(),
        };
        let table = SnmpTable {
            name: "ifTable",
            columns: vec![
                column(3, &[(9, 3)]),
                column(2, &[(7, 0), (9, 1)]),
                column(4, &[]),
            ],
            odd_instances: 1,
            failure: None,
        };
        let pivoted = pivot_table(&table);
        let entry = format!("{TABLE}.1");
        assert_eq!(shown(&pivoted, &entry), ["2[7=0 9=1]", "3[9=3]"]);
        assert_eq!(pivoted.odd_instances, 1);
    }
}
