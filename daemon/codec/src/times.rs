//! Times of rows: how far each is from where an even step would put it.

use crate::bytes::{Reader, put_varint};
use crate::ints::{self, IntScratch};
use crate::{Corrupt, Effort};

/// Devices are polled every so many whole seconds.
const STEP_UNIT_MS: u64 = 1000;

/// Appends times that rise strictly.
pub(crate) fn encode(
    times: &[u64],
    effort: Effort,
    scratch: &mut Vec<u64>,
    ints: &mut IntScratch,
    out: &mut Vec<u8>,
) {
    assert!(times.is_sorted_by(|a, b| a < b), "times rise strictly");
    let step = likely_step(times);
    put_varint(out, step);
    scratch.clear();
    scratch.extend(
        (0_u64..)
            .zip(times)
            .map(|(row, time)| time.wrapping_sub(row.wrapping_mul(step))),
    );
    ints::encode(scratch, effort, ints, out);
}

/// The mean, in whole seconds.
fn likely_step(times: &[u64]) -> u64 {
    let [first, .., last] = times else { return 0 };
    let steps = times.len() as u64 - 1;
    let mean = (last - first) / steps;
    mean.saturating_add(STEP_UNIT_MS / 2) / STEP_UNIT_MS * STEP_UNIT_MS
}

/// Appends `rows` times.
pub(crate) fn decode(bytes: &[u8], rows: usize, out: &mut Vec<u64>) -> Result<(), Corrupt> {
    let start = out.len();
    let decoded = decode_to(bytes, rows, out);
    if decoded.is_err() {
        out.truncate(start);
    }
    decoded
}

fn decode_to(bytes: &[u8], rows: usize, out: &mut Vec<u64>) -> Result<(), Corrupt> {
    let start = out.len();
    let mut from = Reader::new(bytes);
    let step = from.varint()?;
    out.resize(start + rows, 0);
    let times = &mut out[start..];
    ints::decode(&mut from, times)?;
    for (row, time) in (0_u64..).zip(times.iter_mut()) {
        *time = time.wrapping_add(row.wrapping_mul(step));
    }
    if !from.is_empty() || !times.is_sorted_by(|a, b| a < b) {
        return Err(Corrupt("the times of a block do not rise"));
    }
    Ok(())
}
