//! Prints how many processor seconds a call of the parser takes natively. With a
//! recording of ifTable in the file that is named, of that; else of ten scalars.

use std::time::Instant;

use sotp_plugin::prelude::*;
use sotp_plugin::testing;

const CALLS: u32 = 20_000;

fn main() {
    let file = std::env::args().nth(1).unwrap_or_default();
    let recording = std::fs::read_to_string(file).unwrap_or_default();
    let (source, payload) = if recording.is_empty() {
        let ten: Vec<String> = (1..=10)
            .map(|object| format!("1.3.6.1.4.1.318.1.1.1.{object}.0|66|{object}"))
            .collect();
        ("snmp:scalars", Payload::Snmp(testing::varbinds(&ten.join("\n"))))
    } else {
        let table = testing::table("1.3.6.1.2.1.2.2", &recording);
        ("snmp:ifTable", Payload::SnmpTable(table))
    };
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let began = Instant::now();
        for _ in 0..CALLS / 5 {
            let out = testing::parse::<ports::Ports>(source, payload.clone());
            assert!(out.is_ok_and(|out| !out.rows.is_empty()));
        }
        best = best.min(began.elapsed().as_secs_f64() / f64::from(CALLS / 5));
    }
    println!("{best}");
}
