//! Messages on the wire (RFC 1901, RFC 3416).
//!
//! Answers are read with snmp2's ASN.1 reader, by its methods and not by its
//! iterators: those end in silence at a value they cannot read, which in a walk
//! looks like the end of a table. Requests are written here, into a buffer that
//! is used again: snmp2 keeps its builder to itself.

use model::SnmpValue;
use snmp2::asn1::{self, AsnReader};
use snmp2::snmp;

use super::oid;

/// What goes around a PDU and lets us in. SNMPv1 and SNMPv3 are further
/// variants: they differ in this layer, and in nothing below it.
#[derive(Clone, Copy)]
pub(super) enum Security<'a> {
    /// RFC 1901: a community in clear.
    V2c {
        /// As bytes on the wire.
        community: &'a [u8],
    },
}

/// The version number of SNMPv2c in a message.
const VERSION_2C: i64 = 1;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// These instances.
    Get,
    /// What follows each of these, so many times over.
    GetBulk {
        /// The most rows to answer.
        max_repetitions: u16,
    },
}

/// Bytes of an answer besides its varbinds, with a community of usual length.
pub(super) const OVERHEAD: usize = 64;

/// Bytes of a varbind besides its OID's contents and its value's: three headers.
pub(super) const VARBIND_OVERHEAD: usize = 6;

/// Writes a request for `oids`, each the contents of an OBJECT IDENTIFIER, over
/// what `out` held.
pub(super) fn write<'a>(
    out: &mut Vec<u8>,
    security: Security<'_>,
    request_id: i32,
    ask: Ask,
    oids: impl Iterator<Item = &'a [u8]> + Clone,
) {
    let Security::V2c { community } = security;
    let (tag, max_repetitions) = match ask {
        Ask::Get => (snmp::MSG_GET, 0),
        Ask::GetBulk { max_repetitions } => (snmp::MSG_GET_BULK, i32::from(max_repetitions)),
    };
    let null = 2;
    let varbind = |oid: &[u8]| tlv(oid.len()) + null;
    let varbinds: usize = oids.clone().map(|oid| tlv(varbind(oid))).sum();
    let pdu =
        tlv(integer(request_id)) + tlv(integer(0)) + tlv(integer(max_repetitions)) + tlv(varbinds);
    let message = tlv(1) + tlv(community.len()) + tlv(pdu);

    out.clear();
    put_header(out, asn1::TYPE_SEQUENCE, message);
    put_header(out, asn1::TYPE_INTEGER, 1);
    out.push(VERSION_2C.to_be_bytes()[7]);
    put_header(out, asn1::TYPE_OCTETSTRING, community.len());
    out.extend_from_slice(community);
    put_header(out, tag, pdu);
    put_integer(out, request_id);
    put_integer(out, 0);
    put_integer(out, max_repetitions);
    put_header(out, asn1::TYPE_SEQUENCE, varbinds);
    for oid in oids {
        put_header(out, asn1::TYPE_SEQUENCE, varbind(oid));
        put_header(out, asn1::TYPE_OBJECTIDENTIFIER, oid.len());
        out.extend_from_slice(oid);
        put_header(out, asn1::TYPE_NULL, 0);
    }
}

/// The whole length of an element with `contents` bytes.
fn tlv(contents: usize) -> usize {
    let length_bytes = match contents {
        0..0x80 => 1,
        0x80..0x100 => 2,
        _ => 3,
    };
    1 + length_bytes + contents
}

/// A request never comes near 64 KiB: it has at most a few dozen OIDs.
fn put_header(out: &mut Vec<u8>, tag: u8, contents: usize) {
    let contents = u16::try_from(contents).expect("requests are short");
    let [high, low] = contents.to_be_bytes();
    out.push(tag);
    match contents {
        0..0x80 => out.push(low),
        0x80..0x100 => out.extend([0x81, low]),
        _ => out.extend([0x82, high, low]),
    }
}

