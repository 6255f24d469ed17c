//! The engine against agents that misbehave, against recordings of real
//! devices, and against net-snmp.

mod extra;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io};

use model::{Credential, FailureKind, Oid, SnmpAnswer, SnmpPlan, SnmpTable, SnmpValue};
use model::{TableAsk, Timestamp};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::fake::{self, Agent, Mib, Random, Request, honest, oid, value, varbind};
use super::walk::{ROWS_AT_MOST, Taken, Walk};
use super::*;

const IN_OCTETS: &str = "1.3.6.1.2.1.31.1.1.1.6";
const OUT_OCTETS: &str = "1.3.6.1.2.1.31.1.1.1.10";
const SYS_NAME: &str = "1.3.6.1.2.1.1.5.0";

fn settings() -> SnmpSettings {
    SnmpSettings {
        timeout: Duration::from_millis(200),
        retries: 1,
        max_repetitions: 25,
        sockets: 2,
        in_flight: 50,
    }
}

fn public() -> Credential {
    Credential::SnmpV2c {
        community: b"public".to_vec(),
    }
}

fn table(name: &'static str, columns: &[&str]) -> TableAsk {
    TableAsk {
        name,
        columns: columns.iter().map(|column| oid(column)).collect(),
        only_if_missing: None,
    }
}

fn plan() -> SnmpPlan {
    SnmpPlan {
        extra: Default::default(),
        scalars: vec![oid(SYS_NAME)],
        tables: vec![table("ifXTable", &[IN_OCTETS, OUT_OCTETS])],
    }
}

/// A device with a name and `rows` interfaces.
fn device(rows: u32) -> Mib {
    let mut mib = fake::table(&[oid(IN_OCTETS), oid(OUT_OCTETS)], rows);
    let name = SnmpValue::Octets(b"sw1".as_slice().into());
    mib.insert(oid(SYS_NAME), name);
    mib.insert(oid("1.3.6.1.6.3"), SnmpValue::Null);
    mib
}

async fn poll_by(
    engine: &SnmpEngine,
    target: SocketAddr,
    plan: &SnmpPlan,
) -> Result<SnmpAnswer, Failure> {
    let credential = public();
    let poll = engine.poll(target, &credential, plan, Timestamp(9));
    timeout(Duration::from_secs(60), poll)
        .await
        .expect("a poll ends by itself")
}

async fn poll(target: SocketAddr) -> Result<SnmpAnswer, Failure> {
    let engine = SnmpEngine::start(settings()).await.unwrap();
    poll_by(&engine, target, &plan()).await
}

fn indices(table: &SnmpTable, column: usize) -> Vec<u32> {
    let cells = &table.columns[column].cells;
    cells.iter().map(|(index, _)| *index).collect()
}

#[tokio::test]
async fn a_poll_brings_scalars_and_whole_tables() {
    let mib = device(100);
    let agent = Agent::start(move |request, _| vec![honest(&mib, request)]).await;
    let answer = poll(agent.address).await.unwrap();

    assert_eq!(answer.at, Timestamp(9));
    assert_eq!(answer.scalars.len(), 1);
    assert_eq!(answer.scalars[0].oid, oid(SYS_NAME));
    let table = &answer.tables[0];
    assert_eq!((table.name, &table.failure), ("ifXTable", &None));
    for (place, column) in table.columns.iter().enumerate() {
        let place = u64::try_from(place).unwrap();
        let expected: Vec<(u32, SnmpValue)> = (1..=100)
            .map(|row| (row, SnmpValue::Counter64(u64::from(row) * 100 + place)))
            .collect();
        assert_eq!(column.cells, expected);
    }
    assert_eq!(answer.requests, agent.requests());
    assert!(answer.requests < 8, "{}", answer.requests);
}

#[tokio::test]
async fn an_agent_is_polled_over_ipv6_too() {
    let mib = device(3);
    let listening = UdpSocket::bind("[::1]:0").await;
    if listening.is_err() {
        crate::skip("no IPv6 on this machine");
        return;
    }
    let agent = Agent::start_at("[::1]:0", move |request, _| vec![honest(&mib, request)]).await;
    let answer = poll(agent.address).await.unwrap();
    assert_eq!(indices(&answer.tables[0], 1), [1, 2, 3]);
}

