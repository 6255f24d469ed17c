//! A running site: its devices, their conditions and the threads that answer
//! for them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use model::{DeviceKind, Timestamp};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, warn};

use crate::agent::Snapshot;
use crate::answer::answer;
use crate::clock::Clock;
use crate::echo::{self, Distance};
use crate::fault::{Condition, Fault, FaultError};
use crate::message::{MAX_MESSAGE_BYTES, Message};
use crate::network::{Network, NetworkError};
use crate::noise::{Chance, mix};
use crate::plan::{self, Inside, MOST_DEVICES, MOST_PORTS, Planned};
use crate::recording::RecordingError;
use crate::wire::{self, Counts, Datagram, Reply};

/// What fits into one Ethernet frame: 1500 bytes less the headers of IPv4 and
/// UDP. Real agents stop there.
pub const USUAL_RESPONSE_BYTES: usize = 1_472;

/// An answer of fewer bytes could not even carry an error.
const LEAST_RESPONSE_BYTES: usize = 484;

/// Says whether the kernel leaves echo requests to us.
const ECHO_IGNORE_ALL: &str = "/proc/sys/net/ipv4/icmp_echo_ignore_all";

/// Which devices there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// A company with a core and branches, of many vendors.
    Company {
        /// How many devices.
        devices: usize,
    },
    /// Equal switches, for measuring.
    Uniform {
        /// How many devices.
        devices: usize,
        /// Ports of each.
        ports: u32,
    },
    /// A device for each recording (`*.snmprec`), called after its file.
    Recordings(Vec<PathBuf>),
}

/// What to simulate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteOptions {
    /// Which devices there are.
    pub plan: Plan,
    /// Where they live, the first at the first address.
    pub network: Network,
    /// The UDP port of all agents; 0 picks one that is free.
    pub port: u16,
    /// The one community that is answered.
    pub community: Vec<u8>,
    /// The longest response, in bytes.
    pub response_bytes: usize,
    /// Answer echo requests, in a network namespace in which the kernel does
    /// not.
    pub icmp: bool,
    /// Sites with different seeds have different traffic.
    pub seed: u64,
}

impl Default for SiteOptions {
    /// A company of 50 devices in 127.20.0.0/16 on a free port, without ICMP.
    fn default() -> SiteOptions {
        SiteOptions {
            plan: Plan::Company { devices: 50 },
            network: Network::default(),
            port: 0,
            community: b"public".to_vec(),
            response_bytes: USUAL_RESPONSE_BYTES,
            icmp: false,
            seed: 1,
        }
    }
}

/// Why a site did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its addresses cannot be had.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A recording cannot be served.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// An option makes no sense.
    #[error("{0}")]
    Option(String),
    /// The port is taken, or we may not have it.
    #[error("cannot listen for SNMP on {address}")]
    Listen {
        /// Where.
        address: SocketAddrV4,
        /// What the operating system said.
        source: io::Error,
    },
    /// No raw socket.
    #[error("cannot answer ICMP; that takes CAP_NET_RAW in this network namespace")]
    Icmp(#[source] io::Error),
    /// The kernel would answer as well.
    #[error(
        "the kernel answers echo requests itself: set net.ipv4.icmp_echo_ignore_all=1, in a network namespace of its own"
    )]
    KernelAnswers,
    /// No thread.
    #[error("cannot start a thread that answers")]
    Thread(#[source] io::Error),
}

/// One simulated device, as an inventory knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SimulatedDevice {
    /// Unique in the site.
    pub name: String,
    /// Where its SNMP agent answers.
    pub address: SocketAddr,
    /// What it is for.
    #[serde(serialize_with = "as_word")]
    pub kind: DeviceKind,
    /// Who made it.
    pub vendor: String,
    /// Which model.
    pub model: String,
    /// What runs on it.
    pub os: String,
    /// The site it stands at.
    pub site: String,
    /// Where in the site.
    pub location: String,
    /// Free words.
    pub tags: Vec<String>,
    /// The names of the devices it is reached through.
    pub parents: Vec<String>,
}

