//! Agents for tests: an encoder of our own, so that a mistake in the decoder
//! is not hidden by the same one in the encoder, and responders that misbehave.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use model::{Oid, SnmpValue};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

pub(super) fn oid(text: &str) -> Oid {
    text.parse().unwrap()
}

pub(super) fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = contents.len();
    if length < 128 {
        out.push(u8::try_from(length).unwrap());
    } else {
        out.push(0x82);
        out.extend(u16::try_from(length).unwrap().to_be_bytes());
    }
    out.extend(contents);
    out
}

fn number(tag: u8, number: i128) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let mut start = 0;
    while start < 15 {
        let sign = if bytes[start + 1] & 0x80 == 0 {
            0
        } else {
            0xff
        };
        if bytes[start] != sign {
            break;
        }
        start += 1;
    }
    element(tag, &bytes[start..])
}

fn name(oid: &Oid) -> Vec<u8> {
    let mut numbers = vec![oid.0[0] * 40 + oid.0[1]];
    numbers.extend(&oid.0[2..]);
    let mut contents = Vec::new();
    for number in numbers {
        let mut groups = vec![u8::try_from(number & 0x7f).unwrap()];
        let mut rest = number >> 7;
        while rest > 0 {
            groups.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        contents.extend(groups.iter().rev());
    }
    element(0x06, &contents)
}

pub(super) fn value(value: &SnmpValue) -> Vec<u8> {
    match value {
        SnmpValue::Integer(n) => number(0x02, i128::from(*n)),
        SnmpValue::Octets(bytes) => element(0x04, bytes),
        SnmpValue::ObjectId(oid) => name(oid),
        SnmpValue::IpAddress(bytes) => element(0x40, bytes),
        SnmpValue::Counter32(n) => number(0x41, i128::from(*n)),
        SnmpValue::Gauge32(n) => number(0x42, i128::from(*n)),
        SnmpValue::TimeTicks(n) => number(0x43, i128::from(*n)),
        SnmpValue::Counter64(n) => number(0x46, i128::from(*n)),
        SnmpValue::Opaque(bytes) => element(0x44, bytes),
        SnmpValue::Null => element(0x05, &[]),
    }
}

pub(super) const NO_SUCH_INSTANCE: [u8; 2] = [0x81, 0];
pub(super) const END_OF_MIB_VIEW: [u8; 2] = [0x82, 0];

pub(super) fn varbind(oid: &Oid, value: &[u8]) -> Vec<u8> {
    element(0x30, &[name(oid), value.to_vec()].concat())
}

pub(super) fn response(
    community: &[u8],
    request_id: i32,
    error_status: i32,
    error_index: i32,
    varbinds: &[Vec<u8>],
) -> Vec<u8> {
    let pdu = [
        number(0x02, i128::from(request_id)),
        number(0x02, i128::from(error_status)),
        number(0x02, i128::from(error_index)),
        element(0x30, &varbinds.concat()),
    ];
    let message = [
        number(0x02, 1),
        element(0x04, community),
        element(0xa2, &pdu.concat()),
    ];
    element(0x30, &message.concat())
}

/// A small generator, seeded, so that a failure can be repeated.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit.max(1)).unwrap()).unwrap()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }

    /// `valid` with some bytes changed, dropped or repeated.
    pub(super) fn mutated(&mut self, valid: &[u8]) -> Vec<u8> {
        let mut bytes = valid.to_vec();
        for _ in 0..=self.below(4) {
            let place = self.below(bytes.len());
            match self.below(4) {
                0 => bytes.truncate(place),
                1 if place < bytes.len() => drop(bytes.remove(place)),
                2 => bytes.insert(place, self.byte()),
                _ if place < bytes.len() => bytes[place] = self.byte(),
                _ => {}
            }
        }
        bytes
    }
}

/// A request as an agent sees it.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) is_bulk: bool,
    pub(super) request_id: i32,
    pub(super) max_repetitions: usize,
    pub(super) oids: Vec<Oid>,
    pub(super) community: Vec<u8>,
}

impl Request {
    pub(super) fn read(datagram: &[u8]) -> Request {
        let pdu = snmp2::Pdu::from_bytes(datagram).expect("our requests are valid");
        let is_bulk = pdu.message_type == snmp2::MessageType::GetBulkRequest;
        let oids = pdu.varbinds.clone().map(|(name, _)| {
            let numbers = name.iter().expect("short numbers");
            Oid(numbers
                .map(|number| u32::try_from(number).unwrap())
                .collect())
        });
        Request {
            is_bulk,
            request_id: pdu.req_id,
            max_repetitions: usize::try_from(pdu.error_index).unwrap(),
            oids: oids.collect(),
            community: pdu.community.to_vec(),
        }
    }

    pub(super) fn answer(&self, varbinds: &[Vec<u8>]) -> Vec<u8> {
        response(&self.community, self.request_id, 0, 0, varbinds)
    }

    pub(super) fn error(&self, status: i32, index: i32) -> Vec<u8> {
        let echoed: Vec<Vec<u8>> = self
            .oids
            .iter()
            .map(|oid| varbind(oid, &value(&SnmpValue::Null)))
            .collect();
        response(&self.community, self.request_id, status, index, &echoed)
    }
}

/// Everything an agent has.
pub(super) type Mib = BTreeMap<Oid, SnmpValue>;

/// A table of `rows` rows in `columns`, each cell telling its place.
pub(super) fn table(columns: &[Oid], rows: u32) -> Mib {
    let mut mib = Mib::new();
    for (place, column) in columns.iter().enumerate() {
        for row in 1..=rows {
            let mut cell = column.clone();
            cell.0.push(row);
            let number = u64::from(row) * 100 + u64::try_from(place).unwrap();
            mib.insert(cell, SnmpValue::Counter64(number));
        }
    }
    mib
}

/// Answers as an agent should.
pub(super) fn honest(mib: &Mib, request: &Request) -> Vec<u8> {
    let mut varbinds = Vec::new();
    if !request.is_bulk {
        for oid in &request.oids {
            let bound = mib.get(oid).map(value);
            varbinds.push(varbind(oid, &bound.unwrap_or(NO_SUCH_INSTANCE.to_vec())));
        }
        return request.answer(&varbinds);
    }
    let mut cursors = request.oids.clone();
    for _ in 0..request.max_repetitions {
        for cursor in &mut cursors {
            use std::ops::Bound::{Excluded, Unbounded};
            let next = mib.range((Excluded(cursor.clone()), Unbounded)).next();
            varbinds.push(match next {
                Some((oid, bound)) => {
                    *cursor = oid.clone();
                    varbind(oid, &value(bound))
                }
                None => varbind(cursor, &END_OF_MIB_VIEW),
            });
        }
    }
    request.answer(&varbinds)
}

/// A responder on loopback.
pub(super) struct Agent {
    pub(super) address: SocketAddr,
    requests: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Agent {
    /// Starts an agent that sends whatever `behave` makes of a request and its
    /// number, which counts from 0.
    pub(super) async fn start(
        behave: impl Fn(&Request, u32) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Agent {
        Agent::start_at("127.0.0.1:0", behave).await
    }

    pub(super) async fn start_at(
        address: &str,
        behave: impl Fn(&Request, u32) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Agent {
        let socket = UdpSocket::bind(address).await.unwrap();
        let address = socket.local_addr().unwrap();
        let requests = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            let mut buffer = [0u8; 4096];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let request = Request::read(&buffer[..length]);
                for datagram in behave(&request, number) {
                    socket.send_to(&datagram, peer).await.unwrap();
                }
            }
        });
        Agent {
            address,
            requests,
            task,
        }
    }

    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}
