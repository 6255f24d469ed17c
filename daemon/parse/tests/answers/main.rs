//! What is read out of whole answers: of simulated agents, poll after poll,
//! and of recorded ones.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test: its figures are to be read, and what it cannot unwrap fails it"
)]

mod agent;
mod plugins;
mod polls;
mod properties;
mod recordings;
