//! Compiled components on disk. Compiling takes seconds, loading does not.
//!
//! A file is believed only if it says itself for which engine and which
//! component it was made, and is as long and has the checksum that it says. The
//! directory is ours alone; nothing in it was ever made elsewhere.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::libc;
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"SOTPWASM";
/// Bytes of compiled code.
pub(crate) const COMPILED: usize = 128 << 20;
/// Files that no loaded plugin uses, and their bytes; the oldest are removed.
const FILES: usize = 64;
const BYTES: u64 = 512 << 20;
const KEY: usize = 1 << 10;

type Sum = [u8; 32];

fn sum(bytes: &[u8]) -> Sum {
    Sha256::digest(bytes).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which compiled code is meant.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    component: Sum,
    key: String,
}

impl Wanted {
    /// The code of `component` for the engine of `key`.
    pub(crate) fn new(component: &[u8], key: String) -> Wanted {
        Wanted {
            component: sum(component),
            key,
        }
    }

    /// The name of its file.
    pub(crate) fn name(&self) -> String {
        let engine = hex(&sum(self.key.as_bytes())[..8]);
        format!("{}-{engine}", hex(&self.component))
    }

    /// What stands before the code.
    fn head(&self, code: &[u8]) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        head.extend((self.key.len() as u64).to_le_bytes());
        head.extend(self.key.as_bytes());
        head.extend(self.component);
        head.extend((code.len() as u64).to_le_bytes());
        head.extend(sum(code));
        head
    }
}

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct Cache(PathBuf);

impl Cache {
    /// Makes the directory if it is absent, and sees to it that it is ours
    /// alone.
    ///
    /// # Errors
    ///
    /// What the file system said; `PermissionDenied` if it is somebody else's.
    pub(crate) fn open(directory: &Path) -> io::Result<Cache> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
        let about = fs::symlink_metadata(directory)?;
        if !about.is_dir() || about.uid() != nix::unistd::geteuid().as_raw() {
            let message = format!("{} is not our own directory", directory.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        if about.mode() & 0o077 != 0 {
            fs::set_permissions(directory, Permissions::from_mode(0o700))?;
        }
        Ok(Cache(directory.to_owned()))
    }

    /// The code, if it is there and whole. Marks it as used.
    pub(crate) fn get(&self, wanted: &Wanted) -> Option<Vec<u8>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = options
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(self.0.join(wanted.name()))
            .ok()?;
        let about = file.metadata().ok()?;
        if !about.is_file() || about.uid() != nix::unistd::geteuid().as_raw() {
            return None;
        }
        let most = COMPILED + KEY + 256;
        let mut bytes = Vec::new();
        (&file)
            .take(most as u64 + 1)
            .read_to_end(&mut bytes)
            .ok()
            .filter(|read| *read <= most)?;
        let head = wanted.head(&[]).len();
        let code = bytes.get(head..)?;
        if wanted.head(code) != bytes[..head] {
            return None;
        }
        mark_as_used(&file);
        bytes.drain(..head);
        Some(bytes)
    }

    /// Keeps code, in place of whatever is there.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub(crate) fn put(&self, wanted: &Wanted, code: &[u8]) -> io::Result<()> {
        let name = wanted.name();
        let temporary = self.0.join(format!(".{name}-{}", std::process::id()));
        let written = write(&temporary, &[&wanted.head(code), code])
            .and_then(|()| fs::rename(&temporary, self.0.join(name)))
            .and_then(|()| File::open(&self.0)?.sync_all());
        if written.is_err() {
            // it may not be there
            let _absent = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes the oldest files beyond what is kept, but none that is `used`.
    ///
    /// # Errors
    ///
    /// What the file system said.
    pub(crate) fn tidy(&self, used: &BTreeSet<String>) -> io::Result<()> {
        self.tidy_to(used, FILES, BYTES)
    }

    fn tidy_to(&self, used: &BTreeSet<String>, files: usize, bytes: u64) -> io::Result<()> {
        let mut spare: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            let about = entry.metadata()?;
            let name = entry.file_name();
            if about.is_file() && !used.contains(&*name.to_string_lossy()) {
                spare.push((about.modified()?, about.len(), entry.path()));
            }
        }
        spare.sort();
        let (mut kept, mut left) = (spare.len(), spare.iter().map(|s| s.1).sum::<u64>());
        for (_, length, path) in spare {
            if kept <= files && left <= bytes {
                break;
            }
            fs::remove_file(path)?;
            kept -= 1;
            left -= length;
        }
        Ok(())
    }
}