#[tokio::test]
async fn no_answer_comes_near_the_size_that_is_cut_into_fragments() {
    let mut mib = device(300);
    let alias = oid("1.3.6.1.2.1.31.1.1.1.18");
    for row in 1..=300u32 {
        let mut cell = alias.clone();
        cell.0.push(row);
        mib.insert(cell, SnmpValue::Octets(vec![b'x'; 60].into()));
    }
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&largest);
    let agent = Agent::start(move |request, _| {
        let answer = honest(&mib, request);
        seen.fetch_max(answer.len(), Ordering::SeqCst);
        vec![answer]
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let plan = SnmpPlan {
        extra: Default::default(),
        scalars: vec![],
        tables: vec![table(
            "ifXTable",
            &[IN_OCTETS, OUT_OCTETS, &alias.to_string()],
        )],
    };
    let answer = poll_by(&engine, agent.address, &plan).await.unwrap();
    assert_eq!(answer.tables[0].columns[2].cells.len(), 300);
    // the first answer may be longer: nothing was known of the texts
    assert!(largest.load(Ordering::SeqCst) < 3_000, "{largest:?}");
    assert!(answer.requests >= 300 * 120 / 1_400, "{}", answer.requests);
}

#[tokio::test]
async fn too_big_is_asked_for_in_smaller_pieces_and_remembered() {
    let mib = device(60);
    let refusals = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refusals);
    let agent = Agent::start(move |request, _| {
        let answer = honest(&mib, request);
        if answer.len() > 300 {
            count.fetch_add(1, Ordering::SeqCst);
            return vec![request.error(1, 0)];
        }
        vec![answer]
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    for round in 0..3 {
        let answer = poll_by(&engine, agent.address, &plan()).await.unwrap();
        let table = &answer.tables[0];
        assert_eq!(table.failure, None);
        assert_eq!(indices(table, 1).len(), 60);
        let refused = refusals.swap(0, Ordering::SeqCst);
        assert!(refused <= if round == 0 { 4 } else { 1 }, "{refused}");
    }
}

#[tokio::test]
async fn an_agent_that_cannot_answer_one_instance_fails_by_name() {
    let agent = Agent::start(|request, _| vec![request.error(5, 1)]).await;
    let failure = poll(agent.address).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Protocol);
    assert!(failure.text.contains("genErr"), "{failure}");
    assert!(agent.requests() < 20, "{}", agent.requests());
}

#[tokio::test]
async fn an_oid_that_does_not_increase_ends_the_table_by_name() {
    let mib = device(60);
    let agent = Agent::start(move |request, number| {
        if number < 2 {
            return vec![honest(&mib, request)];
        }
        let cell = oid(&format!("{IN_OCTETS}.3"));
        let again = varbind(&cell, &value(&SnmpValue::Counter64(1)));
        vec![request.answer(&[again.clone(), again])]
    })
    .await;
    let answer = poll(agent.address).await.unwrap();
    let table = &answer.tables[0];
    let failure = table.failure.as_ref().unwrap();
    assert_eq!(failure.kind, FailureKind::Protocol);
    for part in ["ifXTable", "OID not increasing", &format!("{IN_OCTETS}.3 ")] {
        assert!(failure.text.contains(part), "{failure}");
    }
    assert_eq!(
        indices(table, 0),
        (1..=25).collect::<Vec<u32>>(),
        "what was read is kept"
    );
}

#[tokio::test]
async fn an_endless_table_is_stopped() {
    let agent = Agent::start(|request, _| {
        let mut varbinds = Vec::new();
        let mut cell = request.oids[0].clone();
        let column = oid(IN_OCTETS);
        if cell == column {
            cell.0.push(0);
        }
        for _ in 0..request.max_repetitions {
            *cell.0.last_mut().unwrap() += 1;
            varbinds.push(varbind(&cell, &value(&SnmpValue::Integer(1))));
        }
        vec![request.answer(&varbinds)]
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let plan = SnmpPlan {
        extra: Default::default(),
        scalars: vec![],
        tables: vec![table("ifXTable", &[IN_OCTETS])],
    };
    let answer = poll_by(&engine, agent.address, &plan).await.unwrap();
    let rows = answer.tables[0].columns[0].cells.len();
    assert_eq!(rows, usize::try_from(ROWS_AT_MOST).unwrap());
    let failure = answer.tables[0].failure.as_ref().unwrap();
    assert!(failure.text.contains("more than 20000 rows"), "{failure}");
}

#[tokio::test]
async fn an_agent_that_falls_silent_leaves_what_it_gave() {
    let mib = device(200);
    let agent = Agent::start(move |request, number| {
        if number < 3 {
            vec![honest(&mib, request)]
        } else {
            vec![]
        }
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let mut plan = plan();
    plan.tables.push(table("ifTable", &["1.3.6.1.2.1.2.2.1.8"]));
    let answer = poll_by(&engine, agent.address, &plan).await.unwrap();
    assert_eq!(answer.scalars.len(), 1);
    assert_eq!(indices(&answer.tables[0], 0).len(), 50);
    let stopped = answer.tables[0].failure.as_ref().unwrap();
    assert_eq!(stopped.kind, FailureKind::Timeout);
    assert!(stopped.text.contains("stopped answering"), "{stopped}");
    let never = answer.tables[1].failure.as_ref().unwrap();
    assert!(never.text.contains("ifTable: not asked for"), "{never}");
    assert_eq!(agent.requests(), 5, "one retry, and no more after that");
}

#[tokio::test]
async fn silence_says_that_the_community_may_be_wrong() {
    let agent = Agent::start(|_, _| vec![]).await;
    let failure = poll(agent.address).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(failure.text.contains("community"), "{failure}");
    assert!(
        failure.text.contains(&agent.address.to_string()),
        "{failure}"
    );
    assert_eq!(agent.requests(), 2);
}

#[tokio::test]
async fn a_closed_port_is_not_taken_for_silence() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let closed = socket.local_addr().unwrap();
    drop(socket);
    let failure = poll(closed).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unreachable, "{failure}");
    assert!(failure.text.contains("nothing listens"), "{failure}");
}

#[tokio::test]
async fn a_closed_port_does_not_harm_others_on_the_same_socket() {
    let one_socket = SnmpSettings {
        sockets: 1,
        ..settings()
    };
    let engine = SnmpEngine::start(one_socket).await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let closed = socket.local_addr().unwrap();
    drop(socket);
    let mib = device(50);
    let agent = Agent::start(move |request, _| vec![honest(&mib, request)]).await;
    let mut polls = tokio::task::JoinSet::new();
    for number in 0..60 {
        let engine = engine.clone();
        let target = if number % 2 == 0 {
            closed
        } else {
            agent.address
        };
        polls.spawn(async move { (poll_by(&engine, target, &plan()).await, number % 2 == 0) });
    }
    while let Some(done) = polls.join_next().await {
        match done.unwrap() {
            (Err(failure), true) => assert_eq!(failure.kind, FailureKind::Unreachable),
            (Ok(answer), false) => assert_eq!(indices(&answer.tables[0], 0).len(), 50),
            (wrong, _) => panic!("{wrong:?}"),
        }
    }
}

#[tokio::test]
async fn a_late_answer_is_as_good_as_one_in_time() {
    let mib = device(3);
    let first: Mutex<Option<Request>> = Mutex::new(None);
    let agent = Agent::start(move |request, number| match number {
        0 => {
            *first.lock().unwrap() = Some(request.clone());
            vec![]
        }
        // the answer to the try before, then the one to this, then it again
        1 => {
            let first = first.lock().unwrap().clone().unwrap();
            let this = honest(&mib, request);
            vec![honest(&mib, &first), this.clone(), this]
        }
        _ => vec![honest(&mib, request)],
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let answer = poll_by(&engine, agent.address, &plan()).await.unwrap();
    assert_eq!(indices(&answer.tables[0], 1), [1, 2, 3]);
    let stats = engine.stats();
    assert_eq!((stats.retries, stats.timeouts), (1, 0));
    assert!(stats.stale >= 1, "the second copy at least: {stats:?}");
}

#[tokio::test]
async fn an_answer_from_another_address_is_dropped() {
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let asked = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = asked.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0u8; 2048];
        loop {
            let (length, peer) = asked.recv_from(&mut buffer).await.unwrap();
            let pdu = snmp2::Pdu::from_bytes(&buffer[..length]).unwrap();
            let name = value(&SnmpValue::Octets(b"evil".as_slice().into()));
            let forged = varbind(&oid(SYS_NAME), &name);
            let answer = fake::response(b"public", pdu.req_id, 0, 0, &[forged]);
            stranger.send_to(&answer, peer).await.unwrap();
        }
    });
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let failure = poll_by(&engine, target, &plan()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(engine.stats().foreign >= 2, "{:?}", engine.stats());
    task.abort();
}

#[tokio::test]
async fn holes_in_a_column_do_not_shift_the_others() {
    let mut mib = device(80);
    for row in (1..=80).filter(|row| row % 3 == 0) {
        mib.remove(&oid(&format!("{OUT_OCTETS}.{row}")));
    }
    let agent = Agent::start(move |request, _| vec![honest(&mib, request)]).await;
    let answer = poll(agent.address).await.unwrap();
    let table = &answer.tables[0];
    assert_eq!(table.failure, None);
    assert_eq!(indices(table, 0), (1..=80).collect::<Vec<u32>>());
    let expected: Vec<u32> = (1..=80).filter(|row| row % 3 != 0).collect();
    assert_eq!(indices(table, 1), expected);
    for (row, cell) in &table.columns[1].cells {
        assert_eq!(*cell, SnmpValue::Counter64(u64::from(*row) * 100 + 1));
    }
}

#[tokio::test]
async fn an_answer_may_be_shorter_than_what_was_asked_for() {
    let mib = device(40);
    let agent = Agent::start(move |request, _| {
        let short = Request {
            max_repetitions: request.max_repetitions.min(1),
            ..request.clone()
        };
        if !request.is_bulk {
            return vec![honest(&mib, request)];
        }
        // one row, and of it only the first column
        let first = Request {
            oids: request.oids[..1].to_vec(),
            ..short
        };
        vec![honest(&mib, &first)]
    })
    .await;
    let answer = poll(agent.address).await.unwrap();
    assert_eq!(answer.tables[0].failure, None);
    for column in 0..2 {
        assert_eq!(indices(&answer.tables[0], column).len(), 40);
    }
}

#[tokio::test]
async fn an_index_of_several_numbers_is_counted_and_left_out() {
    let mut mib = device(2);
    for odd in ["1.5", "7.0.0.1"] {
        mib.insert(oid(&format!("{IN_OCTETS}.{odd}")), SnmpValue::Integer(1));
    }
    let agent = Agent::start(move |request, _| vec![honest(&mib, request)]).await;
    let answer = poll(agent.address).await.unwrap();
    assert_eq!(indices(&answer.tables[0], 0), [1, 2]);
    assert_eq!(answer.tables[0].odd_instances, 2);
    assert_eq!(answer.tables[0].failure, None);
}

#[tokio::test]
async fn a_table_that_stands_in_for_another_is_walked_only_if_that_lacks_a_cell() {
    let (low, name) = ("1.3.6.1.2.1.2.2.1.10", "1.3.6.1.2.1.31.1.1.1.1");
    for high_cells in [2, 1, 0] {
        let mut mib = fake::table(&[oid(low), oid(name)], 2);
        mib.extend(fake::table(&[oid(IN_OCTETS)], high_cells));
        let agent = Agent::start(move |request, _| vec![honest(&mib, request)]).await;
        let engine = SnmpEngine::start(settings()).await.unwrap();
        let stand_in = TableAsk {
            only_if_missing: Some(oid(IN_OCTETS)),
            ..table("ifTable", &[low])
        };
        let plan = SnmpPlan {
            extra: Default::default(),
            scalars: vec![],
            tables: vec![table("ifXTable", &[name, IN_OCTETS]), stand_in],
        };
        let answer = poll_by(&engine, agent.address, &plan).await.unwrap();
        let names: Vec<&str> = answer.tables.iter().map(|table| table.name).collect();
        let expected: &[&str] = if high_cells == 2 {
            &["ifXTable"]
        } else {
            &["ifXTable", "ifTable"]
        };
        assert_eq!(names, expected);
    }
}

#[tokio::test]
async fn an_agent_that_says_no_is_told_from_a_broken_one() {
    let agent = Agent::start(|request, _| vec![request.error(16, 0)]).await;
    let failure = poll(agent.address).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert!(failure.text.contains("authorizationError"), "{failure}");
}

#[tokio::test]
async fn an_agent_of_old_that_knows_no_exceptions_gives_what_it_has() {
    let mib = device(5);
    let agent = Agent::start(move |request, _| {
        let missing = request.oids.iter().position(|oid| !mib.contains_key(oid));
        match missing {
            Some(place) if !request.is_bulk => {
                vec![request.error(2, i32::try_from(place).unwrap() + 1)]
            }
            _ => vec![honest(&mib, request)],
        }
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let mut plan = plan();
    for absent in ["1.3.6.1.2.1.1.1.0", "1.3.6.1.2.1.1.6.0"] {
        plan.scalars.push(oid(absent));
    }
    let answer = poll_by(&engine, agent.address, &plan).await.unwrap();
    assert_eq!(answer.scalars.len(), 1);
    assert_eq!(indices(&answer.tables[0], 0), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn scalars_that_are_too_big_together_are_got_apart() {
    let mut mib = Mib::new();
    let scalars: Vec<Oid> = (1..=9)
        .map(|n| oid(&format!("1.3.6.1.2.1.1.{n}.0")))
        .collect();
    for scalar in &scalars {
        mib.insert(scalar.clone(), SnmpValue::Octets(vec![b'x'; 200].into()));
    }
    let agent = Agent::start(move |request, _| {
        let answer = honest(&mib, request);
        vec![if answer.len() > 484 {
            request.error(1, 0)
        } else {
            answer
        }]
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let plan = SnmpPlan {
        extra: Default::default(),
        scalars: scalars.clone(),
        tables: vec![],
    };
    let answer = poll_by(&engine, agent.address, &plan).await.unwrap();
    let mut got: Vec<Oid> = answer
        .scalars
        .into_iter()
        .map(|varbind| varbind.oid)
        .collect();
    got.sort();
    assert_eq!(got, scalars);
}

#[tokio::test]
async fn what_is_no_snmp_is_not_taken_for_silence() {
    let agent = Agent::start(|_, _| vec![b"HTTP/1.1 400 Bad Request".to_vec()]).await;
    let failure = poll(agent.address).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Protocol, "{failure}");
    assert!(failure.text.contains("not in SNMPv2c"), "{failure}");
}

#[tokio::test]
async fn a_value_that_cannot_be_read_fails_the_table_and_keeps_the_rows_before_it() {
    let agent = Agent::start(|request, _| {
        let good = varbind(
            &oid(&format!("{IN_OCTETS}.1")),
            &value(&SnmpValue::Integer(1)),
        );
        let bad = varbind(&oid(&format!("{OUT_OCTETS}.1")), &[0x48, 4, 0, 0, 0, 0]);
        vec![request.answer(&[good, bad])]
    })
    .await;
    let answer = poll(agent.address).await.unwrap();
    let table = &answer.tables[0];
    assert_eq!(indices(table, 0), [1]);
    let failure = table.failure.as_ref().unwrap();
    assert_eq!(failure.kind, FailureKind::Protocol);
    assert!(failure.text.contains("unknown type"), "{failure}");
}

#[tokio::test]
async fn garbage_on_the_wire_never_hangs_a_poll() {
    let mib = device(20);
    let random = Mutex::new(Random(11));
    let agent = Agent::start(move |request, _| {
        let mut random = random.lock().unwrap();
        let valid = honest(&mib, request);
        match random.below(4) {
            0 => vec![valid],
            1 => vec![random.mutated(&valid), valid],
            2 => vec![random.mutated(&valid)],
            _ => {
                let length = random.below(1_600);
                vec![random.bytes(length)]
            }
        }
    })
    .await;
    let quick = SnmpSettings {
        timeout: Duration::from_millis(10),
        ..settings()
    };
    let engine = SnmpEngine::start(quick).await.unwrap();
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let engine = engine.clone();
        let target = agent.address;
        polls.spawn(async move { poll_by(&engine, target, &plan()).await });
    }
    while let Some(done) = polls.join_next().await {
        if let Ok(answer) = done.unwrap() {
            assert!(
                answer
                    .tables
                    .iter()
                    .flat_map(|t| &t.columns)
                    .all(|c| c.cells.len() <= 200)
            );
        }
    }
}

#[test]
fn a_walk_over_hostile_answers_always_ends() {
    let mib = device(30);
    let ask = table("ifXTable", &[IN_OCTETS, OUT_OCTETS]);
    for seed in 0..3_000 {
        let mut random = Random(seed);
        let mut walk = Walk::new(&ask);
        let mut rounds = 0;
        while let Some(rows) = walk.next(1_400, 10) {
            rounds += 1;
            assert!(rounds < 500, "seed {seed}");
            let request = Request {
                is_bulk: true,
                request_id: 1,
                max_repetitions: usize::from(rows),
                oids: walk.cursors().map(oid::decode).collect(),
                community: b"public".to_vec(),
            };
            let valid = honest(&mib, &request);
            let datagram = if random.below(3) == 0 {
                random.mutated(&valid)
            } else {
                valid
            };
            let taken = message::read(&datagram).map(|response| walk.take(response));
            if taken == Ok(Taken::TooMuch) {
                break;
            }
        }
        for column in walk.finish().columns {
            let ordered = column.cells.windows(2).all(|pair| pair[0].0 < pair[1].0);
            assert!(ordered, "seed {seed}");
        }
    }
}

#[tokio::test]
async fn new_settings_reach_polls_that_begin_after_them() {
    let agent = Agent::start(|_, _| vec![]).await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    for (sockets, retries) in [(2, 3), (1, 0)] {
        engine.reconfigure(SnmpSettings {
            sockets,
            retries,
            timeout: Duration::from_millis(20),
            ..settings()
        });
        let before = agent.requests();
        poll_by(&engine, agent.address, &plan()).await.unwrap_err();
        assert_eq!(agent.requests() - before, u32::from(retries) + 1);
    }
}

#[tokio::test]
async fn a_poll_that_is_dropped_leaves_nothing_behind() {
    let agent = Agent::start(|_, _| vec![]).await;
    let one = SnmpSettings {
        in_flight: 1,
        ..settings()
    };
    let engine = SnmpEngine::start(one).await.unwrap();
    for _ in 0..3 {
        let plan = plan();
        let poll = poll_by(&engine, agent.address, &plan);
        assert!(timeout(Duration::from_millis(20), poll).await.is_err());
    }
    // its place is free again
    let mib = device(1);
    let agent = Agent::start(move |request, _| vec![honest(&mib, request)]).await;
    let answer = poll_by(&engine, agent.address, &plan()).await.unwrap();
    assert_eq!(indices(&answer.tables[0], 0), [1]);
}

// --- recordings of real devices

/// Recordings of devices, not part of this repository.
fn recordings() -> Option<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = manifest.join("../../../shared/data/librenms");
    folder.is_dir().then_some(folder)
}

/// Reads `OID|TYPE|VALUE` lines; lines of other shapes are left out.
fn read_recording(path: &Path) -> io::Result<Mib> {
    let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
    let mut mib = Mib::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, '|');
        let (Some(name), Some(kind), Some(shown)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if let (Ok(name), Some(value)) = (name.parse(), recorded_value(kind, shown)) {
            mib.insert(name, value);
        }
    }
    Ok(mib)
}

fn recorded_value(kind: &str, shown: &str) -> Option<SnmpValue> {
    let hex = |text: &str| -> Option<Vec<u8>> {
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
            .collect()
    };
    Some(match kind {
        "2" => SnmpValue::Integer(shown.parse().ok()?),
        "4" => SnmpValue::Octets(shown.as_bytes().into()),
        "4x" => SnmpValue::Octets(hex(shown)?.into()),
        "5" => SnmpValue::Null,
        "6" => SnmpValue::ObjectId(shown.parse().ok()?),
        "64" => {
            let ip: std::net::Ipv4Addr = shown.parse().ok()?;
            SnmpValue::IpAddress(ip.octets())
        }
        "65" => SnmpValue::Counter32(shown.parse().ok()?),
        "66" => SnmpValue::Gauge32(shown.parse().ok()?),
        "67" => SnmpValue::TimeTicks(shown.parse().ok()?),
        "70" => SnmpValue::Counter64(shown.parse().ok()?),
        _ => return None,
    })
}

#[tokio::test]
async fn recordings_of_real_devices_are_walked_as_they_were_recorded() {
    let Some(folder) = recordings() else {
        crate::skip("no recordings beside this repository");
        return;
    };
    let columns = [
        "1.3.6.1.2.1.2.2.1.2",
        "1.3.6.1.2.1.2.2.1.8",
        "1.3.6.1.2.1.2.2.1.10",
        "1.3.6.1.2.1.31.1.1.1.1",
        IN_OCTETS,
        "1.3.6.1.2.1.31.1.1.1.18",
    ];
    let plan = SnmpPlan {
        extra: Default::default(),
        scalars: vec![oid("1.3.6.1.2.1.1.1.0"), oid("1.3.6.1.2.1.1.3.0")],
        tables: vec![
            table("ifTable", &columns[..3]),
            table("ifXTable", &columns[3..]),
        ],
    };
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let mut walked = 0;
    for file in [
        "arista_eos_7280r",
        "iosxe_c9600x-svl",
        "vrp_5720-vrf",
        "timos",
        "arubaos",
    ] {
        let Ok(mib) = read_recording(&folder.join(format!("{file}.snmprec"))) else {
            continue;
        };
        let served = mib.clone();
        let agent = Agent::start(move |request, _| vec![honest(&served, request)]).await;
        let answer = poll_by(&engine, agent.address, &plan).await.unwrap();
        for table in &answer.tables {
            assert_eq!(table.failure, None, "{file}");
            for column in &table.columns {
                let recorded = mib.iter().filter_map(|(oid, value)| {
                    let &[index] = oid.below(&column.oid)? else {
                        return None;
                    };
                    Some((index, value.clone()))
                });
                assert_eq!(column.cells, recorded.collect::<Vec<_>>(), "{file}");
                walked += column.cells.len();
            }
        }
    }
    assert!(walked > 1_000, "{walked} cells");
}

// --- net-snmp

/// A real agent; ends with this value.
struct Snmpd {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Snmpd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts net-snmp's agent and waits until it answers; `None` if there is none.
async fn snmpd(engine: &SnmpEngine) -> Option<Snmpd> {
    let program = Path::new("/usr/sbin/snmpd");
    if !program.exists() {
        crate::skip("/usr/sbin/snmpd is not installed");
        return None;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let folder = tempfile::tempdir().unwrap();
    let mut conf = String::new();
    writeln!(conf, "agentaddress udp:{address}").unwrap();
    writeln!(conf, "rocommunity public").unwrap();
    writeln!(conf, "view system included .1.3.6.1.2.1.1").unwrap();
    writeln!(conf, "rocommunity narrow default -V system").unwrap();
    writeln!(conf, "sysName real-agent").unwrap();
    let conf_path = folder.path().join("snmpd.conf");
    fs::write(&conf_path, conf).unwrap();
    let child = Command::new(program)
        .args(["-f", "-Lo", "-C", "-c"])
        .arg(&conf_path)
        .arg("-p")
        .arg(folder.path().join("pid"))
        .env("SNMP_PERSISTENT_DIR", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let snmpd = Snmpd {
        child,
        address,
        _folder: folder,
    };
    for _ in 0..100 {
        if poll_by(engine, address, &plan()).await.is_ok() {
            return Some(snmpd);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("snmpd did not answer within its time");
}

#[tokio::test]
async fn net_snmp_is_walked_whole_and_its_views_are_obeyed() {
    let patient = SnmpSettings {
        timeout: Duration::from_secs(1),
        ..settings()
    };
    let engine = SnmpEngine::start(patient).await.unwrap();
    let Some(snmpd) = snmpd(&engine).await else {
        return;
    };
    let plan = SnmpPlan {
        extra: Default::default(),
        scalars: vec![
            oid(SYS_NAME),
            oid("1.3.6.1.2.1.1.3.0"),
            oid("1.3.6.1.2.1.1.99.0"),
        ],
        tables: vec![
            table("ifTable", &["1.3.6.1.2.1.2.2.1.2", "1.3.6.1.2.1.2.2.1.8"]),
            table("ifXTable", &["1.3.6.1.2.1.31.1.1.1.1", IN_OCTETS]),
            table("hrStorageTable", &["1.3.6.1.2.1.25.2.3.1.5"]),
        ],
    };
    let answer = poll_by(&engine, snmpd.address, &plan).await.unwrap();
    let name = &answer.scalars[0];
    assert_eq!(
        name.value,
        SnmpValue::Octets(b"real-agent".as_slice().into())
    );
    assert_eq!(answer.scalars.len(), 2, "what it has not is left out");
    for table in &answer.tables {
        assert_eq!(table.failure, None);
        assert!(!table.columns[0].cells.is_empty(), "{}", table.name);
    }
    let lo = (1, SnmpValue::Octets(b"lo".as_slice().into()));
    assert_eq!(answer.tables[1].columns[0].cells[0], lo);

    // a view without interfaces: empty tables, and no failure
    let narrow = Credential::SnmpV2c {
        community: b"narrow".to_vec(),
    };
    let answer = engine
        .poll(snmpd.address, &narrow, &plan, Timestamp(1))
        .await
        .unwrap();
    assert_eq!(answer.scalars.len(), 2);
    assert!(
        answer
            .tables
            .iter()
            .all(|table| table.columns[0].cells.is_empty())
    );
}

#[tokio::test]
async fn net_snmp_says_nothing_to_a_wrong_community_and_we_say_so() {
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let Some(snmpd) = snmpd(&engine).await else {
        return;
    };
    let wrong = Credential::SnmpV2c {
        community: b"wrong".to_vec(),
    };
    let failure = engine
        .poll(snmpd.address, &wrong, &plan(), Timestamp(1))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
    assert!(failure.text.contains("the community is wrong"), "{failure}");
    assert!(
        !failure.text.contains("wrong\""),
        "no secret is shown: {failure}"
    );
}

#[tokio::test]
async fn polls_over_the_limit_wait_for_their_turn() {
    let mib = device(10);
    let busy = Arc::new(AtomicBool::new(false));
    let mixed = Arc::new(AtomicBool::new(false));
    let last = Mutex::new((0, None::<Vec<Oid>>));
    let (seen_busy, seen_mixed) = (Arc::clone(&busy), Arc::clone(&mixed));
    let agent = Agent::start(move |request, _| {
        // with one poll at a time every GET is followed by its own walk
        let mut last = last.lock().unwrap();
        if !request.is_bulk && last.1.is_some() && last.0 < 2 {
            seen_mixed.store(true, Ordering::SeqCst);
        }
        last.0 = if request.is_bulk { last.0 + 1 } else { 1 };
        last.1 = Some(request.oids.clone());
        seen_busy.store(true, Ordering::SeqCst);
        vec![honest(&mib, request)]
    })
    .await;
    let engine = SnmpEngine::start(SnmpSettings {
        in_flight: 1,
        ..settings()
    })
    .await
    .unwrap();
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (engine, target) = (engine.clone(), agent.address);
        polls.spawn(async move { poll_by(&engine, target, &plan()).await });
    }
    while let Some(done) = polls.join_next().await {
        done.unwrap().unwrap();
    }
    assert!(busy.load(Ordering::SeqCst));
    assert!(
        !mixed.load(Ordering::SeqCst),
        "two polls were on their way at once"
    );
}
