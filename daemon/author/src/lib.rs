//! What plugin authors do, without a daemon: begin one, test it, see what is
//! wrong as a compiler would show it, look for what reviewers would say, pack
//! it. What needs a daemon (record, dev, install) is the client's; what of a
//! recording is nobody's business is masked here.

mod build;
mod diagnose;
mod lint;
mod mask;
mod scaffold;
mod trial;

pub use build::{Built, build, with_module};
pub use diagnose::{Painter, fault, problem};
pub use lint::lint;
pub use mask::{Masked, mask};
pub use scaffold::{Language, Started, start};
pub use trial::{CaseReport, Report, bless, described, difference, run};

/// The reference of everything that a script can use, as Markdown.
#[must_use]
pub fn reference() -> String {
    script::reference()
}
