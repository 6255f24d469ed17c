//! What of a recording is nobody's business: names, places, addresses, serial
//! numbers. The same value gets the same mask throughout, so that what a plugin
//! does with it stays the same.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use contract::{Call, Cells, Octets, Payload, SnmpValue, Varbind};
use package::Golden;

/// What was masked: how many different values of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masked {
    /// By kind, in words.
    pub values: BTreeMap<&'static str, usize>,
}

/// SNMPv2-MIB::system: sysContact, sysName, sysLocation (RFC 3418).
const SYSTEM: [(u32, &str); 3] = [(4, "contacts"), (5, "names"), (6, "locations")];
const SYSTEM_ROOT: [u32; 7] = [1, 3, 6, 1, 2, 1, 1];
/// ENTITY-MIB::entPhysicalSerialNum (RFC 6933).
const SERIAL: [u32; 12] = [1, 3, 6, 1, 2, 1, 47, 1, 1, 1, 1, 11];

/// The least that a serial number has.
const SERIAL_LETTERS: usize = 8;

#[derive(Default)]
struct Book {
    known: BTreeMap<(&'static str, Vec<u8>), usize>,
    counts: BTreeMap<&'static str, usize>,
}

impl Book {
    /// The number of a value among those of its kind, from 1.
    fn number(&mut self, kind: &'static str, value: &[u8]) -> usize {
        let counts = &mut self.counts;
        *self.known.entry((kind, value.to_vec())).or_insert_with(|| {
            let count = counts.entry(kind).or_default();
            *count += 1;
            *count
        })
    }

    fn name(&mut self, kind: &'static str, value: &str) -> String {
        match value.is_empty() {
            true => String::new(),
            false => format!(
                "{}-{}",
                kind.trim_end_matches('s'),
                self.number(kind, value.as_bytes())
            ),
        }
    }

    /// An address of TEST-NET-1 (RFC 5737) in the place of a real one. Those that
    /// mean something everywhere stay.
    fn address(&mut self, address: Ipv4Addr) -> Ipv4Addr {
        if address.is_loopback()
            || address.is_unspecified()
            || address.is_broadcast()
            || is_mask(address)
        {
            return address;
        }
        let number = self.number("addresses", &address.octets());
        Ipv4Addr::new(192, 0, 2, u8::try_from(number % 254 + 1).unwrap_or(1))
    }

    fn mac(&mut self, mac: &[u8]) -> Vec<u8> {
        let number = self.number("MAC addresses", mac);
        let number = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        // locally administered, so that it is nobody's
        [&[0x02, 0x00][..], &number].concat()
    }

    fn text(&mut self, text: &str) -> String {
        let words = text.split_inclusive([' ', ',', ';', '/', '=', '(', ')']);
        words.map(|word| self.word(word)).collect()
    }

    fn word(&mut self, word: &str) -> String {
        let bare = word.trim_end_matches([' ', ',', ';', '/', '=', '(', ')']);
        let rest = &word[bare.len()..];
        let masked = if let Ok(address) = bare.parse::<Ipv4Addr>() {
            self.address(address).to_string()
        } else if let Some(mac) = mac_of(bare) {
            let separator = if bare.contains('-') { "-" } else { ":" };
            let pairs = self.mac(&mac).into_iter().map(|byte| format!("{byte:02x}"));
            pairs.collect::<Vec<_>>().join(separator)
        } else if is_serial(bare) {
            self.serial(bare)
        } else {
            bare.to_owned()
        };
        masked + rest
    }

    /// As long and as mixed as it was.
    fn serial(&mut self, serial: &str) -> String {
        let number = self.number("serial numbers", serial.as_bytes());
        let mut digits = format!("{number:0width$}", width = serial.len()).into_bytes();
        for (digit, original) in digits.iter_mut().zip(serial.bytes()) {
            if original.is_ascii_alphabetic() && *digit == b'0' {
                *digit = b'X';
            }
        }
        String::from_utf8(digits).unwrap_or_default()
    }

    fn octets(&mut self, octets: &mut Octets) {
        match std::str::from_utf8(&octets.0) {
            Ok(text) if !text.chars().any(char::is_control) => {
                octets.0 = self.text(text).into_bytes();
            }
            _ if octets.0.len() == 6 => octets.0 = self.mac(&octets.0.clone()),
            _ => {}
        }
    }

    fn value(&mut self, value: &mut SnmpValue) {
        match value {
            SnmpValue::Octets(octets) => self.octets(octets),
            SnmpValue::IpAddress(a, b, c, d) => {
                let masked = self.address(Ipv4Addr::new(*a, *b, *c, *d)).octets();
                [*a, *b, *c, *d] = masked;
            }
            _ => {}
        }
    }

