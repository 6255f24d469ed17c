//! Which series somebody means: selectors as in PromQL, and an index that
//! finds what they select. Pure.
//!
//! A [`Selector`] is PromQL's vector selector and nothing more of PromQL: no
//! ranges, offsets, functions or operators. What a matcher means is what it
//! means in Prometheus:
//!
//! - The metric is the label `__name__`.
//! - A label that a series does not have reads as the empty text, so `a=""`,
//!   `a!="x"` and `a!~"x"` select series without `a`.
//! - A regular expression has to match the whole value; `.` is any character,
//!   line ends included (as since Prometheus 3). The syntax is RE2's as the
//!   crate `regex` has it: `\d`, `\w` and `\s` know all of Unicode, and there
//!   is no `\Q…\E`.
//! - A selector that would also select a series without any label is refused.
//!
//! An [`Index`] answers which places of which sets of columns a selector
//! selects.

mod bits;
mod index;
mod matcher;
mod parse;
mod selector;

pub use index::{ColumnsId, Found, Index};
pub use matcher::{Matcher, MatcherKind};
pub use selector::{NotASelector, Selector};
