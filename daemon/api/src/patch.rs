//! Merge patches (RFC 7396), and what becomes of one when others change the
//! same thing at the same time.

use serde::Serialize;
use serde_json::Value;
use store::{Refusal, WriteError};

use crate::devices::merge;
use crate::mistakes::Mistakes;
use crate::problem::{Kind, Problem};

/// How often a patch is applied anew to a thing that others change at the same
/// time.
pub(crate) const TRIES: usize = 5;

/// `body` as JSON, with `patch` merged into it.
pub(crate) fn merged(body: &impl Serialize, patch: &Value) -> Result<Value, Problem> {
    if !patch.is_object() {
        let mistakes = Mistakes::default();
        mistakes.at("", "a merge patch is an object");
        return Err(mistakes.problem(Kind::Invalid));
    }
    let mut body = serde_json::to_value(body).expect("a body is text, flags, numbers and lists");
    merge(&mut body, patch);
    Ok(body)
}

/// Whether the thing changed between reading and writing it.
pub(crate) fn is_changed_meanwhile(error: &WriteError) -> bool {
    matches!(error, WriteError::Refused(Refusal::RevisionMismatch { .. }))
}

/// A patch that was overtaken by others each time.
pub(crate) fn contended(what: &str) -> Problem {
    Problem::new(
        Kind::Conflict,
        format!("others change this {what} just now; try again"),
    )
}
