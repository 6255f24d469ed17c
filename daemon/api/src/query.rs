//! Query parameters: known ones only, every mistake named.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use axum::http::Uri;

use crate::mistakes::{Mistakes, did_you_mean};
use crate::problem::{Kind, Mistake, Problem};

/// Parameters in one query; nobody needs more.
const PARAMETERS_TAKEN: usize = 64;

/// Parameters called `label.…` carry a label's name in theirs.
const LABEL: &str = "label.";

/// A query while it is read.
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    pub(crate) mistakes: Mistakes,
}

impl Query {
    /// Reads the query of `uri`, which is to have no other parameters than
    /// `known`; `label.*` among them stands for any label.
    pub(crate) fn read(uri: &Uri, known: &[&str]) -> Result<Query, Problem> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Problem::new(Kind::BadRequest, error.body_text()))?
            .0;
        if pairs.len() > PARAMETERS_TAKEN {
            return Err(Problem::new(
                Kind::BadRequest,
                format!(
                    "there are {} query parameters and {PARAMETERS_TAKEN} are allowed",
                    pairs.len()
                ),
            ));
        }
        let query = Query {
            pairs,
            mistakes: Mistakes::default(),
        };
        let labels = known.contains(&"label.*");
        for (name, _) in &query.pairs {
            let taken = known.contains(&name.as_str()) || (labels && name.starts_with(LABEL));
            if !taken {
                let hint = match known {
                    [] => "this path takes none".to_owned(),
                    known => did_you_mean(name, known),
                };
                query
                    .mistakes
                    .parameter(name, format!("unknown parameter {name:?}: {hint}"));
            }
        }
        Ok(query)
    }

    /// The one value of a parameter.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.values(name);
        let first = values.next();
        if values.next().is_some() {
            self.mistakes
                .parameter(name, format!("{name} is given more than once"));
        }
        first
    }

    /// Every value of a parameter that may be repeated or hold several values
    /// between commas.
    pub(crate) fn many(&self, name: &str) -> Vec<&str> {
        self.values(name)
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .collect()
    }

    /// Every value of a parameter that may be repeated, as it is: names may
    /// have commas.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.values(name).map(str::to_owned).collect()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Values of a parameter that `find` knows.
    pub(crate) fn words<T>(
        &self,
        name: &str,
        known: &[&str],
        find: impl Fn(&str) -> Option<T>,
    ) -> Vec<T> {
        let mut found = Vec::new();
        for word in self.many(name) {
            match find(word) {
                Some(value) => found.push(value),
                None => self.mistakes.parameter(
                    name,
                    format!("unknown word {word:?}: {}", did_you_mean(word, known)),
                ),
            }
        }
        found
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match self.one(name)? {
            "true" => Some(true),
            "false" => Some(false),
            other => {
                self.mistakes
                    .parameter(name, format!("{other:?} is neither true nor false"));
                None
            }
        }
    }

    pub(crate) fn whole(&self, name: &str, range: RangeInclusive<usize>) -> Option<usize> {
        let text = self.one(name)?;
        let number = text.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.mistakes.parameter(
                name,
                format!(
                    "{text:?} is not a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            );
        }
        number
    }

    /// The parameters called `label.…`, without that.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        self.pairs
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix(LABEL)?, value)))
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .collect()
    }

    /// `value` if the query had no mistake.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Problem> {
        self.mistakes.or(Kind::BadRequest, Some(value))
    }
}

/// Refuses every query parameter.
pub(crate) fn none(uri: &Uri) -> Result<(), Problem> {
    Query::read(uri, &[])?.or(())
}

/// A mistake in the parameter called `name`, alone.
pub(crate) fn wrong(name: &str, message: impl Into<String>) -> Problem {
    let message = message.into();
    Problem::new(Kind::BadRequest, message.clone()).with_errors(vec![Mistake {
        pointer: None,
        parameter: Some(name.to_owned()),
        message,
    }])
}
