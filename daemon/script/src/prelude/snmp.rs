//! SNMP's values and tables, and object identifiers.

use std::collections::BTreeMap;
use std::sync::Arc;

use contract::{Cells, Kind, Oid, Varbind};
use rhai::{Array, Blob, Dynamic, EvalAltResult, NativeCallContext};

use super::{Out, Prelude, mistake};
use crate::convert::Datum;

/// Varbinds, in the order in which they came.
#[derive(Clone)]
pub(super) struct Varbinds {
    all: Arc<Vec<Varbind>>,
    /// Which of them, and below what.
    places: Arc<Vec<usize>>,
    base: Arc<Oid>,
}

/// One of them.
#[derive(Clone)]
pub(super) struct OneVarbind {
    all: Arc<Vec<Varbind>>,
    place: usize,
    base: Arc<Oid>,
}

impl From<Vec<Varbind>> for Varbinds {
    fn from(varbinds: Vec<Varbind>) -> Varbinds {
        Varbinds {
            places: Arc::new((0..varbinds.len()).collect()),
            all: Arc::new(varbinds),
            base: Arc::default(),
        }
    }
}

impl Varbinds {
    fn find(&self, oid: &Oid) -> Datum<'_> {
        let found = self.places.iter().map(|place| &self.all[*place]);
        let mut found = found.filter(|varbind| varbind.name == *oid);
        found
            .next()
            .map_or(Datum::Absent, |varbind| (&varbind.value).into())
    }
}

impl OneVarbind {
    fn datum(&self) -> Datum<'_> {
        (&self.all[self.place].value).into()
    }

    fn name(&self) -> &Oid {
        &self.all[self.place].name
    }
}

impl IntoIterator for Varbinds {
    type Item = OneVarbind;
    type IntoIter = Box<dyn Iterator<Item = OneVarbind>>;

    fn into_iter(self) -> Self::IntoIter {
        let Varbinds { all, places, base } = self;
        Box::new((0..places.len()).map(move |nth| OneVarbind {
            all: Arc::clone(&all),
            place: places[nth],
            base: Arc::clone(&base),
        }))
    }
}

/// A table with its cells where a row finds them.
#[derive(Clone)]
pub(super) struct Table(Arc<Pivot>);

struct Pivot {
    table: contract::Table,
    /// By the last number of a column: the column, and each row's cell in it.
    columns: BTreeMap<u32, (usize, Vec<u32>)>,
}

/// One row of it.
#[derive(Clone)]
pub(super) struct Row {
    table: Table,
    row: usize,
}

const NO_CELL: u32 = u32::MAX;

impl From<contract::Table> for Table {
    fn from(table: contract::Table) -> Table {
        let rows = table.indexes.len();
        let mut columns = BTreeMap::new();
        for (place, column) in table.columns.iter().enumerate() {
            let Some(number) = column.base.0.last() else {
                continue;
            };
            let mut cells = vec![NO_CELL; rows];
            for (cell, row) in column.rows.iter().enumerate().take(column.cells.len()) {
                if let (Some(slot), Ok(cell)) = (cells.get_mut(*row as usize), u32::try_from(cell))
                {
                    *slot = cell;
                }
            }
            columns.insert(*number, (place, cells));
        }
        Table(Arc::new(Pivot { table, columns }))
    }
}

