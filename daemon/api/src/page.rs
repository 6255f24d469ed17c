//! Pages of long lists.
//!
//! A cursor holds the place after which the next page begins (the last item's
//! sort key and id), not a count: what is added or deleted meanwhile neither
//! repeats nor hides another item.

use crate::problem::Problem;
use crate::query::{self, Query};

/// Items in a page that asked for no number.
pub(crate) const LIMIT_DEFAULT: usize = 100;

/// Items in the largest page: what a page of devices costs in time and memory
/// stays in bounds.
pub(crate) const LIMIT_MAX: usize = 1_000;

/// Cuts `items` of a newest-first list, which has one more than `limit` if
/// there is a further page, and returns that page's cursor.
pub(crate) fn cut<T>(items: &mut Vec<T>, limit: usize, id: impl Fn(&T) -> u64) -> Option<String> {
    let more = items.len() > limit;
    items.truncate(limit);
    items
        .last()
        .filter(|_| more)
        .map(|last| Cursor::at("newest", "", id(last)).to_string())
}

/// The number of items that the query asks for.
pub(crate) fn limit(query: &Query) -> usize {
    query.whole("limit", 1..=LIMIT_MAX).unwrap_or(LIMIT_DEFAULT)
}

/// The id below which a page of a newest-first list begins.
pub(crate) fn before(query: &Query) -> Result<Option<u64>, Problem> {
    match query.one("cursor") {
        None => Ok(None),
        Some(text) => Ok(Some(Cursor::read(text, "newest")?.id)),
    }
}

/// A place in a sorted list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    sort: String,
    pub(crate) key: String,
    pub(crate) id: u64,
}

impl Cursor {
    pub(crate) fn at(sort: &str, key: &str, id: u64) -> Cursor {
        Cursor {
            sort: sort.to_owned(),
            key: key.to_owned(),
            id,
        }
    }

    /// Reads a cursor that a page of a list sorted by `sort` gave.
    pub(crate) fn read(text: &str, sort: &str) -> Result<Cursor, Problem> {
        let cursor = decode(text).ok_or_else(|| {
            query::wrong(
                "cursor",
                "this is not a cursor: take `next` of a page as it is",
            )
        })?;
        if cursor.sort != sort {
            return Err(query::wrong(
                "cursor",
                format!(
                    "this cursor belongs to a list sorted by {:?}; begin again without it",
                    cursor.sort
                ),
            ));
        }
        Ok(cursor)
    }
}

/// Hex digits of `id NUL sort NUL key`: opaque, and safe in a query.
impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = format!("{}\0{}\0{}", self.id, self.sort, self.key);
        plain.bytes().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn decode(text: &str) -> Option<Cursor> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let plain = String::from_utf8(bytes?).ok()?;
    let mut parts = plain.splitn(3, '\0');
    Some(Cursor {
        id: parts.next()?.parse().ok()?,
        sort: parts.next()?.to_owned(),
        key: parts.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        for key in ["", "core\u{0}1", "ключ"] {
            let cursor = Cursor::at("-name", key, 7);
            assert_eq!(Cursor::read(&cursor.to_string(), "-name").unwrap(), cursor);
        }
    }

    #[test]
    fn garbage_and_cursors_of_other_lists_are_refused() {
        for garbage in ["", "zz", "abc", "ff", "+1+1", "31"] {
            assert!(Cursor::read(garbage, "name").is_err(), "{garbage}");
        }
        let other = Cursor::at("name", "a", 1).to_string();
        let problem = Cursor::read(&other, "-name").unwrap_err();
        assert!(problem.detail().contains("begin again"), "{problem:?}");
    }
}
