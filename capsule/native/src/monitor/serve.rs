//! The loop: notifications, children, the supervisor.
//!
//! What it refuses: to go on when the supervisor hangs up, and to leave before everything that is known is sent.

use super::broker::Broker;
use super::caller::Caller;
use super::datagrams::{Datagrams, Seen};
use super::errno::Errno;
use super::events::{BATCH_MS, Events, FLUSH_MS, now};
use super::internet::arguments_in;
use super::notify::Listener;
use super::noting::Logs;
use super::observed::Observed;
use super::resolve::Resolver;
use super::sockets::Sockets;
use super::sys;
use super::table::Table;
use super::wire::{Event, Order, decode};
use super::workers::{self, TICK_MS, Workers};
use super::{MonitorContext, Watched, dial, dispatch, noting};
use crate::audit::going::Noting;
use crate::sandbox::init::Watch;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub fn serve(
    context: MonitorContext,
    listener: impl FnOnce(BorrowedFd<'_>) -> Option<OwnedFd>,
) -> OwnedFd {
    let MonitorContext {
        command,
        root,
        supervisor,
        access,
        prompt,
        ..
    } = context;
    let mut events = Events::new(supervisor).promptly(prompt);
    let signals = match hold_signals() {
        Ok(fd) => fd,
        Err(errno) => fail(&mut events, &format!("signals: {errno}")),
    };
    let resolver = match Resolver::new(root, access.has_globs()) {
        Ok(resolver) => resolver,
        Err(errno) => fail(&mut events, &format!("the sandbox's root: {errno}")),
    };
    let unix = context
        .unix
        .into_iter()
        .map(|path| path.into_os_string().into_vec())
        .collect();
    let mut table = Table::new(context.syscalls, context.syscall_name);
    // What every command begins with.
    for number in [libc::SYS_execve, libc::SYS_openat] {
        table.allows(number as u32, &[0; 6]);
    }
    let (read_denies, sockets) = (
        access.has_read_denies(),
        Sockets::new(context.ports, unix, context.network),
    );
    let terminal = context.terminal;
    let terminal = terminal.map(|path| path.into_os_string().into_vec());
    let observed = context.observed.map(Observed::new);
    let watched = context.watched.map(|of| watching(of, context.watch));
    let logs = match watched.transpose() {
        Err(why) => fail(&mut events, &format!("watching for other logs: {why}")),
        Ok(logs) => logs,
    };
    let Some(listener) = listener(events.socket()) else {
        return events.into_socket();
    };
    let listener = match Listener::new(listener) {
        Ok(listener) => Arc::new(listener),
        Err(errno) => fail(&mut events, &format!("the seccomp listener: {errno}")),
    };
    let broker = Broker {
        command,
        standing: false,
        listener,
        resolver,
        read_denies,
        granted: None,
        access,
        audit: context.audit,
        events,
        observed,
        table,
        workers: Workers::default(),
        sockets,
        datagrams: Datagrams::new(context.datagrams),
        dials: dial::Dials::default(),
        repositories: super::repositories::Repositories::default(),
        logs,
        terminal,
        mask: Some(sys::mask()),
    };
    run(broker, &signals)
}

fn run(mut broker: Broker, signals: &OwnedFd) -> ! {
    let command = broker.command;
    let mut listening = true;
    let mut hidden = false;
    let mut flushed = Instant::now();
    let mut queued = None;
    loop {
        let mut polled = [
            polled(if listening { broker.listener.raw() } else { -1 }),
            polled(signals.as_raw_fd()),
            polled(broker.events.raw()),
            polled(broker.datagrams.raw()),
        ];
        let patience = if broker.events.queued() {
            BATCH_MS
        } else if broker.workers.any() {
            TICK_MS
        } else if broker.events.waiting() {
            FLUSH_MS
        } else {
            -1
        };
        // SAFETY: the entries are valid and outlive the call.
        let ready =
            unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, patience) };
        if ready < 0 && Errno::last() != Errno::EINTR {
            // Who cannot wait cannot serve: the run ends, and says why.
            let why = format!("waiting for calls: {}", Errno::last());
            fail(&mut broker.events, &why);
        }
        if polled[0].revents & libc::POLLIN != 0 {
            answer(&mut broker, &mut hidden);
        } else if polled[0].revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 {
            // Nobody is left who could call.
            listening = false;
        }
        if polled[2].revents != 0 {
            obey(&mut broker);
        }
        if polled[3].revents & libc::POLLIN != 0 {
            tell_datagrams(&mut broker);
        }
        broker.events.take_late();
        let reaped = if polled[1].revents == 0 {
            Reaped::default()
        } else {
            reap(signals, command)
        };
        if reaped.stopped && !std::mem::replace(&mut broker.standing, true) {
            broker.events.send_now(&Event::Stopped {});
        }
        if let Some(status) = reaped.ended {
            tell_datagrams(&mut broker);
            broker.events.take_late();
            broker.events.flush();
            broker.tell_observed();
            broker.events.send_now(&exited(status));
            std::process::exit(0);
        }
        if broker.workers.any() {
            let listener = Arc::clone(&broker.listener);
            broker.workers.look_after(&listener);
        }
        if broker.events.waiting() && flushed.elapsed() >= Duration::from_millis(FLUSH_MS as u64) {
            broker.events.flush();
            flushed = Instant::now();
        }
        if broker.events.queued() {
            let since = *queued.get_or_insert_with(Instant::now);
            if since.elapsed() >= Duration::from_millis(BATCH_MS as u64) {
                broker.events.send_queued();
                queued = None;
            }
        } else {
            queued = None;
        }
    }
}

