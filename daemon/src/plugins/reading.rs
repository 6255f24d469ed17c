//! Parsers and pollers in a poll: what they want to be asked, and what they
//! make of the answers.
//!
//! A plugin that fails is a problem on that device's check, shown with it, and
//! never a device that is down: its columns stay, without a value, until it
//! reads again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::{
    Answer, Ask, Call, Failure, Kind, Next, Output, ParserInput, Payload, PluginError, Reply,
};
use model::{
    Credential, Device, Facts, FailureKind, Oid, PollReport, Reading, SnmpAnswer, SnmpExtra,
    Varbind,
};
use package::CollectWhat;
use parse::PluginPart;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::roster::Active;
use super::{Plugins, words};

/// Rounds of questions of a poller.
pub(super) const ROUNDS: u32 = 8;

/// What a question of a poller may take.
const QUESTION_TIME: Duration = Duration::from_secs(20);

/// What the parsers of a poll may take together.
const PARSER_TIME: Duration = Duration::from_secs(5);

/// What all plugins of a poll may take together: less than the shortest
/// interval of SNMP.
const PLUGIN_TIME: Duration = Duration::from_secs(20);

/// Polls that may be inside plugins at once: the next ones go on without, as if
/// the plugins had failed, rather than all devices wait for slow plugins.
pub(super) const POLLS_INSIDE: usize = 64;

/// Warnings of plugins that are shown of one poll.
const WARNINGS: usize = 20;

/// The plugins that read a device.
pub(crate) struct Readers {
    parsers: Vec<Arc<Active>>,
    pollers: Vec<Arc<Active>>,
}

/// How a device is asked for more.
pub(crate) struct Asker<'a> {
    pub(crate) target: SocketAddr,
    pub(crate) credential: &'a Credential,
}

/// What reading led to.
#[derive(Default)]
struct Read {
    output: Output,
    /// What went wrong: for the device's check.
    trouble: Vec<String>,
    /// Nothing was read, and something should have been.
    failed: bool,
}

impl Readers {
    /// What the parsers want beside the built-in plan.
    pub(crate) fn extra(&self) -> SnmpExtra {
        let mut get = BTreeSet::new();
        let mut walk = BTreeSet::new();
        for parser in &self.parsers {
            for collect in &parser.manifest.collect {
                match &collect.what {
                    CollectWhat::Get(oids) => {
                        get.extend(oids.iter().map(|oid| Oid(oid.0.clone())));
                    }
                    CollectWhat::Walk(oid) | CollectWhat::Table(oid) => {
                        walk.insert(Oid(oid.0.clone()));
                    }
                    CollectWhat::BuiltIn(_) => {}
                }
            }
        }
        SnmpExtra {
            get: get.into_iter().collect(),
            walk: walk.into_iter().collect(),
        }
    }
}

impl Plugins {
    /// The plugins that read `device`; `None`, which is the usual case, if there
    /// are none.
    pub(crate) fn readers(&self, device: &Device) -> Option<Readers> {
        let roster = self.roster();
        if roster.all.is_empty() {
            return None;
        }
        let facts = self.inner.store.facts(device.id);
        let about = words::About::of(device, facts.as_deref());
        let readers = Readers {
            parsers: roster.fitting(Kind::Parser, device.id, &about),
            pollers: roster.fitting(Kind::Poller, device.id, &about),
        };
        (!readers.parsers.is_empty() || !readers.pollers.is_empty()).then_some(readers)
    }