/// The contents' length of an INTEGER that is not negative.
fn integer(number: i32) -> usize {
    let bits = 33 - usize::try_from(number.leading_zeros()).unwrap_or(0);
    bits.div_ceil(8).clamp(1, 4)
}

fn put_integer(out: &mut Vec<u8>, number: i32) {
    let length = integer(number);
    put_header(out, asn1::TYPE_INTEGER, length);
    out.extend_from_slice(&number.to_be_bytes()[4 - length..]);
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl From<snmp2::Error> for Malformed {
    fn from(_: snmp2::Error) -> Malformed {
        Malformed("an element is cut short or of the wrong type")
    }
}

/// An answer, its varbinds unread.
#[derive(Clone)]
pub(super) struct Response<'a> {
    pub(super) request_id: i32,
    pub(super) error_status: u32,
    pub(super) error_index: usize,
    varbinds: AsnReader<'a>,
}

/// Reads a message as far as its varbinds.
pub(super) fn read(datagram: &[u8]) -> Result<Response<'_>, Malformed> {
    let message = AsnReader::from_bytes(datagram).read_raw(asn1::TYPE_SEQUENCE)?;
    let mut message = AsnReader::from_bytes(message);
    if message.read_asn_integer()? != VERSION_2C {
        return Err(Malformed("it is of another SNMP version"));
    }
    let _community = message.read_asn_octetstring()?;
    if message.peek_byte()? != snmp::MSG_RESPONSE {
        return Err(Malformed("it is not a response"));
    }
    let mut pdu = AsnReader::from_bytes(message.read_raw(snmp::MSG_RESPONSE)?);
    let request_id = i32::try_from(pdu.read_asn_integer()?)
        .map_err(|_| Malformed("its request-id has more than 32 bits"))?;
    let error_status = u32::try_from(pdu.read_asn_integer()?)
        .map_err(|_| Malformed("its error-status is no number"))?;
    let error_index = usize::try_from(pdu.read_asn_integer()?)
        .map_err(|_| Malformed("its error-index is no number"))?;
    let varbinds = AsnReader::from_bytes(pdu.read_raw(asn1::TYPE_SEQUENCE)?);
    Ok(Response {
        request_id,
        error_status,
        error_index,
        varbinds,
    })
}

/// What an agent says of one instance.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Binding {
    /// Its value.
    Value(SnmpValue),
    /// noSuchObject or noSuchInstance.
    Absent,
    /// endOfMibView.
    End,
}

impl<'a> Response<'a> {
    /// Takes the next varbind: the contents of its OID, and what is bound to it.
    pub(super) fn next(&mut self) -> Option<Result<(&'a [u8], Binding), Malformed>> {
        if self.varbinds.bytes_left() == 0 {
            return None;
        }
        let varbind = self.read_varbind();
        if varbind.is_err() {
            // what follows cannot be told apart any more
            self.varbinds = AsnReader::from_bytes(&[]);
        }
        Some(varbind)
    }

    fn read_varbind(&mut self) -> Result<(&'a [u8], Binding), Malformed> {
        let mut pair = AsnReader::from_bytes(self.varbinds.read_raw(asn1::TYPE_SEQUENCE)?);
        let name = pair.read_raw(asn1::TYPE_OBJECTIDENTIFIER)?;
        let binding = read_binding(&mut pair)?;
        if pair.bytes_left() > 0 {
            return Err(Malformed("a varbind goes on after its value"));
        }
        Ok((name, binding))
    }
}