impl Row {
    fn cell(&self, column: u32) -> Datum<'_> {
        let pivot = &*self.table.0;
        let Some((place, cells)) = pivot.columns.get(&column) else {
            return Datum::Absent;
        };
        let cell = match cells.get(self.row) {
            Some(cell) if *cell != NO_CELL => *cell as usize,
            _ => return Datum::Absent,
        };
        match &pivot.table.columns[*place].cells {
            Cells::Ints(cells) => Datum::Int(cells[cell]),
            Cells::Uints(cells) => Datum::Uint(cells[cell]),
            Cells::Texts(cells) => Datum::Text(&cells[cell]),
            Cells::Octets(cells) => Datum::Bytes(&cells[cell].0),
            Cells::Mixed(cells) => (&cells[cell]).into(),
        }
    }

    fn index(&self) -> &Oid {
        &self.table.0.table.indexes[self.row]
    }

    fn at(&self, context: &NativeCallContext, column: i64) -> Out<Datum<'_>> {
        let column = super::unsigned(context, "the column", column)?;
        Ok(self.cell(column))
    }

    /// Says that a cell is not there, or not what was asked for.
    fn wants(
        &self,
        context: &NativeCallContext,
        column: i64,
        datum: Datum<'_>,
        what: &str,
    ) -> Box<EvalAltResult> {
        let index = self.index();
        if let Some(text) = datum.text() {
            let message = format!("column {column} of row {index} is {text:?}, not {what}");
            return mistake(
                context,
                message,
                format!("row.get({column}) gives it as it is"),
            );
        }
        let known: Vec<String> = self.table.0.columns.keys().map(u32::to_string).collect();
        let message = format!("row {index} has no column {column}");
        let hint = format!(
            "the table has the columns {}; ask row.has({column}) first, or use row.get({column}), which is () where there is none",
            known.join(", ")
        );
        mistake(context, message, hint)
    }
}

impl IntoIterator for Table {
    type Item = Row;
    type IntoIter = Box<dyn Iterator<Item = Row>>;

    fn into_iter(self) -> Self::IntoIter {
        let rows = self.0.table.indexes.len();
        Box::new((0..rows).map(move |row| Row {
            table: self.clone(),
            row,
        }))
    }
}

const SNMP_READERS: &[Kind] = &[Kind::Parser, Kind::Poller];

pub(super) fn register(prelude: &mut Prelude) {
    tables(prelude);
    varbinds(prelude);
    oids(prelude);
}

fn tables(prelude: &mut Prelude) {
    prelude.section(
        "SNMP tables",
        SNMP_READERS,
        "`for row in input.table { ... }`. A column is named by its last number: column 3 of `ifEntry` is ifType. \
         A cell that is missing or of another sort is a mistake that says so; `get` gives `()`, \
         and `emit(name, labels, ())` emits nothing.",
    );
    prelude
        .name::<Table>("Table")
        .name::<Row>("Row")
        .iterable::<Table>()
        .prop("table.len", "How many rows it has.", |t: &mut Table| {
            count(t.0.table.indexes.len())
        })
        .prop(
            "table.columns",
            "The numbers of its columns.",
            |t: &mut Table| -> Array {
                t.0.columns
                    .keys()
                    .map(|number| i64::from(*number).into())
                    .collect()
            },
        )
        .def(
            "table.row(index)",
            "The row with this index, or `()`: `table.row(\"3\")`.",
            |c: NativeCallContext, t: &mut Table, index: &str| -> Out<Dynamic> {
                let index = oid(&c, index)?;
                let row = t.0.table.indexes.iter().position(|known| *known == index);
                Ok(row.map_or(Dynamic::UNIT, |row| {
                    Dynamic::from(Row {
                        table: t.clone(),
                        row,
                    })
                }))
            },
        )
        .prop("row.index", "Its index, dotted.", |r: &mut Row| {
            r.index().to_string()
        })
        .def(
            "row.arc(n)",
            "Number `n` of its index, from 0; below 0 from its end.",
            |c: NativeCallContext, r: &mut Row, n: i64| arc(&c, r.index(), n),
        )
        .def(
            "row.has(column)",
            "Whether the cell is there.",
            |c: NativeCallContext, r: &mut Row, column: i64| -> Out<bool> {
                Ok(!matches!(r.at(&c, column)?, Datum::Absent))
            },
        )
        .def(
            "row.get(column)",
            "The cell as integer or text, or `()`.",
            |c: NativeCallContext, r: &mut Row, column: i64| -> Out<Dynamic> {
                Ok(r.at(&c, column)?.dynamic())
            },
        )
        .def(
            "row.int(column)",
            "The cell as an integer; of text, the number that it is.",
            |c: NativeCallContext, r: &mut Row, column: i64| -> Out<i64> {
                let cell = r.at(&c, column)?;
                cell.int()
                    .ok_or_else(|| r.wants(&c, column, cell, "a whole number"))
            },
        )
        .def(
            "row.float(column)",
            "The cell as a float; of text, the number that it is.",
            |c: NativeCallContext, r: &mut Row, column: i64| -> Out<f64> {
                let cell = r.at(&c, column)?;
                cell.float()
                    .ok_or_else(|| r.wants(&c, column, cell, "a number"))
            },
        )
        .def(
            "row.text(column)",
            "The cell as text.",
            |c: NativeCallContext, r: &mut Row, column: i64| -> Out<String> {
                let cell = r.at(&c, column)?;
                cell.text().ok_or_else(|| r.wants(&c, column, cell, "text"))
            },
        )
        .def(
            "row.bytes(column)",
            "The cell as bytes; see `hex`.",
            |c: NativeCallContext, r: &mut Row, column: i64| -> Out<Blob> {
                let cell = r.at(&c, column)?;
                cell.bytes()
                    .ok_or_else(|| r.wants(&c, column, cell, "bytes"))
            },
        );
}