/// One call. Its caller may share our processor and goes on only once we wait again: so nothing is looked at between
/// the answer and the wait.
fn answer(broker: &mut Broker, hidden: &mut bool) {
    // Else the caller died before it was heard, or a signal came.
    let Ok(call) = broker.listener.receive() else {
        return;
    };
    broker.granted = None;
    drop(broker.resolver.crossed());
    let caller = Caller::new(call).told_apart(broker.command);
    let first = !std::mem::replace(hidden, true);
    let begins = first && i64::from(call.number) == libc::SYS_execve;
    if first && !begins {
        hide(&mut broker.events);
    }
    if let Err(why) = noting::begin(broker) {
        fail(&mut broker.events, &format!("logs of other runs: {why}"));
    }
    let outcome = dispatch::dispatch(broker, caller);
    noting::end(broker);
    if begins {
        hide(&mut broker.events);
    }
    if let Err(errno) = outcome {
        broker.tell_permissions(&Caller::new(call), errno);
    }
    workers::reply(&broker.listener, call.id, outcome);
}

/// From now on nothing of the sandbox can look into this process. Until the command's first `exec` its process has its
/// memory from this one, so what that call names can be read only before; and before its answer no program runs.
fn hide(events: &mut Events) {
    // SAFETY: plain integers.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        let why = format!("closing the monitor's memory: {}", Errno::last());
        fail(events, &why);
    }
}

fn tell_datagrams(broker: &mut Broker) {
    for seen in broker.datagrams.read() {
        match seen {
            Seen::Refused(denial) => broker.events.denied(denial),
            Seen::Asked {
                pid,
                program,
                source,
                target,
            } => broker.events.send_now(&Event::Egress {
                mono: now(),
                pid,
                program,
                argv: arguments_in(Path::new(&format!("/proc/{pid}/cmdline"))),
                source,
                target,
            }),
        }
    }
}

fn polled(fd: RawFd) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

/// Hold back every signal, and be told of children through a descriptor.
fn hold_signals() -> Result<OwnedFd, Errno> {
    workers::install_interrupts();
    // SAFETY: valid signal sets on this stack; the process is single-threaded here.
    let fd = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        let mut children: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut children);
        libc::sigaddset(&raw mut children, libc::SIGCHLD);
        libc::signalfd(
            -1,
            &raw const children,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        )
    };
    if fd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call succeeded and returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What became of children.
#[derive(Default)]
struct Reaped {
    /// The command's status, when it ended.
    ended: Option<i32>,
    /// Whether the command stopped.
    stopped: bool,
}

