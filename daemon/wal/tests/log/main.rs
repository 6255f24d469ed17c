//! The log, on disks that work and on disks that do not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod crashes;
mod damage;
mod promises;
mod support;
mod threads;