fn as_word<S: serde::Serializer>(kind: &DeviceKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.word())
}

/// How much was asked and answered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteStats {
    /// SNMP datagrams received.
    pub snmp_received: u64,
    /// SNMP responses sent.
    pub snmp_sent: u64,
    /// SNMP responses that found no room.
    pub snmp_dropped: u64,
    /// ICMP packets received, our own replies among them.
    pub icmp_received: u64,
    /// Echo replies sent.
    pub icmp_sent: u64,
    /// Echo replies that found no room.
    pub icmp_dropped: u64,
}

/// The devices that `options` describe, without starting anything. With port 0
/// their port is 0 as well.
///
/// # Errors
///
/// As [`Site::start`], without those of the operating system.
pub fn describe(options: &SiteOptions) -> Result<Vec<SimulatedDevice>, StartError> {
    check(options)?;
    let planned = plan(options)?;
    Ok(place(&planned, options)?.1)
}

/// Simulated devices that answer until this is dropped.
#[derive(Debug)]
pub struct Site {
    inner: Arc<Inner>,
    /// Closing these ends the threads.
    stops: Vec<UnixStream>,
    threads: Vec<JoinHandle<()>>,
}

impl Site {
    /// Starts a site. It answers from now on, in threads of its own, whatever
    /// the caller's runtime does.
    ///
    /// # Errors
    ///
    /// [`StartError`] names the option, the file or the address in question.
    pub fn start(options: SiteOptions) -> Result<Site, StartError> {
        check(&options)?;
        let planned = plan(&options)?;
        let (first, mut devices) = place(&planned, &options)?;
        let (snmp, port) = snmp_socket(first, devices.len(), options.port)?;
        for device in &mut devices {
            device.address.set_port(port);
        }
        let icmp = options.icmp.then(icmp_socket).transpose()?;
        let mut site = Site {
            inner: Arc::new(Inner::new(options, planned, first, devices)),
            stops: Vec::new(),
            threads: Vec::new(),
        };
        site.spawn("simulate-snmp", move |inner, stop| {
            let mut chance = Chance::new(mix(inner.options.seed, 101));
            wire::serve(&snmp, stop, &inner.snmp, |datagram| {
                inner.answer_snmp(datagram, &mut chance)
            });
        })?;
        if let Some(icmp) = icmp {
            site.spawn("simulate-icmp", move |inner, stop| {
                let mut chance = Chance::new(mix(inner.options.seed, 102));
                wire::serve(&icmp, stop, &inner.icmp, |datagram| {
                    inner.answer_icmp(datagram, &mut chance)
                });
            })?;
        }
        Ok(site)
    }

