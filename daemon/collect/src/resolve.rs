//! Host names to addresses.
//!
//! - No lookup ever blocks a thread, and each ends within [`DnsSettings::timeout`],
//!   waiting for its turn included twice that.
//! - An answer is kept as long as its TTL says, at least [`KEPT_AT_LEAST`] and
//!   at most [`DnsSettings::refresh`].
//! - A device whose name cannot be resolved any more is asked at its last known
//!   address, and the answer says so.
//! - Where no server answers at all, that is remembered for [`SILENCE`]: one
//!   name after that tries again, while all others go on at once with their
//!   last known address or with the failure.
//!
//! A name with several addresses keeps the last known one as long as it is
//! among them; otherwise its first IPv4 address is taken, and an IPv6 one only
//! if it has no other.
//!
//! `/etc/hosts` and `/etc/resolv.conf` are read when a [`Resolver`] is made.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::system_conf::read_system_conf;
use model::{Address, Failure, FailureKind};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::failure;

/// An answer is kept at least this long, whatever its TTL: most names are asked
/// for twice in a moment, for ICMP and for SNMP.
const KEPT_AT_LEAST: Duration = Duration::from_secs(10);

/// How long a name that failed is not looked up again, and how long servers
/// that said nothing are left alone.
const SILENCE: Duration = Duration::from_secs(15);

/// Names kept in memory: far more than the largest site has, and a limit.
const NAMES_KEPT: usize = 50_000;

/// How names are resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// The name servers; empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// How long a lookup may take in all.
    pub timeout: Duration,
    /// How many lookups may be on their way at once.
    pub in_flight: usize,
    /// How long an answer is kept at most.
    pub refresh: Duration,
}

/// Where to find a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The address.
    pub ip: IpAddr,
    /// A name server, or `/etc/hosts`, just said so: worth keeping as the last
    /// known address.
    pub fresh: bool,
    /// Why `ip` is only the last known address.
    pub failure: Option<Failure>,
}

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// `/etc/resolv.conf` cannot be used.
    #[error("cannot use the name servers of /etc/resolv.conf; name some in [dns] servers")]
    SystemSettings {
        /// What is wrong with it.
        source: NetError,
    },
    /// The settings cannot be used.
    #[error("cannot use the settings for name resolution")]
    Settings {
        /// What is wrong with them.
        source: NetError,
    },
}

/// Resolves host names; cheap to clone, and clones share what they know.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<Inner>,
}

struct Inner {
    dns: TokioResolver,
    settings: DnsSettings,
    turns: Semaphore,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    names: HashMap<String, Name>,
    /// Until when not to ask any server.
    silent_until: Option<Instant>,
    /// When a server last said anything.
    last_answer: Option<Instant>,
}

struct Name {
    /// The address, if it was ever resolved here.
    ip: Option<IpAddr>,
    /// Why it was not, the last time.
    failure: Option<Failure>,
    /// When to look again.
    until: Instant,
}

/// How a lookup failed: is anybody there?
enum LookupError {
    Answered(Failure),
    Silent(Failure),
}

impl Resolver {
    /// Prepares lookups; asks nobody yet.
    ///
    /// # Errors
    ///
    /// [`ResolverError`] says whether the settings or `/etc/resolv.conf` cannot
    /// be used. A machine without that file has a name server of its own, as
    /// resolv.conf(5) has it.
    pub fn new(settings: DnsSettings) -> Result<Resolver, ResolverError> {
        let (config, mut options) = if settings.servers.is_empty() {
            system_config().map_err(|source| ResolverError::SystemSettings { source })?
        } else {
            let servers = settings.servers.iter().copied().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            (config, ResolverOpts::default())
        };
        // one lost packet is made up for within our own limit
        options.timeout = settings.timeout / 2;
        options.attempts = 1;
        // both kinds of query of all lookups, doubled for a second server
        options.max_active_requests = settings.in_flight.saturating_mul(4);
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        // what is known is kept here
        options.cache_size = 0;
        let provider = TokioRuntimeProvider::default();
        let dns = TokioResolver::builder_with_config(config, provider)
            .with_options(options)
            .build()
            .map_err(|source| ResolverError::Settings { source })?;
        Ok(Resolver {
            inner: Arc::new(Inner {
                turns: Semaphore::new(settings.in_flight.max(1)),
                dns,
                settings,
                known: Mutex::default(),
            }),
        })
    }

