//! Calls of a component that is loaded: a fresh instance each, so that nothing
//! of one device's call is left for another's.

use std::sync::{Arc, PoisonError, RwLock};

use contract::{
    Call, Ended, Failure, Fault, FaultClass, Kind, MetricDescriptor, Next, Plugin, PluginError,
    Reply, Session, check,
};
use wasmtime::component::InstancePre;
use wasmtime::{Engine, Error, Result, Store, UpdateDeadline};

use crate::bindings::{notifier, parser, poller, remediation, rule};
use crate::convert::Turn;
use crate::explain;
use crate::host::{Host, Meter};
use crate::ticker::Ticker;

/// A component, ready for instances of its kind.
pub(crate) enum Entry {
    Parser(parser::ParserPluginPre<Host>),
    Rule(rule::RulePluginPre<Host>),
    Remediation(remediation::RemediationPluginPre<Host>),
    Notifier(notifier::NotifierPluginPre<Host>),
    Poller(poller::PollerPluginPre<Host>),
}

impl Entry {
    pub(crate) fn of(kind: Kind, linked: InstancePre<Host>) -> Result<Entry> {
        Ok(match kind {
            Kind::Parser => Entry::Parser(parser::ParserPluginPre::new(linked)?),
            Kind::Rule => Entry::Rule(rule::RulePluginPre::new(linked)?),
            Kind::Remediation => {
                Entry::Remediation(remediation::RemediationPluginPre::new(linked)?)
            }
            Kind::Notifier => Entry::Notifier(notifier::NotifierPluginPre::new(linked)?),
            Kind::Poller => Entry::Poller(poller::PollerPluginPre::new(linked)?),
        })
    }

    fn kind(&self) -> Kind {
        match self {
            Entry::Parser(_) => Kind::Parser,
            Entry::Rule(_) => Kind::Rule,
            Entry::Remediation(_) => Kind::Remediation,
            Entry::Notifier(_) => Kind::Notifier,
            Entry::Poller(_) => Kind::Poller,
        }
    }

    fn instantiate(&self, store: &mut Store<Host>) -> Result<()> {
        match self {
            Entry::Parser(pre) => pre.instantiate(store).map(drop),
            Entry::Rule(pre) => pre.instantiate(store).map(drop),
            Entry::Remediation(pre) => pre.instantiate(store).map(drop),
            Entry::Notifier(pre) => pre.instantiate(store).map(drop),
            Entry::Poller(pre) => pre.instantiate(store).map(drop),
        }
    }
}

/// What a guest returned, said, or why it broke.
type Answer = Result<std::result::Result<Reply, PluginError>>;

fn reply<T: Turn<U>, U>(
    returned: std::result::Result<T, crate::bindings::types::PluginError>,
    word: fn(U) -> Reply,
) -> Answer {
    Ok(match returned {
        Ok(it) => Ok(word(it.turn())),
        Err(error) => Err(error.turn()),
    })
}

/// A component that is loaded.
pub struct Component {
    entry: Entry,
    engine: Engine,
    ticker: Arc<Ticker>,
    /// What it described last: what it reads is checked against it.
    described: RwLock<Option<Arc<MetricDescriptor>>>,
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component")
            .field("kind", &self.entry.kind())
            .finish_non_exhaustive()
    }
}

impl Component {
    pub(crate) fn new(entry: Entry, engine: Engine, ticker: Arc<Ticker>) -> Component {
        Component {
            entry,
            engine,
            ticker,
            described: RwLock::default(),
        }
    }

