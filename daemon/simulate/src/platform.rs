//! What makes a device one of its vendor's: how it describes itself, what its
//! ports are called and how they are numbered.
//!
//! Descriptions follow the form that each vendor's agents use; versions, serial
//! numbers and object identifiers are of their kind and belong to nobody.

use model::DeviceKind;

use crate::traffic::Role;

/// Ports that differ only by their number.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    /// What stands before the number in ifDescr; without number if `bare`.
    pub(crate) descr: &'static str,
    /// What stands before the number in ifName.
    pub(crate) name: &'static str,
    /// The name is whole: there is one port and no number behind it.
    pub(crate) bare: bool,
    pub(crate) first_number: u32,
    pub(crate) count: u32,
    pub(crate) first_index: u32,
    pub(crate) index_step: u32,
    /// ifType (IANAifType-MIB).
    pub(crate) kind: u8,
    pub(crate) speed_mbps: u64,
    pub(crate) mtu: u32,
    pub(crate) role: Role,
}

const ETHERNET: u8 = 6;
const LOOPBACK: u8 = 24;
const OTHER: u8 = 1;
const VIRTUAL: u8 = 53;
const LAN_WIRELESS: u8 = 71;

/// `count` numbered Ethernet ports.
const fn ports(
    descr: &'static str,
    name: &'static str,
    first_number: u32,
    count: u32,
    first_index: u32,
    speed_mbps: u64,
) -> Segment {
    Segment {
        descr,
        name,
        bare: false,
        first_number,
        count,
        first_index,
        index_step: 1,
        kind: ETHERNET,
        speed_mbps,
        mtu: 1500,
        role: Role::Access,
    }
}

/// One interface with a name of its own.
const fn single(name: &'static str, index: u32, kind: u8, speed_mbps: u64, role: Role) -> Segment {
    Segment {
        descr: name,
        name,
        bare: true,
        first_number: 0,
        count: 1,
        first_index: index,
        index_step: 1,
        kind,
        speed_mbps,
        mtu: 1500,
        role,
    }
}

/// The same ports, towards the core.
const fn uplinks(segment: Segment) -> Segment {
    Segment {
        role: Role::Uplink,
        mtu: 9216,
        ..segment
    }
}

/// The same ports, numbered in wider steps.
const fn stepped(segment: Segment, index_step: u32) -> Segment {
    Segment {
        index_step,
        ..segment
    }
}

/// A storage area beside main memory (hrStorageTable, RFC 2790).
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) descr: &'static str,
    /// The last part of hrStorageType: 4 fixed disk, 9 flash memory.
    pub(crate) kind: u32,
    pub(crate) unit_bytes: u32,
    pub(crate) units: u32,
}

/// hrStorageFixedDisk.
const FIXED_DISK: u32 = 4;
/// hrStorageFlashMemory.
const FLASH: u32 = 9;

const fn disk(descr: &'static str, kind: u32, mib: u32) -> Disk {
    Disk {
        descr,
        kind,
        unit_bytes: 4_096,
        units: mib * 256,
    }
}

/// One model of one vendor.
#[derive(Debug)]
pub(crate) struct Platform {
    pub(crate) kind: DeviceKind,
    pub(crate) vendor: &'static str,
    pub(crate) model: &'static str,
    pub(crate) os: &'static str,
    /// sysDescr; `{name}` stands for sysName.
    pub(crate) descr: &'static str,
    /// sysObjectID.
    pub(crate) object_id: &'static [u32],
    /// sysServices (RFC 3418): a sum over layers.
    pub(crate) services: i64,
    /// The first half of its MAC addresses.
    pub(crate) oui: [u8; 3],
    pub(crate) processors: u32,
    pub(crate) memory_mib: u32,
    pub(crate) disks: &'static [Disk],
    pub(crate) segments: &'static [Segment],
}

const LAYER_2: i64 = 2;
const LAYERS_2_3: i64 = 6;
const ROUTER: i64 = 78;
const HOST: i64 = 72;