    fn varbind(&mut self, varbind: &mut Varbind) {
        let below = varbind.name.0.strip_prefix(&SYSTEM_ROOT[..]);
        let system = below.and_then(|rest| {
            let object = rest.first()?;
            SYSTEM.iter().find(|(known, _)| known == object)
        });
        match (&mut varbind.value, system) {
            (SnmpValue::Octets(octets), Some((_, kind))) => {
                let text = String::from_utf8_lossy(&octets.0).into_owned();
                octets.0 = self.name(kind, &text).into_bytes();
            }
            (SnmpValue::Octets(octets), None) if varbind.name.0.starts_with(&SERIAL) => {
                let text = String::from_utf8_lossy(&octets.0).into_owned();
                octets.0 = self.serial(&text).into_bytes();
            }
            (value, _) => self.value(value),
        }
    }
}

/// Masks what is somebody's in a case that was recorded.
pub fn mask(case: &mut Golden) -> Masked {
    let mut book = Book::default();
    for golden in &mut case.calls {
        let Call::Parse(input) = &mut golden.call else {
            continue;
        };
        let device = &mut input.device;
        device.hostname = book.name("names", &device.hostname);
        device.address = "192.0.2.1".to_owned();
        device.os = book.text(&device.os);
        for (name, value) in &mut device.attrs {
            match name.as_str() {
                "location" | "site" => *value = book.name("locations", value),
                "sys_name" => *value = book.name("names", value),
                "tenant" => *value = "default".to_owned(),
                "tag" => *value = book.name("tags", value),
                _ => {}
            }
        }
        match &mut input.payload {
            Payload::Snmp(varbinds) => varbinds.iter_mut().for_each(|v| book.varbind(v)),
            Payload::SnmpTable(table) => {
                for column in &mut table.columns {
                    let is_serial = column.base.0.starts_with(&SERIAL);
                    match &mut column.cells {
                        Cells::Texts(texts) if is_serial => {
                            texts.iter_mut().for_each(|text| *text = book.serial(text));
                        }
                        Cells::Texts(texts) => {
                            texts.iter_mut().for_each(|text| *text = book.text(text));
                        }
                        Cells::Octets(cells) => cells.iter_mut().for_each(|o| book.octets(o)),
                        Cells::Mixed(cells) => cells.iter_mut().for_each(|v| book.value(v)),
                        Cells::Ints(_) | Cells::Uints(_) => {}
                    }
                }
            }
            Payload::Text(text) | Payload::Json(text) => *text = book.text(text),
            Payload::Syslog(_) | Payload::Bytes(_) | Payload::Extension(_) => {}
        }
    }
    Masked {
        values: book.counts,
    }
}

/// Whether it is a netmask: ones, then zeros.
fn is_mask(address: Ipv4Addr) -> bool {
    let bits = u32::from(address);
    bits.leading_ones() + bits.trailing_zeros() == 32
}

fn mac_of(word: &str) -> Option<Vec<u8>> {
    let separator = if word.contains('-') { '-' } else { ':' };
    let pairs: Vec<&str> = word.split(separator).collect();
    if pairs.len() != 6 || pairs.iter().any(|pair| pair.len() != 2) {
        return None;
    }
    let bytes = pairs.iter().map(|pair| u8::from_str_radix(pair, 16).ok());
    bytes.collect()
}

/// Large letters and digits in one word, as serial numbers are.
fn is_serial(word: &str) -> bool {
    let is_inside = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
    let digits = word.chars().filter(char::is_ascii_digit).count();
    word.len() >= SERIAL_LETTERS
        && word.chars().all(is_inside)
        && digits >= 3
        && digits < word.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_somebodys_is_masked_alike_and_what_is_everybodys_stays() {
        let mut book = Book::default();
        let text =
            "AS1234567890, 10.1.2.3 and 10.1.2.3 on 00:0c:29:aa:bb:cc; mask 255.255.255.0 v5.1";
        let masked = book.text(text);
        assert_eq!(
            masked,
            "XX0000000001, 192.0.2.2 and 192.0.2.2 on 02:00:00:00:00:01; mask 255.255.255.0 v5.1"
        );
        assert_eq!(book.counts["addresses"], 1);
        assert_eq!(
            book.text("RouterOS RB750Gr3 Smart-UPS 1500"),
            "RouterOS RB750Gr3 Smart-UPS 1500"
        );
    }

    #[test]
    fn contact_name_and_place_of_a_device_are_masked_by_their_objects() {
        let mut book = Book::default();
        for (object, said) in [
            (4, "contact-1"),
            (5, "name-1"),
            (6, "location-1"),
            (1, "Linux"),
        ] {
            let mut varbind = Varbind {
                name: contract::Oid([&SYSTEM_ROOT[..], &[object, 0]].concat()),
                value: SnmpValue::Octets(Octets(b"Linux".to_vec())),
            };
            book.varbind(&mut varbind);
            assert_eq!(
                varbind.value,
                SnmpValue::Octets(Octets(said.as_bytes().to_vec()))
            );
        }
    }
}
