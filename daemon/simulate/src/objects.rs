//! The objects that a simulated device has, in the order of their names: the
//! system group (RFC 3418), interfaces (RFC 2863), host resources (RFC 2790)
//! and its chassis (RFC 6933).

use std::cmp::Ordering;
use std::sync::LazyLock;

/// What has rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// One instance, `.0`.
    Scalar,
    /// A row for each interface, by ifIndex.
    Interfaces,
    /// Main memory, then the disks, by hrStorageIndex.
    Storage,
    /// A row for each processor, by hrDeviceIndex.
    Processors,
    /// The chassis alone, by entPhysicalIndex.
    Chassis,
}

/// Whose column it is; the number is the last part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// system
    System(u32),
    /// ifNumber
    InterfaceCount,
    /// ifTable
    Interface(u32),
    /// hrSystem
    HostSystem(u32),
    /// hrMemorySize
    MemorySize,
    /// hrStorageTable
    Storage(u32),
    /// hrDeviceTable
    HostDevice(u32),
    /// hrProcessorTable
    Processor(u32),
    /// ifXTable
    InterfaceX(u32),
    /// entPhysicalTable
    Chassis(u32),
}

impl Object {
    pub(crate) fn table(self) -> Table {
        match self {
            Object::System(_)
            | Object::InterfaceCount
            | Object::HostSystem(_)
            | Object::MemorySize => Table::Scalar,
            Object::Interface(_) | Object::InterfaceX(_) => Table::Interfaces,
            Object::Storage(_) => Table::Storage,
            Object::HostDevice(_) | Object::Processor(_) => Table::Processors,
            Object::Chassis(_) => Table::Chassis,
        }
    }

    /// A 64-bit counter of ifXTable.
    pub(crate) fn is_high_capacity(self) -> bool {
        matches!(self, Object::InterfaceX(6..=13))
    }
}

/// One object and the name that its instances begin with.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) prefix: Vec<u32>,
    pub(crate) object: Object,
}

/// `mib-2`, under which all of them are.
const MIB_2: [u32; 6] = [1, 3, 6, 1, 2, 1];

/// Sorted by name.
pub(crate) static COLUMNS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let mut columns = Vec::new();
    let mut add = |under: &[u32], parts: &[u32], object: fn(u32) -> Object| {
        columns.extend(parts.iter().map(|part| Column {
            prefix: [&MIB_2, under, &[*part]].concat(),
            object: object(*part),
        }));
    };
    add(&[1], &[1, 2, 3, 4, 5, 6, 7], Object::System);
    add(&[2], &[1], |_| Object::InterfaceCount);
    add(&[2, 2, 1], &one_to::<22>(), Object::Interface);
    add(&[25, 1], &[1, 5, 6, 7], Object::HostSystem);
    add(&[25, 2], &[2], |_| Object::MemorySize);
    add(&[25, 2, 3, 1], &one_to::<7>(), Object::Storage);
    add(&[25, 3, 2, 1], &one_to::<6>(), Object::HostDevice);
    add(&[25, 3, 3, 1], &one_to::<2>(), Object::Processor);
    add(&[31, 1, 1, 1], &one_to::<19>(), Object::InterfaceX);
    add(&[47, 1, 1, 1, 1], &one_to::<16>()[1..], Object::Chassis);
    columns
});

fn one_to<const LAST: usize>() -> [u32; LAST] {
    std::array::from_fn(|place| u32::try_from(place + 1).expect("a table has few columns"))
}

/// Where `oid` belongs among the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position<'a> {
    /// In a column: what is behind its name.
    Inside { column: usize, instance: &'a [u32] },
    /// Before this column and behind the one before it.
    Before { column: usize },
}

/// Finds `oid` among the columns.
pub(crate) fn position(oid: &[u32]) -> Position<'_> {
    let found = COLUMNS.binary_search_by(|column| {
        if oid.starts_with(&column.prefix) {
            Ordering::Equal
        } else {
            column.prefix.as_slice().cmp(oid)
        }
    });
    match found {
        Ok(column) => Position::Inside {
            column,
            instance: &oid[COLUMNS[column].prefix.len()..],
        },
        Err(column) => Position::Before { column },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_in_the_order_of_their_names() {
        assert!(
            COLUMNS
                .windows(2)
                .all(|pair| pair[0].prefix < pair[1].prefix)
        );
    }

    #[test]
    fn names_are_found_before_inside_and_behind_columns() {
        assert_eq!(position(&[1, 3]), Position::Before { column: 0 });
        assert_eq!(
            position(&[1, 3, 6, 1, 2, 1, 1, 1, 0]),
            Position::Inside {
                column: 0,
                instance: &[0]
            }
        );
        assert_eq!(
            position(&[1, 3, 6, 1, 2, 1, 1, 9, 1]),
            Position::Before { column: 7 }
        );
        assert_eq!(
            position(&[2]),
            Position::Before {
                column: COLUMNS.len()
            }
        );
    }
}