    /// Adds to `report` what the plugins read out of `answer`.
    pub(crate) async fn read(
        &self,
        device: &Device,
        readers: Readers,
        answer: &SnmpAnswer,
        mut report: PollReport,
        previous: Option<&Reading>,
        asker: Asker<'_>,
    ) -> PollReport {
        let facts = report.facts.clone();
        let known = self.inner.store.facts(device.id);
        let seen = words::device(device, facts.as_ref().or(known.as_deref()));
        let began = Instant::now();
        let inside = self.inner.inside.try_acquire();
        if inside.is_err() {
            let failure = model::Failure {
                kind: FailureKind::Local,
                text: format!(
                    "plugins were left out: they are busy with {POLLS_INSIDE} other polls"
                ),
            };
            report.outcome.partial.push(("plugins".to_owned(), failure));
        }
        let mut parts = Vec::new();
        for active in &readers.parsers {
            let read = match &inside {
                Ok(_permit) => {
                    let parsing = self.parse_all(active, &seen, answer);
                    in_time(began, PARSER_TIME, parsing).await
                }
                Err(_busy) => Read::left_out(),
            };
            parts.push(self.part(device, active, read, &mut report));
        }
        for active in &readers.pollers {
            let read = match &inside {
                Ok(_permit) => {
                    let polling = self.poll_with(active, &seen, &asker);
                    in_time(began, PLUGIN_TIME, polling).await
                }
                Err(_busy) => Read::left_out(),
            };
            parts.push(self.part(device, active, read, &mut report));
        }
        drop(inside);
        cap_warnings(&mut report.outcome.partial);
        let merged = parse::with_plugins(report, &parts, previous);
        if let Some((place, key)) = merged.duplicates.first() {
            let all = readers.parsers.iter().chain(&readers.pollers);
            let whose = all.map(|active| active.host_name.as_str()).nth(*place);
            debug!(device = %device.name, plugin = whose, metric = %key.metric, "this was read already; its value is left out");
        }
        if merged.left_out > 0 {
            debug!(device = %device.name, series = merged.left_out, "plugins read more series than one device may have");
        }
        merged.report
    }

    /// Takes facts, events and troubles out of what was read; leaves the columns.
    fn part(
        &self,
        device: &Device,
        active: &Active,
        read: Read,
        report: &mut PollReport,
    ) -> PluginPart {
        let whose = format!("plugin:{}", active.host_name);
        let troubles = read.trouble.iter().map(|text| (FailureKind::Local, text));
        let warnings = read.output.warnings.iter();
        let warnings = warnings.map(|text| (FailureKind::Protocol, text));
        for (kind, text) in troubles.chain(warnings) {
            let failure = model::Failure {
                kind,
                text: words::safe(text),
            };
            report.outcome.partial.push((whose.clone(), failure));
        }
        if !read.output.facts.is_empty() {
            self.note_facts(device.id, active, &read.output.facts);
        }
        for event in &read.output.events {
            self.happened(device.id, event.clone());
        }
        let series = active
            .measures()
            .map(|described| words::series(described, &active.metrics, &read.output))
            .unwrap_or_default();
        PluginPart {
            series,
            keep: read.failed,
            metrics: active.metrics.iter().cloned().collect(),
        }
    }

    /// Calls a parser with everything that was collected for it.
    async fn parse_all(
        &self,
        active: &Active,
        device: &contract::Device,
        answer: &SnmpAnswer,
    ) -> Read {
        let mut read = Read::default();
        for collect in &active.manifest.collect {
            let payload = match payload(&collect.what, answer) {
                Ok(Some(payload)) => payload,
                // the device does not have it
                Ok(None) => continue,
                Err(why) => {
                    read.trouble.push(format!("{}: {why}", collect.name));
                    read.failed = true;
                    continue;
                }
            };
            let input = ParserInput {
                device: device.clone(),
                source: format!("snmp:{}", collect.name),
                collected_at: answer.at.into(),
                payload,
            };
            match self.call(active, Call::Parse(input)).await {
                Ok(Reply::Output(output)) => read.add(active, output),
                Ok(_) => read.fail("it answered something else than was asked"),
                Err(Failure::Said(PluginError::NotMine(_))) => {}
                Err(failure) => read.fail(failure.to_string()),
            }
        }
        read
    }

    /// Asks what a poller wants to know, until it has read enough.
    async fn poll_with(
        &self,
        active: &Active,
        device: &contract::Device,
        asker: &Asker<'_>,
    ) -> Read {
        let start = Call::Start {
            device: device.clone(),
        };
        let mut asks = match self.call(active, start).await {
            Ok(Reply::Asks(asks)) => asks,
            Ok(_) => return Read::failed("it answered something else than was asked"),
            Err(Failure::Said(PluginError::NotMine(_))) => return Read::default(),
            Err(failure) => return Read::failed(failure.to_string()),
        };
        for round in 1..=ROUNDS {
            let mut answers = Vec::with_capacity(asks.len());
            for ask in asks {
                let answer = self.fetch(active, &ask, asker).await;
                answers.push((ask, answer));
            }
            let resume = Call::Resume {
                device: device.clone(),
                round,
                answers,
            };
            match self.call(active, resume).await {
                Ok(Reply::Next(Next::More(more))) => asks = more,
                Ok(Reply::Next(Next::Done(output))) => {
                    let mut read = Read::default();
                    read.add(active, output);
                    return read;
                }
                Ok(_) => return Read::failed("it answered something else than was asked"),
                Err(Failure::Said(PluginError::NotMine(_))) => return Read::default(),
                Err(failure) => return Read::failed(failure.to_string()),
            }
        }
        Read::failed(format!("it asks for more after {ROUNDS} rounds"))
    }

