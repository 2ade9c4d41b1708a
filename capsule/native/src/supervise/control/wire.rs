//! The envelopes of the control protocol (docs/formats/control.md): what each side may say to the supervisor.

use serde::Deserialize;

/// From the program, on the control connection.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromProgram {
    /// For the worker, once: its search path and place. The body is relayed.
    Start,
    /// A descriptor comes along: one more lane for calls.
    Lane,
    /// End the sandbox in order.
    Close,
}

/// From the program, on a lane.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromLane {
    /// Import a module into the worker. The body is relayed.
    Load,
    /// Call a function.
    Call {
        /// The tool's name.
        tool: String,
        /// The module the worker has imported it from.
        module: String,
        /// Its name in the module.
        qualname: String,
        /// Whether it is a coroutine function.
        awaits: bool,
        /// Milliseconds until the call is killed.
        timeout_ms: Option<u64>,
        /// Bytes its answer may have.
        limit: usize,
    },
    /// Run a program.
    Run {
        /// Milliseconds until it is killed.
        timeout_ms: Option<u64>,
        /// Bytes of output it may write.
        limit: usize,
    },
}

/// From the worker. Hostile.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromWorker {
    /// It is ready.
    Started {
        /// Its pid inside the sandbox.
        pid: i32,
    },
    /// The module asked for on this lane is imported.
    Loaded {
        /// The lane.
        load: u64,
    },
    /// The module asked for on this lane could not be imported. The body is relayed.
    Failed {
        /// The lane.
        load: u64,
    },
    /// A child has ended, or could not be made.
    Gone {
        /// The child.
        slot: u32,
        /// Exit code, or minus the signal; null when there never was one.
        status: Option<i32>,
        /// Whether nothing that it started is left.
        clean: bool,
        /// Why it could not be made.
        errno: Option<i32>,
    },
}

/// From a child of the worker. Hostile.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FromChild {
    /// It waits for a call.
    Ready {
        /// Its pid inside the sandbox.
        pid: i32,
    },
    /// The call is over. The body is relayed.
    Answer {
        /// How.
        outcome: Outcome,
        /// Name of the exception's type.
        error: Option<String>,
    },
}

/// What a child may say its call came to.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The function returned.
    Returned,
    /// It raised.
    Raised,
    /// Its result cannot cross.
    Unfit,
}

impl Outcome {
    /// The word for it on the log and the wire.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Returned => "returned",
            Outcome::Raised => "raised",
            Outcome::Unfit => "unfit",
        }
    }
}
