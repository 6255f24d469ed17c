//! Runs of numbers as the `pco` crate writes them: smaller than our packing
//! where a run is long, and slower.
//!
//! It is pco's wrapped format: its header of two bytes, the metadata of one
//! chunk, one page. Our own blocks say how many numbers there are.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pco::data_types::Number;
use pco::errors::PcoResult;
use pco::metadata::{DeltaEncoding, Mode};
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec};

use crate::Corrupt;

/// Memory for trying.
#[derive(Debug, Default)]
pub(crate) struct DenseScratch<T> {
    bytes: Vec<u8>,
    back: Vec<T>,
}

/// How hard it tries: 4 gives 1.023 bytes for a sample of the mix in 27 ns, 6
/// 1.015 in 34 ns, 8 1.014 in 49 ns.
const LEVEL: usize = 6;

/// Bytes below which it is not tried: its metadata alone is about as large.
const WORTH_TRYING: usize = 24;

/// The version of the format that we have looked at.
const MAJOR: u8 = 4;

/// Tries to replace what stands in `out` from `start` by something smaller;
/// says whether it did.
///
/// It reads back what it wrote and compares by `bits`: at compaction the
/// originals are deleted, and this code is not ours.
pub(crate) fn replace<T: Number + Default>(
    numbers: &[T],
    bits: impl Fn(T) -> u64,
    start: usize,
    scratch: &mut DenseScratch<T>,
    out: &mut Vec<u8>,
) -> bool {
    let DenseScratch { bytes, back } = scratch;
    let length = out.len() - start;
    if length < WORTH_TRYING {
        return false;
    }
    bytes.clear();
    // an error is no reason to fail: our own encoding stands there already
    if compress(numbers, bytes) != Ok(true) || bytes.len() >= length {
        return false;
    }
    back.clear();
    back.resize(numbers.len(), T::default());
    let same = |(a, b): (&T, &T)| bits(*a) == bits(*b);
    if decode(bytes, back).is_err() || !numbers.iter().zip(&*back).all(same) {
        return false;
    }
    out.truncate(start);
    out.extend_from_slice(bytes);
    true
}

/// Whether it used only what [`decode`] accepts.
fn compress<T: Number>(numbers: &[T], out: &mut Vec<u8>) -> PcoResult<bool> {
    let config = ChunkConfig::default()
        .with_compression_level(LEVEL)
        .with_delta_spec(DeltaSpec::Auto);
    let file = FileCompressor::default();
    file.write_header(&mut *out)?;
    let mut chunk = file.chunk_compressor(numbers, &config)?;
    chunk.write_meta(&mut *out)?;
    chunk.write_page(0, &mut *out)?;
    let meta = chunk.meta();
    Ok(accepts(&meta.mode, &meta.delta_encoding))
}

/// What allocates by numbers of rows alone. A dictionary and a window to look
/// back may take hundreds of megabytes, whatever is left of the bytes.
fn accepts(mode: &Mode, delta: &DeltaEncoding) -> bool {
    !matches!(mode, Mode::Dict(_))
        && matches!(
            delta,
            DeltaEncoding::NoOp | DeltaEncoding::Consecutive { .. }
        )
}

/// Reads as many numbers as there is room for; the bytes must end there.
pub(crate) fn decode<T: Number>(bytes: &[u8], numbers: &mut [T]) -> Result<(), Corrupt> {
    // pco means to return errors, but its decoder trusts bytes here and there;
    // what it may have left behind is overwritten or thrown away by callers
    catch_unwind(AssertUnwindSafe(|| decompress(bytes, numbers)))
        .unwrap_or(Err(Corrupt("pco gave up on its numbers")))
}

fn decompress<T: Number>(bytes: &[u8], numbers: &mut [T]) -> Result<(), Corrupt> {
    refuse_dictionary(bytes)?;
    let wrong = |_| Corrupt("pco cannot read its numbers");
    let (file, rest) = FileDecompressor::new(bytes).map_err(wrong)?;
    let (mut chunk, rest) = file.chunk_decompressor::<T, _>(rest).map_err(wrong)?;
    let meta = chunk.meta();
    if !accepts(&meta.mode, &meta.delta_encoding) {
        return Err(Corrupt("pco in a way that we do not write"));
    }
    let mut page = chunk
        .page_decompressor(rest, numbers.len())
        .map_err(wrong)?;
    let progress = page.read(numbers).map_err(wrong)?;
    if progress.finished && progress.n_processed == numbers.len() && page.into_src().is_empty() {
        Ok(())
    } else {
        Err(Corrupt("pco has other numbers than expected"))
    }
}

/// Its mode stands in the lowest four bits behind the version, and a
/// dictionary is allocated before anything can be asked.
fn refuse_dictionary(bytes: &[u8]) -> Result<(), Corrupt> {
    const LAST_WITHOUT: u8 = 3;
    match bytes {
        [MAJOR, _, mode, ..] if mode & 0x0f <= LAST_WITHOUT => Ok(()),
        _ => Err(Corrupt("pco in a way that we do not write")),
    }
}
