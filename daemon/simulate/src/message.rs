//! SNMP messages: version 1 (RFC 1157) and 2c (RFC 1901, RFC 3416).
//!
//! Other versions are refused by [`Message::decode`]; an agent stays silent
//! then, as RFC 3411 agents do that do not speak them.

use crate::ber::{self, BerError, Reader};

/// The longest message that a datagram over IPv4 can carry.
pub(crate) const MAX_MESSAGE_BYTES: usize = 65_507;

/// Which protocol a message speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2c,
}

impl Version {
    fn number(self) -> i64 {
        match self {
            Version::V1 => 0,
            Version::V2c => 1,
        }
    }
}

/// What a message wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    GetNext,
    Response,
    Set,
    GetBulk,
}

impl Kind {
    const TAGS: [(Kind, u8); 5] = [
        (Kind::Get, 0xa0),
        (Kind::GetNext, 0xa1),
        (Kind::Response, 0xa2),
        (Kind::Set, 0xa3),
        (Kind::GetBulk, 0xa5),
    ];

    fn tag(self) -> u8 {
        let known = Kind::TAGS.iter().find(|(kind, _)| *kind == self);
        known.expect("every kind has a tag").1
    }

    fn of_tag(tag: u8) -> Option<Kind> {
        let known = Kind::TAGS.iter().find(|(_, known)| *known == tag);
        known.map(|(kind, _)| *kind)
    }
}

/// error-status (RFC 3416 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    TooBig,
    NoSuchName,
    NotWritable,
}

impl Status {
    pub(crate) fn number(self) -> i32 {
        match self {
            Status::TooBig => 1,
            Status::NoSuchName => 2,
            Status::NotWritable => 17,
        }
    }
}

/// What an instance holds, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Integer(i64),
    OctetString(Vec<u8>),
    Null,
    ObjectId(Vec<u32>),
    IpAddress([u8; 4]),
    Counter32(u32),
    Gauge32(u32),
    TimeTicks(u32),
    Opaque(Vec<u8>),
    Counter64(u64),
    NoSuchObject,
    NoSuchInstance,
    EndOfMibView,
}

const IP_ADDRESS: u8 = 0x40;
const COUNTER32: u8 = 0x41;
const GAUGE32: u8 = 0x42;
const TIME_TICKS: u8 = 0x43;
const OPAQUE: u8 = 0x44;
const COUNTER64: u8 = 0x46;
const NO_SUCH_OBJECT: u8 = 0x80;
const NO_SUCH_INSTANCE: u8 = 0x81;
const END_OF_MIB_VIEW: u8 = 0x82;

impl Value {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Value::Integer(number) => ber::put_signed(out, ber::INTEGER, *number),
            Value::OctetString(bytes) => ber::put_value(out, ber::OCTET_STRING, bytes),
            Value::Null => ber::put_header(out, ber::NULL, 0),
            Value::ObjectId(ids) => ber::put_object_id(out, ids),
            Value::IpAddress(octets) => ber::put_value(out, IP_ADDRESS, octets),
            Value::Counter32(number) => ber::put_unsigned(out, COUNTER32, u64::from(*number)),
            Value::Gauge32(number) => ber::put_unsigned(out, GAUGE32, u64::from(*number)),
            Value::TimeTicks(number) => ber::put_unsigned(out, TIME_TICKS, u64::from(*number)),
            Value::Opaque(bytes) => ber::put_value(out, OPAQUE, bytes),
            Value::Counter64(number) => ber::put_unsigned(out, COUNTER64, *number),
            Value::NoSuchObject => ber::put_header(out, NO_SUCH_OBJECT, 0),
            Value::NoSuchInstance => ber::put_header(out, NO_SUCH_INSTANCE, 0),
            Value::EndOfMibView => ber::put_header(out, END_OF_MIB_VIEW, 0),
        }
    }

    fn decode(tag: u8, content: &[u8]) -> Result<Value, BerError> {
        let octets = || <[u8; 4]>::try_from(content).map_err(|_other| BerError::Number);
        Ok(match tag {
            ber::INTEGER => Value::Integer(ber::signed(content)?),
            ber::OCTET_STRING => Value::OctetString(content.to_vec()),
            ber::NULL => Value::Null,
            ber::OBJECT_ID => Value::ObjectId(ber::object_id(content)?),
            IP_ADDRESS => Value::IpAddress(octets()?),
            COUNTER32 => Value::Counter32(unsigned32(content)?),
            GAUGE32 => Value::Gauge32(unsigned32(content)?),
            TIME_TICKS => Value::TimeTicks(unsigned32(content)?),
            OPAQUE => Value::Opaque(content.to_vec()),
            COUNTER64 => Value::Counter64(ber::unsigned(content)?),
            NO_SUCH_OBJECT => Value::NoSuchObject,
            NO_SUCH_INSTANCE => Value::NoSuchInstance,
            END_OF_MIB_VIEW => Value::EndOfMibView,
            found => {
                return Err(BerError::Tag {
                    expected: ber::NULL,
                    found,
                });
            }
        })
    }
}

