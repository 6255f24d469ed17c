//! What a MikroTik router says of its own health (MIKROTIK-MIB, mtxrHealth).
//!
//! RouterOS 6.47 and later list every sensor with its unit (mtxrGaugeTable).
//! Older ones have a few objects of fixed meaning instead, in tenths; routers
//! that have both report the same sensors twice, so we read the objects only
//! where there is no table.

use sotp_plugin::prelude::*;

metrics! {
    gauge mikrotik_temperature_celsius{sensor} "celsius" "Temperature of a sensor";
    gauge mikrotik_voltage_volts{sensor} "volts" "Voltage of a sensor";
    gauge mikrotik_current_amperes{sensor} "amperes" "Current of a sensor";
    gauge mikrotik_power_watts{sensor} "watts" "Power of a sensor";
    gauge mikrotik_fan_rpm{sensor} "rpm" "Speed of a fan";
    state mikrotik_sensor_state{sensor} "" "State of a power supply or another part"
        [0 = "ok", 1 = "failed"];
    gauge mikrotik_cpu_frequency_hertz "hertz" "Frequency of the processor";
}

const HEALTH: &str = "1.3.6.1.4.1.14988.1.1.3";

struct Health;

impl Parser for Health {
    fn describe() -> Descriptor {
        descriptor()
    }

    fn parse(input: Input, out: &mut Output) -> Result<()> {
        let gauges = Table::pivot(&format!("{HEALTH}.100.1"), input.varbinds()?);
        if gauges.indexes.is_empty() {
            objects(&input, out);
        } else {
            gauges.rows().for_each(|row| gauge(row, out));
        }
        let megahertz = object(&input, 14);
        out.set(
            mikrotik_cpu_frequency_hertz,
            [],
            megahertz.map(|mhz| mhz * 1e6),
        );
        Ok(())
    }
}

/// A row of mtxrGaugeTable: name, value and unit.
fn gauge(row: TableRow<'_>, out: &mut Output) {
    let (Some(name), Some(value)) = (row.text(2), row.f64(3)) else {
        return;
    };
    match row.i64(4) {
        Some(1) => out.set(mikrotik_temperature_celsius, [&name], value),
        Some(2) => out.set(mikrotik_fan_rpm, [&name], value),
        Some(3) => out.set(mikrotik_voltage_volts, [&name], value / 10.0),
        Some(4) => out.set(mikrotik_current_amperes, [&name], value / 10.0),
        Some(5) => out.set(mikrotik_power_watts, [&name], value / 10.0),
        Some(6) => out.set(mikrotik_sensor_state, [&name], value),
        unit => out.warning(format!("the sensor {name} has the unit {unit:?}")),
    }
}

/// The objects of older versions, called as the table calls them.
fn objects(input: &Input, out: &mut Output) {
    let tenth = |number| object(input, number).map(|value| value / 10.0);
    // what is not measured is 0 there
    let measured = |value: Option<f64>| value.filter(|value| *value != 0.0);
    let temperatures = [(10, "temperature"), (11, "cpu-temperature")];
    for (number, sensor) in temperatures {
        out.set(
            mikrotik_temperature_celsius,
            [sensor],
            measured(tenth(number)),
        );
    }
    out.set(mikrotik_voltage_volts, ["voltage"], measured(tenth(8)));
    out.set(
        mikrotik_power_watts,
        ["power-consumption"],
        measured(tenth(12)),
    );
    let milliamperes = measured(object(input, 13));
    out.set(
        mikrotik_current_amperes,
        ["current"],
        milliamperes.map(|ma| ma / 1e3),
    );
    for (number, sensor) in [(17, "fan1-speed"), (18, "fan2-speed")] {
        out.set(mikrotik_fan_rpm, [sensor], object(input, number));
    }
    // true is well here, and 0 is in the table
    for (number, sensor) in [(15, "psu1-state"), (16, "psu2-state")] {
        let is_well = object(input, number);
        out.set(mikrotik_sensor_state, [sensor], is_well.map(|ok| ok == 0.0));
    }
}

