//! What holds, with real stores and a real server.

#[path = "../../tests/bao/mod.rs"]
mod bao;
mod embedded;
mod files;
mod rotation;
mod sealing;
mod server;
mod support;
mod transit;
mod values;