fn read_binding(pair: &mut AsnReader<'_>) -> Result<Binding, Malformed> {
    let tag = pair.peek_byte()?;
    let value = match tag {
        asn1::TYPE_INTEGER => SnmpValue::Integer(pair.read_asn_integer()?),
        asn1::TYPE_OCTETSTRING => SnmpValue::Octets(pair.read_raw(tag)?.into()),
        asn1::TYPE_OBJECTIDENTIFIER => {
            let contents = pair.read_raw(tag)?;
            // empty: some agents say "none" so
            if !contents.is_empty() && !oid::is_valid(contents) {
                return Err(Malformed("a value is an impossible OID"));
            }
            SnmpValue::ObjectId(oid::decode(contents))
        }
        asn1::TYPE_NULL => {
            pair.read_asn_null()?;
            SnmpValue::Null
        }
        snmp::TYPE_IPADDRESS => SnmpValue::IpAddress(pair.read_snmp_ipaddress()?),
        snmp::TYPE_COUNTER32 => SnmpValue::Counter32(read_u32(pair, tag)?),
        snmp::TYPE_GAUGE32 => SnmpValue::Gauge32(read_u32(pair, tag)?),
        snmp::TYPE_TIMETICKS => SnmpValue::TimeTicks(read_u32(pair, tag)?),
        snmp::TYPE_COUNTER64 => SnmpValue::Counter64(pair.read_snmp_counter64()?),
        snmp::TYPE_OPAQUE => SnmpValue::Opaque(pair.read_raw(tag)?.into()),
        snmp::SNMP_NOSUCHOBJECT | snmp::SNMP_NOSUCHINSTANCE => {
            pair.read_raw(tag)?;
            return Ok(Binding::Absent);
        }
        snmp::SNMP_ENDOFMIBVIEW => {
            pair.read_raw(tag)?;
            return Ok(Binding::End);
        }
        _ => return Err(Malformed("a value is of an unknown type")),
    };
    Ok(Binding::Value(value))
}

/// A 32-bit number. Some agents leave out the leading zero of a large one, so
/// that it reads as negative; anything else that does not fit is refused, where
/// snmp2 would cut it off.
fn read_u32(pair: &mut AsnReader<'_>, tag: u8) -> Result<u32, Malformed> {
    let number = pair.read_i64_type(tag)?;
    let bits = if number < 0 {
        i32::try_from(number).map(i32::cast_unsigned)
    } else {
        u32::try_from(number)
    };
    bits.map_err(|_| Malformed("a 32-bit value has more than 32 bits"))
}

/// The error-statuses that mean something for how to go on (RFC 3416 §3).
pub(super) mod status {
    pub(in super::super) use snmp2::snmp::{
        ERRSTATUS_AUTHORIZATIONERROR as AUTHORIZATION_ERROR, ERRSTATUS_GENERR as GEN_ERR,
        ERRSTATUS_NOACCESS as NO_ACCESS, ERRSTATUS_NOERROR as NO_ERROR,
        ERRSTATUS_NOSUCHNAME as NO_SUCH_NAME, ERRSTATUS_TOOBIG as TOO_BIG,
    };
}