    /// What is answered to one question of a poller.
    pub(super) async fn fetch(&self, active: &Active, ask: &Ask, asker: &Asker<'_>) -> Answer {
        match ask {
            Ask::SnmpGet(_) | Ask::SnmpWalk(_) | Ask::SnmpTable(_) => {
                self.ask_snmp(ask, asker).await
            }
            Ask::Http(request) => match self.send(active, request).await {
                Ok(response) => Answer::Http(response),
                Err(why) => Answer::Error(why),
            },
            Ask::Cli(_) => Answer::Error("this daemon cannot ask by CLI yet".to_owned()),
            Ask::Extension(extension) => {
                Answer::Error(format!("this daemon knows no {}", extension.name))
            }
        }
    }

    /// What an agent answers to one question of SNMP.
    pub(super) async fn ask_snmp(&self, ask: &Ask, asker: &Asker<'_>) -> Answer {
        let extra = super::trial::extra_of(ask);
        let snmp = &self.inner.collectors.snmp;
        let asked = snmp.ask(asker.target, asker.credential, &extra, QUESTION_TIME);
        let answer = match asked.await {
            Ok(answer) => answer,
            Err(failure) => return Answer::Error(failure.text),
        };
        let Some(walked) = answer.walks.first() else {
            return match answer.failure {
                Some(failure) if answer.got.is_empty() => Answer::Error(failure.text),
                _ => Answer::Snmp(plain(&answer.got)),
            };
        };
        if let Some(failure) = &walked.failure {
            return Answer::Error(failure.text.clone());
        }
        match ask {
            Ask::SnmpTable(_) => match parse::pivot(&walked.root, &walked.varbinds) {
                Ok(pivoted) => Answer::SnmpTable(words::table(&pivoted)),
                Err(why) => Answer::Error(why.to_string()),
            },
            _ => Answer::Snmp(plain(&walked.varbinds)),
        }
    }

    /// What is known of `device` for a plugin that is not part of a poll.
    pub(super) fn seen(&self, device: &Device) -> contract::Device {
        let facts: Option<Arc<Facts>> = self.inner.store.facts(device.id);
        words::device(device, facts.as_deref())
    }
}

impl Read {
    fn failed(why: impl Into<String>) -> Read {
        let mut read = Read::default();
        read.fail(why);
        read
    }

    /// Nobody asked the plugin: what it read before stays without a value.
    fn left_out() -> Read {
        Read {
            failed: true,
            ..Read::default()
        }
    }

    fn fail(&mut self, why: impl Into<String>) {
        self.trouble.push(why.into());
        self.failed = true;
    }

    /// Takes what was read, if it is what was described.
    fn add(&mut self, active: &Active, output: Output) {
        let described = active.measures().cloned().unwrap_or_default();
        if let Err(fault) = contract::check::output(&described, &output) {
            return self.fail(fault.to_string());
        }
        self.output.rows.extend(output.rows);
        self.output.facts.extend(output.facts);
        self.output.events.extend(output.events);
        self.output.warnings.extend(output.warnings);
    }
}

/// What `reading` reads, if it is done before the plugins of the poll have
/// taken `all`. One whose turn comes later is not called at all.
async fn in_time(began: Instant, all: Duration, reading: impl Future<Output = Read>) -> Read {
    let until = began + all;
    let seconds = all.as_secs();
    if Instant::now() >= until {
        return Read::failed(format!(
            "the plugins before it took all of the {seconds} s that they have together"
        ));
    }
    match timeout_at(until, reading).await {
        Ok(read) => read,
        Err(_too_long) => Read::failed(format!(
            "it was not done when the plugins had taken {seconds} s together"
        )),
    }
}

