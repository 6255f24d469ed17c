//! What this process may use, set before anything is opened.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use config::Settings;

use crate::failure::Failure;

/// Files for what is not counted below: the store, its ballast, the journal,
/// epoll, sockets to the mail server, and some to spare.
const SPARE_FILES: u64 = 64;

/// Sees to it that no core dump holds a secret; before the first one is read.
pub(crate) fn no_core_dumps() -> Result<(), Failure> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
        .map_err(refused)
        .map_err(Failure::system("switch core dumps off"))?;
    nix::sys::prctl::set_dumpable(false)
        .map_err(refused)
        .map_err(Failure::system("switch core dumps off"))
}

/// Raises the limit of open files to the most that is allowed, and says so if
/// that is less than the settings need.
pub(crate) fn open_files(settings: &Settings) -> Result<(), Failure> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(refused)
        .map_err(Failure::system("read the limit of open files"))?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .map_err(refused)
        .map_err(Failure::system("raise the limit of open files"))?;
    let needed = files_needed(settings);
    if needed > hard {
        warn!(
            needed,
            limit = hard,
            "the limit of open files is too low for the settings; raise LimitNOFILE= or lower api.connections"
        );
    }
    Ok(())
}

fn refused(errno: nix::errno::Errno) -> std::io::Error {
    std::io::Error::from(errno)
}

/// Every file that the settings allow to be open at once.
fn files_needed(settings: &Settings) -> u64 {
    let many = settings.api.connections * 2 + settings.snmp.sockets * 2 + settings.dns.in_flight;
    u64::try_from(many)
        .unwrap_or(u64::MAX)
        .saturating_add(SPARE_FILES)
}
