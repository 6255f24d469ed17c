//! Notifiers: what a plugin words, the daemon sends.
//!
//! The plugin never sees a secret: its settings hold `${secret:KEY}` in the
//! place of one (with a number that only this plugin knows, so that a device's
//! text is never taken for one), and what it returns is filled in here, after it was checked
//! where the filled-in request may go.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use api::PluginRefused;
use contract::{Call, HttpRequest, HttpResponse, Kind, Notification, Octets, Phase, Reply};
use fetch::Guard;
use model::{
    Channel, Delivery, NotificationEvent, OutboxId, PluginName, Rule, SecretName, Severity,
};
use notify::Carried;
use package::{Manifest, SettingKind};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::packages::PLACE;
use super::roster::Active;
use super::{Plugins, words};
use crate::failure::chain;

/// Deliveries of several requests that are half done: of more it is not known, and
/// they begin anew.
const HALF_TAKEN: usize = 10_000;

/// A request that names no time of its own.
const TIMEOUT: Duration = Duration::from_secs(10);

/// No request takes longer.
const LONGEST: Duration = Duration::from_secs(30);

impl notify::Courier for Plugins {
    fn carry(&self, delivery: &Delivery, rule: Option<&Rule>) -> notify::Carrying {
        let (plugins, delivery, rule) = (self.clone(), delivery.clone(), rule.cloned());
        Box::pin(async move { plugins.deliver(&delivery, rule.as_ref()).await })
    }

    fn changed(&self) -> Option<watch::Receiver<u64>> {
        Some(self.inner.notifiers_changed.subscribe())
    }
}

impl Plugins {
    async fn deliver(&self, delivery: &Delivery, rule: Option<&Rule>) -> Carried {
        let Channel::Plugin { plugin } = &delivery.channel else {
            return Carried::Never {
                why: "this is not for a plugin".to_owned(),
            };
        };
        let roster = self.roster();
        let active = roster
            .find(plugin)
            .filter(|a| a.manifest.kind == Kind::Notifier);
        let Some(active) = active else {
            return self.nobody_to_carry(plugin);
        };
        let notification = self.notification(delivery, rule);
        let requests = match self.call(active, Call::Render(notification.clone())).await {
            Ok(Reply::Requests(requests)) => requests,
            Ok(_) => return later("it answered something else than was asked"),
            Err(failure) => return later(failure.to_string()),
        };
        if requests.is_empty() {
            return Carried::Never {
                why: "it made no request of this notification".to_owned(),
            };
        }
        // what was taken before something failed is not sent again
        let already = self.taken(delivery.id);
        for (place, request) in requests.iter().enumerate().skip(already) {
            let response = match self.send(active, request).await {
                Ok(response) => response,
                Err(why) => return later(why),
            };
            let status = response.status;
            let ask = Call::Interpret {
                notification: notification.clone(),
                response,
            };
            match self.call(active, ask).await {
                Ok(Reply::Delivery(contract::Delivery::Delivered(_))) => {}
                Ok(Reply::Delivery(contract::Delivery::RetryAfterS(seconds))) => {
                    return Carried::Later {
                        why: "the other side asks to be left alone for a while".to_owned(),
                        after: Some(Duration::from_secs(u64::from(seconds))),
                    };
                }
                Ok(Reply::Delivery(contract::Delivery::Failed(why))) => {
                    self.note_taken(delivery.id, None);
                    return Carried::Never {
                        why: words::safe(&why),
                    };
                }
                // it was taken, whatever the plugin would have made of that
                _ if (200..300).contains(&status) => {}
                Ok(_) => return later("it answered something else than was asked"),
                Err(failure) => return later(failure.to_string()),
            }
            self.note_taken(delivery.id, Some(place + 1));
        }
        self.note_taken(delivery.id, None);
        Carried::Taken
    }

