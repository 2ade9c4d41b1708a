//! `capsule`: one static binary; the first argument is the verb.
//!
//! It begins where the C library does. What Rust's runtime would do before is done here as far as it is needed; the
//! rest (finding the stack's end in `/proc/self/maps`, a second stack to tell of an overflow) would be a fiftieth of a
//! short run. A standard stream that is closed stays useless: writing to it, or reading, is the error it would be without
//! us. It refuses to go on when one is closed and `/dev/null` cannot be opened.

#![no_main]

use capsule::arena::Arena;
use capsule::dispatch;
use std::ffi::{c_char, c_int};

#[global_allocator]
static MEMORY: Arena = Arena::new();

#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    hold_streams();
    // A reader that left and a file that may not grow are errors of the write, not the end of the process. The command
    // gets both signals back.
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: ignoring a signal takes no pointer.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    dispatch::main(std::env::args_os().skip(1).collect()).exit()
}

/// Nothing that is opened later may come to lie at 0, 1 or 2 and be read or written as a stream.
fn hold_streams() {
    for number in 0..3 {
        // Held so that it cannot do what its stream is for (`EBADF`): the command has to see that it is closed.
        let useless = if number == 0 {
            libc::O_WRONLY
        } else {
            libc::O_RDONLY
        };
        // SAFETY: plain integers, and a valid C string. The lowest free number is the one asked about.
        let held = unsafe {
            libc::fcntl(number, libc::F_GETFD) >= 0
                || libc::open(c"/dev/null".as_ptr(), useless) == number
        };
        if !held {
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(dispatch::FAILED.into()) }
        }
    }
}
