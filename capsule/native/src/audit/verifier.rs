//! The verifier: one pass over the file with two threads, one for lines and chain ([`super::pass`]), one for leaves,
//! tree and checkpoints ([`super::grow`]); a few megabytes of memory whatever the file's size.
//!
//! The first fault in the file's order is the outcome; within a block the order of [`super::scan`]. Heads that were
//! remembered or given are compared only when every block is sound. Refuses nothing: everything wrong is an outcome.

use std::fs::File;
use std::io;
use std::sync::mpsc::sync_channel;

use super::chain::Digest;
use super::checkpoint::{Note, VKey, origin};
use super::genesis::Genesis;
use super::grow::{self, Grown};
use super::heads::Head;
use super::merkle::{Frontier, Node};
use super::outcome::{Outcome, Report};
use super::pass::{self, Pass};
use super::scan::{Fault, Kind, Place, Trust};

/// What to verify with.
#[derive(Debug, Default)]
pub struct Options {
    /// The key to believe and where it is from; without one the log's own word is taken, which proves nothing.
    pub key: Option<(VKey, &'static str)>,
    /// The head remembered of this log.
    pub remembered: Option<Head>,
    /// A checkpoint somebody kept, already checked against the key.
    pub since: Option<Note>,
    /// Only the chain and the newest checkpoint: no line is read, no tree is built.
    pub quick: bool,
}

/// What a verification found, and where the sound part ends (to be remembered).
pub struct Verified {
    /// What it comes to.
    pub report: Report,
    /// Where the sound part ends.
    pub place: Place,
    /// The tree over it; empty after a quick one.
    pub tree: Frontier,
}

/// A head to compare with, and whether the log had it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) which: &'static str,
    pub(super) size: u64,
    pub(super) root: Node,
    pub(super) chain: Digest,
    /// What the last block's digest is without its checkpoint, where the head's own checkpoint says so.
    pub(super) sealed: Option<Digest>,
    pub(super) chained: bool,
    /// The entries are the head's, with or without the checkpoint that follows them.
    pub(super) covered: bool,
    pub(super) grown: bool,
}

/// Verifies the first `length` bytes of `file`; `progress` is told how many are done.
///
/// # Errors
/// Only when the file cannot be read.
pub fn verify(
    file: &File,
    length: u64,
    options: &Options,
    genesis: Option<&Genesis>,
    progress: &mut dyn FnMut(u64),
) -> io::Result<Verified> {
    let own_word = genesis.and_then(|genesis| VKey::parse(&genesis.key));
    let key = options
        .key
        .clone()
        .or_else(|| own_word.map(|key| (key, "log")));
    let trust = genesis.zip(key.as_ref()).map(|(genesis, (key, _))| Trust {
        origin: origin(&genesis.log),
        key: key.clone(),
    });
    let mut known = heads(options);
    let wanted: Vec<_> = known.iter().map(|head| head.size).collect();
    let mut pass = Pass::default();
    let grown = std::thread::scope(|scope| {
        let (trust, pass) = (trust.as_ref(), &mut pass);
        let (send, pieces) = sync_channel(2);
        let (give_back, given_back) = sync_channel(8);
        scope.spawn(move || pass::read(file, length, &send, &given_back));
        if options.quick {
            pass.run(&mut known, &pieces, None, &give_back, progress)?;
            return Ok(pass.newest_checkpoint(trust));
        }
        let (send, checked) = sync_channel(2);
        let used = give_back.clone();
        let grower = scope.spawn(move || grow::grow(&checked, &used, trust, &wanted));
        let read = pass.run(&mut known, &pieces, Some(send), &give_back, progress);
        // The reader ends when nobody takes its pieces any more.
        drop(pieces);
        let grown = grower
            .join()
            .map_err(|_| io::Error::other("the tree's thread died"))?;
        read.map(|()| grown)
    })?;
    for head in &mut known {
        head.grown = grown.roots.contains(&(head.size, head.root));
    }
    let place = pass.place;
    let tree = grown.tree.clone();
    let (outcome, fault) = conclude(
        &pass,
        &grown,
        &known,
        options.quick,
        key.as_ref().is_some_and(|(_, from)| *from != "log"),
    );
    let (warnings, warned) = pass.watch.finish();
    let report = Report {
        outcome,
        fault,
        log: genesis.map(|genesis| genesis.log.clone()),
        entries: place.size,
        blocks: place.block,
        bytes: place.offset,
        checkpoints: grown.checkpoints,
        sealed: grown.sealed(),
        note: grown
            .note
            .as_ref()
            .map_or_else(String::new, |note| note.text().to_owned()),
        key_from: key.as_ref().map_or("none", |(_, from)| from),
        key: key.map(|(key, _)| key.render()),
        remembered: options.remembered.as_ref().map(|head| head.place.size),
        since: options.since.as_ref().map(|note| note.body.size),
        quick: options.quick,
        warnings,
        warned,
    };
    Ok(Verified {
        report,
        place,
        tree,
    })
}