fn object(input: &Input, number: u32) -> Option<f64> {
    input.get(&format!("{HEALTH}.{number}.0"))?.f64()
}

export_parser!(Health);

#[cfg(test)]
mod tests {
    use super::*;
    use sotp_plugin::testing;

    fn readings(recording: &str) -> Vec<String> {
        let health = Payload::Snmp(testing::varbinds(recording));
        let out = testing::parse::<Health>("snmp:health", health).unwrap();
        testing::readings(&descriptor(), &out)
    }

    #[test]
    fn a_router_with_both_is_read_once_by_its_table() {
        let both = readings(
            "1.3.6.1.4.1.14988.1.1.3.8.0|2|481
            1.3.6.1.4.1.14988.1.1.3.14.0|2|1400
            1.3.6.1.4.1.14988.1.1.3.100.1.2.3|4|voltage
            1.3.6.1.4.1.14988.1.1.3.100.1.2.5|4|temperature
            1.3.6.1.4.1.14988.1.1.3.100.1.3.3|2|481
            1.3.6.1.4.1.14988.1.1.3.100.1.3.5|2|51
            1.3.6.1.4.1.14988.1.1.3.100.1.4.3|2|3
            1.3.6.1.4.1.14988.1.1.3.100.1.4.5|2|1",
        );
        let expected = [
            "mikrotik_voltage_volts{sensor=\"voltage\"} 48.1",
            "mikrotik_temperature_celsius{sensor=\"temperature\"} 51",
            "mikrotik_cpu_frequency_hertz 1400000000",
        ];
        assert_eq!(both, expected);
    }

    #[test]
    fn an_old_version_without_the_table_is_read_by_its_objects() {
        let old = readings(
            "1.3.6.1.4.1.14988.1.1.3.8.0|2|122
            1.3.6.1.4.1.14988.1.1.3.10.0|2|415
            1.3.6.1.4.1.14988.1.1.3.11.0|2|0
            1.3.6.1.4.1.14988.1.1.3.15.0|2|1
            1.3.6.1.4.1.14988.1.1.3.16.0|2|0",
        );
        let expected = [
            "mikrotik_temperature_celsius{sensor=\"temperature\"} 41.5",
            "mikrotik_voltage_volts{sensor=\"voltage\"} 12.2",
            "mikrotik_sensor_state{sensor=\"psu1-state\"} 0",
            "mikrotik_sensor_state{sensor=\"psu2-state\"} 1",
        ];
        assert_eq!(old, expected);
    }

    #[test]
    fn a_unit_that_nobody_knows_is_a_warning_and_the_rest_is_read() {
        let walked = testing::varbinds(
            "1.3.6.1.4.1.14988.1.1.3.100.1.2.1|4|humidity
            1.3.6.1.4.1.14988.1.1.3.100.1.2.2|4|fan1-speed
            1.3.6.1.4.1.14988.1.1.3.100.1.3.1|2|40
            1.3.6.1.4.1.14988.1.1.3.100.1.3.2|2|4200
            1.3.6.1.4.1.14988.1.1.3.100.1.4.1|2|7
            1.3.6.1.4.1.14988.1.1.3.100.1.4.2|2|2",
        );
        let out = testing::parse::<Health>("snmp:health", Payload::Snmp(walked)).unwrap();
        let readings = testing::readings(&descriptor(), &out);
        assert_eq!(readings, ["mikrotik_fan_rpm{sensor=\"fan1-speed\"} 4200"]);
        assert_eq!(out.warnings, ["the sensor humidity has the unit Some(7)"]);
    }

    #[test]
    fn another_payload_is_not_ours() {
        let text = Payload::Text("uptime 3d".into());
        let said = testing::parse::<Health>("cli:show health", text).unwrap_err();
        assert_eq!(
            said,
            Error::not_mine("cli:show health is not a list of varbinds")
        );
    }
}
