//! Tests of the engine, on a disk and with a catalog that fail on purpose.

mod bad_input;
mod basics;
mod crashes;
mod days;
mod durability;
mod lab;
mod queries;
