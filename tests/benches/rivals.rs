//! Debian's prometheus and victoria-metrics: started on loopback with a folder
//! of their own, fed by remote_write, asked over HTTP.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use harness::{Process, eventually_true};

use crate::client;
use crate::wire::Sender;

/// One of the two, running.
pub(crate) struct Rival {
    pub(crate) name: &'static str,
    process: Process,
    address: &'static str,
    write: &'static str,
}

impl Rival {
    pub(crate) fn prometheus(folder: &Path) -> Rival {
        let address = "127.0.0.1:19090";
        let settings = folder.join("prometheus.yml");
        std::fs::write(&settings, "global: {}\n").expect("writable");
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", settings.display()))
            .arg(format!("--storage.tsdb.path={}", folder.display()))
            .arg("--storage.tsdb.retention.time=2y")
            .arg(format!("--web.listen-address={address}"))
            .args([
                "--web.enable-remote-write-receiver",
                "--web.enable-admin-api",
            ])
            .args(["--query.max-samples=500000000", "--query.timeout=10m"]);
        Rival::start("prometheus", command, address, "/api/v1/write", folder)
    }

    pub(crate) fn victoria_metrics(folder: &Path) -> Rival {
        let address = "127.0.0.1:18428";
        let mut command = Command::new("victoria-metrics");
        command
            .arg(format!("-storageDataPath={}", folder.display()))
            .arg(format!("-httpListenAddr={address}"))
            .args(["-retentionPeriod=2y", "-search.disableCache=true"])
            .args([
                "-search.maxQueryDuration=10m",
                "-search.maxSamplesPerQuery=1000000000",
            ])
            .args([
                "-search.maxUniqueTimeseries=2000000",
                "-selfScrapeInterval=0",
            ]);
        Rival::start(
            "victoria-metrics",
            command,
            address,
            "/api/v1/write",
            folder,
        )
    }

    fn start(
        name: &'static str,
        mut command: Command,
        address: &'static str,
        write: &'static str,
        folder: &Path,
    ) -> Rival {
        let log = std::fs::File::create(folder.join("bench.log")).expect("writable");
        command.stderr(log.try_clone().expect("a file")).stdout(log);
        let mut process = Process::start(command);
        eventually_true(60, name, || {
            assert!(process.ended().is_none(), "{name} ended");
            let stream = TcpStream::connect(address);
            let answer = stream.and_then(|s| client::exchange(s, "/api/v1/labels", Instant::now()));
            answer.is_ok_and(|answer| answer.status == 200)
        });
        Rival {
            name,
            process,
            address,
            write,
        }
    }

    pub(crate) fn sender(&self) -> Sender {
        Sender::connect(self.address, self.write).expect("it listens")
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.process.cpu_seconds()
    }

    pub(crate) fn resident(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// Has it write out and merge what it has.
    pub(crate) fn settle(&self) {
        if self.name == "victoria-metrics" {
            self.get("/internal/force_flush");
            self.get("/internal/force_merge");
            eventually_true(300, "a merge", || {
                let said = self.get("/metrics");
                let text = String::from_utf8_lossy(&said);
                let active = text
                    .lines()
                    .filter(|line| line.starts_with("vm_active_merges"));
                active.into_iter().all(|line| line.ends_with(" 0"))
            });
        }
    }

    /// The ms that a query takes, and the bytes of its answer.
    pub(crate) fn query(&self, path: &str) -> (f64, usize) {
        let began = Instant::now();
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(600)))
            .expect("a socket");
        let answer = client::exchange(stream, path, began).expect("it answers");
        let said = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]);
        assert_eq!(answer.status, 200, "{}: {path}: {said}", self.name);
        (answer.took.as_secs_f64() * 1e3, answer.body.len())
    }

    /// Bytes that it keeps its samples in. Prometheus' head is written into a
    /// block for that: a snapshot.
    pub(crate) fn stored(&self, folder: &Path) -> f64 {
        if self.name == "prometheus" {
            let mut stream = TcpStream::connect(self.address).expect("it listens");
            let ask = "POST /api/v1/admin/tsdb/snapshot HTTP/1.0\r\nHost: bench\r\nContent-Length: 0\r\n\r\n";
            std::io::Write::write_all(&mut stream, ask.as_bytes()).expect("it listens");
            let mut said = String::new();
            std::io::Read::read_to_string(&mut stream, &mut said).expect("it answers");
            assert!(said.contains("200 OK"), "{said}");
            return size(&folder.join("snapshots"));
        }
        size(&folder.join("data"))
    }

    fn get(&self, path: &str) -> Vec<u8> {
        let stream = TcpStream::connect(self.address).expect("it listens");
        let answer = client::exchange(stream, path, Instant::now()).expect("it answers");
        answer.body
    }
}

/// Bytes of all files below `folder`.
fn size(folder: &Path) -> f64 {
    let entries = std::fs::read_dir(folder).expect("it is there").flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(about) if about.is_dir() => size(&entry.path()),
        #[expect(clippy::cast_precision_loss, reason = "it is below 2^53")]
        Ok(about) => about.len() as f64,
        // a merge took it away meanwhile
        Err(_) => 0.0,
    });
    sizes.sum()
}
