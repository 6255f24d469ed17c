//! Secrets in a real OpenBao that is down when the daemon starts, and goes down
//! while it works.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use harness::{
    Ask, Daemon, Folder, Forward, Namespace, Process, Response, Site, eventually, local,
};
use harness::{eventually_true, write_private};
use serde_json::{Value, json};

use crate::{DEVICE_DOWN, QUICK, namespace, skipped};

/// Where it listens; the network is ours alone.
const PORT: u16 = 8200;

/// What the daemon's role may do.
const POLICY: &str = "\
path \"secret/data/sotp/*\" { capabilities = [\"create\", \"read\", \"update\"] }
path \"secret/metadata/sotp/*\" { capabilities = [\"delete\"] }";

/// The program: `packaging/deps.sh test` installs it.
fn program() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))?;
    let path = cache.join("sotp/openbao/bin/bao");
    path.exists().then_some(path)
}

/// A server with KV at `secret/` and an AppRole.
struct Bao<'n> {
    namespace: &'n Namespace,
    program: PathBuf,
    folder: PathBuf,
    forward: Forward,
    process: Option<Process>,
    unseal_key: String,
    root: String,
}

impl<'n> Bao<'n> {
    fn new(namespace: &'n Namespace, program: PathBuf, folder: &Path) -> Bao<'n> {
        let folder = folder.join("bao");
        std::fs::create_dir(&folder).unwrap();
        let here = folder.display();
        let config = format!(
            "storage \"raft\" {{ path = \"{here}\" node_id = \"a\" performance_multiplier = 1 }}\n\
             listener \"tcp\" {{ address = \"127.0.0.1:{PORT}\" tls_disable = true }}\n\
             api_addr = \"http://127.0.0.1:{PORT}\"\n\
             cluster_addr = \"https://127.0.0.1:8201\"\n"
        );
        std::fs::write(folder.join("bao.hcl"), config).unwrap();
        let mut bao = Bao {
            forward: Forward::start(&folder, namespace, PORT),
            namespace,
            program,
            folder,
            process: None,
            unseal_key: String::new(),
            root: String::new(),
        };
        bao.start();
        let shares = json!({"secret_shares": 1, "secret_threshold": 1});
        let keys = bao.root("POST", "sys/init", &shares);
        bao.unseal_key = keys["keys_base64"][0].as_str().unwrap().to_owned();
        bao.root = keys["root_token"].as_str().unwrap().to_owned();
        bao.unseal();
        bao
    }

    fn start(&mut self) {
        let mut command = self.namespace.command(&self.program);
        let log = std::fs::File::create(self.folder.join("log")).unwrap();
        command
            .arg("server")
            .arg(format!("-config={}/bao.hcl", self.folder.display()))
            .env("HOME", &self.folder)
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(Process::start(command));
        eventually_true(30, "an answer of OpenBao", || {
            self.ask("GET", "sys/seal-status", &Value::Null).is_ok()
        });
    }

    fn unseal(&self) {
        let key = json!({"key": self.unseal_key});
        self.root("POST", "sys/unseal", &key);
        self.root("GET", "sys/health", &Value::Null);
    }

    fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// The ids that the daemon signs in with.
    fn approle(&self) -> (String, String) {
        for (path, body) in [
            ("sys/auth/approle", json!({"type": "approle"})),
            (
                "sys/mounts/secret",
                json!({"type": "kv", "options": {"version": "2"}}),
            ),
            ("sys/policies/acl/sotp", json!({"policy": POLICY})),
            (
                "auth/approle/role/sotp",
                json!({"token_policies": "sotp", "token_ttl": "1h"}),
            ),
        ] {
            self.root("POST", path, &body);
        }
        let role = self.root("GET", "auth/approle/role/sotp/role-id", &Value::Null);
        let secret = self.root("POST", "auth/approle/role/sotp/secret-id", &json!({}));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&role["data"]["role_id"]),
            text(&secret["data"]["secret_id"]),
        )
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Response> {
        let path = format!("/v1/{path}");
        let ask = Ask::new(method, &path).header("X-Vault-Token", &self.root);
        let ask = if body.is_null() { ask } else { ask.json(body) };
        local(self.forward.path(), &ask)
    }