    fn spawn(
        &mut self,
        name: &str,
        run: impl FnOnce(&Inner, &UnixStream) + Send + 'static,
    ) -> Result<(), StartError> {
        let (ours, theirs) = UnixStream::pair().map_err(StartError::Thread)?;
        let inner = Arc::clone(&self.inner);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&inner, &theirs))
            .map_err(StartError::Thread)?;
        self.stops.push(ours);
        self.threads.push(thread);
        Ok(())
    }

    /// All devices; parents before their children.
    #[must_use]
    pub fn devices(&self) -> &[SimulatedDevice] {
        &self.inner.devices
    }

    /// The device with this name or IP address.
    #[must_use]
    pub fn device(&self, name_or_address: &str) -> Option<&SimulatedDevice> {
        let ip = name_or_address.parse::<IpAddr>().ok();
        self.devices()
            .iter()
            .find(|device| device.name == name_or_address || Some(device.address.ip()) == ip)
    }

    /// The ifNames of a device; none for a recording.
    ///
    /// # Errors
    ///
    /// [`FaultError::NoSuchDevice`].
    pub fn interfaces(&self, address: IpAddr) -> Result<Vec<String>, FaultError> {
        Ok(match &self.inner.insides[self.inner.index(address)?] {
            Inside::Invented(agent) => (0..agent.port_count())
                .map(|port| agent.if_name(port))
                .collect(),
            Inside::Recorded(_) => Vec::new(),
        })
    }

    /// Makes `fault` happen to the device at `address`, at once.
    ///
    /// # Errors
    ///
    /// [`FaultError`] says what does not exist or does not fit.
    pub fn fault(&self, address: IpAddr, fault: Fault) -> Result<(), FaultError> {
        self.inner.fault(address, &fault)
    }

    /// Ends [`Fault::Down`] and [`Fault::Silent`] of the device at `address`.
    ///
    /// # Errors
    ///
    /// [`FaultError::NoSuchDevice`].
    pub fn up(&self, address: IpAddr) -> Result<(), FaultError> {
        let index = self.inner.index(address)?;
        let mut conditions = self.inner.conditions();
        conditions[index].down = false;
        conditions[index].silent = false;
        Ok(())
    }

    /// Ends every standing fault of the device at `address`. What happened
    /// stays so: a reboot, new ifIndexes, cleared and wrapped counters.
    ///
    /// # Errors
    ///
    /// [`FaultError::NoSuchDevice`].
    pub fn clear(&self, address: IpAddr) -> Result<(), FaultError> {
        let index = self.inner.index(address)?;
        self.inner.conditions()[index].clear(self.inner.clock.now());
        Ok(())
    }

    /// The standing faults of the device at `address`, in words; `ok` if there
    /// are none.
    ///
    /// # Errors
    ///
    /// [`FaultError::NoSuchDevice`].
    pub fn condition(&self, address: IpAddr) -> Result<String, FaultError> {
        let index = self.inner.index(address)?;
        Ok(self.inner.conditions()[index].to_string())
    }

    /// How much was asked and answered so far.
    #[must_use]
    pub fn stats(&self) -> SiteStats {
        let (snmp, icmp) = (&self.inner.snmp, &self.inner.icmp);
        SiteStats {
            snmp_received: snmp.received.load(Ordering::Relaxed),
            snmp_sent: snmp.sent.load(Ordering::Relaxed),
            snmp_dropped: snmp.dropped.load(Ordering::Relaxed),
            icmp_received: icmp.received.load(Ordering::Relaxed),
            icmp_sent: icmp.sent.load(Ordering::Relaxed),
            icmp_dropped: icmp.dropped.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stops.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                warn!("a thread that answered had panicked");
            }
        }
    }
}

fn check(options: &SiteOptions) -> Result<(), StartError> {
    let refuse = |why: String| Err(StartError::Option(why));
    let (devices, ports) = match &options.plan {
        Plan::Company { devices } => (*devices, 1),
        Plan::Uniform { devices, ports } => (*devices, *ports),
        Plan::Recordings(paths) => (paths.len(), 1),
    };
    if !(1..=MOST_DEVICES).contains(&devices) {
        return refuse(format!(
            "a site has 1 to {MOST_DEVICES} devices, not {devices}"
        ));
    }
    if !(1..=MOST_PORTS).contains(&ports) {
        return refuse(format!("a device has 1 to {MOST_PORTS} ports, not {ports}"));
    }
    if !(1..=255).contains(&options.community.len()) {
        return refuse("a community has 1 to 255 bytes".to_owned());
    }
    if !(LEAST_RESPONSE_BYTES..=MAX_MESSAGE_BYTES).contains(&options.response_bytes) {
        return refuse(format!(
            "a response is limited to {LEAST_RESPONSE_BYTES} to {MAX_MESSAGE_BYTES} bytes, not {}",
            options.response_bytes
        ));
    }
    Ok(())
}

fn plan(options: &SiteOptions) -> Result<Vec<Planned>, StartError> {
    Ok(match &options.plan {
        Plan::Company { devices } => plan::company(*devices, options.seed),
        Plan::Uniform { devices, ports } => plan::uniform(*devices, *ports, options.seed),
        Plan::Recordings(paths) => {
            let recorded = paths.iter().map(|path| plan::recorded(path, options.seed));
            recorded.collect::<Result<_, _>>()?
        }
    })
}

