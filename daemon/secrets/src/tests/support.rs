//! Stores in folders of their own, and short words for what the stories do.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use model::{Actor, By, KeyRing, SecretName, SecretRecord, Timestamp};
use store::{Store, StoreOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{SecretBytes, Secrets, SecretsError, SecretsSettings, Values, Wrap, WrappingKey};

/// When the stories play.
pub(super) const NOW: Timestamp = Timestamp(1_795_230_000_000);

pub(super) fn now() -> Timestamp {
    NOW
}

/// A store's file, opened again as often as a story needs.
pub(super) struct Home(tempfile::TempDir);

impl Home {
    pub(super) fn new() -> Home {
        Home(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self) -> PathBuf {
        self.0.path().join("sotp.redb")
    }

    pub(super) fn open(&self) -> Store {
        let options = StoreOptions {
            commit_every: Duration::from_millis(1),
            backlog_bytes: 1 << 20,
            ballast_bytes: 0,
            keep_samples: Duration::from_secs(86_400),
            keep_alerts: Duration::from_secs(86_400),
            keep_audit: Duration::from_secs(86_400),
            ..StoreOptions::at(self.path())
        };
        Store::open(options, NOW).unwrap()
    }

    /// What a power cut would leave: the file as it is now.
    pub(super) fn after_a_crash(&self) -> Home {
        let copy = Home::new();
        fs::copy(self.path(), copy.path()).unwrap();
        copy
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }
}

/// What must stay as it is where nothing may change.
pub(super) type State = (Arc<KeyRing>, Vec<Arc<SecretRecord>>, u64);

pub(super) fn state(store: &Store) -> State {
    (store.key_ring(), store.secrets(), store.audit_head().0)
}

pub(super) fn embedded(active: &WrappingKey, old: &[&WrappingKey]) -> SecretsSettings {
    SecretsSettings {
        wrap: Wrap::Key {
            active: active.clone(),
            old: old.iter().copied().cloned().collect(),
        },
        values: Values::Embedded,
    }
}

pub(super) async fn open(
    store: &Store,
    settings: SecretsSettings,
) -> Result<Secrets, SecretsError> {
    Secrets::open(store.clone(), settings, NOW).await
}

static BY: LazyLock<By> = LazyLock::new(|| By {
    actor: Actor::Local(0),
    origin: "socket".to_owned(),
    request: None,
});

/// Who acts in the stories.
pub(super) fn by() -> &'static By {
    &BY
}

pub(super) fn name(text: &str) -> SecretName {
    SecretName(text.to_owned())
}

pub(super) fn value(text: &str) -> SecretBytes {
    SecretBytes::from(text.to_owned())
}

impl Secrets {
    pub(super) async fn set(&self, of: &str, to: &str) -> Result<Arc<SecretRecord>, SecretsError> {
        self.put(by(), name(of), value(to), None, None, NOW).await
    }

    /// The value in use, or how it is refused.
    pub(super) fn shown(&self, of: &str) -> Result<String, SecretsError> {
        text(self.expose(&name(of)))
    }

    pub(super) async fn shown_version(
        &self,
        of: &str,
        version: u32,
    ) -> Result<String, SecretsError> {
        text(self.expose_version(&name(of), version).await)
    }

    /// Starts what goes on in the background.
    pub(super) fn running(&self) -> Running {
        let stop = CancellationToken::new();
        let (secrets, stopped) = (self.clone(), stop.clone());
        let task = tokio::spawn(async move { secrets.run(now, stopped).await });
        Running { stop, task }
    }
}

/// Stops when it is dropped.
pub(super) struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn text(value: Result<SecretBytes, SecretsError>) -> Result<String, SecretsError> {
    value.map(|value| value.expose_str().unwrap().to_owned())
}

/// Waits until `state` is as `is_right` wants it.
pub(super) async fn until<T: std::fmt::Debug>(
    state: impl Fn() -> T,
    is_right: impl Fn(&T) -> bool,
) -> T {
    let began = Instant::now();
    loop {
        let seen = state();
        if is_right(&seen) {
            return seen;
        }
        let patience = Duration::from_secs(20);
        assert!(began.elapsed() < patience, "it stays at {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