    /// Asks as root until it says yes: after its start it is not ready at once.
    fn root(&self, method: &str, path: &str, body: &Value) -> Value {
        eventually(30, path, || match self.ask(method, path, body) {
            Ok(yes) if (200..300).contains(&yes.status) => Ok(yes.body),
            seen => Err(seen.map(|no| (no.status, no.body))),
        })
    }
}

fn put(daemon: &Daemon, path: &str, body: &Value) -> Response {
    let text = body.to_string();
    let body = Some(("application/json", text.as_bytes()));
    daemon.try_request("PUT", path, body).unwrap()
}

fn until_vault_is(daemon: &Daemon, up: bool) {
    eventually(60, &format!("vault.up {up}"), || {
        let key = daemon.get("/api/v1/secrets-key");
        if key["vault"]["up"] == up {
            Ok(())
        } else {
            Err(key)
        }
    });
}

/// Waits for a poll with the community that begins from now on.
fn polled(daemon: &Daemon, device: &str) {
    let path = format!("/api/v1/devices/{device}");
    let before = daemon.get(&path)["checks"]["snmp"]["at"].clone();
    eventually(40, "a poll with the community", || {
        let now = daemon.get(&path)["checks"]["snmp"].clone();
        let new = now["at"] != before && !now["at"].is_null();
        if new && now["failure"].is_null() {
            Ok(())
        } else {
            Err(now)
        }
    });
}

#[test]
fn an_openbao_that_is_down_at_boot_and_during_work_stops_no_poll() {
    let Some(namespace) = namespace() else { return };
    let Some(program) = program() else {
        return skipped("OpenBao is not installed: packaging/deps.sh test");
    };
    let folder = Folder::new();
    let what = ["--uniform", "1", "--ports", "2"];
    let site = Site::start(folder.path(), Some(&namespace), &what);
    let mut bao = Bao::new(&namespace, program, folder.path());
    let (role, secret) = bao.approle();
    let secret_id = folder.path().join("secret-id");
    write_private(&secret_id, &secret);
    folder.write_rules(DEVICE_DOWN);
    let vault = format!(
        "[vault]\naddress = \"http://127.0.0.1:{PORT}\"\nrole_id = \"{role}\"\n\
         secret_id_file = \"{}\"\ntimeout = \"2s\"\ncache = \"1s\"\n",
        secret_id.display()
    );
    let settings = format!("{QUICK}{vault}");
    folder.write_all_settings("", "", "backend = \"vault\"", &settings);

    bao.kill9();
    let daemon = Daemon::start(&folder, Some(&namespace));
    until_vault_is(&daemon, false);
    let community = json!({"kind": "snmp-v2c", "community": "public"});
    let refused = put(&daemon, "/api/v1/credentials/campus", &community);
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(daemon.get("/api/v1/devices")["items"], json!([]));

    bao.start();
    bao.unseal();
    until_vault_is(&daemon, true);
    put(&daemon, "/api/v1/credentials/campus", &community).expect("a credential");
    let csv = site.csv("campus");
    let import = Some(("text/csv", csv.as_bytes()));
    let report = daemon.try_request("POST", "/api/v1/devices/import", import);
    report.unwrap().expect("an import");
    let device = daemon.get("/api/v1/devices")["items"][0]["name"].clone();
    let device = device.as_str().unwrap();
    polled(&daemon, device);
    let kept = bao.root("GET", "secret/data/sotp/credential.campus", &Value::Null);
    assert!(kept.to_string().contains("public"), "{kept}");

    bao.kill9();
    until_vault_is(&daemon, false);
    // well beyond the time for which a value is taken as new
    polled(&daemon, device);
    polled(&daemon, device);
    let refused = put(&daemon, "/api/v1/secrets/other", &json!({"value": "x"}));
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(daemon.state(device), "up");

    // sealed is as good as down; open, it goes on
    bao.start();
    bao.unseal();
    until_vault_is(&daemon, true);
    put(&daemon, "/api/v1/secrets/other", &json!({"value": "x"})).expect("a secret");
    polled(&daemon, device);
    assert!(
        !daemon.log().contains(&secret),
        "the SecretID is in the log"
    );
    assert!(daemon.stop().success());
}
