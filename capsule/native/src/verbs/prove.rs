//! `capsule prove SEQ`: a self-contained proof that one entry is on the log, for somebody who has only the log's key.
//!
//! Refuses logs that are not sound, and entries that no checkpoint covers yet.

use crate::dispatch::ExitCode;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::audit::checkpoint::{Note, VKey, decimal};
use crate::audit::genesis;
use crate::audit::merkle::Frontier;
use crate::audit::outcome::Outcome;
use crate::audit::proof::Prover;
use crate::audit::scan::{Place, Scanner};
use crate::audit::verifier::{self, Options};
use crate::log_terminal as terminal;

const HELP: &str = "\
usage: capsule prove SEQ [LOG] [--out FILE] [--json]

Prints the proof that entry SEQ is on LOG (default ./capsule.log): the entry, its path in the tree, the newest signed
checkpoint, as C2SP tlog-proof text. Whoever has the log's key checks it without the log:
capsule verify --proof FILE --key KEY

  --out FILE   write it to FILE instead of standard output
  --json       one JSON object: the entry's seq, and the proof, or null where it is in FILE

example: capsule prove 12 --out proof.txt
";

/// Runs the verb.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let json = super::wants_json(&arguments);
    let (seq, log, out) = match parse(arguments) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => {
            terminal::print(HELP);
            return ExitCode::SUCCESS;
        }
        Err(why) => return super::usage(&why, "capsule prove --help", json),
    };
    let text = match prove(seq, &log) {
        Ok(Ok(text)) => text,
        Ok(Err((exit, why))) => return super::failed(&why, exit, json),
        Err(why) => return super::refuse(&why, json),
    };
    if let Some(file) = &out
        && let Err(why) = std::fs::write(file, &text)
    {
        let why = format!("{file:?} cannot be written: {why}; choose another with --out");
        return super::refuse(&why, json);
    }
    if json {
        let proof = out.is_none().then_some(&text);
        let answer = serde_json::json!({"entry": seq, "proof": proof});
        terminal::print_json(&answer);
    } else if out.is_none() {
        terminal::print(&text);
    }
    ExitCode::SUCCESS
}

type Parsed = (u64, PathBuf, Option<PathBuf>);

fn parse(arguments: Vec<OsString>) -> Result<Option<Parsed>, String> {
    use lexopt::prelude::*;
    let (mut seq, mut log, mut out) = (None, None, None);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|why| why.to_string())? {
        match argument {
            Long("out") => out = Some(parser.value().map_err(|why| why.to_string())?.into()),
            Long("json") => {}
            Long("help") | Short('h') => return Ok(None),
            Value(text) if seq.is_none() => {
                let number = text.to_str().and_then(decimal);
                seq = Some(number.ok_or_else(|| format!("{text:?} is not the seq of an entry"))?);
            }
            Value(path) if log.is_none() => log = Some(path.into()),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let seq = seq.ok_or("which entry? give its seq")?;
    Ok(Some((
        seq,
        log.unwrap_or_else(|| "capsule.log".into()),
        out,
    )))
}

fn prove(seq: u64, path: &Path) -> Result<Result<String, (u8, String)>, String> {
    let unreadable = |why: std::io::Error| {
        format!("{path:?} cannot be read: {why}; name the log: capsule prove SEQ LOG")
    };
    let file = super::open_log(path).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    let genesis = genesis::read(&file, path).map_err(|why| why.to_string())?;
    let key = genesis
        .as_ref()
        .and_then(|genesis| VKey::parse(&genesis.key))
        .map(|key| (key, "log"));
    let options = Options {
        key,
        ..Options::default()
    };
    let verified = verifier::verify(&file, length, &options, genesis.as_ref(), &mut |_| {})
        .map_err(unreadable)?;
    let report = &verified.report;
    if !matches!(
        report.outcome,
        Outcome::Unauthenticated | Outcome::Unsealed | Outcome::Torn
    ) {
        let (name, exit) = report.outcome.code();
        return Ok(Err((
            exit,
            format!("{path:?} is {name}: nothing on it can be proved; see `capsule verify`"),
        )));
    }
    let Some(mut prover) = Note::parse(&report.note).and_then(|note| Prover::new(seq, note)) else {
        let why = if seq < report.entries {
            "is not covered by a checkpoint yet; the next run, or `capsule record </dev/null`, signs one".to_owned()
        } else {
            format!("does not exist: the log has {}", report.entries)
        };
        return Ok(Err((
            Outcome::Unsealed.code().1,
            format!("entry {seq} {why}"),
        )));
    };
    let mut scanner = Scanner::new(&file, (Place::default(), Frontier::default()), None);
    while scanner.place.offset < length {
        let Ok(Some(sound)) = scanner.advance().map_err(unreadable)? else {
            break;
        };
        let entries = sound.extent.entries(sound.bytes);
        entries[..entries.len() - 1]
            .split(|byte| *byte == b'\n')
            .for_each(|line| prover.push(line));
    }
    let bundle = prover
        .bundle()
        .ok_or_else(|| format!("{path:?} changed while it was read; try again"))?;
    Ok(Ok(bundle.render()))
}
