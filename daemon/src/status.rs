//! How the daemon is doing: for the API, for `/metrics`, and for the line that
//! `systemctl status` shows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{
    Daemon, DaemonStatus, ExposedKind, Exposition, HttpsStatus, IcmpStatus, MailStatus,
    PollNowRefused, SchedulerStatus,
};
use collect::{PingAccess, Pinger};
use model::{AlertState, Check, Device, DeviceId, DeviceState, GroupKey, Timestamp};
use notify::{ChannelHealth, MailHealth};
use store::{Store, StoreHealth};
use tokio::sync::watch;

use crate::backups::Keeper;
use crate::clock;
use crate::failure::chain;
use crate::judge::Judge;
use crate::plugins::Plugins;
use crate::poll::{Pace, PollerHandle};

/// Everything that is asked of the daemon around the store. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Board {
    pub(crate) started: Timestamp,
    pub(crate) store: Store,
    pub(crate) backups: Keeper,
    pub(crate) plugins: Plugins,
    pub(crate) judge: Judge,
    pub(crate) poller: PollerHandle,
    pub(crate) pinger: Pinger,
    pub(crate) mail: MailHealth,
    pub(crate) channels: ChannelHealth,
    pub(crate) pace: watch::Receiver<Pace>,
    pub(crate) recipients: watch::Receiver<Vec<String>>,
    pub(crate) mail_is_set: watch::Receiver<Option<Arc<notify::Mailer>>>,
    pub(crate) troubles: Arc<Mutex<Troubles>>,
    /// What the daemon was started with.
    pub(crate) settings: Arc<config::Settings>,
    /// Where the API is served over HTTPS.
    pub(crate) https: Option<String>,
    /// SHA-256 of its certificate.
    pub(crate) fingerprint: Arc<Mutex<Option<String>>>,
}

/// What is wrong with the daemon itself and would be said nowhere else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles {
    /// Why the last reload was refused, until one is taken.
    reload: Option<String>,
    /// Why health and metrics are not served.
    health: Option<String>,
    /// Why the API is not served over HTTPS.
    https: Option<String>,
    /// Why the password for the mail server cannot be had.
    mail: Option<String>,
}

impl Board {
    /// One line for `systemctl status`.
    pub(crate) fn line(&self) -> String {
        let watched = self
            .store
            .inventory()
            .live()
            .filter(|device| device.is_watched())
            .count();
        let firing = self
            .store
            .open_alerts()
            .iter()
            .filter(|alert| alert.state == AlertState::Firing)
            .count();
        let mut line = format!("watching {watched} devices, {firing} alerts firing");
        if let StoreHealth::NotWriting { error, .. } = self.store.health() {
            line.push_str(&format!("; not writing: {error}"));
        }
        if let Some(why) = self.refused_reload() {
            line.push_str(&format!("; reload refused: {why}"));
        }
        line
    }

    fn refused_reload(&self) -> Option<String> {
        self.troubles().reload.clone()
    }

    fn troubles(&self) -> std::sync::MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes why health and metrics are not served; says whether that is news.
    pub(crate) fn note_health(&self, why: Option<String>) -> bool {
        let is_news = self.troubles().health != why;
        self.troubles().health = why;
        is_news
    }

    /// Notes the SHA-256 of the certificate that HTTPS is served with.
    pub(crate) fn note_fingerprint(&self, fingerprint: String) {
        let mut known = self
            .fingerprint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *known = Some(fingerprint);
    }

    /// Notes why the API is not served over HTTPS; says whether that is news.
    pub(crate) fn note_https(&self, why: Option<String>) -> bool {
        let is_news = self.troubles().https != why;
        self.troubles().https = why;
        is_news
    }

    /// Notes why nobody can be told by mail; says whether that is news.
    pub(crate) fn note_mail(&self, why: Option<String>) -> bool {
        let is_news = self.troubles().mail != why;
        self.troubles().mail = why;
        is_news
    }

