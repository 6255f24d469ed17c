//! How fast the log is here: `cargo run --release -p wal --example measure [DIR]`.

#![expect(clippy::print_stdout, reason = "the output is the purpose")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use wal::fs::RealFs;
use wal::{Wal, WalOptions};

/// As a batch of 50 polls of 2,000 values is.
const LARGE: usize = 400_000;
/// As a poll of 100 values is.
const SMALL: usize = 400;
/// Each part takes about this long.
const TIME: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let base = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("wal-measure-{}", std::process::id()));
    let outcome = measure(&dir);
    std::fs::remove_dir_all(&dir)?;
    outcome
}

fn measure(dir: &Path) -> Result<(), Box<dyn Error>> {
    let wal = open(dir, &mut |_| {})?;
    large(&wal)?;
    wal.remove_before(wal.rotate());
    small(&wal, 1)?;
    small(&wal, 2)?;
    wait_each(&wal, 1)?;
    wait_each(&wal, 8)?;
    wal.remove_before(wal.rotate());
    large(&wal)?;
    wal.close()?;
    drop(wal);
    replay(dir)
}

fn open(dir: &Path, sink: &mut dyn FnMut(Vec<u8>)) -> Result<Wal, Box<dyn Error>> {
    let options = WalOptions {
        dir: dir.to_path_buf(),
        stream: 'm',
        write_every: Duration::from_millis(20),
        sync_every: Duration::from_millis(250),
        max_pending: 64 << 20,
    };
    Ok(Wal::open(Arc::new(RealFs), options, 0, sink)?.0)
}

/// Appends large records until the time is over, then waits for the last.
fn large(wal: &Wal) -> Result<(), Box<dyn Error>> {
    let record = vec![0x5a; LARGE];
    let began = Instant::now();
    let mut bytes = 0;
    let mut inside = Duration::ZERO;
    let mut last = wal.append(&mut |_| {});
    while began.elapsed() < TIME {
        let call = Instant::now();
        last = wal.append(&mut |out| out.extend_from_slice(&record));
        inside = inside.max(call.elapsed());
        bytes += LARGE;
    }
    wal.wait(last)?;
    let rate = gigabytes(bytes) / began.elapsed().as_secs_f64();
    println!("append {LARGE} B, durable at the end: {rate:.2} GB/s, longest append {inside:.1?}");
    Ok(())
}

/// Appends small records from some threads.
fn small(wal: &Wal, threads: usize) -> Result<(), Box<dyn Error>> {
    let record = [0x5a; SMALL];
    let before = wal.stats();
    let began = Instant::now();
    let appends: u64 = thread::scope(|scope| {
        let work = || {
            let mut appends = 0;
            while appends % 1000 != 0 || began.elapsed() < TIME {
                wal.append(&mut |out| out.extend_from_slice(&record));
                appends += 1;
            }
            appends
        };
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter()
            .filter_map(|thread| thread.join().ok())
            .sum()
    });
    wal.wait(wal.append(&mut |out| out.extend_from_slice(&record)))?;
    let seconds = began.elapsed().as_secs_f64();
    let after = wal.stats();
    println!(
        "append {SMALL} B, {threads} threads: {:.2} M/s, {} syncs",
        per_second(appends, seconds) / 1e6,
        after.syncs - before.syncs
    );
    Ok(())
}

/// Appends and waits, each time.
fn wait_each(wal: &Wal, threads: usize) -> Result<(), Box<dyn Error>> {
    let before = wal.stats();
    let began = Instant::now();
    let stored: u64 = thread::scope(|scope| {
        let work = || {
            let mut stored = 0;
            while began.elapsed() < TIME {
                let place = wal.append(&mut |out| out.extend_from_slice(&[1; SMALL]));
                stored += u64::from(wal.wait(place).is_ok());
            }
            stored
        };
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter()
            .filter_map(|thread| thread.join().ok())
            .sum()
    });
    let seconds = began.elapsed().as_secs_f64();
    let after = wal.stats();
    let syncs = after.syncs - before.syncs;
    println!(
        "append and wait, {threads} threads: {:.0}/s, {:.0} syncs/s, {:.2} ms a sync",
        per_second(stored, seconds),
        per_second(syncs, seconds),
        (after.sync_seconds_sum - before.sync_seconds_sum) * 1000.0 / count(syncs)
    );
    Ok(())
}

fn replay(dir: &Path) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut bytes = 0;
    let wal = open(dir, &mut |frame| bytes += frame.len())?;
    let rate = gigabytes(bytes) / began.elapsed().as_secs_f64();
    println!("replay of {:.2} GB: {rate:.2} GB/s", gigabytes(bytes));
    Ok(wal.close()?)
}

fn gigabytes(bytes: usize) -> f64 {
    count(bytes as u64) / 1e9
}

fn per_second(things: u64, seconds: f64) -> f64 {
    count(things) / seconds
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn count(things: u64) -> f64 {
    things as f64
}
