//! Which series somebody means: selectors as in PromQL, and an index that
//! finds what they select. Pure.

mod index;
mod selector;

pub use index::{ColumnsId, Found, Index};
pub use selector::{Matcher, MatcherKind, NotASelector, Selector};
