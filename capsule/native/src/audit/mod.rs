//! The audit log: written, read, checked and proved. The format is `docs/formats/audit-log.md`.
//!
//! Refuses: writing what cannot be proved later, and going on where the log contradicts what was signed.

pub mod block;
pub mod chain;
pub mod checkpoint;
pub mod clock;
pub mod copies;
mod error;
pub mod genesis;
pub mod going;
mod grow;
pub mod heads;
pub mod json;
pub mod keys;
pub mod line;
pub mod lock;
mod logins;
pub mod merkle;
pub mod named;
pub mod outcome;
mod pass;
pub mod proof;
mod recovery;
pub mod redaction;
pub mod rules;
pub mod scan;
mod value;
pub mod verifier;
mod watch;
mod writer;

pub use clock::{Stamp, wall_text};
pub use error::Error;
pub use keys::Places;
pub use lock::Hurry;
pub use value::{Entry, MAX_INTEGER, Value};
pub use writer::{Positions, Seal, Writer};
