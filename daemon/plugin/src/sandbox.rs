//! What the host and the compiler give up before they look at a plugin: files,
//! the network, other processes, new programs, memory that is writable and
//! executable.
//!
//! Every layer that the machine does not have, or whose use the unit's own
//! filter refuses, is named to the daemon and shown to the administrator.

use std::collections::BTreeMap;
use std::fmt::Display;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::cache::COMPILED;
use crate::system;

/// Descriptors: the socket, the board, standard error, and a few while code is
/// made executable.
const FILES: u64 = 64;

/// Bytes of a file, of which there are none but those in memory that hold code.
const FILE_BYTES: u64 = COMPILED as u64;

/// What the process may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rations {
    /// Bytes of memory that it can write to.
    pub(crate) memory: u64,
    /// Seconds of processor time.
    pub(crate) cpu_s: Option<u64>,
}

/// The walls that stand, and what is missing in them.
#[derive(Debug, Default)]
pub(crate) struct Sandbox {
    missing: Vec<String>,
}

impl Sandbox {
    fn note(&mut self, what: &str, why: impl Display) {
        self.missing.push(format!("{what}: {why}"));
    }

    /// Notes a wall that could not be put up.
    pub(crate) fn layer<T, E: Display>(&mut self, what: &str, done: Result<T, E>) {
        if let Err(why) = done {
            self.note(what, why);
        }
    }

    /// The first walls, before anything else is done. The engine may still
    /// read what the kernel says of this process.
    pub(crate) fn begin(rations: Rations) -> Sandbox {
        let mut walls = Sandbox::default();
        walls.layer(
            "ends with the daemon",
            prctl::set_pdeathsig(Signal::SIGKILL),
        );
        walls.layer("no new privileges", prctl::set_no_new_privs());
        let limits = [
            ("core dumps", Resource::RLIMIT_CORE, 0),
            ("memory", Resource::RLIMIT_DATA, rations.memory),
            ("open files", Resource::RLIMIT_NOFILE, FILES),
            ("size of files", Resource::RLIMIT_FSIZE, FILE_BYTES),
        ];
        for (what, resource, limit) in limits {
            let set = setrlimit(resource, limit, limit);
            walls.layer(&format!("limit of {what}"), set);
        }
        // before anything of the daemon's, when memory is short
        let first = std::fs::write("/proc/self/oom_score_adj", "1000");
        walls.layer("is ended first when memory is short", first);
        if let Some(seconds) = rations.cpu_s {
            // the first ends it by a signal that says why
            let set = setrlimit(Resource::RLIMIT_CPU, seconds, seconds + 1);
            walls.layer("limit of processor time", set);
        }
        walls.layer(
            "no memory is made executable (PR_SET_MDWE)",
            system::deny_write_execute(),
        );
        walls
    }

    /// The last walls; says which are missing, in words.
    pub(crate) fn close(mut self) -> Vec<String> {
        self.layer("not traceable", prctl::set_dumpable(false));
        match landlock() {
            Ok(RulesetStatus::FullyEnforced) => {}
            Ok(RulesetStatus::PartiallyEnforced) => {
                self.note("landlock", "this kernel knows only a part of it");
            }
            Ok(RulesetStatus::NotEnforced) => {
                self.note(
                    "landlock",
                    "this kernel does not have it, or it is switched off",
                );
            }
            Err(error) => self.note("landlock", error),
        }
        self.seccomp();
        self.missing
    }

    fn seccomp(&mut self) {
        let filters = match filters() {
            Ok(filters) => filters,
            Err(error) => return self.note("seccomp", error),
        };
        for filter in filters {
            // systemd's filter may refuse seccomp(2) and let prctl(2) through
            if seccompiler::apply_filter_all_threads(&filter).is_ok() {
                continue;
            }
            match system::filter_this_thread(&filter) {
                Ok(()) => self.note("seccomp of the engine's clock", "seccomp(2) is refused"),
                Err(error) => self.note("seccomp", error),
            }
        }
    }
}

/// No file, no port, no signal and no socket of anybody else.
fn landlock() -> Result<RulesetStatus, landlock::RulesetError> {
    // the newest that the crate and a kernel in the field have; older ones do what they can
    let abi = ABI::V6;
    let done = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(done.ruleset)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// System calls that are harmless whatever their arguments are, once nothing
/// can be opened.
const ALWAYS: &[libc::c_long] = &[
    // the socket, the board, files in memory
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_memfd_create,
    // memory
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // threads
    libc::SYS_futex,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // signals
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // time, chance, figures
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_sysinfo,
    libc::SYS_ppoll,
];

/// What may be done to a descriptor. Not who is signalled when something comes
/// in (`F_SETOWN`, `F_SETSIG`, `O_ASYNC`): the kernel would kill the daemon for
/// a process that may not.
const FCNTL: &[i32] = &[
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_DUPFD_CLOEXEC,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
];

/// Looks for pages that were written to, of this process: wasmtime empties
/// memories so.
const PAGEMAP_SCAN: u64 = 0xc060_6610;

/// Two filters: what is allowed; and `clone3`, whose arguments no filter sees,
/// does not exist, so that the C library uses `clone`.
fn filters() -> Result<[BpfProgram; 2], seccompiler::BackendError> {
    let refuse = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let mut rules: Rules = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    let all_bits = |argument, bits: i32, wanted: i32| {
        let (bits, wanted) = (u64::from(bits.unsigned_abs()), wanted.unsigned_abs());
        rule(argument, SeccompCmpOp::MaskedEq(bits), u64::from(wanted))
    };
    let equal = |argument, value| rule(argument, SeccompCmpOp::Eq, value);
    // never writable and executable, never executable afterwards, and not shared
    rules.insert(
        libc::SYS_mmap,
        vec![
            private_without(libc::PROT_WRITE)?,
            private_without(libc::PROT_EXEC)?,
        ],
    );
    let commands = FCNTL.iter().map(|command| {
        let command = u64::from(command.unsigned_abs());
        equal(1, command)
    });
    rules.insert(libc::SYS_fcntl, commands.collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_mprotect, vec![all_bits(2, libc::PROT_EXEC, 0)?]);
    let thread = all_bits(0, libc::CLONE_THREAD, libc::CLONE_THREAD)?;
    rules.insert(libc::SYS_clone, vec![thread]);
    let itself = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![equal(0, itself)?]);
    let name = u64::from(libc::PR_SET_NAME.unsigned_abs());
    rules.insert(libc::SYS_prctl, vec![equal(0, name)?]);
    rules.insert(libc::SYS_ioctl, vec![equal(1, PAGEMAP_SCAN)?]);

    let arch = std::env::consts::ARCH.try_into()?;
    let allowed = SeccompFilter::new(rules, refuse(libc::EPERM), SeccompAction::Allow, arch)?;
    let absent: Rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let absent = SeccompFilter::new(absent, SeccompAction::Allow, refuse(libc::ENOSYS), arch)?;
    // a filter that is in force applies to what installs the next one: the strict one comes last
    Ok([absent.try_into()?, allowed.try_into()?])
}

fn rule(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![condition(argument, operator, value)?])
}

/// Memory that is nobody else's (`MAP_SHARED` is a bit of all that is shared),
/// and may not do one thing.
fn private_without(protection: i32) -> Result<SeccompRule, seccompiler::BackendError> {
    let none_of = |argument, bits: i32| {
        let bits = u64::from(bits.unsigned_abs());
        condition(argument, SeccompCmpOp::MaskedEq(bits), 0)
    };
    SeccompRule::new(vec![none_of(2, protection)?, none_of(3, libc::MAP_SHARED)?])
}

fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}