/// Gives every device its address; also returns the first one.
fn place(
    planned: &[Planned],
    options: &SiteOptions,
) -> Result<(Ipv4Addr, Vec<SimulatedDevice>), StartError> {
    let mut addresses = options.network.first_addresses(planned.len())?.peekable();
    let first = *addresses.peek().expect("a site has at least one device");
    let placed = planned.iter().zip(addresses).map(|(planned, address)| {
        let entry = planned.entry.clone();
        SimulatedDevice {
            name: entry.name,
            address: SocketAddrV4::new(address, options.port).into(),
            kind: entry.kind,
            vendor: entry.vendor,
            model: entry.model,
            os: entry.os,
            site: entry.site,
            location: entry.location,
            tags: entry.tags,
            parents: entry.parents,
        }
    });
    Ok((first, placed.collect()))
}

/// One socket for all devices, and its port. More than one address means all
/// addresses, but of the loopback interface only.
fn snmp_socket(first: Ipv4Addr, devices: usize, port: u16) -> Result<(Socket, u16), StartError> {
    let ip = if devices == 1 {
        first
    } else {
        Ipv4Addr::UNSPECIFIED
    };
    let address = SocketAddrV4::new(ip, port);
    let bound = || -> io::Result<(Socket, u16)> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind_device(Some(b"lo"))?;
        socket.bind(&address.into())?;
        wire::prepare(&socket)?;
        let port = socket.local_addr()?.as_socket().map_or(0, |own| own.port());
        Ok((socket, port))
    };
    bound().map_err(|source| StartError::Listen { address, source })
}

fn icmp_socket() -> Result<Socket, StartError> {
    let ignored = fs::read_to_string(ECHO_IGNORE_ALL);
    if ignored.is_ok_and(|ignored| ignored.trim() == "0") {
        return Err(StartError::KernelAnswers);
    }
    let open = || -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        wire::prepare(&socket)?;
        Ok(socket)
    };
    open().map_err(StartError::Icmp)
}

/// What the threads share.
#[derive(Debug)]
struct Inner {
    options: SiteOptions,
    clock: Clock,
    first: Ipv4Addr,
    devices: Vec<SimulatedDevice>,
    insides: Vec<Inside>,
    distances: Vec<Distance>,
    conditions: Mutex<Vec<Condition>>,
    snmp: Counts,
    icmp: Counts,
}

impl Inner {
    fn new(
        options: SiteOptions,
        planned: Vec<Planned>,
        first: Ipv4Addr,
        devices: Vec<SimulatedDevice>,
    ) -> Inner {
        let clock = Clock::start();
        let now = clock.now();
        let conditions = planned
            .iter()
            .map(|planned| Condition::new(boot(planned, now)));
        let distances = planned
            .iter()
            .zip(0..)
            .map(|(planned, number)| Distance::new(mix(options.seed, number), planned.site_seed));
        Inner {
            clock,
            first,
            devices,
            conditions: Mutex::new(conditions.collect()),
            distances: distances.collect(),
            insides: planned.into_iter().map(|planned| planned.inside).collect(),
            snmp: Counts::default(),
            icmp: Counts::default(),
            options,
        }
    }

    /// The conditions. Nobody panics halfway through changing one, so what a
    /// poisoned lock guards is as good as ever.
    fn conditions(&self) -> MutexGuard<'_, Vec<Condition>> {
        self.conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of the device at `address`.
    fn index(&self, address: IpAddr) -> Result<usize, FaultError> {
        let found = match address {
            IpAddr::V4(address) => self.index_v4(address),
            IpAddr::V6(_) => None,
        };
        found.ok_or_else(|| FaultError::NoSuchDevice(address.to_string()))
    }

    fn index_v4(&self, address: Ipv4Addr) -> Option<usize> {
        let place = address.to_bits().checked_sub(self.first.to_bits())?;
        let place = usize::try_from(place).ok()?;
        (place < self.devices.len()).then_some(place)
    }

