//! Records that know what they are, and a log of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wal::fs::Fs;
use wal::fs::sim::SimFs;
use wal::{Lsn, NotDurable, Replay, Wal, WalError, WalOptions};

/// Where the logs of tests lie.
pub(crate) const DIR: &str = "/state/wal";
/// Never, as far as a test is concerned.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// A log that writes only when somebody waits.
pub(crate) fn options() -> WalOptions {
    WalOptions {
        dir: PathBuf::from(DIR),
        stream: 'm',
        write_every: NEVER,
        sync_every: NEVER,
        max_pending: 64 << 20,
    }
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

pub(crate) fn names(fs: &SimFs) -> Vec<String> {
    fs.names(Path::new(DIR))
}

/// A record: its length, its number, and bytes that follow from that.
pub(crate) fn record(id: u64) -> Vec<u8> {
    let length = match id % 11 {
        0 => 2500,
        odd => odd * 13 + id % 7,
    };
    let mut bytes = u32::try_from(length).unwrap().to_le_bytes().to_vec();
    bytes.extend(id.to_le_bytes());
    bytes.extend((0..length).map(|at| (at.wrapping_mul(31) ^ id).to_le_bytes()[0]));
    bytes
}

/// The numbers of the records in a frame, if it is whole records and no more.
pub(crate) fn ids(mut frame: &[u8]) -> Result<Vec<u64>, String> {
    let mut ids = Vec::new();
    while !frame.is_empty() {
        let id = frame.get(4..12).ok_or("less than a record")?;
        let id = u64::from_le_bytes(id.try_into().unwrap());
        frame = frame
            .strip_prefix(record(id).as_slice())
            .ok_or_else(|| format!("record {id} is not what was appended"))?;
        ids.push(id);
    }
    Ok(ids)
}

pub(crate) fn append(wal: &Wal, id: u64) -> Lsn {
    wal.append(&mut |out| out.extend_from_slice(&record(id)))
}

pub(crate) fn store(wal: &Wal, id: u64) -> Result<(), NotDurable> {
    wal.wait(append(wal, id))
}

/// Opens the log and gives the records that were in it.
pub(crate) fn try_open(
    fs: Arc<dyn Fs>,
    options: WalOptions,
    first: u64,
) -> Result<(Wal, Replay, Vec<u64>), WalError> {
    let mut found = Vec::new();
    let (wal, replay) = Wal::open(fs, options, first, &mut |frame| {
        found.extend(ids(&frame).expect("whole records"));
    })?;
    Ok((wal, replay, found))
}

pub(crate) fn open(fs: &SimFs, first: u64) -> (Wal, Replay, Vec<u64>) {
    try_open(Arc::new(fs.clone()), options(), first).unwrap()
}
