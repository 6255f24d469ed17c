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

/// The cursor of a newest-first list that goes on below `id`.
pub(crate) fn newest_first(id: u64) -> String {
    Cursor::at("newest", "", id).to_string()
}

/// Items looked through for one page that only shows some of them: who sees few
/// gets a short page, and where to go on.
const LOOKED_THROUGH: usize = 20_000;

/// Items read at a time while looking.
const AT_ONCE: usize = 1_000;

/// A page of a newest-first list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// The next page's cursor.
    pub(crate) next: Option<String>,
}

/// The first `limit` items below `before` that `is_seen` lets through. `read`
/// gives up to so many items below an id, newest first.
pub(crate) fn seen<T, E>(
    limit: usize,
    mut before: Option<u64>,
    read: impl Fn(Option<u64>, usize) -> Result<Vec<T>, E>,
    id: impl Fn(&T) -> u64,
    is_seen: impl Fn(&T) -> bool,
) -> Result<Page<T>, E> {
    let cursor = |id: Option<u64>| id.map(newest_first);
    let mut items = Vec::new();
    // one more than is asked for says whether there is a further page
    let mut at_once = limit + 1;
    let mut looked_through = 0;
    while looked_through < LOOKED_THROUGH {
        let some = read(before, at_once)?;
        let was_last = some.len() < at_once;
        looked_through += at_once;
        at_once = AT_ONCE;
        for item in some {
            let this = id(&item);
            if is_seen(&item) {
                if items.len() == limit {
                    return Ok(Page {
                        items,
                        next: cursor(before),
                    });
                }
                items.push(item);
            }
            before = Some(this);
        }
        if was_last {
            return Ok(Page { items, next: None });
        }
    }
    Ok(Page {
        items,
        next: cursor(before),
    })
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

    /// Numbers from 5000 down to 1.
    fn read(before: Option<u64>, limit: usize) -> Result<Vec<u64>, ()> {
        let top = before.map_or(5_000, |before| before - 1);
        Ok((1..=top).rev().take(limit).collect())
    }

    /// All that are seen, page by page, and how many pages that took.
    fn walk(limit: usize, is_seen: impl Fn(&u64) -> bool) -> (Vec<u64>, usize) {
        let (mut all, mut before, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = seen(limit, before, read, |id| *id, &is_seen).unwrap();
            assert!(page.items.len() <= limit);
            pages += 1;
            all.extend(page.items);
            match page.next {
                Some(next) => before = Some(Cursor::read(&next, "newest").unwrap().id),
                None => return (all, pages),
            }
        }
    }

    #[test]
    fn pages_of_what_somebody_sees_have_all_of_it_once() {
        let all: Vec<u64> = (1..=5_000).rev().collect();
        assert_eq!(walk(100, |_| true), (all.clone(), 50));
        assert_eq!(walk(1_000, |_| true), (all, 5));
        let some: Vec<u64> = (1..=5_000).rev().filter(|id| id % 700 == 0).collect();
        assert_eq!(walk(7, |id| id % 700 == 0), (some.clone(), 1));
        assert_eq!(walk(2, |id| id % 700 == 0), (some, 4));
        assert_eq!(walk(10, |_| false), (Vec::new(), 1));
    }

    #[test]
    fn who_sees_next_to_nothing_of_a_long_list_gets_it_in_parts() {
        let read = |before: Option<u64>, limit| {
            let top = before.map_or(1_000_000, |before| before - 1);
            Ok::<Vec<u64>, ()>((1..=top).rev().take(limit).collect())
        };
        let page = seen(10, None, read, |id| *id, |_| false).unwrap();
        assert!(page.items.is_empty() && page.next.is_some());
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
