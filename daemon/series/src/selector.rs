//! Selectors: `ifHCInOctets{device="core1",ifName=~"Gi.*"}`.

use std::fmt;
use std::str::FromStr;

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatcherKind {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, anchored at both ends
    Matches,
    /// `!~`, anchored at both ends
    NotMatches,
}

/// One condition. A label that is not there reads as the empty text.
#[derive(Clone, Debug)]
pub struct Matcher {}

impl Matcher {
    /// A condition on the label `name` (`__name__`: the metric).
    ///
    /// # Errors
    ///
    /// [`NotASelector`] where `value` is not a regular expression, or one too
    /// large.
    pub fn new(name: &str, kind: MatcherKind, value: &str) -> Result<Matcher, NotASelector> {
        let _ = (name, kind, value);
        unimplemented!()
    }

    /// The label's name.
    #[must_use]
    pub fn name(&self) -> &str {
        unimplemented!()
    }

    /// Whether a label with this value is meant.
    #[must_use]
    pub fn accepts(&self, value: &str) -> bool {
        let _ = value;
        unimplemented!()
    }
}

/// All of its matchers have to accept.
#[derive(Clone, Debug)]
pub struct Selector {}

/// A text that is not a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotASelector {
    /// Where, in characters from 0.
    pub at: usize,
    /// What is wrong and what would be right.
    pub what: String,
}

impl fmt::Display for NotASelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at character {})", self.what, self.at + 1)
    }
}

impl std::error::Error for NotASelector {}

impl Selector {
    /// The series that all of `matchers` accept.
    #[must_use]
    pub fn new(matchers: Vec<Matcher>) -> Selector {
        let _ = matchers;
        unimplemented!()
    }

    /// Its matchers.
    #[must_use]
    pub fn matchers(&self) -> &[Matcher] {
        unimplemented!()
    }

    /// The matchers on `names` taken out of it: what a device is asked for,
    /// not a series.
    #[must_use]
    pub fn split(self, names: &[&str]) -> (Vec<Matcher>, Selector) {
        let _ = names;
        unimplemented!()
    }
}

impl FromStr for Selector {
    type Err = NotASelector;

    fn from_str(text: &str) -> Result<Selector, NotASelector> {
        let _ = text;
        unimplemented!()
    }
}
