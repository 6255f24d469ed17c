//! A server that does what a real daemon cannot be made to do: hang up in the
//! middle, answer 401 once, show the certificate of somebody else. It speaks TLS
//! with rustls and HTTP/1.1 by hand, and writes down what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Which connection it came over, from 0.
    pub(crate) connection: usize,
    /// Method and path.
    pub(crate) line: String,
    /// In lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What the server does.
pub(crate) enum Reply {
    Json(u16, Value),
    /// With this `ETag`.
    Tagged(&'static str, Value),
    /// Nothing: it hangs up.
    HangUp,
    /// These pieces, whose number is not said before, and their end or none.
    Pieces(Vec<Vec<u8>>, End),
    /// Says that this many bytes come, sends this text, and hangs up.
    CutOff(usize, String),
}

/// How pieces end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Said,
    Missing,
}

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) port: u16,
    /// As the client shows it.
    pub(crate) fingerprint: String,
    /// The certificate, in a file.
    pub(crate) certificate: PathBuf,
    asked: Arc<Mutex<Vec<Asked>>>,
    _files: tempfile::TempDir,
}

impl Server {
    /// Answers until the process ends.
    pub(crate) fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let der = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let files = tempfile::tempdir().unwrap();
        let certificate = files.path().join("certificate.pem");
        std::fs::write(&certificate, made.cert.pem()).unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = (Arc::new(reply), asked.clone(), config(der.clone(), key));
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (reply, asked, config) = shared.clone();
                std::thread::spawn(move || serve(stream.unwrap(), number, config, &*reply, &asked));
            }
        });
        Server {
            url: format!("https://localhost:{port}"),
            port,
            fingerprint: fingerprint(&der),
            certificate,
            asked,
            _files: files,
        }
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The lines of what was asked so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

fn config(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

fn fingerprint(certificate: &[u8]) -> String {
    let bytes: Vec<String> = Sha256::digest(certificate)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    bytes.join(":")
}

/// Serves one connection until either side ends it.
fn serve(
    stream: TcpStream,
    connection: usize,
    config: Arc<ServerConfig>,
    reply: &dyn Fn(&Asked) -> Reply,
    log: &Mutex<Vec<Asked>>,
) {
    let socket = stream.try_clone().unwrap();
    let tls = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let mut tls = BufReader::new(tls);
    while let Some(asked) = read(&mut tls, connection) {
        log.lock().unwrap().push(asked.clone());
        let (status, tag, content) = match reply(&asked) {
            Reply::Json(status, body) => (status, None, body.to_string()),
            Reply::Tagged(tag, body) => (200, Some(tag), body.to_string()),
            Reply::HangUp => break,
            Reply::Pieces(pieces, end) => {
                if send_pieces(tls.get_mut(), &pieces, end).is_err() || end == End::Missing {
                    break;
                }
                continue;
            }
            Reply::CutOff(length, text) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}");
                let _sent = tls.get_mut().write_all(head.as_bytes());
                break;
            }
        };
        let content = if status == 204 {
            String::new()
        } else {
            content
        };
        let tag = tag.map_or(String::new(), |tag| format!("etag: {tag}\r\n"));
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{tag}content-length: {}\r\n\r\n{content}",
            content.len()
        );
        if tls.get_mut().write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
    let _closed = socket.shutdown(Shutdown::Both);
}

/// Transfer-Encoding: chunked (RFC 9112 §7.1).
fn send_pieces(to: &mut impl Write, pieces: &[Vec<u8>], end: End) -> std::io::Result<()> {
    to.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
    for piece in pieces {
        write!(to, "{:x}\r\n", piece.len())?;
        to.write_all(piece)?;
        to.write_all(b"\r\n")?;
    }
    match end {
        End::Said => to.write_all(b"0\r\n\r\n"),
        End::Missing => Ok(()),
    }
}

fn read(tls: &mut impl BufRead, connection: usize) -> Option<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if tls.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    tls.read_exact(&mut body).ok()?;
    Some(Asked {
        connection,
        line: lines[0].trim_end_matches(" HTTP/1.1").to_owned(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// A home of its own for a client.
pub(crate) struct Home {
    directory: tempfile::TempDir,
}

/// What a run of the client came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Fails unless it went well.
    #[track_caller]
    pub(crate) fn well(self) -> Ran {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Fails unless it ended with this code and said each of these.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, said: &[&str]) -> Ran {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in said {
            assert!(self.err.contains(part), "{part:?} is not in {}", self.err);
        }
        self
    }
}

impl Home {
    pub(crate) fn new() -> Home {
        let directory = tempfile::tempdir().unwrap();
        Home { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file with this text; gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The file with the contexts.
    pub(crate) fn contexts(&self) -> PathBuf {
        self.path("config/sotp/contexts.json")
    }

    /// What stands in it.
    pub(crate) fn context(&self, name: &str) -> Value {
        let text = std::fs::read(self.contexts()).unwrap();
        let all: Value = serde_json::from_slice(&text).unwrap();
        all["contexts"][name].clone()
    }

    /// Writes a context called `here` for `server`, signed in with `session`.
    pub(crate) fn sign_in(&self, server: &Server, session: Value) {
        let mut context = serde_json::json!({
            "server": server.url,
            "user": "jane",
            "fingerprint": server.fingerprint,
        });
        let fields = context.as_object_mut().unwrap();
        fields.extend(session.as_object().unwrap().clone());
        let all = serde_json::json!({
            "schema_version": 1,
            "current": "here",
            "contexts": { "here": context },
        });
        std::fs::create_dir_all(self.path("config/sotp")).unwrap();
        std::fs::write(self.contexts(), all.to_string()).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.contexts(), private).unwrap();
    }

    /// The client, with nothing in its environment but this home.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(client());
        command
            .env_clear()
            .env("HOME", self.directory.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .args(words)
            .stdin(std::process::Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        Ran::of(self.command(words).output().unwrap())
    }
}

pub(crate) fn client() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_sotp"))
}
