//! The few system calls that no crate offers.
#![expect(
    unsafe_code,
    reason = "system calls that take numbers, or a filter that they copy"
)]

use std::io;

use nix::libc;
use seccompiler::sock_filter;

fn checked(answer: libc::c_long) -> io::Result<()> {
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_all_from(first: u32) -> io::Result<()> {
    // SAFETY: this is called before the process has opened anything of its own.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) })
}

/// Memory that was writable does not become executable (Linux 6.3).
pub(crate) fn deny_write_execute() -> io::Result<()> {
    let none: libc::c_ulong = 0;
    let refuse = libc::c_ulong::from(libc::PR_MDWE_REFUSE_EXEC_GAIN);
    // SAFETY: takes numbers alone.
    checked(unsafe { libc::prctl(libc::PR_SET_MDWE, refuse, none, none, none) }.into())
}

/// Filters this thread's system calls, and those of threads that it starts.
pub(crate) fn filter_this_thread(filter: &[sock_filter]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len: length,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    let mode = libc::c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: both structs have the kernel's layout, and the kernel copies the filter.
    checked(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) }.into())
}

/// Tries what the sandbox must refuse, and says what came of it: a name, and
/// whether it was refused.
#[cfg(debug_assertions)]
pub(crate) fn probe() -> Vec<(&'static str, bool)> {
    use std::fs::File;
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::UnixStream;
    use std::ptr;

    // the C library's headers have it, the crate does not
    const F_SETSIG: libc::c_int = 10;
    let both = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: takes numbers alone.
    let (owns, signals, flags) = unsafe {
        let owns = libc::fcntl(0, libc::F_SETOWN, libc::getppid());
        let signals = libc::fcntl(0, F_SETSIG, libc::SIGWINCH);
        let flags = libc::fcntl(0, libc::F_SETFL, libc::O_ASYNC);
        (owns, signals, flags)
    };
    // SAFETY: maps fresh pages, and sends signal 0, which is none.
    let (write_execute, shared, gains, kills, forks, traces) = unsafe {
        let write_execute = libc::mmap(ptr::null_mut(), 4096, both, private, -1, 0);
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let shared = libc::mmap(ptr::null_mut(), 4096, libc::PROT_WRITE, flags, -1, 0);
        let page = libc::mmap(ptr::null_mut(), 4096, libc::PROT_WRITE, private, -1, 0);
        let gains = libc::mprotect(page, 4096, libc::PROT_EXEC);
        let kills = libc::kill(libc::getppid(), 0);
        let forks = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
        if forks == 0 {
            libc::_exit(0);
        }
        let traces = libc::ptrace(libc::PTRACE_ATTACH, libc::getppid(), 0, 0);
        (write_execute, shared, gains, kills, forks, traces)
    };
    vec![
        ("open", File::open("/etc/passwd").is_err()),
        ("create", File::create("/tmp/sotp-probe").is_err()),
        ("list", std::fs::read_dir("/").is_err()),
        ("socket", UdpSocket::bind("127.0.0.1:0").is_err()),
        ("connect", TcpStream::connect("127.0.0.1:22").is_err()),
        ("connect unix", UnixStream::connect("/run/dbus").is_err()),
        ("pair", UnixStream::pair().is_err()),
        (
            "execve",
            std::os::unix::process::CommandExt::exec(&mut std::process::Command::new("/bin/true"))
                .raw_os_error()
                .is_some(),
        ),
        ("write and execute", write_execute == libc::MAP_FAILED),
        ("share memory", shared == libc::MAP_FAILED),
        ("gain execute", gains != 0),
        ("kill", kills != 0),
        ("owner of a descriptor", owns < 0),
        ("signal of a descriptor", signals < 0),
        ("signals when something comes", flags < 0),
        ("fork", forks < 0),
        ("ptrace", traces < 0),
        ("raise a limit", {
            use nix::sys::resource::{Resource, setrlimit};
            setrlimit(Resource::RLIMIT_DATA, 1 << 40, 1 << 40).is_err()
        }),
    ]
}