pub(crate) static ISR_4451: Platform = Platform {
    kind: DeviceKind::Router,
    vendor: "Cisco",
    model: "ISR4451-X",
    os: "IOS-XE 17.9",
    descr: "Cisco IOS Software [Cupertino], ISR Software (X86_64_LINUX_IOSD-UNIVERSALK9-M), Version 17.9.4a, RELEASE SOFTWARE (fc3)\r\nTechnical Support: http://www.cisco.com/techsupport\r\nCopyright (c) 1986-2023 by Cisco Systems, Inc.\r\nCompiled Fri 20-Oct-23 10:32 by mcpre",
    object_id: &[1, 3, 6, 1, 4, 1, 9, 1, 1707],
    services: ROUTER,
    oui: [0x00, 0x1e, 0x7a],
    processors: 8,
    memory_mib: 8_192,
    disks: &[disk("bootflash:", FLASH, 6_800)],
    segments: &[
        uplinks(ports("TenGigabitEthernet0/0/", "Te0/0/", 0, 4, 1, 10_000)),
        ports("GigabitEthernet0/1/", "Gi0/1/", 0, 8, 5, 1_000),
        single("GigabitEthernet0", 13, ETHERNET, 1_000, Role::Quiet),
        single("Loopback0", 15, LOOPBACK, 8_000, Role::Internal),
        single("Null0", 16, OTHER, 10_000, Role::Internal),
    ],
};

pub(crate) static CATALYST_9300: Platform = Platform {
    kind: DeviceKind::Switch,
    vendor: "Cisco",
    model: "C9300-48P",
    os: "IOS-XE 17.9",
    descr: "Cisco IOS Software [Cupertino], Catalyst L3 Switch Software (CAT9K_IOSXE), Version 17.9.4a, RELEASE SOFTWARE (fc3)\r\nTechnical Support: http://www.cisco.com/techsupport\r\nCopyright (c) 1986-2023 by Cisco Systems, Inc.\r\nCompiled Fri 20-Oct-23 10:44 by mcpre",
    object_id: &[1, 3, 6, 1, 4, 1, 9, 1, 2494],
    services: LAYERS_2_3,
    oui: [0x70, 0x18, 0xa7],
    processors: 4,
    memory_mib: 8_192,
    disks: &[disk("flash:", FLASH, 11_264)],
    segments: &[
        single("GigabitEthernet0/0", 1, ETHERNET, 1_000, Role::Quiet),
        ports("GigabitEthernet1/0/", "Gi1/0/", 1, 48, 9, 1_000),
        uplinks(ports("TenGigabitEthernet1/1/", "Te1/1/", 1, 4, 57, 10_000)),
        single("Vlan1", 73, VIRTUAL, 1_000, Role::Quiet),
        single("Vlan20", 74, VIRTUAL, 1_000, Role::Quiet),
    ],
};

pub(crate) static NEXUS_9300: Platform = Platform {
    kind: DeviceKind::Switch,
    vendor: "Cisco",
    model: "N9K-C93180YC-FX",
    os: "NX-OS 9.3",
    descr: "Cisco NX-OS(tm) n9000, Software (n9000-dk9), Version 9.3(10), RELEASE SOFTWARE Copyright (c) 2002-2022 by Cisco Systems, Inc. Compiled 6/2/2022 8:00:00",
    object_id: &[1, 3, 6, 1, 4, 1, 9, 12, 3, 1, 3, 1812],
    services: 70,
    oui: [0x00, 0x3a, 0x9c],
    processors: 4,
    memory_mib: 24_576,
    disks: &[disk("bootflash", FLASH, 51_200)],
    segments: &[
        single("mgmt0", 83_886_080, ETHERNET, 1_000, Role::Quiet),
        stepped(
            ports("Ethernet1/", "Eth1/", 1, 48, 436_207_616, 10_000),
            512,
        ),
        stepped(
            uplinks(ports("Ethernet1/", "Eth1/", 49, 6, 436_232_192, 100_000)),
            512,
        ),
        single("loopback0", 503_316_480, LOOPBACK, 8_000, Role::Internal),
    ],
};

pub(crate) static MX_204: Platform = Platform {
    kind: DeviceKind::Router,
    vendor: "Juniper",
    model: "MX204",
    os: "Junos 21.4",
    descr: "Juniper Networks, Inc. mx204 internet router, kernel JUNOS 21.4R3-S5.4, Build date: 2023-09-27 14:02:11 UTC Copyright (c) 1996-2023 Juniper Networks, Inc.",
    object_id: &[1, 3, 6, 1, 4, 1, 2636, 1, 1, 1, 2, 144],
    services: 4,
    oui: [0xf4, 0xb5, 0x2f],
    processors: 8,
    memory_mib: 32_768,
    disks: &[disk("/dev/gpt/junos: /", FIXED_DISK, 20_480)],
    segments: &[
        single("fxp0", 1, ETHERNET, 1_000, Role::Quiet),
        single("lo0", 6, LOOPBACK, 0, Role::Internal),
        uplinks(ports("et-0/0/", "et-0/0/", 0, 4, 513, 100_000)),
        uplinks(ports("xe-0/1/", "xe-0/1/", 0, 8, 525, 10_000)),
    ],
};