    fn fault(&self, address: IpAddr, fault: &Fault) -> Result<(), FaultError> {
        let index = self.index(address)?;
        fault.check()?;
        let port = match &self.insides[index] {
            Inside::Invented(agent) => match fault.interface() {
                None => None,
                Some(name) => {
                    let port = agent.find_port(name);
                    let port = port.ok_or_else(|| self.no_such_interface(index, name))?;
                    Some((port, agent.standing(port)))
                }
            },
            Inside::Recorded(_) if !fault.suits_recording() => {
                return Err(FaultError::Recorded {
                    device: self.devices[index].name.clone(),
                    fault: fault.word(),
                });
            }
            Inside::Recorded(_) => None,
        };
        self.conditions()[index].set(fault, port, self.clock.now());
        Ok(())
    }

    fn no_such_interface(&self, index: usize, name: &str) -> FaultError {
        const NAMED: u32 = 8;
        let known = match &self.insides[index] {
            Inside::Invented(agent) => {
                let count = agent.port_count();
                let mut names: Vec<String> = (0..count.min(NAMED))
                    .map(|port| agent.if_name(port))
                    .collect();
                if count > NAMED {
                    names.push(format!("and {} more", count - NAMED));
                }
                names.join(", ")
            }
            Inside::Recorded(_) => String::new(),
        };
        FaultError::NoSuchInterface {
            device: self.devices[index].name.clone(),
            interface: name.chars().take(80).collect(),
            known,
        }
    }

    fn answer_snmp(&self, datagram: Datagram<'_>, chance: &mut Chance) -> Option<Reply> {
        let index = self.index_v4(datagram.to)?;
        let request = match Message::decode(datagram.bytes) {
            Ok(request) => request,
            Err(error) => {
                debug!(from = %datagram.from, %error, "not answered");
                return None;
            }
        };
        let now = self.clock.now();
        let conditions = self.conditions();
        let condition = &conditions[index];
        if condition.silent || self.is_lost(condition, now, chance) {
            return None;
        }
        let community = condition.community.as_deref();
        if request.community != community.unwrap_or(&self.options.community) {
            return None;
        }
        let limit = self.options.response_bytes;
        let bytes = match &self.insides[index] {
            Inside::Invented(agent) => {
                let snapshot = Snapshot {
                    agent,
                    condition,
                    now,
                };
                answer(&snapshot, condition, &request, limit, chance)
            }
            Inside::Recorded(recording) => answer(recording, condition, &request, limit, chance),
        };
        bytes.map(|bytes| Reply {
            bytes,
            after: condition.slow,
        })
    }

    fn answer_icmp(&self, datagram: Datagram<'_>, chance: &mut Chance) -> Option<Reply> {
        let index = self.index_v4(datagram.to)?;
        let bytes = echo::reply(datagram.bytes)?;
        let conditions = self.conditions();
        let condition = &conditions[index];
        if self.is_lost(condition, self.clock.now(), chance) {
            return None;
        }
        let travel: Duration = self.distances[index].delay(chance);
        Some(Reply {
            bytes,
            after: travel + condition.slow,
        })
    }

    fn is_lost(&self, condition: &Condition, now: Timestamp, chance: &mut Chance) -> bool {
        condition.is_gone(now) || (condition.loss > 0.0 && chance.unit() < condition.loss)
    }
}

fn boot(planned: &Planned, now: Timestamp) -> Timestamp {
    match &planned.inside {
        Inside::Invented(agent) => agent.boot(now),
        Inside::Recorded(recording) => {
            let name = &planned.entry.name;
            if let Some(first) = recording.skipped.first() {
                let (lines, line, why) = (recording.skipped.len(), first.line, first.why);
                warn!(
                    name,
                    lines, line, why, "left out lines that no agent could send"
                );
            }
            debug!(name, instances = recording.len(), "recording read");
            now
        }
    }
}