    /// Finds the address to ask a device at. `last_known` is the one that was
    /// `fresh` before, if any.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Resolution`], if there is no last known address either:
    /// the text tells a name that does not exist from a server that does not
    /// answer.
    pub async fn resolve(
        &self,
        address: &Address,
        last_known: Option<IpAddr>,
    ) -> Result<Resolved, Failure> {
        let name = match address {
            Address::Ip(ip) => {
                return Ok(Resolved {
                    ip: *ip,
                    fresh: false,
                    failure: None,
                });
            }
            Address::Host(name) => name,
        };
        if let Some(known) = self.inner.recall(name, last_known) {
            return known;
        }
        let Ok(turn) = timeout(self.inner.settings.timeout, self.inner.turns.acquire()).await
        else {
            let why = self
                .inner
                .trouble(name, "too many lookups are waiting already");
            return self.inner.fall_back(name, why, last_known);
        };
        // others may have learnt something while this one waited
        if let Some(known) = self.inner.recall(name, last_known) {
            return known;
        }
        let looked_up = self.inner.look_up(name).await;
        drop(turn);
        self.inner.learn(name, looked_up, last_known)
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be said of `name` without asking; `None`: ask.
    fn recall(&self, name: &str, last_known: Option<IpAddr>) -> Option<Result<Resolved, Failure>> {
        let now = Instant::now();
        let mut known = self.known();
        let entry = known.names.get(name).filter(|entry| now < entry.until);
        if let Some(entry) = entry {
            let ip = entry.ip.or(last_known);
            return Some(match (ip, entry.failure.clone()) {
                (Some(ip), failure) => Ok(Resolved {
                    ip,
                    fresh: false,
                    failure,
                }),
                (None, Some(failure)) => Err(failure),
                (None, None) => return None,
            });
        }
        let silent_until = known.silent_until?;
        if now >= silent_until {
            // this one tries; the others wait for how it ends
            known.silent_until = Some(now + self.settings.timeout);
            return None;
        }
        let ip = known
            .names
            .get(name)
            .and_then(|entry| entry.ip)
            .or(last_known);
        drop(known);
        let failure = self.trouble(name, "no name server answers");
        Some(match ip {
            Some(ip) => Ok(Resolved {
                ip,
                fresh: false,
                failure: Some(failure),
            }),
            None => Err(failure),
        })
    }

    async fn look_up(&self, name: &str) -> Result<LookupIp, LookupError> {
        match timeout(self.settings.timeout, self.dns.lookup_ip(name)).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(self.explain(name, &error)),
            Err(_elapsed) => {
                let why = format!("no name server answers within {:?}", self.settings.timeout);
                Err(LookupError::Silent(self.trouble(name, &why)))
            }
        }
    }

    /// Keeps what a lookup brought, and says what it means for its caller.
    fn learn(
        &self,
        name: &str,
        looked_up: Result<LookupIp, LookupError>,
        last_known: Option<IpAddr>,
    ) -> Result<Resolved, Failure> {
        let now = Instant::now();
        let asked = now.checked_sub(self.settings.timeout).unwrap_or(now);
        let mut known = self.known();
        let last_known = last_known.or_else(|| known.names.get(name).and_then(|entry| entry.ip));
        let failure = match looked_up {
            Ok(found) => {
                known.hear(now);
                let addresses: Vec<IpAddr> = found.iter().collect();
                if let Some(ip) = choose(&addresses, last_known) {
                    let lasts = found
                        .valid_until()
                        .saturating_duration_since(now.into_std())
                        .min(self.settings.refresh)
                        .max(KEPT_AT_LEAST);
                    known.keep(name, Some(ip), None, now + lasts);
                    return Ok(Resolved {
                        ip,
                        fresh: true,
                        failure: None,
                    });
                }
                self.trouble(name, "it has no address")
            }
            Err(LookupError::Answered(failure)) => {
                known.hear(now);
                failure
            }
            Err(LookupError::Silent(failure)) => {
                // if others were answered meanwhile, it is this name's own fault
                if known.last_answer.is_none_or(|heard| heard < asked) {
                    known.silent_until = Some(now + SILENCE);
                }
                failure
            }
        };
        known.keep(name, last_known, Some(failure.clone()), now + SILENCE);
        drop(known);
        self.fall_back(name, failure, last_known)
    }

    /// The last known address, with why it is only that; or else the failure.
    fn fall_back(
        &self,
        name: &str,
        failure: Failure,
        last_known: Option<IpAddr>,
    ) -> Result<Resolved, Failure> {
        let remembered = || self.known().names.get(name).and_then(|entry| entry.ip);
        match last_known.or_else(remembered) {
            Some(ip) => Ok(Resolved {
                ip,
                fresh: false,
                failure: Some(failure),
            }),
            None => Err(failure),
        }
    }

