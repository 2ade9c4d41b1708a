//! Threads for calls that may wait: opening a pipe by name, connecting to a listener that is busy.
//!
//! The loop never waits for the command. What it refuses: more than 64 waiting calls (`EAGAIN`), and to wait for a
//! caller that is gone or has a signal to handle (`EINTR`). A worker works on pinned descriptors; it walks no path
//! and creates no name.

use super::broker::{Answer, Outcome};
use super::caller::Caller;
use super::errno::Errno;
use super::notify::Listener;
use std::os::fd::AsFd;
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::thread::JoinHandle;

const MOST: usize = 64;
const STACK: usize = 128 * 1024;
/// How often waiting calls are looked after, in milliseconds.
pub const TICK_MS: i32 = 20;

/// The threads that wait now.
#[derive(Debug, Default)]
pub struct Workers {
    running: Vec<(Caller, JoinHandle<()>)>,
}

impl Workers {
    /// Let a thread perform `work` and answer the call.
    ///
    /// # Errors
    /// `EAGAIN` when too many wait.
    pub fn start(
        &mut self,
        listener: &Arc<Listener>,
        caller: Caller,
        work: impl FnOnce() -> Outcome + Send + 'static,
    ) -> Outcome {
        self.reap();
        if self.running.len() >= MOST {
            return Err(Errno::EAGAIN);
        }
        let (listener, id) = (Arc::clone(listener), caller.call.id);
        let thread = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || {
                interrupts(libc::SIG_UNBLOCK);
                let outcome = work();
                // Handing over a descriptor must not be interrupted: the kernel would let the call return 0.
                interrupts(libc::SIG_BLOCK);
                reply(&listener, id, outcome);
            });
        self.running
            .push((caller, thread.map_err(|_| Errno::EAGAIN)?));
        Ok(Answer::Later)
    }

    /// Whether any call waits.
    pub fn any(&self) -> bool {
        !self.running.is_empty()
    }

    /// Interrupt the calls whose callers are gone or have a signal to handle; forget those that are done.
    pub fn look_after(&mut self, listener: &Listener) {
        self.reap();
        for (caller, thread) in &self.running {
            if !listener.waits(caller.call.id) || caller.interrupted() {
                // SAFETY: the thread is not joined yet, so its handle is valid; the signal has a handler.
                unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGUSR1) };
            }
        }
    }

    fn reap(&mut self) {
        let (done, running): (Vec<_>, Vec<_>) =
            self.running.drain(..).partition(|(_, t)| t.is_finished());
        self.running = running;
        for (_, thread) in done {
            // A worker that panicked would have ended the process (`panic = "abort"`).
            let _ = thread.join();
        }
    }
}

/// Give a call its outcome.
pub fn reply(listener: &Listener, id: u64, outcome: Outcome) {
    match outcome {
        Ok(Answer::Value(value)) => listener.succeed(id, value),
        Ok(Answer::Continue) => listener.proceed(id),
        Ok(Answer::Later) => {}
        Ok(Answer::Descriptor { fd, cloexec }) => {
            // The caller's table may be full (EMFILE): then that is the answer, and never "continue".
            if let Err(errno) = listener.give(id, fd.as_fd(), cloexec) {
                listener.fail(id, errno);
            }
        }
        Ok(Answer::PipeEnd { fd, cloexec }) => match listener.install(id, fd.as_fd(), cloexec) {
            Ok(number) => {
                drop(fd);
                listener.succeed(id, number);
            }
            Err(errno) => listener.fail(id, errno),
        },
        Err(errno) => listener.fail(id, errno),
    }
}

extern "C" fn ignore(_: libc::c_int) {}

/// The signal that ends a waiting call: handled, without restarting the call.
pub fn install_interrupts() {
    // SAFETY: all-zero is a valid `sigaction`; the handler does nothing; the signal is ours.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
    }
}

/// Block or unblock the signal for this thread.
fn interrupts(how: libc::c_int) {
    // SAFETY: a valid signal set on this stack; affects this thread only.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}
