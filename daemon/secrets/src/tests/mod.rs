//! What holds, with real stores and a real server.

#[path = "../../tests/bao/mod.rs"]
mod bao;
mod files;
mod sealing;
mod server;
