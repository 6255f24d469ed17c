//! Tests of the engine, on a disk and with a catalog that fail on purpose.

mod basics;
mod crashes;
mod days;
mod lab;
