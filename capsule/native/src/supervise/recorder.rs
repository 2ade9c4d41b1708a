//! Where the events of a run go, as its loop sees it.
//!
//! It refuses to lose anything: whatever cannot be recorded ends the run.

use super::control::Denied;
use crate::audit::Hurry;
use crate::monitor::wire::{self, Event};
use serde_json::Value;
use std::os::fd::OwnedFd;

/// Where events go.
pub trait Recorder {
    /// One event of the monitor.
    ///
    /// # Errors
    /// When it cannot be recorded: the run ends.
    fn event(&mut self, event: Event) -> Result<(), String>;
    /// A limit was reached.
    ///
    /// # Errors
    /// When it cannot be recorded.
    fn limit(&mut self, name: &'static str) -> Result<(), String>;
    /// What ends a wait for other writers of the log, while the loop runs.
    fn hurry(&mut self, hurry: Hurry);
    /// Write what is held back; it stays held back when the wait for another writer was cut short.
    ///
    /// # Errors
    /// When it cannot be recorded: the run ends.
    fn flush(&mut self) -> Result<(), String>;
    /// Whether anything is held back.
    fn waiting(&self) -> bool;
    /// Write a record about a call, with what is held back before it; its position.
    ///
    /// # Errors
    /// When it cannot be recorded: the run ends.
    fn call(
        &mut self,
        kind: &'static str,
        fields: Vec<(&'static str, Value)>,
    ) -> Result<u64, String>;
    /// The refusals since it was last asked.
    fn refusals(&mut self) -> Vec<Denied>;
    /// A commitment to bytes that may hold a secret.
    fn commitment(&self, bytes: &[u8]) -> String;
    /// An entry of egress's; false when the log cannot hold it.
    ///
    /// # Errors
    /// When it cannot be recorded: the run ends.
    fn egress(
        &mut self,
        kind: String,
        fields: serde_json::Map<String, Value>,
    ) -> Result<bool, String>;
    /// A value that must not be on the log from now on.
    fn secret(&mut self, value: &str);
    /// The lines that went on the log since it was last asked, where somebody wants them.
    fn forwarded(&mut self) -> Vec<Vec<u8>>;
    /// Answer a question of the monitor's: a connected descriptor, or an error number.
    ///
    /// # Errors
    /// The number of the error the command sees.
    fn dial(&mut self, target: &wire::Target) -> Result<OwnedFd, i32>;
}