/// Reap every child that ended, and see whether the command stopped.
fn reap(signals: &OwnedFd, command: libc::pid_t) -> Reaped {
    let mut buffer = [0u8; size_of::<libc::signalfd_siginfo>()];
    // SAFETY: `buffer` has the length given; the descriptor does not block.
    while unsafe {
        libc::read(
            signals.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    } > 0
    {}
    let mut reaped = Reaped::default();
    loop {
        let (mut status, how) = (0, libc::WNOHANG | libc::WUNTRACED);
        // SAFETY: the kernel writes one integer that outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, how) };
        if pid <= 0 {
            return reaped;
        }
        if pid == command && libc::WIFSTOPPED(status) {
            reaped.stopped = true;
        } else if pid == command {
            reaped.ended = Some(status);
        }
    }
}

/// What the supervisor says.
fn obey(broker: &mut Broker) {
    let command = broker.command;
    let (message, descriptor) = match receive(broker.events.raw()) {
        Ok(Some(message)) => message,
        Ok(None) => return,
        // Without a supervisor nothing is recorded, so nothing may go on.
        Err(_) => leave(1),
    };
    match decode::<Order>(&message) {
        Ok(Order::Dialled { id, errno }) => {
            let result = match (errno, descriptor) {
                (None, Some(fd)) => Ok(fd),
                (Some(errno), _) => Err(Errno(errno)),
                (None, None) => Err(Errno::EIO),
            };
            dial::dialled(broker, id, result);
        }
        Ok(Order::Signal { number }) => {
            match number {
                libc::SIGSTOP => broker.standing = true,
                libc::SIGCONT => broker.standing = false,
                _ => {}
            }
            // SAFETY: plain integers; the group is the command's.
            unsafe {
                if libc::kill(-command, number) < 0 {
                    libc::kill(command, number);
                }
            }
        }
        Ok(Order::Stop {}) => {
            broker.events.flush();
            broker.tell_observed();
            broker.events.send_queued();
            leave(1)
        }
        Err(reason) => fail(
            &mut broker.events,
            &format!("an order of the supervisor: {reason}"),
        ),
    }
}

type Message = (Vec<u8>, Option<OwnedFd>);

/// One message and the descriptor that came with it; `None` when there is none yet.
fn receive(socket: RawFd) -> Result<Option<Message>, Errno> {
    let mut bytes = vec![0u8; 4096];
    let mut control = [0u64; 8];
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    // SAFETY: `header` describes buffers that outlive the call.
    let got = unsafe {
        libc::recvmsg(
            socket,
            &raw mut header,
            libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC,
        )
    };
    if got < 0 {
        return match Errno::last() {
            Errno::EAGAIN | Errno::EINTR => Ok(None),
            errno => Err(errno),
        };
    }
    let mut descriptor = None;
    // SAFETY: the kernel filled the control buffer; the macros stay within it; the descriptor is new and unowned.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        if !first.is_null()
            && (*first).cmsg_level == libc::SOL_SOCKET
            && (*first).cmsg_type == libc::SCM_RIGHTS
            && (*first).cmsg_len >= libc::CMSG_LEN(4) as usize
        {
            descriptor = Some(OwnedFd::from_raw_fd(
                libc::CMSG_DATA(first).cast::<i32>().read_unaligned(),
            ));
        }
    }
    if got == 0 {
        return Err(Errno::EPIPE);
    }
    bytes.truncate(got as usize);
    Ok(Some((bytes, descriptor)))
}

fn watching(of: Watched, watch: Option<Watch>) -> io::Result<Logs> {
    let watch = watch.ok_or_else(|| io::Error::other("the descriptors for it did not come"))?;
    let noting = Noting::new(watch.going, watch.list, of.page)?;
    Ok(Logs::new(noting, of.writable, of.known))
}

fn fail(events: &mut Events, reason: &str) -> ! {
    events.send_now(&Event::Failed {
        reason: reason.to_owned(),
    });
    leave(1)
}

/// End this process and everything beneath it.
fn leave(status: i32) -> ! {
    end_all();
    std::process::exit(status)
}

/// End everything beneath this process and tell of the command's end: whoever hears of it may take it for the end of
/// all.
pub fn exited(status: i32) -> Event {
    end_all();
    let (own, others) = (usage(libc::RUSAGE_SELF), usage(libc::RUSAGE_CHILDREN));
    let cpu = [own, others].map(|used| micros(used.ru_utime) + micros(used.ru_stime));
    Event::Exited {
        status,
        cpu_ms: cpu.iter().sum::<u64>() / 1000,
        max_rss_bytes: own.ru_maxrss.max(others.ru_maxrss).unsigned_abs() * 1024,
    }
}

fn usage(whose: libc::c_int) -> libc::rusage {
    // SAFETY: all-zero is a valid structure, and it is a valid place for the result.
    unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(whose, &raw mut used);
        used
    }
}

fn micros(time: libc::timeval) -> u64 {
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_usec.unsigned_abs()
}

/// Kill and reap until no child is left. What loses its parent becomes ours, as pid 1 or as a subreaper.
fn end_all() {
    // Nearly always nothing is left: every other process beneath has one of our children above it. The flag asks for
    // those too that tell nobody of their end.
    // SAFETY: no place for the status is given.
    if unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) } < 0
        && Errno::last() == Errno::ECHILD
    {
        return;
    }
    let first = std::process::id() == 1;
    loop {
        if first {
            // SAFETY: plain integers; as pid 1 this reaches the rest of this pid namespace and nothing else.
            unsafe { libc::kill(-1, libc::SIGKILL) };
        } else {
            let own = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
            let children = own.split_ascii_whitespace();
            for child in children.filter_map(|pid| pid.parse().ok()) {
                // SAFETY: plain integers; the pids are our children, which are not reaped in between.
                unsafe { libc::kill(child, libc::SIGKILL) };
            }
        }
        // SAFETY: no place for the status is given.
        if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } < 0
            && Errno::last() != Errno::EINTR
        {
            return;
        }
    }
}
