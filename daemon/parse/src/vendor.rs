//! Enterprise numbers: who made a device, by its sysObjectID.

use model::Oid;

/// SNMPv2-SMI::enterprises (RFC 2578).
const ENTERPRISES: &[u32] = &[1, 3, 6, 1, 4, 1];

/// The enterprises met most in networks, by number, with their names as in
/// IANA's registry of private enterprise numbers, without what they were
/// called before.
const VENDORS: &[(u32, &str)] = &[
    (2, "IBM"),
    (9, "ciscoSystems"),
    (11, "Hewlett-Packard"),
    (36, "DEC"),
    (42, "Sun Microsystems"),
    (43, "3Com"),
    (45, "SynOptics"),
    (52, "Enterasys Networks Inc."),
    (63, "Apple Computer, Inc."),
    (94, "Nokia"),
    (111, "Oracle"),
    (119, "NEC Corporation"),
    (161, "Motorola"),
    (164, "Rad Data Communications Ltd."),
    (171, "D-Link Systems, Inc."),
    (193, "Ericsson AB"),
    (207, "Allied Telesis, Inc."),
    (211, "Fujitsu Limited"),
    (231, "Fujitsu Technology Solutions GmbH"),
    (232, "Compaq"),
    (244, "Lantronix"),
    (248, "Richard Hirschmann GmbH & Co."),
    (253, "Xerox"),
    (259, "ACCTON Technology"),
    (311, "Microsoft"),
    (318, "American Power Conversion Corp."),
    (332, "Digi International"),
    (343, "Intel Corporation"),
    (367, "RICOH Co. Ltd."),
    (368, "Axis Communications AB"),
    (388, "Symbol Technologies, Inc."),
    (476, "Vertiv"),
    (534, "Eaton Corporation"),
    (562, "Northern Telecom, Ltd."),
    (637, "Nokia"),
    (641, "Lexmark International"),
    (664, "Adtran"),
    (674, "Dell Inc."),
    (705, "Merlin Gerin"),
    (789, "Network Appliance Corporation"),
    (850, "Tripp Lite"),
    (872, "AVM GmbH"),
    (890, "ZyXEL Communications Corp."),
    (1588, "Brocade Communications Systems, Inc."),
    (1602, "CANON Inc."),
    (1671, "ADVA Optical Networking Ltd."),
    (1718, "Server Technology Inc."),
    (1751, "Lucent Technologies"),
    (1768, "Patton Electronics Company"),
    (1872, "Alteon Networks, Inc."),
    (1916, "Extreme Networks"),
    (1991, "Brocade Communication Systems, Inc."),
    (2007, "TELDAT, S.A."),
    (2011, "HUAWEI Technology Co.,Ltd"),
    (2435, "Brother Industries, Ltd."),
    (2606, "Rittal GmbH & Co. KG"),
    (2620, "Check Point Software Technologies Ltd"),
    (2636, "Juniper Networks, Inc."),
    (3224, "NetScreen Technologies, Inc."),
    (3375, "F5 Labs, Inc."),
    (3417, "Blue Coat Systems"),
    (4413, "Broadcom Corporation"),
    (4526, "Netgear"),
    (6027, "Force10 Networks, Inc."),
    (6527, "Nokia"),
    (6574, "Synology Inc."),
    (6876, "VMware Inc."),
    (7779, "Infoblox Inc."),
    (8072, "net-snmp"),
    (10876, "Super Micro Computer Inc."),
    (12356, "Fortinet, Inc."),
    (13742, "Raritan, Inc."),
    (14179, "Airespace, Inc."),
    (14988, "MikroTik"),
    (17163, "Riverbed Technology, Inc."),
    (17713, "Cambium Networks Limited"),
    (24681, "QNAP SYSTEMS, INC"),
    (25053, "Ruckus Wireless, Inc."),
    (25461, "Palo Alto Networks"),
    (25506, "H3C"),
    (29671, "Meraki Networks, Inc."),
    (30065, "Arista Networks, Inc."),
    (41112, "Ubiquiti Networks, Inc."),
];

/// The vendor whose enterprise number `object_id` lies below, if it is one of
/// those we know.
pub(crate) fn vendor(object_id: &Oid) -> Option<&'static str> {
    let number = object_id.0.strip_prefix(ENTERPRISES)?.first()?;
    let place = VENDORS
        .binary_search_by_key(number, |(known, _)| *known)
        .ok()?;
    Some(VENDORS[place].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_enterprise_number_names_the_vendor() {
        let of = |text: &str| vendor(&text.parse().unwrap());
        assert_eq!(of("1.3.6.1.4.1.9.1.1208"), Some("ciscoSystems"));
        assert_eq!(
            of("1.3.6.1.4.1.30065.1.3011"),
            Some("Arista Networks, Inc.")
        );
        assert_eq!(of("1.3.6.1.4.1.4294967295"), None);
        assert_eq!(of("1.3.6.1.4.1"), None);
        assert_eq!(of("1.3.6.1.2.1.9"), None);
    }

    #[test]
    fn the_table_is_sorted_so_that_it_can_be_searched() {
        assert!(VENDORS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
