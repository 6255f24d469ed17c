//! Devices to test, demo and load with: SNMP agents and echo replies on
//! loopback, with faults on command.
//!
//! A [`Site`] is many devices in one process. Each has an address of its own in
//! 127.0.0.0/8; one socket serves them all, and replies come from the address
//! that was asked. Values are pure functions of the device's seed and the time,
//! so a device that nobody asks costs nothing, and 1,000 of them fit beside what
//! they test.
//!
//! The simulator shares no protocol code with the collectors: it is their peer.
//! The binary `simulate` runs a site, prints its inventory and passes commands
//! to a running one.

mod agent;
mod answer;
mod ber;
mod clock;
pub mod control;
mod echo;
mod fault;
pub mod inventory;
mod message;
mod network;
mod noise;
mod objects;
mod plan;
mod platform;
mod recording;
mod site;
mod traffic;
mod view;
mod wire;

pub use fault::{Fault, FaultError, FaultWordsError, WrapWidth};
pub use network::{Network, NetworkError};
pub use recording::RecordingError;
pub use site::{
    Plan, SimulatedDevice, Site, SiteOptions, SiteStats, StartError, USUAL_RESPONSE_BYTES, describe,
};
