//! The native side of Capsule, as a library so that tests and fuzzers can reach its parts.
//!
//! What it refuses: parsing YAML, talking to the network, acting on a plan it does not fully understand.

pub mod arena;
pub mod audit;
pub mod dispatch;
pub mod lent;
pub mod log_story;
pub mod log_terminal;
pub mod monitor;
pub mod plan;
pub mod sandbox;
pub mod supervise;
pub mod terminal;
pub mod verbs;