pub(crate) static EX_3400: Platform = Platform {
    kind: DeviceKind::Switch,
    vendor: "Juniper",
    model: "EX3400-48P",
    os: "Junos 21.4",
    descr: "Juniper Networks, Inc. ex3400-48p Ethernet Switch, kernel JUNOS 21.4R3.15, Build date: 2022-12-20 13:10:45 UTC Copyright (c) 1996-2022 Juniper Networks, Inc.",
    object_id: &[1, 3, 6, 1, 4, 1, 2636, 1, 1, 1, 2, 131],
    services: LAYERS_2_3,
    oui: [0x88, 0xa2, 0x5e],
    processors: 2,
    memory_mib: 2_048,
    disks: &[disk("/dev/gpt/junos: /", FIXED_DISK, 1_400)],
    segments: &[
        single("vme", 33, VIRTUAL, 1_000, Role::Quiet),
        ports("ge-0/0/", "ge-0/0/", 0, 48, 513, 1_000),
        uplinks(ports("xe-0/2/", "xe-0/2/", 0, 4, 611, 10_000)),
        single("irb", 700, VIRTUAL, 1_000, Role::Quiet),
    ],
};

pub(crate) static DCS_7050: Platform = Platform {
    kind: DeviceKind::Switch,
    vendor: "Arista",
    model: "DCS-7050SX3-48YC8",
    os: "EOS 4.30",
    descr: "Arista Networks EOS version 4.30.5M running on an Arista Networks DCS-7050SX3-48YC8",
    object_id: &[1, 3, 6, 1, 4, 1, 30_065, 1, 3011, 7050, 3741, 48, 3282, 8],
    services: 14,
    oui: [0x28, 0x99, 0x3a],
    processors: 4,
    memory_mib: 8_192,
    disks: &[disk("/mnt/flash", FLASH, 7_400)],
    segments: &[
        ports("Ethernet", "Ethernet", 1, 48, 1, 25_000),
        uplinks(ports("Ethernet", "Ethernet", 49, 8, 49, 100_000)),
        single("Management1", 999_001, ETHERNET, 1_000, Role::Quiet),
        single("Vlan10", 2_000_010, VIRTUAL, 1_000, Role::Quiet),
    ],
};

pub(crate) static ARUBA_2930F: Platform = Platform {
    kind: DeviceKind::Switch,
    vendor: "HPE Aruba",
    model: "2930F-48G-4SFP+",
    os: "ArubaOS-Switch 16.11",
    descr: "Aruba JL254A 2930F-48G-4SFP+ Switch, revision WC.16.11.0016, ROM WC.16.01.0010",
    object_id: &[1, 3, 6, 1, 4, 1, 11, 2, 3, 7, 11, 181, 22],
    services: 74,
    oui: [0x54, 0x80, 0x28],
    processors: 1,
    memory_mib: 1_024,
    disks: &[disk("flash", FLASH, 512)],
    segments: &[
        ports("", "", 1, 48, 1, 1_000),
        uplinks(ports("", "", 49, 4, 49, 10_000)),
        single("DEFAULT_VLAN", 62, VIRTUAL, 1_000, Role::Quiet),
    ],
};

pub(crate) static CRS_326: Platform = Platform {
    kind: DeviceKind::Switch,
    vendor: "MikroTik",
    model: "CRS326-24G-2S+",
    os: "RouterOS 7.13",
    descr: "RouterOS CRS326-24G-2S+",
    object_id: &[1, 3, 6, 1, 4, 1, 14_988, 1],
    services: ROUTER,
    oui: [0x48, 0x8f, 0x5a],
    processors: 1,
    memory_mib: 512,
    disks: &[disk("system disk", FIXED_DISK, 16)],
    segments: &[
        ports("ether", "ether", 1, 24, 1, 1_000),
        uplinks(ports("sfp-sfpplus", "sfp-sfpplus", 1, 2, 25, 10_000)),
        single("bridge", 27, VIRTUAL, 0, Role::Quiet),
    ],
};

pub(crate) static ARUBA_AP_515: Platform = Platform {
    kind: DeviceKind::Wireless,
    vendor: "HPE Aruba",
    model: "AP-515",
    os: "ArubaOS 8.10",
    descr: "ArubaOS (MODEL: 515), Version 8.10.0.7 SSR",
    object_id: &[1, 3, 6, 1, 4, 1, 14_823, 1, 2, 111],
    services: LAYER_2,
    oui: [0x20, 0x4c, 0x03],
    processors: 4,
    memory_mib: 1_024,
    disks: &[disk("flash", FLASH, 256)],
    segments: &[
        uplinks(single("bond0", 1, ETHERNET, 2_500, Role::Uplink)),
        ports("eth", "eth", 0, 2, 2, 2_500),
        single("radio0_ssid_id0", 10, LAN_WIRELESS, 1_200, Role::Quiet),
        single("radio1_ssid_id0", 11, LAN_WIRELESS, 574, Role::Quiet),
    ],
};