    /// What becomes of a delivery whose notifier does not run: it waits for one
    /// that may come back.
    fn nobody_to_carry(&self, plugin: &str) -> Carried {
        let installed = self.inner.store.plugins();
        let is_installed = PluginName::new(plugin).is_ok_and(|name| installed.contains_key(&name));
        match is_installed {
            true => later(format!(
                "the plugin {plugin} is not running: sotp plugin ls"
            )),
            false => Carried::Never {
                why: format!("the plugin {plugin} was removed"),
            },
        }
    }

    /// A setting that names a secret names one that is there: what is given in
    /// clear would be kept and shown.
    pub(super) fn secrets_are_named(
        &self,
        manifest: &Manifest,
        given: &BTreeMap<String, String>,
    ) -> Result<(), PluginRefused> {
        let schema = manifest.settings.iter();
        let keys = schema.filter(|(_, schema)| schema.kind == SettingKind::Secret);
        for (key, _) in keys {
            let Some(value) = given.get(key) else {
                continue;
            };
            let named: Option<String> = serde_json::from_str(value).ok();
            let name = named
                .as_deref()
                .and_then(|text| text.strip_prefix("secret://"));
            let is_known = name.is_some_and(|name| {
                self.inner
                    .store
                    .secret(&SecretName(name.to_owned()))
                    .is_some()
            });
            let is_empty = named.as_deref() == Some("");
            if !is_known && !is_empty {
                return Err(PluginRefused::Problems(vec![api::PluginProblem {
                    place: None,
                    message: format!("the setting {key} names no secret that is there"),
                    hint: Some(format!(
                        "store the value with `sotp secrets set NAME --value-file FILE`, and write {key}=secret://NAME"
                    )),
                }]));
            }
        }
        Ok(())
    }

    /// How many requests of a delivery were taken already.
    fn taken(&self, delivery: OutboxId) -> usize {
        let taken = self.inner.taken.lock();
        let taken = taken.unwrap_or_else(PoisonError::into_inner);
        taken.get(&delivery).copied().unwrap_or_default()
    }

    fn note_taken(&self, delivery: OutboxId, requests: Option<usize>) {
        let taken = self.inner.taken.lock();
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        match requests {
            Some(requests) if taken.len() < HALF_TAKEN => {
                taken.insert(delivery, requests);
            }
            _ => {
                taken.remove(&delivery);
            }
        }
    }

    fn notification(&self, delivery: &Delivery, rule: Option<&Rule>) -> Notification {
        let alert = delivery.alert.as_ref();
        let inventory = self.inner.store.inventory();
        let device = alert.and_then(|alert| inventory.device(alert.device));
        let mut attrs = vec![
            ("place".to_owned(), delivery.place.clone()),
            ("from".to_owned(), self.inner.host_name.clone()),
        ];
        if let Some(alert) = alert {
            attrs.push(("alert".to_owned(), alert.id.to_string()));
            attrs.push(("rule".to_owned(), alert.rule.0.clone()));
            attrs.push(("device".to_owned(), alert.device_name.clone()));
            attrs.push(("since".to_owned(), alert.since.to_string()));
            let labels = alert.labels.iter();
            attrs.extend(labels.map(|(name, value)| (format!("label.{name}"), value.to_owned())));
            attrs.extend(
                alert
                    .value
                    .map(|value| ("value".to_owned(), value.to_string())),
            );
        }
        let note = rule.and_then(|rule| rule.note.clone());
        attrs.extend(note.map(|note| ("note".to_owned(), note)));
        if !delivery.behind.is_empty() {
            attrs.push(("behind".to_owned(), delivery.behind.join(", ")));
        }
        Notification {
            id: alert.map_or_else(
                || format!("test-{}", delivery.id),
                |alert| format!("{}-{}", alert.id, alert.since.0),
            ),
            phase: match delivery.event {
                NotificationEvent::Firing => Phase::Opened,
                NotificationEvent::Resolved => Phase::Resolved,
                NotificationEvent::Test => Phase::Test,
            },
            severity: alert.map_or(Severity::Info, |alert| alert.severity).into(),
            at: delivery.created.into(),
            summary: alert.map_or_else(
                || "a test: notifications of SOTP arrive here".to_owned(),
                |alert| alert.summary.clone(),
            ),
            attrs,
            device: device.map(|device| self.seen(device)),
            url: self.inner.url.clone().unwrap_or_default(),
        }
    }

