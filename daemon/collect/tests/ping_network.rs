//! The pinger in a network of its own: unprivileged sockets, a router that
//! says no, a neighbour that is not there.
//!
//! The test starts itself again inside network namespaces, which needs root and
//! the tools of util-linux and iproute2; without them it is skipped.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "this is a test: it may panic, and has to say what it skips"
)]

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use collect::{PingAccess, PingSettings, Pinger};
use model::{Failure, FailureKind, PingAnswer, Probe, Timestamp};

/// Says to this binary which part it plays.
const PART: &str = "SOTP_TEST_PART";

/// Here, 10.9.0.1, behind a router 10.9.0.2 that knows no way to 198.51.100.0/24
/// and forbids 203.0.113.0/24. Every group may ping.
const BEHIND_A_ROUTER: &str = r#"
set -e
ip link set lo up
sysctl -qw net.ipv4.ping_group_range="0 2147483647"
unshare -n sleep 60 &
router=$!
trap 'kill $router' EXIT
tries=0
until [ "$(readlink /proc/$router/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do
    tries=$((tries + 1)); [ $tries -lt 10000 ]
done
ip link add here type veth peer name there
ip link set there netns $router
nsenter -t $router -n sh -ec '
    ip addr add 10.9.0.2/24 dev there; ip link set there up
    ip -6 addr add fd00:9::2/64 dev there nodad
    sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
    ip route add unreachable 198.51.100.0/24
    ip route add prohibit 203.0.113.0/24
    ip -6 route add unreachable fd00:dead::/64'
ip addr add 10.9.0.1/24 dev here; ip link set here up
ip -6 addr add fd00:9::1/64 dev here nodad
ip route add default via 10.9.0.2
ip -6 route add default via fd00:9::2
ip route add unreachable 192.0.2.0/24
"$@"
"#;

/// Only loopback is up, and there is no default route: a pulled cable.
const UNPLUGGED: &str = r#"
set -e
ip link set lo up
sysctl -qw net.ipv4.ping_group_range="0 2147483647"
"$@"
"#;

/// Nobody may ping, by no means.
const LOCKED_OUT: &str = r#"
set -e
ip link set lo up
setpriv --bounding-set=-all --inh-caps=-all --reuid=65534 --clear-groups "$@"
"#;

fn settings() -> PingSettings {
    PingSettings {
        probes: 3,
        timeout: Duration::from_millis(500),
        gap: Duration::from_millis(20),
        in_flight: 512,
        receive_buffer: 1 << 20,
    }
}

async fn round(pinger: &Pinger, target: &str) -> Result<PingAnswer, Failure> {
    let target: IpAddr = target.parse().unwrap();
    let round = pinger.round(target, Timestamp(0));
    tokio::time::timeout(Duration::from_secs(20), round)
        .await
        .expect("a round ends by itself")
}

/// What the scripts need.
const USABLE: &str = "ip link set lo up && ip link add sotp0 type veth peer name sotp1 && \
    command -v nsenter && command -v setpriv && command -v sysctl";

/// Runs the test called `name` again, as the part of that name, in a new
/// network that `script` sets up; does nothing if this machine does not let us.
fn play(name: &str, script: &str) {
    let usable = Command::new("unshare")
        .args(["-n", "sh", "-c", USABLE])
        .output()
        .is_ok_and(|output| output.status.success());
    if !usable {
        eprintln!("skipped: this process may not make a network of its own");
        return;
    }
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(PART, name)
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{shown}");
}

fn part() -> Option<String> {
    std::env::var(PART).ok()
}

#[tokio::test]
async fn unreachable_and_silent_are_told_apart_without_privileges() {
    if part().is_none() {
        play(
            "unreachable_and_silent_are_told_apart_without_privileges",
            BEHIND_A_ROUTER,
        );
        return;
    }
    let pinger = Pinger::start(settings()).unwrap();
    let both = (PingAccess::PingSocket, PingAccess::PingSocket);
    assert_eq!(pinger.capability(), both);

    let refused = [
        "198.51.100.1", // the router knows no way
        "203.0.113.1",  // the router forbids it
        "192.0.2.1",    // we know no way
        "fd00:dead::1", // IPv6, the router
    ];
    for target in refused {
        let answer = round(&pinger, target).await.unwrap();
        // a router says it a few times a second at most
        assert_eq!(answer.probes[0], Probe::Unreachable, "{target}");
        let is_answered = |probe: &Probe| matches!(probe, Probe::Answered(_));
        assert!(!answer.probes.iter().any(is_answered), "{answer:?}");
    }
    let nobody_there = round(&pinger, "10.9.0.9").await.unwrap();
    assert_eq!(nobody_there.probes, vec![Probe::TimedOut; 3]);

    for target in ["10.9.0.2", "fd00:9::2", "127.0.0.1"] {
        let answer = round(&pinger, target).await.unwrap();
        let is_answered = |probe: &Probe| matches!(probe, Probe::Answered(_));
        assert!(answer.probes.iter().all(is_answered), "{target} {answer:?}");
    }
}

#[tokio::test]
async fn one_that_refuses_does_not_harm_others_asked_at_the_same_time() {
    if part().is_none() {
        play(
            "one_that_refuses_does_not_harm_others_asked_at_the_same_time",
            BEHIND_A_ROUTER,
        );
        return;
    }
    let pinger = Pinger::start(settings()).unwrap();
    let mut rounds = tokio::task::JoinSet::new();
    for host in 0..400u16 {
        let dead = format!("198.51.100.{}", host % 250 + 1);
        let alive = format!("127.9.{}.1", host % 250);
        for (target, is_alive) in [(dead, false), (alive, true)] {
            let pinger = pinger.clone();
            rounds.spawn(async move { (round(&pinger, &target).await, is_alive) });
        }
    }
    while let Some(done) = rounds.join_next().await {
        let (answer, is_alive) = done.unwrap();
        let answer = answer.unwrap();
        for probe in &answer.probes {
            let is_answered = matches!(probe, Probe::Answered(_));
            assert_eq!(is_answered, is_alive, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn whoever_may_not_ping_is_told_what_to_do() {
    if part().is_none() {
        play("whoever_may_not_ping_is_told_what_to_do", LOCKED_OUT);
        return;
    }
    let pinger = Pinger::start(settings()).unwrap();
    let why = round(&pinger, "127.0.0.1").await.unwrap_err();
    assert_eq!(why.kind, FailureKind::Permission);
    for hint in ["net.ipv4.ping_group_range", "CAP_NET_RAW", "drop-in"] {
        assert!(why.text.contains(hint), "{why}");
    }
    let (v4, _) = pinger.capability();
    assert!(v4.to_string().starts_with("none: "), "{v4}");
}

#[tokio::test]
async fn a_route_that_we_lack_says_nothing_of_the_device() {
    if part().is_none() {
        play("a_route_that_we_lack_says_nothing_of_the_device", UNPLUGGED);
        return;
    }
    let pinger = Pinger::start(settings()).unwrap();
    for target in ["192.0.2.1", "2001:db8::1"] {
        let failure = round(&pinger, target).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Local, "{target}: {failure}");
    }
}