fn unsigned32(content: &[u8]) -> Result<u32, BerError> {
    u32::try_from(ber::unsigned(content)?).map_err(|_wider| BerError::Number)
}

/// One name and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Varbind {
    pub(crate) oid: Vec<u32>,
    pub(crate) value: Value,
}

/// Why a datagram is not a message for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("not a well-formed message")]
    Malformed(#[from] BerError),
    #[error("version {0} is not spoken here")]
    Version(i32),
    #[error("no request has the tag {0:#04x}")]
    Kind(u8),
}

/// A whole message. In a GETBULK, `status` carries non-repeaters and `index`
/// max-repetitions, as on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) version: Version,
    pub(crate) community: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) request_id: i32,
    pub(crate) status: i32,
    pub(crate) index: i32,
    pub(crate) varbinds: Vec<Varbind>,
}

impl Message {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Message, MessageError> {
        let mut reader = Reader::new(Reader::new(bytes).content(ber::SEQUENCE)?);
        let version = match reader.int32()? {
            0 => Version::V1,
            1 => Version::V2c,
            other => return Err(MessageError::Version(other)),
        };
        let community = reader.content(ber::OCTET_STRING)?.to_vec();
        let (tag, content) = reader.value()?;
        let kind = Kind::of_tag(tag).ok_or(MessageError::Kind(tag))?;
        let mut pdu = Reader::new(content);
        Ok(Message {
            version,
            community,
            kind,
            request_id: pdu.int32()?,
            status: pdu.int32()?,
            index: pdu.int32()?,
            varbinds: varbinds(pdu.content(ber::SEQUENCE)?)?,
        })
    }

    /// The message on the wire: what a manager does, which only tests are.
    #[cfg(test)]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut list = Vec::new();
        for varbind in &self.varbinds {
            put_varbind(&mut list, &mut Vec::new(), &varbind.oid, &varbind.value);
        }
        let head = Head {
            version: self.version,
            community: &self.community,
            kind: self.kind,
            request_id: self.request_id,
            status: self.status,
            index: self.index,
        };
        head.enclose(&list)
    }
}

fn varbinds(content: &[u8]) -> Result<Vec<Varbind>, BerError> {
    let mut list = Reader::new(content);
    let mut read = Vec::new();
    while !list.is_empty() {
        let mut varbind = Reader::new(list.content(ber::SEQUENCE)?);
        let oid = ber::object_id(varbind.content(ber::OBJECT_ID)?)?;
        let (tag, content) = varbind.value()?;
        let value = Value::decode(tag, content)?;
        read.push(Varbind { oid, value });
    }
    Ok(read)
}

/// Writes a varbind; `scratch` is where its inside is put together.
fn put_varbind(out: &mut Vec<u8>, scratch: &mut Vec<u8>, oid: &[u32], value: &Value) {
    scratch.clear();
    ber::put_object_id(scratch, oid);
    value.put(scratch);
    ber::put_value(out, ber::SEQUENCE, scratch);
}

/// Everything of a message but its varbinds.
#[derive(Clone, Copy)]
struct Head<'a> {
    version: Version,
    community: &'a [u8],
    kind: Kind,
    request_id: i32,
    status: i32,
    index: i32,
}

impl Head<'_> {
    /// Bytes of the whole message around a list of `list_len` bytes.
    fn message_len(&self, list_len: usize) -> usize {
        ber::whole_len(self.content_len(list_len))
    }

    fn content_len(&self, list_len: usize) -> usize {
        let version_len = 3;
        version_len + ber::whole_len(self.community.len()) + ber::whole_len(self.pdu_len(list_len))
    }

    fn pdu_len(&self, list_len: usize) -> usize {
        let numbers = [self.request_id, self.status, self.index];
        let numbers_len: usize = numbers.into_iter().map(int32_len).sum();
        numbers_len + ber::whole_len(list_len)
    }

    fn enclose(&self, list: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.message_len(list.len()));
        ber::put_header(&mut out, ber::SEQUENCE, self.content_len(list.len()));
        ber::put_signed(&mut out, ber::INTEGER, self.version.number());
        ber::put_value(&mut out, ber::OCTET_STRING, self.community);
        ber::put_header(&mut out, self.kind.tag(), self.pdu_len(list.len()));
        for number in [self.request_id, self.status, self.index] {
            ber::put_signed(&mut out, ber::INTEGER, i64::from(number));
        }
        ber::put_value(&mut out, ber::SEQUENCE, list);
        out
    }
}

/// Bytes of a whole INTEGER that holds `number`.
fn int32_len(number: i32) -> usize {
    match number {
        -0x80..=0x7f => 3,
        -0x8000..=0x7fff => 4,
        -0x80_0000..=0x7f_ffff => 5,
        _ => 6,
    }
}

/// A response that grows varbind by varbind and never above its limit.
pub(crate) struct Response<'a> {
    head: Head<'a>,
    list: Vec<u8>,
    scratch: Vec<u8>,
    limit: usize,
    count: usize,
}

