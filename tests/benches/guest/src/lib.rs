//! What the benchmarks of plugins run: ports of a switch out of ifTable, and ten
//! scalars. The same code is measured as a component and natively.

use sotp_plugin::prelude::*;

metrics! {
    counter32 ports_in_octets_total{port} "octets" "Octets received";
    counter32 ports_out_octets_total{port} "octets" "Octets sent";
    counter32 ports_in_errors_total{port} "packets" "Packets received with errors";
    counter32 ports_out_errors_total{port} "packets" "Packets not sent because of errors";
    gauge ports_speed_bits{port} "bits" "Speed of the line";
    state ports_oper_status{port} "" "State of the port" [1 = "up", 2 = "down"];
    gauge ports_scalar{object} "" "One of ten scalars";
}

pub struct Ports;

impl Parser for Ports {
    fn describe() -> Descriptor {
        descriptor()
    }

    fn parse(input: Input, out: &mut Output) -> Result<()> {
        if input.source == "snmp:scalars" {
            for (place, varbind) in input.varbinds()?.iter().enumerate() {
                if let Some(value) = varbind.value.f64() {
                    out.set(ports_scalar, [SCALARS[place % SCALARS.len()]], value);
                }
            }
            return Ok(());
        }
        for row in input.table()?.rows() {
            let Some(name) = row.text(2) else { continue };
            for (metric, column) in [
                (ports_in_octets_total, 10),
                (ports_out_octets_total, 16),
                (ports_in_errors_total, 14),
                (ports_out_errors_total, 20),
                (ports_speed_bits, 5),
                (ports_oper_status, 8),
            ] {
                out.set(metric, [&name], row.f64(column));
            }
        }
        Ok(())
    }
}

const SCALARS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

export_parser!(Ports);
