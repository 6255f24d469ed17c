//! The site as an inventory reads it: CSV for an import, JSON for programs.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::site::SimulatedDevice;

/// The columns of [`csv`], in order.
pub const COLUMNS: [&str; 12] = [
    "name",
    "address",
    "kind",
    "vendor",
    "model",
    "os",
    "site",
    "location",
    "tags",
    "parents",
    "credential",
    "snmp_port",
];

/// One line for each device, below a line with the columns' names (RFC 4180,
/// with line feeds). Tags and parents are separated by `;`, parents are named,
/// and stand above their children.
#[must_use]
pub fn csv(devices: &[SimulatedDevice], credential: &str) -> String {
    let mut text = COLUMNS.join(",") + "\n";
    for device in devices {
        let port = device.address.port().to_string();
        let (tags, parents) = (device.tags.join(";"), device.parents.join(";"));
        let address = device.address.ip().to_string();
        let fields: [&str; COLUMNS.len()] = [
            &device.name,
            &address,
            device.kind.word(),
            &device.vendor,
            &device.model,
            &device.os,
            &device.site,
            &device.location,
            &tags,
            &parents,
            credential,
            &port,
        ];
        text.push_str(&fields.map(quoted).join(","));
        text.push('\n');
    }
    text
}

/// A field, in quotes if it needs them.
fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// As [`csv`], as an array of objects.
#[must_use]
pub fn json(devices: &[SimulatedDevice], credential: &str) -> Value {
    let object = |device: &SimulatedDevice| {
        let address: SocketAddr = device.address;
        json!({
            "name": device.name,
            "address": address.ip(),
            "kind": device.kind.word(),
            "vendor": device.vendor,
            "model": device.model,
            "os": device.os,
            "site": device.site,
            "location": device.location,
            "tags": device.tags,
            "parents": device.parents,
            "credential": credential,
            "snmp_port": address.port(),
        })
    };
    devices.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{SiteOptions, describe};

    fn devices() -> Vec<SimulatedDevice> {
        let options = SiteOptions {
            port: 1161,
            ..SiteOptions::default()
        };
        describe(&options).unwrap()
    }

    #[test]
    fn csv_has_a_line_for_each_device_with_its_parents_by_name() {
        let text = csv(&devices(), "public");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 51);
        assert_eq!(
            lines[1],
            "core-1,127.20.0.1,router,Juniper,MX204,Junos 21.4,datacenter,row A,simulated,,public,1161"
        );
        assert!(lines[3].starts_with("dist-berlin-1,127.20.0.3,switch,Cisco,"));
        assert!(lines[3].ends_with(",simulated,core-1;core-2,public,1161"));
    }

    #[test]
    fn a_field_with_a_comma_or_a_quote_is_quoted() {
        assert_eq!(quoted("rack 1, row \"A\""), "\"rack 1, row \"\"A\"\"\"");
        assert_eq!(quoted("rack 1"), "rack 1");
    }

    #[test]
    fn json_has_the_columns_of_csv() {
        let json = json(&devices(), "public");
        let first = json[0].as_object().unwrap();
        assert_eq!(first.len(), COLUMNS.len());
        assert!(COLUMNS.iter().all(|column| first.contains_key(*column)));
    }
}
