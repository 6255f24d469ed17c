//! What plugins want beside the built-in plan.

use model::SnmpWalk;

use super::super::poll::EXTRA_AT_MOST;
use super::super::subtree::{BYTES_OF_A_WALK, Room, Subtree, VARBINDS_IN_ALL, VARBINDS_OF_A_WALK};
use super::*;

/// A vendor's tree: a table with a two-number index, one with an index that is a
/// text, and a scalar.
const VENDOR: &str = "1.3.6.1.4.1.14988";
const GAUGES: &str = "1.3.6.1.4.1.14988.1.1.3.100";
const BOARD: &str = "1.3.6.1.4.1.14988.1.1.4.3.0";

fn vendor_mib() -> Mib {
    let mut mib = device(30);
    for (column, slot, port) in (1..=3)
        .flat_map(|c| (1..=4).map(move |s| (c, s)))
        .flat_map(|(c, s)| [1u32, 200, 70_000].map(|p| (c, s, p)))
    {
        let cell = oid(&format!("{GAUGES}.1.{column}.{slot}.{port}"));
        mib.insert(cell, SnmpValue::Integer(i64::from(port) + column));
    }
    mib.insert(
        oid(&format!("{VENDOR}.1.2.1.3.102.97.110")),
        SnmpValue::Octets(b"fan".as_slice().into()),
    );
    mib.insert(oid(BOARD), SnmpValue::Octets(b"RB4011".as_slice().into()));
    mib.insert(oid("1.3.6.1.4.1.14989.1"), SnmpValue::Integer(1));
    mib
}

fn wanted(get: &[&str], walk: &[&str]) -> SnmpExtra {
    SnmpExtra {
        get: get.iter().map(|text| oid(text)).collect(),
        walk: walk.iter().map(|text| oid(text)).collect(),
    }
}

fn below(mib: &Mib, root: &str) -> Vec<(Oid, SnmpValue)> {
    let root = oid(root);
    let inside = mib.iter().filter(|(oid, _)| oid.below(&root).is_some());
    inside
        .map(|(oid, value)| (oid.clone(), value.clone()))
        .collect()
}

fn cells(walk: &SnmpWalk) -> Vec<(Oid, SnmpValue)> {
    let varbinds = walk.varbinds.iter();
    varbinds.map(|v| (v.oid.clone(), v.value.clone())).collect()
}

fn with_extra(extra: SnmpExtra) -> SnmpPlan {
    SnmpPlan { extra, ..plan() }
}

async fn ask(target: SocketAddr, wanted: &SnmpExtra) -> Result<SnmpExtraAnswer, Failure> {
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let credential = public();
    let asked = engine.ask(target, &credential, wanted, Duration::from_secs(30));
    timeout(Duration::from_secs(60), asked).await.unwrap()
}

/// The built-in part of an answer is as it would be without plugins.
fn assert_whole(answer: &SnmpAnswer, rows: usize) {
    assert_eq!(answer.scalars.len(), 1);
    assert_eq!(answer.tables[0].failure, None);
    for column in 0..2 {
        assert_eq!(indices(&answer.tables[0], column).len(), rows);
    }
}

