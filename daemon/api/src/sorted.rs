//! Pages of lists that are held in memory: an order from an allow-list, and a
//! cursor that holds the place of the last item.

use crate::mistakes::did_you_mean;
use crate::page::{self, Cursor};
use crate::problem::Problem;
use crate::query::Query;

/// Which page of a list, in which order.
#[derive(Debug)]
pub(crate) struct Sorted {
    /// The order as it was asked for.
    text: String,
    field: &'static str,
    descending: bool,
    limit: usize,
    after: Option<String>,
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Cut<T> {
    pub(crate) items: Vec<T>,
    pub(crate) next: Option<String>,
    pub(crate) total: usize,
}

impl Sorted {
    /// Reads `sort`, `limit` and `cursor`. The first of `fields` is the order
    /// of who asks for none.
    pub(crate) fn read(query: &Query, fields: &[&'static str]) -> Result<Sorted, Problem> {
        let default = fields.first().copied().unwrap_or_default();
        let text = query.one("sort").unwrap_or(default);
        let asked = text.strip_prefix('-').unwrap_or(text);
        let field = fields.iter().find(|field| **field == asked).copied();
        if field.is_none() {
            let hint = did_you_mean(asked, fields);
            let message = format!("this list is not sorted by {asked:?}: {hint}");
            query.mistakes.parameter("sort", message);
        }
        let cursor = query.one("cursor");
        let cursor = cursor
            .map(|cursor| Cursor::read(cursor, text))
            .transpose()?;
        Ok(Sorted {
            text: text.to_owned(),
            field: field.unwrap_or(default),
            descending: text.starts_with('-'),
            limit: page::limit(query),
            after: cursor.map(|cursor| cursor.key),
        })
    }

    /// What the list is sorted by.
    pub(crate) fn field(&self) -> &'static str {
        self.field
    }

    /// The page of `items`; each comes with what it is sorted by and its name,
    /// which is unlike any other's.
    pub(crate) fn cut<T>(&self, items: impl Iterator<Item = (String, String, T)>) -> Cut<T> {
        let places = items.map(|(key, name, item)| (format!("{key}\0{name}"), item));
        let mut places: Vec<(String, T)> = places.collect();
        places.sort_unstable_by(|(a, _), (b, _)| match self.descending {
            true => b.cmp(a),
            false => a.cmp(b),
        });
        let total = places.len();
        let begin = self.after.as_ref().map_or(0, |after| {
            places.partition_point(|(place, _)| match self.descending {
                true => place >= after,
                false => place <= after,
            })
        });
        let end = total.min(begin.saturating_add(self.limit));
        let next = match end < total {
            true => places[begin..end].last(),
            false => None,
        };
        let next = next.map(|(place, _)| Cursor::at(&self.text, place, 0).to_string());
        let page = places.into_iter().skip(begin).take(end - begin);
        Cut {
            items: page.map(|(_, item)| item).collect(),
            next,
            total,
        }
    }
}

/// An instant as a key that sorts; `None` before all others.
pub(crate) fn time_key(at: Option<model::Timestamp>) -> String {
    at.map_or(String::new(), |at| format!("{:016x}", at.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [&str; 2] = ["name", "created"];

    fn sorted(query: &str) -> Result<Sorted, Problem> {
        let uri = format!("/x?{query}").parse().unwrap();
        let query = Query::read(&uri, &["sort", "limit", "cursor"])?;
        let sorted = Sorted::read(&query, &FIELDS)?;
        query.or(sorted)
    }

    fn walk(order: &str) -> Vec<&'static str> {
        let mut seen = Vec::new();
        let mut query = format!("sort={order}&limit=2");
        loop {
            let items = [("b", "2"), ("a", "2"), ("d", "1"), ("c", "3"), ("e", "1")];
            let sorted = sorted(&query).unwrap();
            let page = sorted.cut(items.into_iter().map(|(name, created)| {
                let key = match sorted.field() {
                    "created" => created.to_owned(),
                    _name => String::new(),
                };
                (key, name.to_owned(), name)
            }));
            assert_eq!(page.total, 5);
            seen.extend(page.items);
            match page.next {
                Some(next) => query = format!("sort={order}&limit=2&cursor={next}"),
                None => return seen,
            }
        }
    }

    #[test]
    fn pages_in_any_order_show_everything_once() {
        assert_eq!(walk("name"), ["a", "b", "c", "d", "e"]);
        assert_eq!(walk("-name"), ["e", "d", "c", "b", "a"]);
        assert_eq!(walk("created"), ["d", "e", "a", "b", "c"]);
        assert_eq!(walk("-created"), ["c", "b", "a", "e", "d"]);
    }

    #[test]
    fn an_order_that_is_not_allowed_says_which_are() {
        let problem = sorted("sort=password").unwrap_err();
        assert_eq!(problem.into_mistake().unwrap().parameter.unwrap(), "sort");
    }
}
