//! The API over real sockets and a real store.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are tests, though clippy sees only functions"
)]

mod alerts;
mod devices;
mod document;
mod harness;
mod hostile;
mod import;
mod measured;
mod others;
