//! What of a recording is nobody's business: names, places, addresses, serial
//! numbers. The same value gets the same mask throughout, so that what a plugin
//! does with it stays the same.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use contract::{
    Answer, Ask, Call, Cells, Device, Octets, Payload, SnmpValue, SyslogMessage, Table, Varbind,
};
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

/// Addresses that are nobody's (RFC 5737, 2544 and 1112), and how many: the first
/// of all is the device's own.
const NOBODYS: [(Ipv4Addr, usize); 5] = [
    (Ipv4Addr::new(192, 0, 2, 2), 253),
    (Ipv4Addr::new(198, 51, 100, 1), 254),
    (Ipv4Addr::new(203, 0, 113, 1), 254),
    (Ipv4Addr::new(198, 18, 0, 1), 131_070),
    (Ipv4Addr::new(240, 0, 0, 1), 268_435_454),
];

const SECRET_HEADERS: [&str; 5] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "x-api-key",
];

/// What stands between words, beside spaces and control characters.
const BETWEEN: &str = ",;/=()[]{}<>|\"'`@%";

fn is_between(c: char) -> bool {
    c.is_whitespace() || c.is_control() || BETWEEN.contains(c)
}

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

    /// An address that is nobody's in the place of a real one. Those that mean
    /// something everywhere stay.
    fn address(&mut self, address: Ipv4Addr) -> Ipv4Addr {
        if address.is_loopback()
            || address.is_unspecified()
            || address.is_broadcast()
            || is_mask(address)
        {
            return address;
        }
        nobodys(self.number("addresses", &address.octets()) - 1)
    }

    /// The same for IPv6, within the documentation's prefix (RFC 3849); what is
    /// of one link alone stays so.
    fn address_v6(&mut self, address: Ipv6Addr) -> Ipv6Addr {
        if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
            return address;
        }
        if let Some(inner) = address.to_ipv4_mapped() {
            return self.address(inner).to_ipv6_mapped();
        }
        let number = self.number("IPv6 addresses", &address.octets()) as u128;
        let prefix: u128 = match address.is_unicast_link_local() {
            true => 0xfe80 << 112,
            false => 0x2001_0db8 << 96,
        };
        Ipv6Addr::from(prefix + number)
    }

    fn mac(&mut self, mac: &[u8]) -> Vec<u8> {
        let number = self.number("MAC addresses", mac);
        let number = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        // locally administered, so that it is nobody's
        [&[0x02, 0x00][..], &number].concat()
    }

    fn text(&mut self, text: &str) -> String {
        let words = text.split_inclusive(is_between);
        words.map(|word| self.word(word)).collect()
    }

    fn word(&mut self, word: &str) -> String {
        let bare = word.trim_end_matches(is_between);
        let masked = self.known(bare).or_else(|| self.parts(bare));
        masked.unwrap_or_else(|| bare.to_owned()) + &word[bare.len()..]
    }

    /// An address at the end of a sentence, or with a port or a word at it.
    fn parts(&mut self, word: &str) -> Option<String> {
        let inner = word.trim_end_matches(['.', ':']);
        let end = &word[inner.len()..];
        if !end.is_empty()
            && let Some(masked) = self.known(inner)
        {
            return Some(masked + end);
        }
        let (before, after) = inner.split_once(':')?;
        if let Some(masked) = self.known(after) {
            return Some(format!("{before}:{masked}{end}"));
        }
        let masked = self.known(before)?;
        Some(format!("{masked}:{after}{end}"))
    }

    fn known(&mut self, word: &str) -> Option<String> {
        if let Ok(address) = word.parse::<Ipv4Addr>() {
            Some(self.address(address).to_string())
        } else if let Some(mac) = mac_of(word) {
            let separator = if word.contains('-') { "-" } else { ":" };
            let pairs = self.mac(&mac).into_iter().map(|byte| format!("{byte:02x}"));
            Some(pairs.collect::<Vec<_>>().join(separator))
        } else if let Ok(address) = word.parse::<Ipv6Addr>() {
            Some(self.address_v6(address).to_string())
        } else {
            is_serial(word).then(|| self.serial(word))
        }
    }

    /// As long and as mixed as it was.
    fn serial(&mut self, serial: &str) -> String {
        if serial.is_empty() {
            return String::new();
        }
        let number = self.number("serial numbers", serial.as_bytes());
        let mut digits = format!("{number:0width$}", width = serial.len()).into_bytes();
        for (digit, original) in digits.iter_mut().zip(serial.bytes()) {
            if original.is_ascii_alphabetic() && *digit == b'0' {
                *digit = b'X';
            }
        }
        String::from_utf8(digits).unwrap_or_default()
    }

    /// Text, or what of it stands between other bytes; six other bytes are a MAC
    /// address, sixteen that begin as one an IPv6 address.
    fn octets(&mut self, octets: &mut Octets) {
        let is_text = std::str::from_utf8(&octets.0).is_ok_and(|text| {
            let is_odd = |c: char| c.is_control() && !c.is_whitespace();
            !text.trim_end_matches('\0').chars().any(is_odd)
        });
        let address = <[u8; 16]>::try_from(octets.0.as_slice());
        let address = address.ok().map(Ipv6Addr::from).filter(is_somebodys);
        octets.0 = match (is_text, address) {
            (false, _) if octets.0.len() == 6 => self.mac(&octets.0),
            (false, Some(address)) => self.address_v6(address).octets().to_vec(),
            _ => {
                let runs = octets.0.chunk_by(|a, b| a.is_ascii() == b.is_ascii());
                let masked = runs.map(|run| match std::str::from_utf8(run) {
                    Ok(text) if text.is_ascii() => self.text(text).into_bytes(),
                    _ => run.to_vec(),
                });
                masked.collect::<Vec<_>>().concat()
            }
        };
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

    fn device(&mut self, device: &mut Device) {
        device.hostname = self.name("names", &device.hostname);
        device.address = "192.0.2.1".to_owned();
        device.os = self.text(&device.os);
        for (name, value) in &mut device.attrs {
            match name.as_str() {
                "location" | "site" => *value = self.name("locations", value),
                "sys_name" => *value = self.name("names", value),
                "tenant" => *value = "default".to_owned(),
                "tag" => *value = self.name("tags", value),
                _ => {}
            }
        }
    }

    fn payload(&mut self, payload: &mut Payload) {
        match payload {
            Payload::Snmp(varbinds) => varbinds.iter_mut().for_each(|v| self.varbind(v)),
            Payload::SnmpTable(table) => self.table(table),
            Payload::Text(text) | Payload::Json(text) => *text = self.text(text),
            Payload::Syslog(message) => self.syslog(message),
            Payload::Bytes(octets) => self.octets(octets),
            Payload::Extension(extension) => extension.body = self.text(&extension.body),
        }
    }

    fn table(&mut self, table: &mut Table) {
        for column in &mut table.columns {
            let is_serial = column.base.0.starts_with(&SERIAL);
            match &mut column.cells {
                Cells::Texts(texts) if is_serial => {
                    texts.iter_mut().for_each(|text| *text = self.serial(text));
                }
                Cells::Texts(texts) => {
                    texts.iter_mut().for_each(|text| *text = self.text(text));
                }
                Cells::Octets(cells) => cells.iter_mut().for_each(|o| self.octets(o)),
                Cells::Mixed(cells) => cells.iter_mut().for_each(|v| self.value(v)),
                Cells::Ints(_) | Cells::Uints(_) => {}
            }
        }
    }

    fn syslog(&mut self, message: &mut SyslogMessage) {
        message.hostname = self.name("names", &message.hostname);
        message.message = self.text(&message.message);
        for (_, value) in &mut message.structured {
            *value = self.text(value);
        }
    }

    /// What a poller asked. Questions about objects are nobody's, and have to
    /// stay those that the plugin asks.
    fn ask(&mut self, ask: &mut Ask) {
        match ask {
            Ask::Cli(text) => *text = self.text(text),
            Ask::Http(request) => {
                request.url = self.text(&request.url);
                self.headers(&mut request.headers);
                request.body.iter_mut().for_each(|body| self.octets(body));
            }
            Ask::Extension(extension) => extension.body = self.text(&extension.body),
            Ask::SnmpGet(_) | Ask::SnmpWalk(_) | Ask::SnmpTable(_) => {}
        }
    }

    fn answer(&mut self, answer: &mut Answer) {
        match answer {
            Answer::Snmp(varbinds) => varbinds.iter_mut().for_each(|v| self.varbind(v)),
            Answer::SnmpTable(table) => self.table(table),
            Answer::Text(text) | Answer::Error(text) => *text = self.text(text),
            Answer::Http(response) => {
                self.headers(&mut response.headers);
                self.octets(&mut response.body);
            }
            Answer::Extension(extension) => extension.body = self.text(&extension.body),
        }
    }

    /// Who signs in and what a session is called is nobody's business at all.
    fn headers(&mut self, headers: &mut [(String, String)]) {
        for (name, value) in headers {
            let is_secret = SECRET_HEADERS
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known));
            *value = match is_secret {
                true => self.name("credentials", value),
                false => self.text(value),
            };
        }
    }
}