pub(crate) static FORTIGATE_100F: Platform = Platform {
    kind: DeviceKind::Firewall,
    vendor: "Fortinet",
    model: "FortiGate-100F",
    os: "FortiOS 7.2",
    descr: "{name}",
    object_id: &[1, 3, 6, 1, 4, 1, 12_356, 101, 1, 1006],
    services: ROUTER,
    oui: [0x04, 0xd5, 0x90],
    processors: 8,
    memory_mib: 8_192,
    disks: &[disk("/data", FIXED_DISK, 480)],
    segments: &[
        uplinks(ports("wan", "wan", 1, 2, 1, 1_000)),
        single("dmz", 3, ETHERNET, 1_000, Role::Quiet),
        single("mgmt", 4, ETHERNET, 1_000, Role::Quiet),
        ports("port", "port", 1, 20, 7, 1_000),
        uplinks(ports("x", "x", 1, 2, 27, 10_000)),
        single("ssl.root", 31, VIRTUAL, 0, Role::Internal),
    ],
};

pub(crate) static SMART_UPS: Platform = Platform {
    kind: DeviceKind::Ups,
    vendor: "APC",
    model: "Smart-UPS X 3000",
    os: "AOS 7.0.8",
    descr: "APC Web/SNMP Management Card (MB:v4.2.9 PF:v7.0.8 PN:apc_hw21_aos_7.0.8.bin AF1:v7.0.8 AN1:apc_hw21_su_7.0.8.bin MN:AP9641 HR:05 SN: ZA2126000000 MD:06/28/2021)",
    object_id: &[1, 3, 6, 1, 4, 1, 318, 1, 3, 27],
    services: HOST,
    oui: [0x28, 0x29, 0x86],
    processors: 1,
    memory_mib: 64,
    disks: &[],
    segments: &[
        single("lo0", 1, LOOPBACK, 0, Role::Internal),
        single("eth0", 2, ETHERNET, 100, Role::Quiet),
    ],
};

pub(crate) static LINUX_SERVER: Platform = Platform {
    kind: DeviceKind::Server,
    vendor: "Dell",
    model: "PowerEdge R650",
    os: "Debian 12",
    descr: "Linux {name} 6.1.0-28-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22) x86_64",
    object_id: &[1, 3, 6, 1, 4, 1, 8072, 3, 2, 10],
    services: HOST,
    oui: [0xb0, 0x7b, 0x25],
    processors: 16,
    memory_mib: 65_536,
    disks: &[
        disk("/", FIXED_DISK, 102_400),
        disk("/var", FIXED_DISK, 409_600),
        disk("/boot/efi", FIXED_DISK, 512),
    ],
    segments: &[
        single("lo", 1, LOOPBACK, 10, Role::Internal),
        uplinks(ports("eno", "eno", 1, 2, 2, 10_000)),
        single("docker0", 4, ETHERNET, 0, Role::Quiet),
    ],
};

/// Switches that connect users, by turns.
pub(crate) static ACCESS_SWITCHES: [&Platform; 4] =
    [&CATALYST_9300, &ARUBA_2930F, &EX_3400, &CRS_326];

/// Switches that connect switches, by turns.
pub(crate) static DISTRIBUTION_SWITCHES: [&Platform; 3] = [&NEXUS_9300, &DCS_7050, &EX_3400];

/// Routers in the middle, by turns.
pub(crate) static CORE_ROUTERS: [&Platform; 2] = [&MX_204, &ISR_4451];

/// `count` equal Gigabit ports: what a benchmark asks for.
pub(crate) fn uniform_segments(count: u32) -> Vec<Segment> {
    vec![ports("GigabitEthernet1/0/", "Gi1/0/", 1, count, 9, 1_000)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_platform() -> impl Iterator<Item = &'static Platform> {
        let others = [&ARUBA_AP_515, &FORTIGATE_100F, &SMART_UPS, &LINUX_SERVER];
        ACCESS_SWITCHES
            .into_iter()
            .chain(DISTRIBUTION_SWITCHES)
            .chain(CORE_ROUTERS)
            .chain(others)
    }

    #[test]
    fn if_indexes_rise_within_every_platform() {
        for platform in every_platform() {
            let mut last = 0;
            for segment in platform.segments {
                assert!(segment.first_index > last, "{}", platform.model);
                last = segment.first_index + (segment.count - 1) * segment.index_step;
            }
        }
    }
}