impl<'a> Response<'a> {
    /// An empty answer to `request` of at most `limit` bytes.
    pub(crate) fn to(request: &'a Message, request_id: i32, limit: usize) -> Response<'a> {
        Response {
            head: Head {
                version: request.version,
                community: &request.community,
                kind: Kind::Response,
                request_id,
                status: 0,
                index: 0,
            },
            list: Vec::with_capacity(limit.min(MAX_MESSAGE_BYTES)),
            scratch: Vec::with_capacity(64),
            limit,
            count: 0,
        }
    }

    /// Adds a varbind if it fits, and says whether it did.
    pub(crate) fn push(&mut self, oid: &[u32], value: &Value) -> bool {
        let before = self.list.len();
        put_varbind(&mut self.list, &mut self.scratch, oid, value);
        let fits = self.head.message_len(self.list.len()) <= self.limit;
        if fits {
            self.count += 1;
        } else {
            self.list.truncate(before);
        }
        fits
    }

    /// How many varbinds are in.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The message on the wire.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.head.enclose(&self.list)
    }

    /// The message on the wire, saying only that it went wrong: with the
    /// request's own varbinds, but with none if they are the trouble.
    pub(crate) fn fail(mut self, request: &Message, status: Status, index: usize) -> Vec<u8> {
        self.head.status = status.number();
        self.head.index = i32::try_from(index).unwrap_or(0);
        self.list.clear();
        let without = status == Status::TooBig && request.version == Version::V2c;
        if !without {
            for varbind in &request.varbinds {
                self.push(&varbind.oid, &varbind.value);
            }
        }
        self.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let oid = prop::collection::vec(any::<u32>(), 0..20)
            .prop_map(|tail| [1, 3].into_iter().chain(tail).collect());
        prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            any::<Vec<u8>>().prop_map(Value::OctetString),
            Just(Value::Null),
            oid.prop_map(Value::ObjectId),
            any::<[u8; 4]>().prop_map(Value::IpAddress),
            any::<u32>().prop_map(Value::Counter32),
            any::<u32>().prop_map(Value::Gauge32),
            any::<u32>().prop_map(Value::TimeTicks),
            any::<Vec<u8>>().prop_map(Value::Opaque),
            any::<u64>().prop_map(Value::Counter64),
            Just(Value::NoSuchObject),
            Just(Value::NoSuchInstance),
            Just(Value::EndOfMibView),
        ]
    }

    prop_compose! {
        fn any_message()(
            v1: bool,
            community: Vec<u8>,
            kind in 0_usize..5,
            numbers: [i32; 3],
            values in prop::collection::vec(any_value(), 0..20),
        ) -> Message {
            let varbinds = values.into_iter().zip(1..)
                .map(|(value, place)| Varbind { oid: vec![1, 3, 6, place], value })
                .collect();
            Message {
                version: if v1 { Version::V1 } else { Version::V2c },
                community,
                kind: Kind::TAGS[kind].0,
                request_id: numbers[0],
                status: numbers[1],
                index: numbers[2],
                varbinds,
            }
        }
    }

    fn request(version: Version) -> Message {
        Message {
            version,
            community: b"public".to_vec(),
            kind: Kind::Get,
            request_id: 77,
            status: 0,
            index: 0,
            varbinds: vec![Varbind {
                oid: vec![1, 3, 6, 1],
                value: Value::Null,
            }],
        }
    }

    proptest! {
        #[test]
        fn messages_come_back(message in any_message()) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn a_cut_message_is_refused(message in any_message(), share in 0.0..1.0) {
            let bytes = message.encode();
            let place = crate::noise::whole(share * bytes.len() as f64);
            let cut = &bytes[..usize::try_from(place).unwrap()];
            prop_assert!(Message::decode(cut).is_err());
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn a_flipped_bit_makes_no_decoding_panic(message in any_message(), bit: usize) {
            let mut bytes = message.encode();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = Message::decode(&bytes);
        }

        #[test]
        fn a_response_never_exceeds_its_limit(values in prop::collection::vec(any_value(), 0..60), limit in 100_usize..1500) {
            let request = request(Version::V2c);
            let mut response = Response::to(&request, 1, limit);
            let fitted = values.iter().take_while(|value| response.push(&[1, 3, 6, 1, 9], value)).count();
            prop_assert_eq!(response.count(), fitted);
            let bytes = response.finish();
            prop_assert!(bytes.len() <= limit);
            prop_assert_eq!(Message::decode(&bytes).unwrap().varbinds.len(), fitted);
        }
    }

    #[test]
    fn version_3_is_not_spoken() {
        let mut bytes = request(Version::V2c).encode();
        bytes[4] = 3;
        assert_eq!(Message::decode(&bytes), Err(MessageError::Version(3)));
    }

    #[test]
    fn too_big_comes_without_varbinds_in_v2c_and_with_them_in_v1() {
        for (version, expected) in [(Version::V1, 1), (Version::V2c, 0)] {
            let request = request(version);
            let bytes = Response::to(&request, 77, 1472).fail(&request, Status::TooBig, 0);
            let answer = Message::decode(&bytes).unwrap();
            assert_eq!((answer.status, answer.varbinds.len()), (1, expected));
        }
    }
}