    /// Notes how a reload went.
    pub(crate) fn note_reload(&self, refused: Option<String>) {
        self.troubles().reload = refused;
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let StoreHealth::NotWriting { error, .. } = self.store.health() {
            warnings.push(format!(
                "nothing reaches the disk: {error}; polls are kept in memory as far as it goes"
            ));
        }
        if let Some(why) = self.refused_reload() {
            warnings.push(format!(
                "the last reload was refused, the old settings are in force: {why}"
            ));
        }
        let troubles = self.troubles().clone();
        warnings.extend(self.backups.warning());
        warnings.extend(self.plugins.warnings());
        warnings.extend(troubles.health);
        warnings.extend(troubles.https);
        let no_password = troubles.mail.is_some();
        warnings.extend(troubles.mail);
        let stats = self.store.stats();
        if stats.parked_outbox > 0 {
            warnings.push(format!(
                "{} mails were refused for good: sotp outbox ls --state parked",
                stats.parked_outbox
            ));
        }
        let (v4, _v6) = self.pinger.capability();
        if let PingAccess::None { why } = v4 {
            warnings.push(format!("no ping over IPv4: {why}"));
        }
        if self.mail_is_set.borrow().is_none() && !no_password {
            warnings
                .push("nobody is told by mail: there is no [mail] section in the settings".into());
        }
        let mail = self.mail.status();
        if let (Some(since), Some((_, why))) = (mail.failing_since, &mail.last_error) {
            warnings.push(format!("no mail gets through since {since}: {why}"));
        }
        warnings.extend(mail.template_problems);
        for (plugin, channel) in self.channels.status().plugins {
            if let (Some(since), Some((_, why))) = (channel.failing_since, channel.last_error) {
                warnings.push(format!(
                    "nobody is told through {plugin} since {since}: {why}"
                ));
            }
        }
        warnings
    }
}

impl Daemon for Board {
    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn poll_now(&self, device: DeviceId) -> Result<(), PollNowRefused> {
        let inventory = self.store.inventory();
        let device = inventory
            .device(device)
            .filter(|device| device.is_watched())
            .ok_or(PollNowRefused::NotWatched)?;
        let wanted: Vec<Check> = Check::ALL
            .into_iter()
            .filter(|check| device.wants(*check))
            .collect();
        if wanted.is_empty() {
            return Err(PollNowRefused::NoCheck);
        }
        let mut refused = false;
        for check in wanted {
            let device = device.id;
            refused |= !self.poller.poll_now(GroupKey { device, check });
        }
        if refused {
            Err(PollNowRefused::Busy)
        } else {
            Ok(())
        }
    }

    fn device_state(&self, device: &Device) -> DeviceState {
        self.judge.device_state(device)
    }

    fn interval(&self, device: &Device, check: Check) -> Duration {
        self.pace.borrow().every(device, check)
    }

    fn status(&self) -> DaemonStatus {
        let (stats, lag) = self.poller.stats();
        let (v4, v6) = self.pinger.capability();
        let mail = self.mail.status();
        DaemonStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            scheduler: SchedulerStatus {
                due: count(stats.due),
                in_flight: count(stats.in_flight),
                lag_seconds: lag.as_secs_f64(),
                skipped: self
                    .skipped()
                    .into_iter()
                    .map(|(reason, count)| (reason.to_owned(), count))
                    .collect(),
            },
            icmp: IcmpStatus {
                v4: v4.to_string(),
                v6: v6.to_string(),
            },
            mail: mail.server.map(|server| MailStatus {
                server,
                last_success: mail.last_success,
                last_error: mail.last_error,
            }),
            warnings: self.warnings(),
        }
    }

    fn metrics(&self, into: &mut Exposition) {
        self.poll_metrics(into);
        self.mail_metrics(into);
        self.backups.metrics(into);
        self.plugins.metrics(into);
        self.process_metrics(into);
    }

    fn https(&self) -> Option<HttpsStatus> {
        let fingerprint = self
            .fingerprint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Some(HttpsStatus {
            url: self.https.clone()?,
            fingerprint: fingerprint.clone()?,
        })
    }

    fn new_wrapping_key(&self) -> Result<Option<secrets::WrappingKey>, String> {
        crate::sealing::new_key(&self.settings).map_err(|failure| chain(&failure))
    }

    fn plugins(&self) -> Option<Arc<dyn api::Plugins>> {
        Some(Arc::new(self.plugins.clone()))
    }

    fn metric_described(&self, name: &str) -> Option<api::Described> {
        self.plugins.described(name)
    }

    fn backups(&self) -> Option<Arc<dyn api::Backups>> {
        Some(Arc::new(self.backups.clone()))
    }

    fn mail_recipients(&self) -> Option<Vec<String>> {
        self.mail_is_set
            .borrow()
            .is_some()
            .then(|| self.recipients.borrow().clone())
    }
}

