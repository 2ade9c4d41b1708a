//! Logs and policies of other names that other runs come with while the command runs: kept from it, from the call on
//! that comes next.
//!
//! Whoever begins a log waits until the monitor is in no call that began before ([`going`](crate::audit::going)). It
//! refuses to perform a call when it cannot know which there are.

use super::broker::Broker;
use crate::audit::{Error, going::Noting, named::Named};
use std::collections::HashSet;
use std::path::PathBuf;

/// What is known of such logs.
#[derive(Debug)]
pub struct Logs {
    noting: Noting,
    /// Where the command may write.
    writable: Vec<PathBuf>,
    /// Those that are kept.
    known: HashSet<Named>,
}

impl Logs {
    /// Of a command that may write there, and from which those are kept that lie there already.
    pub fn new(noting: Noting, writable: Vec<PathBuf>, known: Vec<Named>) -> Self {
        Self {
            noting,
            writable,
            known: known.into_iter().collect(),
        }
    }

    /// A call is about to be decided and performed; what was not known, and is where the command may write.
    fn begin(&mut self) -> Result<Vec<Named>, Error> {
        if !self.noting.begin() {
            return Ok(Vec::new());
        }
        let mut new = self.noting.list()?;
        let within = |named: &Named| {
            self.writable
                .iter()
                .any(|root| named.path().starts_with(root))
        };
        new.retain(|named| within(named) && !self.known.contains(named));
        self.known.extend(new.iter().cloned());
        Ok(new)
    }
}

/// A call begins.
///
/// # Errors
/// When it cannot be known which there are.
pub fn begin(broker: &mut Broker) -> Result<(), Error> {
    let Some(logs) = &mut broker.logs else {
        return Ok(());
    };
    let new = logs.begin()?;
    if !new.is_empty() {
        let each = new.iter().map(|named| (named.names(), named.reason()));
        broker.access.protect(each);
    }
    Ok(())
}

/// It was performed.
pub fn end(broker: &Broker) {
    if let Some(logs) = &broker.logs {
        logs.noting.end();
    }
}