#[tokio::test]
async fn plugins_get_and_walk_what_they_want_after_the_built_in_part() {
    let mib = vendor_mib();
    let served = mib.clone();
    let order: Arc<Mutex<Vec<bool>>> = Arc::default();
    let seen = Arc::clone(&order);
    let agent = Agent::start(move |request, _| {
        let is_extra = request.oids[0].below(&oid(VENDOR)).is_some();
        seen.lock().unwrap().push(is_extra);
        vec![honest(&served, request)]
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let extra = wanted(&[BOARD, "1.3.6.1.4.1.1.1.0"], &[GAUGES, VENDOR]);
    let answer = poll_by(&engine, agent.address, &with_extra(extra))
        .await
        .unwrap();
    assert_whole(&answer, 30);
    let extra = &answer.extra;
    assert_eq!(extra.failure, None);
    let got: Vec<String> = extra.got.iter().map(|v| v.oid.to_string()).collect();
    assert_eq!(got, [BOARD], "what the agent has not is left out");
    for (walk, root) in extra.walks.iter().zip([GAUGES, VENDOR]) {
        assert_eq!(
            (walk.root.to_string().as_str(), &walk.failure),
            (root, &None)
        );
        assert_eq!(cells(walk), below(&mib, root));
    }
    assert_eq!(answer.requests, agent.requests());
    let order = order.lock().unwrap();
    assert!(order.is_sorted(), "plugins wait for their turn: {order:?}");
    assert!(answer.requests < 12, "{}", answer.requests);
}

#[tokio::test]
async fn an_agent_can_be_asked_out_of_a_poll() {
    let mib = vendor_mib();
    let served = mib.clone();
    let agent = Agent::start(move |request, _| vec![honest(&served, request)]).await;
    let answer = ask(agent.address, &wanted(&[BOARD], &[VENDOR]))
        .await
        .unwrap();
    assert_eq!(answer.got.len(), 1);
    assert_eq!(cells(&answer.walks[0]), below(&mib, VENDOR));
    let nothing = ask(agent.address, &SnmpExtra::default()).await.unwrap();
    assert_eq!(nothing, SnmpExtraAnswer::default());
}

#[tokio::test]
async fn to_ask_a_silent_agent_fails_and_to_ask_one_that_refuses_does_not() {
    let silent = Agent::start(|_, _| vec![]).await;
    let failure = ask(silent.address, &wanted(&[], &[VENDOR]))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);

    let refusing = Agent::start(|request, _| vec![request.error(16, 0)]).await;
    let answer = ask(refusing.address, &wanted(&[BOARD], &[VENDOR]))
        .await
        .unwrap();
    assert_eq!(answer.failure.unwrap().kind, FailureKind::Refused);
    let failure = answer.walks[0].failure.as_ref().unwrap();
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(failure.text.starts_with(VENDOR), "{failure}");
}

#[tokio::test]
async fn a_walk_that_goes_round_in_circles_is_ended_and_the_next_goes_on() {
    let mib = vendor_mib();
    let served = mib.clone();
    let agent = Agent::start(move |request, _| {
        if request.is_bulk && request.oids[0].below(&oid(GAUGES)).is_some() {
            let round = |number: u32| {
                let cell = oid(&format!("{GAUGES}.1.{}", number % 2 + 1));
                varbind(&cell, &value(&SnmpValue::Integer(1)))
            };
            return vec![request.answer(&[round(0), round(1), round(2)])];
        }
        vec![honest(&served, request)]
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let fans = format!("{VENDOR}.1.2");
    let plan = with_extra(wanted(&[], &[GAUGES, &fans]));
    let answer = poll_by(&engine, agent.address, &plan).await.unwrap();
    assert_whole(&answer, 30);
    let [circle, fine] = answer.extra.walks.as_slice() else {
        panic!("{:?}", answer.extra);
    };
    let failure = circle.failure.as_ref().unwrap();
    assert!(failure.text.contains("OID not increasing"), "{failure}");
    assert_eq!(circle.varbinds.len(), 2, "what was read is kept");
    assert_eq!((fine.varbinds.len(), &fine.failure), (1, &None));
}

/// Everything below a root, for ever: `root.1`, `root.2`, ...
fn endless(request: &Request, root: &Oid, filling: &[u8]) -> Vec<u8> {
    let mut cell = request.oids[0].clone();
    if cell == *root {
        cell.0.push(0);
    }
    let bound = value(&SnmpValue::Octets(filling.into()));
    let varbinds: Vec<Vec<u8>> = (0..request.max_repetitions)
        .map(|_| {
            *cell.0.last_mut().unwrap() += 1;
            varbind(&cell, &bound)
        })
        .collect();
    request.answer(&varbinds)
}

#[tokio::test]
async fn an_endless_subtree_is_stopped_by_its_count() {
    let agent = Agent::start(|request, _| vec![endless(request, &oid(GAUGES), b"x")]).await;
    let answer = ask(agent.address, &wanted(&[], &[GAUGES])).await.unwrap();
    let walk = &answer.walks[0];
    assert_eq!(walk.varbinds.len(), VARBINDS_OF_A_WALK);
    let failure = walk.failure.as_ref().unwrap();
    assert!(
        failure.text.contains("more than 20000 instances"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_subtree_of_long_texts_is_stopped_by_its_bytes() {
    let agent = Agent::start(|request, _| {
        let one = Request {
            max_repetitions: 1,
            ..request.clone()
        };
        vec![endless(&one, &oid(GAUGES), &[b'x'; 30_000])]
    })
    .await;
    let answer = ask(agent.address, &wanted(&[], &[GAUGES])).await.unwrap();
    let walk = &answer.walks[0];
    let expected = BYTES_OF_A_WALK / 30_100;
    assert!(
        walk.varbinds.len().abs_diff(expected) < 3,
        "{}",
        walk.varbinds.len()
    );
    let failure = walk.failure.as_ref().unwrap();
    assert!(failure.text.contains("4 MiB"), "{failure}");
}

#[tokio::test]
async fn all_that_plugins_want_of_one_agent_has_an_end_too() {
    let roots: Vec<String> = (1..=4).map(|n| format!("1.3.6.1.4.1.{n}")).collect();
    let agent = Agent::start(|request, _| {
        let root = Oid(request.oids[0].0[..7].to_vec());
        vec![endless(request, &root, b"")]
    })
    .await;
    let roots: Vec<&str> = roots.iter().map(String::as_str).collect();
    let answer = ask(agent.address, &wanted(&[], &roots)).await.unwrap();
    let counts: Vec<usize> = answer.walks.iter().map(|w| w.varbinds.len()).collect();
    assert_eq!(counts, [20_000, 20_000, 10_000, 0]);
    assert_eq!(counts.iter().sum::<usize>(), VARBINDS_IN_ALL);
    assert!(answer.walks.iter().all(|walk| walk.failure.is_some()));
}

#[tokio::test]
async fn an_agent_that_hangs_on_a_plugins_object_costs_its_own_table_nothing() {
    let mib = vendor_mib();
    let served = mib.clone();
    let agent = Agent::start(move |request, _| {
        if request.oids[0].below(&oid(GAUGES)).is_some() {
            return vec![];
        }
        vec![honest(&served, request)]
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let fans = format!("{VENDOR}.1.2");
    let first = format!("{GAUGES}.1.1");
    let plan = with_extra(wanted(&[], &[GAUGES, &fans, GAUGES, &first, &fans]));
    let answer = poll_by(&engine, agent.address, &plan).await.unwrap();
    assert_whole(&answer, 30);
    let walks = &answer.extra.walks;
    let kinds: Vec<Option<FailureKind>> = walks
        .iter()
        .map(|walk| walk.failure.as_ref().map(|failure| failure.kind))
        .collect();
    let late = Some(FailureKind::Timeout);
    assert_eq!(kinds, [late, None, late, late, late], "{walks:?}");
    assert_eq!(walks[1].varbinds.len(), 1, "one silence is not the end");
    let never = walks[4].failure.as_ref().unwrap();
    assert!(never.text.contains("not asked for"), "two are: {never}");

    // and the next poll asks its own table as before
    let before = agent.requests();
    let again = poll_by(&engine, agent.address, &super::plan())
        .await
        .unwrap();
    assert_whole(&again, 30);
    assert!(
        agent.requests() - before <= 4,
        "{}",
        agent.requests() - before
    );
}

#[tokio::test]
async fn an_agent_that_fell_silent_is_not_asked_for_plugins() {
    let mib = device(200);
    let agent = Agent::start(move |request, number| {
        if number < 2 {
            return vec![honest(&mib, request)];
        }
        vec![]
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let plan = with_extra(wanted(&[BOARD], &[VENDOR]));
    let answer = poll_by(&engine, agent.address, &plan).await.unwrap();
    assert_eq!(agent.requests(), 4, "a retry, and no more after that");
    let failures = [&answer.extra.failure, &answer.extra.walks[0].failure];
    for failure in failures {
        let failure = failure.as_ref().unwrap();
        assert!(failure.text.contains("not asked for"), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_agent_is_cut_off_and_the_built_in_part_is_there() {
    let mib = device(10);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = socket.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut buffer = [0u8; 2048];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            let request = Request::read(&buffer[..length]);
            let answer = if request.oids[0].below(&oid(GAUGES)).is_some() {
                // just in time, every time
                tokio::time::sleep(Duration::from_millis(190)).await;
                let one = Request {
                    max_repetitions: 1,
                    ..request.clone()
                };
                endless(&one, &oid(GAUGES), b"x")
            } else {
                honest(&mib, &request)
            };
            socket.send_to(&answer, peer).await.unwrap();
        }
    });
    let slow = SnmpSettings {
        timeout: Duration::from_secs(5),
        ..settings()
    };
    let engine = SnmpEngine::start(slow).await.unwrap();
    let began = Instant::now();
    let plan = with_extra(wanted(&[], &[GAUGES, GAUGES]));
    let credential = public();
    let answer = engine
        .poll(target, &credential, &plan, Timestamp(1))
        .await
        .unwrap();
    assert_whole(&answer, 10);
    assert!(began.elapsed() < EXTRA_AT_MOST + Duration::from_secs(1));
    assert!(began.elapsed() > EXTRA_AT_MOST - Duration::from_secs(1));
    let walk = &answer.extra.walks[0];
    assert!(walk.varbinds.len() > 50, "{}", walk.varbinds.len());
    for walk in &answer.extra.walks {
        assert_eq!(walk.failure.as_ref().unwrap().kind, FailureKind::Timeout);
    }
    task.abort();
}

#[tokio::test]
async fn a_subtree_too_big_for_the_agent_is_asked_for_in_smaller_pieces() {
    let mib = vendor_mib();
    let served = mib.clone();
    let agent = Agent::start(move |request, _| {
        let answer = honest(&served, request);
        let is_extra = request.oids[0].below(&oid(VENDOR)).is_some();
        let is_too_big = is_extra && answer.len() > 150;
        vec![if is_too_big {
            request.error(1, 0)
        } else {
            answer
        }]
    })
    .await;
    let engine = SnmpEngine::start(settings()).await.unwrap();
    let plan = with_extra(wanted(&[], &[VENDOR]));
    let mut costs = Vec::new();
    for _ in 0..3 {
        let answer = poll_by(&engine, agent.address, &plan).await.unwrap();
        assert_whole(&answer, 30);
        assert_eq!(answer.extra.walks[0].failure, None);
        assert_eq!(cells(&answer.extra.walks[0]), below(&mib, VENDOR));
        costs.push(answer.requests);
    }
    assert!(
        costs[1] < costs[0],
        "what was learnt is remembered: {costs:?}"
    );
    let agents = engine.inner.remembered(agent.address, Part::BuiltIn);
    assert_eq!(agents, ANSWER_BYTES, "the tables are asked for as before");
}

#[tokio::test]
async fn an_object_that_no_agent_can_answer_fails_by_name_and_not_for_ever() {
    let agent = Agent::start(|request, _| vec![request.error(5, 1)]).await;
    let answer = ask(agent.address, &wanted(&[], &["1.3", GAUGES]))
        .await
        .unwrap();
    for walk in &answer.walks {
        let failure = walk.failure.as_ref().unwrap();
        assert!(
            failure.text.contains("genErr even to one instance"),
            "{failure}"
        );
    }
    assert!(agent.requests() < 20, "{}", agent.requests());
}

#[tokio::test]
async fn an_oid_that_is_none_is_said_to_be_none() {
    let mib = vendor_mib();
    let agent = Agent::start(move |request, _| vec![honest(&mib, request)]).await;
    let extra = SnmpExtra {
        get: Vec::new(),
        walk: vec![Oid(vec![7]), oid(GAUGES)],
    };
    let answer = ask(agent.address, &extra).await.unwrap();
    let failure = answer.walks[0].failure.as_ref().unwrap();
    assert!(failure.text.contains("no object identifier"), "{failure}");
    assert_eq!(answer.walks[1].varbinds.len(), 36);
}

#[test]
fn a_walk_of_a_subtree_over_hostile_answers_always_ends() {
    let mib = vendor_mib();
    let root = oid("1.3.6.1.4.1");
    for seed in 0..3_000 {
        let mut random = Random(seed);
        let mut room = Room::of_all();
        let mut walk = Subtree::new(&root, &mut room);
        let mut answer_bytes = 1_400;
        let mut rounds = 0;
        while let Some(rows) = walk.next(answer_bytes, 10) {
            rounds += 1;
            assert!(rounds < 500, "seed {seed}");
            let request = Request {
                is_bulk: true,
                request_id: 1,
                max_repetitions: usize::from(rows),
                oids: vec![oid::decode(walk.cursor())],
                community: b"public".to_vec(),
            };
            let valid = honest(&mib, &request);
            let datagram = if random.below(3) == 0 {
                random.mutated(&valid)
            } else {
                valid
            };
            if let Ok(response) = message::read(&datagram)
                && walk.take(response, rows) == Taken::TooMuch
            {
                answer_bytes /= 2;
            }
        }
        let walked = walk.finish().varbinds;
        assert!(
            walked.windows(2).all(|pair| pair[0].oid < pair[1].oid),
            "seed {seed}"
        );
        assert!(
            walked.iter().all(|v| v.oid.below(&root).is_some()),
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn net_snmp_is_asked_for_what_plugins_want() {
    let patient = SnmpSettings {
        timeout: Duration::from_secs(1),
        ..settings()
    };
    let engine = SnmpEngine::start(patient).await.unwrap();
    let Some(snmpd) = snmpd(&engine).await else {
        return;
    };
    // the whole tree, indexes of every shape; and the views' table by name
    let vacm = "1.3.6.1.6.3.16";
    let extra = wanted(&[SYS_NAME], &["1.3.6.1.2.1.1", vacm, "1.3.6.1.4.1.99999"]);
    let credential = public();
    let answer = engine
        .ask(snmpd.address, &credential, &extra, Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(answer.got.len(), 1);
    let counts: Vec<usize> = answer.walks.iter().map(|w| w.varbinds.len()).collect();
    assert!(
        counts[0] > 6 && counts[1] > 10 && counts[2] == 0,
        "{counts:?}"
    );
    assert!(
        answer.walks.iter().all(|walk| walk.failure.is_none()),
        "{:?}",
        answer.walks
    );
    let long = answer.walks[1].varbinds.iter().any(|v| v.oid.0.len() > 20);
    assert!(long, "an index that is a text");
}