/// Masks what is somebody's in a case that was recorded.
pub fn mask(case: &mut Golden) -> Masked {
    let mut book = Book::default();
    for golden in &mut case.calls {
        match &mut golden.call {
            Call::Parse(input) => {
                book.device(&mut input.device);
                book.payload(&mut input.payload);
            }
            Call::Start { device } => book.device(device),
            Call::Resume {
                device, answers, ..
            } => {
                book.device(device);
                for (ask, answer) in answers {
                    book.ask(ask);
                    book.answer(answer);
                }
            }
            // these are not recorded
            _ => {}
        }
    }
    Masked {
        values: book.counts,
    }
}

fn nobodys(mut place: usize) -> Ipv4Addr {
    for (first, count) in NOBODYS {
        if let Ok(offset) = u32::try_from(place)
            && place < count
        {
            return Ipv4Addr::from(u32::from(first).saturating_add(offset));
        }
        place -= count.min(place);
    }
    Ipv4Addr::BROADCAST
}

/// Whether sixteen bytes look like an address that is used somewhere: of the
/// whole network (2000::/3), of a site (fc00::/7) or of a link.
fn is_somebodys(address: &Ipv6Addr) -> bool {
    let first = address.segments()[0];
    first >> 13 == 1 || address.is_unique_local() || address.is_unicast_link_local()
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

    fn octets(book: &mut Book, bytes: &[u8]) -> Vec<u8> {
        let mut octets = Octets(bytes.to_vec());
        book.octets(&mut octets);
        octets.0
    }

    #[test]
    fn addresses_are_found_between_whatever_stands_around_them() {
        let mut book = Book::default();
        for (text, masked) in [
            ("a\r\nb 10.1.2.3\tc", "a\r\nb 192.0.2.2\tc"),
            (r#"{"ip":"10.1.2.3"}"#, r#"{"ip":"192.0.2.2"}"#),
            (
                "at 10.1.2.3. or 10.1.2.3:443 or ip:10.1.2.3",
                "at 192.0.2.2. or 192.0.2.2:443 or ip:192.0.2.2",
            ),
            (
                "https://[2a00:1::5]:443/x fe80::c2ff:fe12%eth0",
                "https://[2001:db8::1]:443/x fe80::2%eth0",
            ),
            (
                "::1 ff02::1 ::ffff:10.1.2.3 12:30:15",
                "::1 ff02::1 ::ffff:192.0.2.2 12:30:15",
            ),
        ] {
            assert_eq!(book.text(text), masked);
        }
    }

    #[test]
    fn octets_with_control_characters_are_masked_and_other_bytes_stay() {
        let mut book = Book::default();
        let masked = octets(&mut book, b"Cisco\r\nAS1234567890\0");
        assert_eq!(masked, b"Cisco\r\nXX0000000001\0");
        let masked = octets(&mut book, b"\x01\xff10.1.2.3\xe9");
        assert_eq!(masked, b"\x01\xff192.0.2.2\xe9");
        assert_eq!(
            octets(&mut book, &[0x00, 0x0c, 0x29, 1, 2, 3]),
            [2, 0, 0, 0, 0, 1]
        );
        assert_eq!(octets(&mut book, &[7, 0, 1, 2]), [7, 0, 1, 2]);
        let address: Ipv6Addr = "2a00:1::5".parse().unwrap();
        let nobodys: Ipv6Addr = "2001:db8::1".parse().unwrap();
        assert_eq!(octets(&mut book, &address.octets()), nobodys.octets());
    }

    #[test]
    fn no_two_addresses_get_the_same_mask() {
        let mut book = Book::default();
        let masks: std::collections::BTreeSet<Ipv4Addr> = (0..140_000)
            .map(|n| book.address(Ipv4Addr::from(0x0a00_0000 + n)))
            .collect();
        assert_eq!(masks.len(), 140_000);
        assert!(!masks.contains(&Ipv4Addr::new(192, 0, 2, 1)), "the device");
    }

    #[test]
    fn what_a_poller_is_answered_is_masked_with_the_device() {
        let device = Device {
            id: "7".to_owned(),
            hostname: "core1".to_owned(),
            address: "10.1.2.3".to_owned(),
            vendor: String::new(),
            model: String::new(),
            os: String::new(),
            os_version: String::new(),
            attrs: Vec::new(),
        };
        let response = contract::HttpResponse {
            status: 200,
            headers: vec![("Set-Cookie".to_owned(), "session=abc".to_owned())],
            body: Octets(br#"{"peer":"10.9.9.9"}"#.to_vec()),
        };
        let answers = vec![
            (Ask::Cli("show".to_owned()), Answer::Http(response)),
            (
                Ask::SnmpWalk(contract::Oid(vec![1, 3])),
                Answer::Text("up\n10.9.9.9".to_owned()),
            ),
        ];
        let call = Call::Resume {
            device,
            round: 1,
            answers,
        };
        let mut case = Golden {
            name: "x".to_owned(),
            calls: vec![package::GoldenCall {
                now: contract::Nanos(0),
                call,
                expect: None,
            }],
            settings: BTreeMap::new(),
            host: Vec::new(),
        };
        let masked = mask(&mut case);
        let said = case.to_json();
        for real in ["core1", "10.1.2.3", "10.9.9.9", "session=abc"] {
            assert!(!said.contains(real), "{real} in {said}");
        }
        assert_eq!(masked.values["addresses"], 1);
    }
}