    /// Sends a request of `active`, if it may, with its secrets filled in.
    pub(super) async fn send(
        &self,
        active: &Active,
        request: &HttpRequest,
    ) -> Result<HttpResponse, String> {
        // where a request goes is no secret: it would stand in errors and in DNS
        let authority = request.url.split_once("://").map_or("", |(_, rest)| rest);
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        let is_whole = request.url.starts_with(PLACE);
        if !is_whole && (authority.contains("${") || !request.url.contains("://")) {
            return Err("its request hides where it goes: a secret may be the whole address, or stand behind the host".to_owned());
        }
        let url = self.filled(active, &request.url)?;
        if !url.starts_with("https://") && !url.starts_with("http://") {
            // not repeated: it may be a secret
            return Err("its request goes to no address: https://HOST/...".to_owned());
        }
        let body = match &request.body {
            None => Zeroizing::new(Vec::new()),
            Some(Octets(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Zeroizing::new(self.filled(active, text)?.as_bytes().to_vec()),
                Err(_) => Zeroizing::new(bytes.clone()),
            },
        };
        let mut built = hyper::Request::builder()
            .method(request.method.as_str())
            .uri(url.as_str());
        for (name, value) in &request.headers {
            let value = self.filled(active, value)?;
            built = built.header(name.as_str(), value.as_str());
        }
        // what is wrong with it is not repeated: it may hold a secret
        let built = built
            .body(bytes::Bytes::copy_from_slice(&body))
            .map_err(|_| "its request is none: a method, an address or a header is malformed")?;
        let guard = Guard {
            patterns: active.granted.patterns("http").map(str::to_owned).collect(),
            allow_private: false,
        };
        let patience = match request.timeout_ms {
            0 => TIMEOUT,
            ms => Duration::from_millis(u64::from(ms)).min(LONGEST),
        };
        let fetching = self.inner.fetcher.fetch_guarded(built, &guard);
        let response = match tokio::time::timeout(patience, fetching).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(chain(&error)),
            Err(_too_long) => return Err(format!("no answer within {patience:?}")),
        };
        let headers = response.headers().iter();
        let headers = headers.filter_map(|(name, value)| {
            let value = value.to_str().ok()?;
            Some((name.as_str().to_owned(), value.to_owned()))
        });
        Ok(HttpResponse {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: Octets(response.body().to_vec()),
        })
    }

    /// `text` with the secrets that it names.
    fn filled(&self, active: &Active, text: &str) -> Result<Zeroizing<String>, String> {
        let mut filled = Zeroizing::new(String::with_capacity(text.len()));
        let mut rest = text;
        while let Some((before, after)) = rest.split_once(PLACE) {
            filled.push_str(before);
            let own = after.split_once('}').and_then(|(inside, after)| {
                let (key, nonce) = inside.split_once(':')?;
                (nonce == active.nonce).then_some((key, after))
            });
            let Some((key, after)) = own else {
                // a text that somebody else wrote, who knows how places look
                filled.push_str(PLACE);
                rest = after;
                continue;
            };
            if !active.granted.has("secrets") {
                return Err("it was not granted to use secrets".to_owned());
            }
            let name = active.secrets.get(key);
            let name = name.ok_or_else(|| format!("none of its settings is the secret {key}"))?;
            let value = self.inner.secrets.expose(name);
            let value = value.map_err(|error| format!("the secret {name}: {}", chain(&error)))?;
            let value = value.expose_str();
            filled.push_str(
                value
                    .ok_or_else(|| format!("the secret {name} is no text"))?
                    .trim(),
            );
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

fn later(why: impl Into<String>) -> Carried {
    Carried::Later {
        why: words::safe(&why.into()),
        after: None,
    }
}
