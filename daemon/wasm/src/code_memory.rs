//! Machine code without memory that is ever both writable and executable, so
//! that it runs under MemoryDenyWriteExecute: the code is written to a memfd,
//! sealed, and mapped over the place where the engine laid it out.

use std::fs::File;
use std::io::Write as _;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use wasmtime::component::Component;
use wasmtime::{CustomCodeMemory, Engine, Result, bail};

/// Publishes code through sealed memfds.
pub(crate) struct SealedCode {
    page: usize,
}

impl SealedCode {
    pub(crate) fn new() -> SealedCode {
        SealedCode {
            page: rustix::param::page_size(),
        }
    }
}

/// A file in memory. Nobody means to run it as a program: newer kernels want
/// to be told so, older ones do not know the word.
fn memory_file() -> Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(c"sotp-plugin", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(c"sotp-plugin", flags),
        other => other,
    };
    Ok(File::from(file?))
}

#[expect(
    unsafe_code,
    reason = "maps code over memory that the engine owns and gives us for exactly that"
)]
impl CustomCodeMemory for SealedCode {
    fn required_alignment(&self) -> usize {
        self.page
    }

    fn publish_executable(&self, place: *const u8, len: usize) -> Result<()> {
        if !len.is_multiple_of(self.page) {
            bail!("{len} bytes of code are no whole pages");
        }
        // SAFETY: the engine promises `len` bytes at `place`, which nobody
        // writes to during this call.
        let code = unsafe { std::slice::from_raw_parts(place, len) };
        let mut file = memory_file()?;
        file.write_all(code)?;
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        let may = ProtFlags::READ | ProtFlags::EXEC;
        // SAFETY: the pages at `place` are the engine's, whole (alignment and
        // length were checked), and what is mapped over them is the same bytes.
        unsafe { mmap(place.cast_mut().cast(), len, may, flags, &file, 0) }?;
        Ok(())
    }

    fn unpublish_executable(&self, place: *const u8, len: usize) -> Result<()> {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED;
        let may = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the engine promises that the code at `place`, which we
        // published, is run by nobody any more.
        unsafe { mmap_anonymous(place.cast_mut().cast(), len, may, flags) }?;
        Ok(())
    }
}

/// Loads compiled code.
#[expect(
    unsafe_code,
    reason = "the code is what `compile` gave: its digest and its key were looked at"
)]
pub(crate) fn component(engine: &Engine, code: &[u8]) -> Result<Component> {
    // SAFETY: as the reason says; the engine looks at its own version and
    // settings in the code's header as well.
    unsafe { Component::deserialize(engine, code) }
}