    fn explain(&self, name: &str, error: &NetError) -> LookupError {
        match error {
            error if error.is_nx_domain() => {
                LookupError::Answered(self.trouble(name, "the name does not exist (NXDOMAIN)"))
            }
            error if error.is_no_records_found() => {
                LookupError::Answered(self.trouble(name, "the name has no address"))
            }
            NetError::Dns(DnsError::ResponseCode(code)) => {
                let why = format!("the name server reports an error ({code})");
                LookupError::Answered(self.trouble(name, &why))
            }
            NetError::Timeout => LookupError::Silent(self.trouble(name, "no name server answers")),
            other => {
                let why = format!("no name server can be asked ({other})");
                LookupError::Silent(self.trouble(name, &why))
            }
        }
    }

    fn trouble(&self, name: &str, why: &str) -> Failure {
        let advice = if self.settings.servers.is_empty() {
            "check /etc/resolv.conf"
        } else {
            "check [dns] servers"
        };
        let hint = if why.starts_with("no name server") {
            format!("; {advice}")
        } else {
            String::new()
        };
        failure(
            FailureKind::Resolution,
            format!("cannot resolve {name}: {why}{hint}"),
        )
    }
}

impl Known {
    fn hear(&mut self, now: Instant) {
        self.last_answer = Some(now);
        self.silent_until = None;
    }

    fn keep(&mut self, name: &str, ip: Option<IpAddr>, failure: Option<Failure>, until: Instant) {
        if self.names.len() >= NAMES_KEPT && !self.names.contains_key(name) {
            // all of them can be asked for again
            self.names.clear();
        }
        let entry = Name { ip, failure, until };
        self.names.insert(name.to_owned(), entry);
    }
}

/// Which of a name's addresses to ask.
fn choose(addresses: &[IpAddr], last_known: Option<IpAddr>) -> Option<IpAddr> {
    let is_usable = |ip: &&IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    let mut usable = addresses.iter().filter(is_usable);
    let stays = last_known.filter(|ip| addresses.contains(ip));
    let v4 = || usable.clone().find(|ip| ip.is_ipv4()).copied();
    stays.or_else(v4).or_else(|| usable.next().copied())
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .into_iter()
        .map(|mut connection| {
            connection.port = address.port();
            connection
        });
    NameServerConfig::new(address.ip(), true, connections.collect())
}

