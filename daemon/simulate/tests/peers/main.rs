//! The simulated devices and the program, seen from outside by peers that
//! nobody here wrote: net-snmp, ping and fping.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why")]

mod bench;
mod echo;
mod net_snmp;
mod program;