    /// What it does.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.entry.kind()
    }

    /// Types that do not match show only in an instance.
    pub(crate) fn try_an_instance(&self, session: Session) -> Result<()> {
        let _running = self.ticker.busy();
        let mut store = self.store(session, Meter::start());
        self.entry.instantiate(&mut store)
    }

    /// A store for one call, with its limits in force.
    fn store(&self, session: Session, meter: Meter) -> Store<Host> {
        let output = session.limits().output;
        let mut store = Store::new(&self.engine, Host::new(session, meter));
        store.limiter(|host| &mut host.space);
        store.set_hostcall_fuel(usize::try_from(output).unwrap_or(usize::MAX));
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            store.data().within_time()?;
            Ok(UpdateDeadline::Continue(1))
        });
        store
    }

    fn answer(&self, store: &mut Store<Host>, call: Call) -> Answer {
        match (&self.entry, call) {
            (Entry::Remediation(_) | Entry::Notifier(_), Call::Describe) => Ok(Ok(Reply::Nothing)),
            (Entry::Parser(_) | Entry::Poller(_), Call::Describe) => {
                let descriptor = self.describe(store)?;
                Ok(Ok(Reply::Metrics((*descriptor).clone())))
            }
            (Entry::Rule(pre), Call::Describe) => {
                let guest = pre.instantiate(&mut *store)?;
                let descriptor = guest.sotp_plugin_rule().call_describe(store)?;
                Ok(Ok(Reply::Rule(descriptor.turn())))
            }
            (Entry::Parser(pre), Call::Parse(input)) => {
                let guest = pre.instantiate(&mut *store)?;
                let output = guest
                    .sotp_plugin_parser()
                    .call_parse(store, &input.turn())?;
                reply(output, Reply::Output)
            }
            (Entry::Rule(pre), Call::Evaluate(input)) => {
                let guest = pre.instantiate(&mut *store)?;
                let output = guest
                    .sotp_plugin_rule()
                    .call_evaluate(store, &input.turn())?;
                reply(output, Reply::Verdicts)
            }
            (Entry::Remediation(pre), Call::Decide { incident, history }) => {
                let guest = pre.instantiate(&mut *store)?;
                let guest = guest.sotp_plugin_remediation();
                let history: Vec<_> = history.turn();
                let decision = guest.call_decide(store, &incident.turn(), &history)?;
                reply(decision, Reply::Decision)
            }
            (Entry::Notifier(pre), Call::Render(notification)) => {
                let guest = pre.instantiate(&mut *store)?;
                let guest = guest.sotp_plugin_notifier();
                let requests = guest.call_render(store, &notification.turn())?;
                reply(requests, Reply::Requests)
            }
            (
                Entry::Notifier(pre),
                Call::Interpret {
                    notification,
                    response,
                },
            ) => {
                let guest = pre.instantiate(&mut *store)?;
                let guest = guest.sotp_plugin_notifier();
                let delivery =
                    guest.call_interpret(store, &notification.turn(), &response.turn())?;
                Ok(Ok(Reply::Delivery(delivery.turn())))
            }
            (Entry::Poller(pre), Call::Start { device }) => {
                let guest = pre.instantiate(&mut *store)?;
                let asks = guest
                    .sotp_plugin_poller()
                    .call_start(store, &device.turn())?;
                reply(asks, Reply::Asks)
            }
            (
                Entry::Poller(pre),
                Call::Resume {
                    device,
                    round,
                    answers,
                },
            ) => {
                let guest = pre.instantiate(&mut *store)?;
                let guest = guest.sotp_plugin_poller();
                let answers: Vec<_> = answers.turn();
                let next = guest.call_resume(store, &device.turn(), round, &answers)?;
                reply(next, Reply::Next)
            }
            (entry, call) => {
                let (kind, function) = (entry.kind(), call.function());
                let message = format!("it is a {kind}, which has no function {function}");
                Err(Error::new(Fault::new(FaultClass::Load, message)))
            }
        }
    }

    /// Asks for the description in an instance of its own, and keeps it.
    fn describe(&self, store: &mut Store<Host>) -> Result<Arc<MetricDescriptor>> {
        let descriptor: MetricDescriptor = match &self.entry {
            Entry::Parser(pre) => {
                let guest = pre.instantiate(&mut *store)?;
                guest.sotp_plugin_parser().call_describe(store)?.turn()
            }
            Entry::Poller(pre) => {
                let guest = pre.instantiate(&mut *store)?;
                guest.sotp_plugin_poller().call_describe(store)?.turn()
            }
            Entry::Rule(_) | Entry::Remediation(_) | Entry::Notifier(_) => {
                MetricDescriptor::default()
            }
        };
        check::metrics(&descriptor).map_err(Error::new)?;
        let descriptor = Arc::new(descriptor);
        let mut described = self
            .described
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *described = Some(Arc::clone(&descriptor));
        Ok(descriptor)
    }

    fn described(&self, store: &mut Store<Host>) -> Result<Arc<MetricDescriptor>> {
        let described = self
            .described
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(descriptor) = described.as_ref() {
            return Ok(Arc::clone(descriptor));
        }
        drop(described);
        self.describe(store)
    }

    /// Whether a reply keeps the contract.
    fn check(&self, store: &mut Store<Host>, reply: &Reply) -> Result<()> {
        check::reply(reply).map_err(Error::new)?;
        if let Reply::Output(output) | Reply::Next(Next::Done(output)) = reply {
            let descriptor = self.described(store)?;
            check::output(&descriptor, output).map_err(Error::new)?;
        }
        Ok(())
    }
}

impl Plugin for Component {
    /// Answers on the calling thread, whose stack has 2 MiB or more.
    fn call(&self, call: Call, session: Session) -> Ended {
        let _running = self.ticker.busy();
        let mut store = self.store(session, Meter::start());
        let answer = self.answer(&mut store, call);
        let answer = answer.and_then(|answer| {
            if let Ok(reply) = &answer {
                self.check(&mut store, reply)?;
            }
            Ok(answer)
        });
        let host = store.into_data();
        let result = match answer {
            Ok(answer) => answer.map_err(Failure::Said),
            Err(error) => {
                let said = host.said.as_deref();
                let fault = explain::fault(&error, host.session.limits(), said);
                Err(Failure::Fault(fault))
            }
        };
        let usage = host.meter.usage(host.space.peak as u64);
        host.session.end(result, usage)
    }
}
