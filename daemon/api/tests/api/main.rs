//! The API over real sockets and a real store.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests are tests, though clippy sees only functions"
)]

mod alerts;
mod audit;
mod backups;
mod canaries;
mod conventions;
mod devices;
mod document;
mod gates;
mod harness;
mod hostile;
mod import;
mod matrix;
mod measured;
mod oidc;
mod once;
mod others;
mod people;
mod plugins;
mod scopes;
mod secret_values;
mod secure;
mod series;
mod setting_up;
mod signing_in;
mod tokens;