fn varbinds(prelude: &mut Prelude) {
    prelude.section(
        "SNMP values",
        SNMP_READERS,
        "`input.varbinds`: what a `get` or a `walk` brought. Object identifiers are texts. \
         noSuchObject and the like count as not there.",
    );
    prelude
        .name::<Varbinds>("Varbinds")
        .name::<OneVarbind>("Varbind")
        .iterable::<Varbinds>()
        .prop("varbinds.len", "How many there are.", |v: &mut Varbinds| count(v.places.len()))
        .def("varbinds.has(oid)", "Whether there is a value.", |c: NativeCallContext, v: &mut Varbinds, name: &str| -> Out<bool> {
            Ok(!matches!(v.find(&oid(&c, name)?), Datum::Absent))
        })
        .def("varbinds.get(oid)", "The value as integer or text, or `()`.", |c: NativeCallContext, v: &mut Varbinds, name: &str| -> Out<Dynamic> {
            Ok(v.find(&oid(&c, name)?).dynamic())
        })
        .def("varbinds.int(oid)", "The value as an integer.", |c: NativeCallContext, v: &mut Varbinds, name: &str| -> Out<i64> {
            let datum = v.find(&oid(&c, name)?);
            datum.int().ok_or_else(|| not_so(&c, name, datum, "a whole number"))
        })
        .def("varbinds.float(oid)", "The value as a float.", |c: NativeCallContext, v: &mut Varbinds, name: &str| -> Out<f64> {
            let datum = v.find(&oid(&c, name)?);
            datum.float().ok_or_else(|| not_so(&c, name, datum, "a number"))
        })
        .def("varbinds.text(oid)", "The value as text.", |c: NativeCallContext, v: &mut Varbinds, name: &str| -> Out<String> {
            let datum = v.find(&oid(&c, name)?);
            datum.text().ok_or_else(|| not_so(&c, name, datum, "text"))
        })
        .def("varbinds.below(oid)", "Those below an object: `for v in input.varbinds.below(\"1.3.6.1.2.1.2.2.1.10\") { v.index ... }`.", |c: NativeCallContext, v: &mut Varbinds, base: &str| -> Out<Varbinds> {
            let base = oid(&c, base)?;
            let is_below = |place: &usize| {
                let name = &v.all[*place].name;
                name.0.len() > base.0.len() && name.0.starts_with(&base.0)
            };
            Ok(Varbinds {
                all: Arc::clone(&v.all),
                places: Arc::new(v.places.iter().copied().filter(is_below).collect()),
                base: Arc::new(base),
            })
        })
        .prop("varbind.oid", "Which object.", |v: &mut OneVarbind| v.name().to_string())
        .prop("varbind.index", "What stands after the object that was asked for with `below`.", |v: &mut OneVarbind| {
            Oid(v.name().0.get(v.base.0.len()..).unwrap_or_default().to_vec()).to_string()
        })
        .prop("varbind.value", "Its value as integer or text, or `()`.", |v: &mut OneVarbind| v.datum().dynamic())
        .prop("varbind.int", "Its value as an integer.", |c: NativeCallContext, v: &mut OneVarbind| -> Out<i64> {
            v.datum().int().ok_or_else(|| not_so(&c, &v.name().to_string(), v.datum(), "a whole number"))
        })
        .prop("varbind.float", "Its value as a float.", |c: NativeCallContext, v: &mut OneVarbind| -> Out<f64> {
            v.datum().float().ok_or_else(|| not_so(&c, &v.name().to_string(), v.datum(), "a number"))
        })
        .prop("varbind.text", "Its value as text.", |c: NativeCallContext, v: &mut OneVarbind| -> Out<String> {
            v.datum().text().ok_or_else(|| not_so(&c, &v.name().to_string(), v.datum(), "text"))
        })
        .prop("varbind.bytes", "Its value as bytes.", |c: NativeCallContext, v: &mut OneVarbind| -> Out<Blob> {
            v.datum().bytes().ok_or_else(|| not_so(&c, &v.name().to_string(), v.datum(), "bytes"))
        });
}

