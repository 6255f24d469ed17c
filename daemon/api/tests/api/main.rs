//! The API over real sockets and a real store.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are tests, though clippy sees only functions"
)]

mod alerts;
mod conventions;
mod devices;
mod document;
mod gates;
mod harness;
mod hostile;
mod import;
mod matrix;
mod measured;
mod once;
mod others;
mod scopes;
mod secure;