/// Keeps the first so many warnings of plugins; what went wrong stays.
fn cap_warnings(partial: &mut Vec<(String, model::Failure)>) {
    let mut warnings = 0;
    partial.retain(|(whose, failure)| {
        let is_warning = whose.starts_with("plugin:") && failure.kind == FailureKind::Protocol;
        warnings += usize::from(is_warning);
        !is_warning || warnings <= WARNINGS
    });
    let left_out = warnings.saturating_sub(WARNINGS);
    if left_out > 0 {
        let failure = model::Failure {
            kind: FailureKind::Protocol,
            text: format!("{left_out} more warnings of plugins are left out"),
        };
        partial.push(("plugins".to_owned(), failure));
    }
}

/// What `answer` has of what a parser wants; `None` if the device does not have
/// it, an error if the device did not say.
fn payload(what: &CollectWhat, answer: &SnmpAnswer) -> Result<Option<Payload>, String> {
    match what {
        CollectWhat::Get(oids) => {
            let is_wanted = |varbind: &&Varbind| oids.iter().any(|oid| oid.0 == varbind.oid.0);
            let got: Vec<_> = answer
                .extra
                .got
                .iter()
                .filter(is_wanted)
                .map(contract::Varbind::from)
                .collect();
            match &answer.extra.failure {
                Some(failure) if got.is_empty() => Err(failure.text.clone()),
                _ => Ok((!got.is_empty()).then_some(Payload::Snmp(got))),
            }
        }
        CollectWhat::Walk(root) => {
            let varbinds = walked(root, answer)?;
            Ok((!varbinds.is_empty()).then(|| Payload::Snmp(plain(varbinds))))
        }
        CollectWhat::Table(root) => {
            let varbinds = walked(root, answer)?;
            if varbinds.is_empty() {
                return Ok(None);
            }
            let pivoted = parse::pivot(&Oid(root.0.clone()), varbinds);
            let pivoted = pivoted.map_err(|why| why.to_string())?;
            Ok(Some(Payload::SnmpTable(words::table(&pivoted))))
        }
        CollectWhat::BuiltIn(name) => {
            let Some(table) = answer.tables.iter().find(|table| table.name == name) else {
                return Ok(None);
            };
            let pivoted = parse::pivot_table(table);
            match &table.failure {
                Some(failure) if pivoted.indexes.is_empty() => Err(failure.text.clone()),
                _ if pivoted.indexes.is_empty() => Ok(None),
                _ => Ok(Some(Payload::SnmpTable(words::table(&pivoted)))),
            }
        }
    }
}

/// What was walked below `root`: all of it.
fn walked<'a>(root: &contract::Oid, answer: &'a SnmpAnswer) -> Result<&'a [Varbind], String> {
    let walk = answer.extra.walks.iter().find(|walk| walk.root.0 == root.0);
    let walk = walk.ok_or_else(|| "it was not asked for".to_owned())?;
    match &walk.failure {
        Some(failure) => Err(failure.text.clone()),
        None => Ok(&walk.varbinds),
    }
}

fn plain(varbinds: &[Varbind]) -> Vec<contract::Varbind> {
    varbinds.iter().map(contract::Varbind::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_shows_so_many_warnings_and_everything_that_went_wrong() {
        let note = |kind: FailureKind, text: &str| {
            let text = text.to_owned();
            ("plugin:acme".to_owned(), model::Failure { kind, text })
        };
        let mut partial = vec![note(FailureKind::Protocol, "odd"); WARNINGS + 7];
        partial.push(note(FailureKind::Local, "broken"));
        cap_warnings(&mut partial);
        assert_eq!(partial.len(), WARNINGS + 2);
        assert_eq!(partial[WARNINGS].1.text, "broken");
        let last = &partial[WARNINGS + 1].1.text;
        assert_eq!(last, "7 more warnings of plugins are left out");

        let mut few = vec![note(FailureKind::Protocol, "odd"); WARNINGS];
        cap_warnings(&mut few);
        assert_eq!(few.len(), WARNINGS);
    }

    #[tokio::test]
    async fn the_plugins_of_a_poll_have_one_deadline_together() {
        let all = Duration::from_millis(50);
        let done = async { Read::default() };
        assert!(!in_time(Instant::now(), PARSER_TIME, done).await.failed);
        let began = Instant::now();
        let slow = in_time(began, all, std::future::pending()).await;
        assert!(slow.failed && began.elapsed() >= all);
        assert!(slow.trouble[0].contains("not done"));
        let next = in_time(began, all, async { unreachable!("it is called") });
        assert!(next.await.trouble[0].contains("before it"));
    }
}