fn oids(prelude: &mut Prelude) {
    prelude.section(
        "Object identifiers",
        &[],
        "They are texts: `\"1.3.6.1.2.1.1.3.0\"`.",
    );
    prelude
        .def("oid_starts_with(oid, base)", "Whether `oid` is `base` or below it.", |c: NativeCallContext, name: &str, base: &str| -> Out<bool> {
            Ok(oid(&c, name)?.0.starts_with(&oid(&c, base)?.0))
        })
        .def("oid_index(oid, base)", "What stands after `base`, dotted; `()` if `oid` is not below it.", |c: NativeCallContext, name: &str, base: &str| -> Out<Dynamic> {
            let (name, base) = (oid(&c, name)?, oid(&c, base)?);
            let rest = name.0.strip_prefix(&base.0[..]).filter(|rest| !rest.is_empty());
            Ok(rest.map_or(Dynamic::UNIT, |rest| Oid(rest.to_vec()).to_string().into()))
        })
        .def("oid_arcs(oid)", "Its numbers, as an array.", |c: NativeCallContext, name: &str| -> Out<Array> {
            Ok(oid(&c, name)?.0.iter().map(|arc| i64::from(*arc).into()).collect())
        })
        .def("oid_arc(oid, n)", "Its number `n`, from 0; below 0 from its end.", |c: NativeCallContext, name: &str, n: i64| {
            let name = oid(&c, name)?;
            arc(&c, &name, n)
        })
        .def("oid_text(oid)", "The text whose letters are the numbers of an index: `oid_text(\"101.116.104\")` is `eth`.", |c: NativeCallContext, name: &str| -> Out<String> {
            let letters = oid(&c, name)?.0;
            Ok(letters.iter().map(|arc| char::from_u32(*arc).unwrap_or('\u{fffd}')).collect())
        });
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads an object identifier.
pub(super) fn oid(context: &NativeCallContext, text: &str) -> Out<Oid> {
    text.parse()
        .map_err(|error: String| mistake(context, error, ""))
}

fn arc(context: &NativeCallContext, oid: &Oid, n: i64) -> Out<i64> {
    let from_end = |n: i64| {
        oid.0
            .len()
            .checked_sub(usize::try_from(n.unsigned_abs()).ok()?)
    };
    let place = if n < 0 {
        from_end(n)
    } else {
        usize::try_from(n).ok()
    };
    match place.and_then(|place| oid.0.get(place)) {
        Some(arc) => Ok((*arc).into()),
        None => {
            let message = format!("{oid} has {} numbers, and no number {n}", oid.0.len());
            Err(mistake(context, message, ""))
        }
    }
}

fn not_so(
    context: &NativeCallContext,
    name: &str,
    datum: Datum<'_>,
    what: &str,
) -> Box<EvalAltResult> {
    match datum.text() {
        Some(text) => mistake(
            context,
            format!("{name} is {text:?}, not {what}"),
            "get gives it as it is",
        ),
        None => mistake(
            context,
            format!("{name} is not among what the device answered"),
            "ask has(oid) first, or use get(oid), which is () where there is none",
        ),
    }
}