fn system_config() -> Result<(ResolverConfig, ResolverOpts), NetError> {
    let (config, options) = match read_system_conf() {
        Ok(read) => read,
        Err(NetError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            (ResolverConfig::default(), ResolverOpts::default())
        }
        Err(error) => return Err(error),
    };
    if config.name_servers().is_empty() {
        let here = name_server(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
        let (domain, search, _) = config.into_parts();
        return Ok((
            ResolverConfig::from_parts(domain, search, vec![here]),
            options,
        ));
    }
    Ok((config, options))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::sync::atomic::{AtomicU32, Ordering};

    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{A, AAAA};
    use hickory_resolver::proto::rr::{RData, Record, RecordType};
    use tokio::net::UdpSocket;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    const SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6));

    fn host(name: &str) -> Address {
        name.parse().unwrap()
    }

    fn resolver(server: SocketAddr) -> Resolver {
        Resolver::new(DnsSettings {
            servers: vec![server],
            timeout: Duration::from_millis(600),
            in_flight: 32,
            refresh: Duration::from_secs(300),
        })
        .unwrap()
    }

    /// A name server that counts its queries.
    struct Server {
        address: SocketAddr,
        queries: Arc<AtomicU32>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Server {
        fn queries(&self) -> u32 {
            self.queries.load(Ordering::SeqCst)
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    /// Starts a server that answers by the name's first label, or never.
    async fn server(answers: bool) -> Server {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let queries = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&queries);
        let task = tokio::spawn(async move {
            let mut buffer = [0u8; 1500];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                if answers {
                    let answer = answer(&buffer[..length]);
                    socket.send_to(&answer, peer).await.unwrap();
                }
            }
        });
        Server {
            address,
            queries,
            task,
        }
    }

    fn answer(query: &[u8]) -> Vec<u8> {
        let query = Message::from_vec(query).unwrap();
        let asked = query.queries[0].clone();
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.add_query(asked.clone());
        let name = asked.name().clone();
        let label = name.to_string();
        let mut add = |data| {
            let record = Record::from_rdata(name.clone(), 60, data);
            answer.add_answer(record);
        };
        match (label.split('.').next().unwrap(), asked.query_type()) {
            ("two", RecordType::A) => {
                add(RData::A(A::new(192, 0, 2, 1)));
                add(RData::A(A::new(192, 0, 2, 2)));
            }
            ("six", RecordType::AAAA) => {
                add(RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6)));
            }
            ("broken", _) => answer.metadata.response_code = ResponseCode::ServFail,
            ("nobody", _) => answer.metadata.response_code = ResponseCode::NXDomain,
            _ => {}
        }
        answer.to_vec().unwrap()
    }

    #[tokio::test]
    async fn an_address_is_its_own_answer() {
        let silent = server(false).await;
        let resolver = resolver(silent.address);
        let resolved = resolver.resolve(&Address::Ip(SIX), None).await.unwrap();
        assert_eq!((resolved.ip, resolved.fresh), (SIX, false));
        assert_eq!(silent.queries(), 0);
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_and_keeps_the_address_that_worked() {
        let server = server(true).await;
        let resolver = resolver(server.address);

        let first = resolver.resolve(&host("two.example"), None).await.unwrap();
        assert_eq!((first.ip, first.fresh, first.failure), (ONE, true, None));
        let asked = server.queries();
        let again = resolver.resolve(&host("two.example"), None).await.unwrap();
        assert_eq!((again.ip, again.fresh), (ONE, false));
        assert_eq!(server.queries(), asked, "from memory");

        let other = self::resolver(server.address);
        let stays = other
            .resolve(&host("two.example"), Some(TWO))
            .await
            .unwrap();
        assert_eq!((stays.ip, stays.fresh), (TWO, true));
    }

    #[tokio::test]
    async fn a_name_without_ipv4_is_asked_by_ipv6() {
        let server = server(true).await;
        let resolved = resolver(server.address)
            .resolve(&host("six.example"), None)
            .await
            .unwrap();
        assert_eq!((resolved.ip, resolved.fresh), (SIX, true));
    }

    #[tokio::test]
    async fn each_way_to_fail_has_its_own_text() {
        let server = server(true).await;
        let resolver = resolver(server.address);
        for (name, expected) in [
            ("nobody.example", "NXDOMAIN"),
            ("empty.example", "no address"),
            ("broken.example", "reports an error"),
        ] {
            let failure = resolver.resolve(&host(name), None).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Resolution);
            assert!(failure.text.contains(expected), "{failure}");
            assert!(failure.text.contains(name), "{failure}");
            // and the last known address still serves
            let resolved = resolver.resolve(&host(name), Some(TWO)).await.unwrap();
            assert_eq!((resolved.ip, resolved.fresh), (TWO, false));
            assert!(resolved.failure.unwrap().text.contains(expected));
        }
    }

    #[tokio::test]
    async fn with_dns_dead_a_thousand_names_go_on_at_their_last_address() {
        let silent = server(false).await;
        let resolver = resolver(silent.address);
        let began = Instant::now();
        for round in 0..3 {
            let mut lookups = tokio::task::JoinSet::new();
            for number in 0..1_000 {
                let resolver = resolver.clone();
                let known = (number % 2 == 0).then_some(ONE);
                lookups.spawn(async move {
                    let name = host(&format!("sw{number}.example"));
                    (resolver.resolve(&name, known).await, known)
                });
            }
            while let Some(done) = lookups.join_next().await {
                match done.unwrap() {
                    (Ok(resolved), Some(ip)) => {
                        assert_eq!((resolved.ip, resolved.fresh), (ip, false));
                        let why = resolved.failure.unwrap();
                        assert!(why.text.contains("no name server answers"), "{why}");
                        assert!(why.text.contains("[dns] servers"), "{why}");
                    }
                    (Err(why), None) => assert_eq!(why.kind, FailureKind::Resolution),
                    (wrong, _) => panic!("round {round}: {wrong:?}"),
                }
            }
        }
        // two waits of 0.6 s at most: for a turn, and for the lookup itself
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
        assert!(silent.queries() <= 32 * 8, "{}", silent.queries());
    }

    #[tokio::test]
    async fn nobody_listening_is_told_like_silence() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let closed = socket.local_addr().unwrap();
        drop(socket);
        let failure = resolver(closed)
            .resolve(&host("sw1.example"), None)
            .await
            .unwrap_err();
        assert!(failure.text.contains("no name server"), "{failure}");
    }

    #[test]
    fn the_address_that_was_used_stays_while_the_name_has_it() {
        assert_eq!(choose(&[SIX, ONE, TWO], None), Some(ONE));
        assert_eq!(choose(&[SIX, ONE, TWO], Some(SIX)), Some(SIX));
        assert_eq!(choose(&[ONE], Some(TWO)), Some(ONE));
        assert_eq!(choose(&[SIX], None), Some(SIX));
        assert_eq!(choose(&[], Some(ONE)), None);
        assert_eq!(choose(&[IpAddr::V4(Ipv4Addr::UNSPECIFIED)], None), None);
    }
}