fn heads(options: &Options) -> Vec<Known> {
    let known = |which, size, root, chain, sealed| Known {
        which,
        size,
        root,
        chain,
        sealed,
        chained: false,
        covered: false,
        grown: false,
    };
    let remembered = options
        .remembered
        .as_ref()
        .filter(|head| head.place.size > 0);
    let remembered = remembered.map(|head| {
        let (size, note) = (head.place.size, Note::parse(&head.note));
        let sealed = note.filter(|note| note.body.size == size);
        known(
            "remembered here",
            size,
            head.tree.root(),
            head.place.chain,
            sealed.map(|note| note.body.chain),
        )
    });
    let given = options
        .since
        .as_ref()
        .map(|note| &note.body)
        .map(|body| known("given", body.size, body.root, body.chain, Some(body.chain)));
    remembered.into_iter().chain(given).collect()
}

fn conclude(
    pass: &Pass,
    grown: &Grown,
    known: &[Known],
    quick: bool,
    authenticated: bool,
) -> (Outcome, Option<Fault>) {
    // What the tree's thread found is in an earlier block than where the reader stopped.
    let found = grown.fault.as_ref().or(pass.fault.as_ref());
    let torn = found.is_some_and(|fault| fault.kind == Kind::Torn);
    if let Some(fault) = found.filter(|_| !torn) {
        return (fault.kind.into(), Some(fault.clone()));
    }
    let place = pass.place;
    let end = |outcome, why: String| {
        let fault = Fault {
            kind: Kind::Torn,
            block: place.block,
            seq: place.size,
            offset: place.offset,
            why,
        };
        (outcome, Some(fault))
    };
    if let Some(head) = known.iter().find(|head| place.size < head.size) {
        let whole = !torn && grown.sealed() == place.size;
        let outcome = if whole {
            Outcome::RolledBack
        } else {
            Outcome::Truncated
        };
        return end(
            outcome,
            format!(
                "it has {} entries; the head {} has {}",
                place.size, head.which, head.size
            ),
        );
    }
    for head in known {
        let same = head.grown || head.covered;
        if same && !head.chained && head.size == place.size && grown.sealed() < place.size {
            let why = format!("the checkpoint of the head {} is missing", head.which);
            return end(Outcome::Truncated, why);
        }
        if !head.chained || !(head.grown || quick) {
            let why = format!(
                "its first {} entries are not those of the head {}",
                head.size, head.which
            );
            return end(Outcome::Forked, why);
        }
    }
    if place.block == 0 && !torn {
        return end(Outcome::Malformed, "it is empty".into());
    }
    if torn {
        return (Outcome::Torn, found.cloned());
    }
    if grown.sealed() < place.size {
        return end(
            Outcome::Unsealed,
            format!(
                "{} entries follow the last checkpoint",
                place.size - grown.sealed()
            ),
        );
    }
    if !authenticated {
        return end(
            Outcome::Unauthenticated,
            "no key was given or known, so anybody could have written it".into(),
        );
    }
    (Outcome::Verified, None)
}