impl Board {
    fn skipped(&self) -> [(&'static str, u64); 4] {
        let (stats, _) = self.poller.stats();
        [
            ("busy", stats.skipped_busy),
            ("behind", stats.skipped_behind),
            ("store", self.poller.skipped_by_the_store()),
            ("quota", self.poller.skipped_by_quota()),
        ]
    }

    fn poll_metrics(&self, into: &mut Exposition) {
        let (stats, lag) = self.poller.stats();
        into.family(
            "sotp_polls_total",
            ExposedKind::Counter,
            "Polls by check and result",
        );
        for (check, result, polls) in self.poller.polls() {
            let labels = [("check", check), ("result", result)];
            into.sample("sotp_polls_total", &labels, as_f64(polls));
        }
        into.family(
            "sotp_polls_skipped_total",
            ExposedKind::Counter,
            "Turns that were skipped, by reason",
        );
        for (reason, skipped) in self.skipped() {
            into.sample(
                "sotp_polls_skipped_total",
                &[("reason", reason)],
                as_f64(skipped),
            );
        }
        for (name, help, value) in [
            (
                "sotp_poll_groups",
                "Devices times checks in the schedule",
                as_f64(count(stats.groups)),
            ),
            (
                "sotp_polls_in_flight",
                "Polls begun and not ended",
                as_f64(count(stats.in_flight)),
            ),
            (
                "sotp_poll_groups_backed_off",
                "Groups asked less often because they stay silent",
                as_f64(count(stats.backed_off)),
            ),
            (
                "sotp_poll_lag_seconds",
                "How long the longest waiting poll has been due",
                lag.as_secs_f64(),
            ),
        ] {
            into.single(name, ExposedKind::Gauge, help, value);
        }
        into.single(
            "sotp_poll_lag_seconds_total",
            ExposedKind::Counter,
            "Sum of how late polls began",
            self.poller.lag_sum().as_secs_f64(),
        );
    }

    fn mail_metrics(&self, into: &mut Exposition) {
        let mail = self.mail.status();
        into.family(
            "sotp_mails_total",
            ExposedKind::Counter,
            "Mails by what became of the try",
        );
        for (result, mails) in [
            ("sent", mail.sent),
            ("failed", mail.failed),
            ("parked", mail.parked),
        ] {
            into.sample("sotp_mails_total", &[("result", result)], as_f64(mails));
        }
    }

    fn process_metrics(&self, into: &mut Exposition) {
        into.single(
            "process_start_time_seconds",
            ExposedKind::Gauge,
            "When the daemon started, in seconds since 1970",
            as_f64(self.started.0) / 1_000.0,
        );
        if let Some(bytes) = resident_bytes() {
            into.single(
                "process_resident_memory_bytes",
                ExposedKind::Gauge,
                "Memory in use",
                bytes,
            );
        }
        if let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)
        {
            let seconds = |time: nix::sys::time::TimeVal| {
                Duration::from(nix::sys::time::TimeSpec::new(
                    time.tv_sec(),
                    time.tv_usec() * 1_000,
                ))
                .as_secs_f64()
            };
            let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
            into.single(
                "process_cpu_seconds_total",
                ExposedKind::Counter,
                "Processor time used",
                cpu,
            );
        }
        into.family(
            "sotp_build_info",
            ExposedKind::Gauge,
            "Always 1; the version is a label",
        );
        into.sample(
            "sotp_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1.0,
        );
    }
}

/// The resident set, from /proc/self/statm (proc(5)).
fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * as_f64(u64::try_from(page).ok()?))
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the text format has only floating point numbers"
)]
fn as_f64(number: u64) -> f64 {
    number as f64
}
