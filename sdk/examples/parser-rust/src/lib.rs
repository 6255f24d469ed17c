//! Supplies of a printer (Printer-MIB, RFC 3805, prtMarkerSuppliesTable).

use sotp_plugin::prelude::*;

metrics! {
    gauge printer_supply_ratio{supply} "ratio" "What is left of a supply";
}

struct Supplies;

impl Parser for Supplies {
    fn describe() -> Descriptor {
        descriptor().with_facts(&["supplies"])
    }

    fn parse(input: Input, out: &mut Output) -> Result<()> {
        let table = input.table()?;
        if table.indexes.is_empty() {
            return Err(Error::malformed("a printer without supplies"));
        }
        for row in table.rows() {
            let name = row.text(6).unwrap_or_default();
            // -1: without a limit, -2: unknown, -3: some is left
            match (row.u64(8), row.u64(9)) {
                (Some(capacity), Some(level)) if capacity > 0 => {
                    let left = level as f64 / capacity as f64;
                    out.set(printer_supply_ratio, [&name], left);
                }
                _ => debug!("no level of {name}"),
            }
        }
        out.fact("supplies", Scalar::Uint(table.indexes.len() as u64));
        Ok(())
    }
}

export_parser!(Supplies);

#[cfg(test)]
mod tests {
    use super::*;
    use sotp_plugin::testing;

    #[test]
    fn a_supply_whose_level_is_unknown_is_left_out() {
        let table = testing::table(
            "1.3.6.1.2.1.43.11.1",
            "1.3.6.1.2.1.43.11.1.1.6.1.1|4|black
            1.3.6.1.2.1.43.11.1.1.6.1.2|4|drum
            1.3.6.1.2.1.43.11.1.1.8.1.1|2|100
            1.3.6.1.2.1.43.11.1.1.8.1.2|2|-2
            1.3.6.1.2.1.43.11.1.1.9.1.1|2|64
            1.3.6.1.2.1.43.11.1.1.9.1.2|2|-3",
        );
        let out = testing::parse::<Supplies>("snmp:supplies", Payload::SnmpTable(table)).unwrap();
        let expected = ["printer_supply_ratio{supply=\"black\"} 0.64"];
        assert_eq!(testing::readings(&descriptor(), &out), expected);
        assert_eq!(testing::logged(), ["debug: no level of drum"]);
    }
}
