//! What a UPS puts out (UPS-MIB, RFC 1628, upsOutputTable).

use sotp_plugin::prelude::*;

metrics! {
    gauge {{metric}}_output_volts{line} "volts" "Voltage of an output line";
    gauge {{metric}}_output_load_ratio{line} "ratio" "Load of an output line";
}

struct Plugin;

impl Parser for Plugin {
    fn describe() -> Descriptor {
        descriptor()
    }

    fn parse(input: Input, out: &mut Output) -> Result<()> {
        for row in input.table()?.rows() {
            let load = row.f64(5).map(|percent| percent / 100.0);
            out.row([&row.index_text()])
                .set({{metric}}_output_volts, row.f64(2))
                .set({{metric}}_output_load_ratio, load);
        }
        Ok(())
    }
}

export_parser!(Plugin);

#[cfg(test)]
mod tests {
    use super::*;
    use sotp_plugin::testing;

    #[test]
    fn every_line_has_its_voltage_and_load() {
        let table = testing::table(
            "1.3.6.1.2.1.33.1.4.4",
            "1.3.6.1.2.1.33.1.4.4.1.2.1|2|231
            1.3.6.1.2.1.33.1.4.4.1.5.1|2|25",
        );
        let out = testing::parse::<Plugin>("snmp:output", Payload::SnmpTable(table)).unwrap();
        let expected = [
            "{{metric}}_output_volts{line=\"1\"} 231",
            "{{metric}}_output_load_ratio{line=\"1\"} 0.25",
        ];
        assert_eq!(testing::readings(&descriptor(), &out), expected);
    }
}
