//! A disk that is full, and one that hangs.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Daemon, Folder, eventually, is_root, tool};
use serde_json::json;

use crate::{DEVICE_DOWN, QUICK, refused_by_kernel, skipped};

/// A small file system that is unmounted at the end.
struct Mount(PathBuf);

impl Mount {
    fn new(arguments: &[&str], at: &Path) -> Option<Mount> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(arguments)
            .arg(at)
            .output()
            .ok()?;
        mounted.status.success().then(|| Mount(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Settings with the store on `disk`.
fn settings_on(folder: &Folder, disk: &Path) {
    folder.write_rules(DEVICE_DOWN);
    folder.write_settings("", QUICK);
    let text = std::fs::read_to_string(folder.settings()).unwrap();
    let inside = format!("path = \"{}", folder.path().display());
    let text = text.replace(&inside, &format!("path = \"{}", disk.display()));
    std::fs::write(folder.settings(), text).unwrap();
}

#[test]
fn a_full_disk_is_survived_in_memory_shown_and_left_without_a_restart() {
    if !is_root() {
        return skipped("a small disk needs root");
    }
    let folder = Folder::new();
    let disk = folder.path().join("disk");
    let Some(_mount) = Mount::new(&["-t", "tmpfs", "-o", "size=12m", "tmpfs"], &disk) else {
        return skipped("tmpfs cannot be mounted here");
    };
    settings_on(&folder, &disk);
    let daemon = Daemon::start(&folder, None);
    daemon.add(&json!({"name": "local", "address": "127.0.0.1"}));
    daemon.until_state(10, "local", "up");

    // fill it to the last byte
    let ballast = disk.join("filled");
    let _full = Command::new("dd")
        .args(["if=/dev/zero", "bs=64k"])
        .arg(format!("of={}", ballast.display()))
        .output();
    let add = |from: u32, many: u32| {
        let mut csv = String::from("name,address,location\n");
        for number in from..from + many {
            let (high, low) = (number / 200, number % 200 + 1);
            let location = "x".repeat(200);
            csv.push_str(&format!("more{number},192.0.{high}.{low},{location}\n"));
        }
        let body = Some(("text/csv", csv.as_bytes()));
        daemon
            .try_request("POST", "/api/v1/devices/import", body)
            .unwrap()
    };
    let mut number = 0;
    eventually(60, "a write that finds no room", || {
        let answer = add(number, 2_000);
        number += 2_000;
        if answer.status == 503 {
            Ok(())
        } else {
            Err((number, answer.status))
        }
    });
    eventually(10, "not ready, with the reason", || {
        let ready = daemon.try_request("GET", "/health/ready", None).unwrap();
        if ready.status == 503 {
            Ok(())
        } else {
            Err(ready.body)
        }
    });
    // polls go on and are seen
    let at = || daemon.get("/api/v1/devices/local")["checks"]["icmp"]["at"].clone();
    for _round in 0..3 {
        let last = at();
        eventually(5, "another poll", || {
            if at() == last {
                Err(last.clone())
            } else {
                Ok(())
            }
        });
    }

    std::fs::remove_file(&ballast).unwrap();
    eventually(30, "ready again by itself", || {
        let ready = daemon.try_request("GET", "/health/ready", None).unwrap();
        if ready.status == 200 {
            Ok(())
        } else {
            Err(ready.body)
        }
    });
    assert_eq!(add(number, 1).body["created"], 1);
    assert!(daemon.stop().success());
}

#[test]
fn a_writer_that_hangs_starves_the_watchdog_and_a_healthy_one_feeds_it() {
    if !is_root() || !tool("fsfreeze") || !tool("mkfs.ext4") {
        return skipped("a disk that hangs needs root, fsfreeze and mkfs.ext4");
    }
    let folder = Folder::new();
    let image = folder.path().join("image");
    std::fs::File::create(&image)
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F"])
        .arg(&image)
        .output()
        .unwrap();
    assert!(made.status.success());
    let disk = folder.path().join("disk");
    let Some(_mount) = Mount::new(&["-o", "loop", image.to_str().unwrap()], &disk) else {
        return refused_by_kernel("loop devices are refused here");
    };
    settings_on(&folder, &disk);

    let path = folder.path().join("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    notify
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut command = Daemon::command(&folder, None);
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1500000");
    let daemon = Daemon::start_command(&folder, command);
    daemon.add(&json!({"name": "local", "address": "127.0.0.1"}));

    let fed_within = |span: Duration| {
        let end = Instant::now() + span;
        let mut message = [0; 4096];
        while Instant::now() < end {
            if let Ok(length) = notify.recv(&mut message)
                && message[..length].starts_with(b"WATCHDOG=1")
            {
                return true;
            }
        }
        false
    };
    assert!(
        fed_within(Duration::from_secs(5)),
        "a healthy writer feeds the watchdog"
    );

    let freeze = |how: &str| {
        Command::new("fsfreeze")
            .arg(how)
            .arg(&disk)
            .status()
            .unwrap()
    };
    if !freeze("-f").success() {
        return refused_by_kernel("fsfreeze is refused here");
    }
    while fed_within(Duration::from_millis(200)) {}
    let starved = !fed_within(Duration::from_secs(4));
    assert!(freeze("-u").success());
    assert!(starved, "fed although nothing can be written");
    assert!(
        fed_within(Duration::from_secs(10)),
        "and fed again once it can"
    );
    assert!(daemon.stop().success());
}