/// The time of a file says when it was last used.
fn mark_as_used(file: &File) {
    use nix::sys::stat::futimens;
    use nix::sys::time::TimeSpec;
    // it may be removed earlier than others then
    let _marked = futimens(file, &TimeSpec::UTIME_NOW, &TimeSpec::UTIME_NOW);
}

fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache, Wanted) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(&directory.path().join("compiled")).unwrap();
        let wanted = Wanted::new(b"component", "wasmtime 48".to_owned());
        cache.put(&wanted, b"machine code").unwrap();
        (directory, cache, wanted)
    }

    #[test]
    fn what_was_kept_is_found_and_nothing_else() {
        let (_directory, cache, wanted) = cache();
        assert_eq!(cache.get(&wanted).unwrap(), b"machine code");
        let other = Wanted::new(b"component", "wasmtime 49".to_owned());
        assert_eq!(cache.get(&other), None);
        assert_eq!(fs::metadata(&cache.0).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn every_changed_missing_or_additional_byte_is_noticed() {
        let (_directory, cache, wanted) = cache();
        let path = cache.0.join(wanted.name());
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(cache.get(&wanted), None, "byte {place}");
            fs::write(&path, &whole[..place]).unwrap();
            assert_eq!(cache.get(&wanted), None, "the first {place} bytes");
        }
        fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert_eq!(cache.get(&wanted), None);
        cache.put(&wanted, b"new code").unwrap();
        assert_eq!(cache.get(&wanted).unwrap(), b"new code");
    }

    #[test]
    fn a_file_of_another_component_or_engine_is_not_taken_under_a_wrong_name() {
        let (_directory, cache, wanted) = cache();
        for (component, key) in [("other", "wasmtime 48"), ("component", "wasmtime 47")] {
            let other = Wanted::new(component.as_bytes(), key.to_owned());
            let from = cache.0.join(wanted.name());
            fs::copy(from, cache.0.join(other.name())).unwrap();
            assert_eq!(cache.get(&other), None, "{component} {key}");
        }
    }

    #[test]
    fn a_link_is_not_followed() {
        let (_directory, cache, wanted) = cache();
        let path = cache.0.join(wanted.name());
        let elsewhere = cache.0.join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(cache.get(&wanted), None);
    }

    #[test]
    fn the_oldest_files_that_nobody_uses_go_first() {
        let (_directory, cache, used) = cache();
        let names: Vec<String> = (0..4)
            .map(|n| {
                let wanted = Wanted::new(&[n], String::new());
                cache.put(&wanted, b"code").unwrap();
                let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n.into());
                let path = cache.0.join(wanted.name());
                let file = File::options().write(true).open(path).unwrap();
                file.set_modified(at).unwrap();
                wanted.name()
            })
            .collect();
        let length = fs::metadata(cache.0.join(&names[0])).unwrap().len();
        let old = File::options().write(true).open(cache.0.join(used.name()));
        old.unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let used_names = BTreeSet::from([used.name()]);
        let there = || names.iter().map(|name| cache.0.join(name).exists());
        cache.tidy_to(&used_names, 3, BYTES).unwrap();
        assert!(there().eq([false, true, true, true]));
        cache.tidy_to(&used_names, 3, 2 * length).unwrap();
        assert!(there().eq([false, false, true, true]));
        assert!(cache.get(&used).is_some());
    }
}