/// An error-status' name (RFC 3416 §3).
pub(super) fn error_name(status: u32) -> &'static str {
    const NAMES: [&str; 19] = [
        "noError",
        "tooBig",
        "noSuchName",
        "badValue",
        "readOnly",
        "genErr",
        "noAccess",
        "wrongType",
        "wrongLength",
        "wrongEncoding",
        "wrongValue",
        "noCreation",
        "inconsistentValue",
        "resourceUnavailable",
        "commitFailed",
        "undoFailed",
        "authorizationError",
        "notWritable",
        "inconsistentName",
    ];
    let place = usize::try_from(status).unwrap_or(usize::MAX);
    NAMES.get(place).copied().unwrap_or("an unknown error")
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn a_request_is_what_snmp2_reads() {
        let community = vec![b'c'; 200];
        for (request_id, oids) in [(1, 1), (127, 2), (128, 12), (i32::MAX, 40)] {
            let column =
                oid::encode(&"1.3.6.1.2.1.31.1.1.1.6.4294967295".parse().unwrap()).unwrap();
            let columns = vec![column; oids];
            let mut out = vec![1, 2, 3];
            let ask = Ask::GetBulk {
                max_repetitions: 300,
            };
            let security = Security::V2c {
                community: &community,
            };
            let slices = columns.iter().map(Vec::as_slice);
            write(&mut out, security, request_id, ask, slices);

            let pdu = snmp2::Pdu::from_bytes(&out).unwrap();
            assert_eq!(pdu.message_type, snmp2::MessageType::GetBulkRequest);
            assert_eq!(
                (pdu.community, pdu.req_id),
                (community.as_slice(), request_id)
            );
            assert_eq!((pdu.error_status, pdu.error_index), (0, 300));
            assert_eq!(pdu.varbinds.count(), oids);
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_is_an_error_and_not_an_end() {
        let name = fake::oid("1.3.6.1.2.1.1.3.0");
        let good = fake::varbind(&name, &fake::value(&SnmpValue::TimeTicks(7)));
        // a 32-bit counter of 41 bits; a float; an indefinite length
        for bad in [
            vec![0x41, 6, 1, 0, 0, 0, 0, 0],
            vec![0x48, 4, 0, 0, 0, 0],
            vec![0x04, 0x80, 0, 0],
        ] {
            let varbinds = [good.clone(), fake::varbind(&name, &bad), good.clone()];
            let datagram = fake::response(b"public", 7, 0, 0, &varbinds);
            let mut response = read(&datagram).unwrap();
            assert!(response.next().unwrap().is_ok());
            assert!(response.next().unwrap().is_err(), "{bad:x?}");
            assert!(response.next().is_none());
        }
    }

    #[test]
    fn a_large_gauge_without_its_leading_zero_is_no_negative_number() {
        let name = fake::oid("1.3.6.1.2.1.2.2.1.5.1");
        let bare = fake::varbind(&name, &[0x42, 4, 0xff, 0xff, 0xff, 0xff]);
        let datagram = fake::response(b"public", 7, 0, 0, &[bare]);
        let (_, binding) = read(&datagram).unwrap().next().unwrap().unwrap();
        assert_eq!(binding, Binding::Value(SnmpValue::Gauge32(u32::MAX)));
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let values = [
            SnmpValue::Integer(-7),
            SnmpValue::Octets(b"a\0b".as_slice().into()),
            SnmpValue::ObjectId("1.3.6.1.4.1.9.1.1".parse().unwrap()),
            SnmpValue::IpAddress([10, 0, 0, 1]),
            SnmpValue::Counter32(u32::MAX),
            SnmpValue::Gauge32(0),
            SnmpValue::TimeTicks(128),
            SnmpValue::Counter64(u64::MAX),
            SnmpValue::Opaque([0x9f, 0x78].as_slice().into()),
            SnmpValue::Null,
        ];
        let name = fake::oid("1.3.6.1.2.1.1.3.0");
        let varbinds: Vec<Vec<u8>> = values
            .iter()
            .map(|value| fake::varbind(&name, &fake::value(value)))
            .collect();
        let datagram = fake::response(b"public", -5, 0, 0, &varbinds);
        let mut response = read(&datagram).unwrap();
        assert_eq!(response.request_id, -5);
        for value in values {
            let (_, binding) = response.next().unwrap().unwrap();
            assert_eq!(binding, Binding::Value(value));
        }
    }

    #[test]
    fn garbage_is_refused_and_never_read_past_its_end() {
        let mut random = fake::Random(7);
        let name = fake::oid("1.3.6.1.2.1.1.3.0");
        let varbind = fake::varbind(&name, &fake::value(&SnmpValue::Counter64(1 << 63)));
        let valid = fake::response(b"public", 77, 0, 0, &vec![varbind; 5]);
        for round in 0..20_000 {
            let datagram = if round % 2 == 0 {
                random.bytes(round % 300)
            } else {
                random.mutated(&valid)
            };
            if let Ok(mut response) = read(&datagram) {
                let mut seen = 0;
                while response.next().is_some() {
                    seen += 1;
                    assert!(seen <= datagram.len(), "a varbind takes bytes");
                }
            }
        }
    }
}
