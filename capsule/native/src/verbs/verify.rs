//! `capsule verify`: what a log, or one entry's proof, can be shown to be. Exit codes: docs/formats/audit-log.md.
//!
//! Refuses to guess: without a key that was given or is known here, the best outcome is `unauthenticated`.

use crate::dispatch::ExitCode;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::audit::checkpoint::{Note, Refusal, VKey, origin};
use crate::audit::copies::{self, Kin};
use crate::audit::genesis::{self, Genesis};
use crate::audit::heads::{self, At, Head, Memory};
use crate::audit::keys;
use crate::audit::lock::LogLock;
use crate::audit::outcome::{Outcome, Report, Warning};
use crate::audit::proof::{Broken, Bundle, MAX_BUNDLE};
use crate::audit::verifier::{self, Options, Verified};
use crate::audit::{Error, Hurry, Places};
use crate::log_terminal as terminal;

const HELP: &str = "\
usage: capsule verify [LOG] [--key VKEY|FILE] [--since CHECKPOINT] [--strict] [--quick] [--no-memory] [--json]
       capsule verify --proof BUNDLE [--entry FILE] [--key VKEY|FILE] [--no-memory] [--json]

Checks every line, block, tree root and signature of LOG (default ./capsule.log), and compares it with what is
remembered of it here. Says what it could and could not check.

  --key VKEY|FILE      the log's public key (`capsule log --key`), as text or in a file
  --since CHECKPOINT   a file with a checkpoint you kept (`capsule log --checkpoint`): the log must contain it
  --strict             exit 21 when something deserves a look: unclosed runs, gaps, recoveries, clocks set back
  --quick              only the chain and the newest checkpoint; no line is read, no tree is built
  --proof BUNDLE       check the proof of one entry (`capsule prove`) instead of a log
  --entry FILE         the entry's line, when it is not in the bundle
  --no-memory          neither compare with remembered heads nor remember this one
  --json               one JSON object

exit: 0 verified, 3 unauthenticated, 10 malformed, 11 chain broken, 12 tree broken, 13 bad signature, 14 unknown key,
15 truncated, 16 rolled back, 17 forked, 18 other algorithms, 19 torn, 20 unsealed, 21 --strict, 64 usage, 125 unreadable

example: capsule verify ./capsule.log --strict
";

/// How long a writer in the middle of a write is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Arguments {
    log: Option<PathBuf>,
    key: Option<OsString>,
    since: Option<PathBuf>,
    proof: Option<PathBuf>,
    entry: Option<PathBuf>,
    strict: bool,
    quick: bool,
    json: bool,
    forget: bool,
}

/// Runs the verb.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let json = super::wants_json(&arguments);
    let arguments = match parse(arguments) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            terminal::print(HELP);
            return ExitCode::SUCCESS;
        }
        Err(why) => return super::usage(&why, "capsule verify --help", json),
    };
    let done = match &arguments.proof {
        Some(bundle) => proof(&arguments, bundle),
        None => log(&arguments),
    };
    done.unwrap_or_else(|why| super::refuse(&why, json))
}

fn parse(arguments: Vec<OsString>) -> Result<Option<Arguments>, String> {
    use lexopt::prelude::*;
    let mut parsed = Arguments::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|why| why.to_string())? {
        match argument {
            Long("key") => parsed.key = Some(value(&mut parser)?),
            Long("since") => parsed.since = Some(value(&mut parser)?.into()),
            Long("proof") => parsed.proof = Some(value(&mut parser)?.into()),
            Long("entry") => parsed.entry = Some(value(&mut parser)?.into()),
            Long("strict") => parsed.strict = true,
            Long("quick") => parsed.quick = true,
            Long("json") => parsed.json = true,
            Long("no-memory") => parsed.forget = true,
            Long("help") | Short('h') => return Ok(None),
            Value(path) if parsed.log.is_none() => parsed.log = Some(path.into()),
            other => return Err(other.unexpected().to_string()),
        }
    }
    Ok(Some(parsed))
}

fn value(parser: &mut lexopt::Parser) -> Result<OsString, String> {
    parser.value().map_err(|why| why.to_string())
}

/// A key given as text or in a file.
fn given_key(text: &OsString) -> Result<VKey, String> {
    let file = Path::new(text);
    let told = text.to_str().unwrap_or("").to_owned();
    let content = if file.is_file() {
        read_small(file)?
    } else {
        told
    };
    VKey::parse(content.trim_end()).ok_or_else(|| {
        format!("{text:?} is neither a public key (as `capsule log --key` prints it) nor a file that holds one")
    })
}

fn read_small(path: &Path) -> Result<String, String> {
    let refuse =
        |why: &dyn std::fmt::Display| format!("{path:?} cannot be read: {why}; check the path");
    let mut text = String::new();
    let file = File::open(path).map_err(|why| refuse(&why))?;
    file.take(MAX_BUNDLE as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|why| refuse(&why))?;
    Ok(text)
}

type Believed = Option<(VKey, &'static str)>;

/// The key to believe for log `id`: the one given, else one known here.
fn trusted(
    arguments: &Arguments,
    id: Option<&str>,
    head: Option<&Head>,
) -> Result<Believed, String> {
    if let Some(text) = &arguments.key {
        return given_key(text).map(|key| Some((key, "given")));
    }
    if let Some(key) = head.and_then(|head| VKey::parse(&head.key)) {
        return Ok(Some((key, "remembered")));
    }
    Ok(own_key(id).map(|key| (key, "own")))
}

/// What this machine's own key is called for log `id`; none where there is no key that could be read.
fn own_key(id: Option<&str>) -> Option<VKey> {
    let key = keys::existing_key(&Places::from_env().ok()?).ok()??;
    Some(VKey::of(&origin(id?), &key.verifying_key()))
}

fn log(arguments: &Arguments) -> Result<ExitCode, String> {
    let path = arguments
        .log
        .clone()
        .unwrap_or_else(|| "capsule.log".into());
    let file = super::open_log(&path).map_err(|why| {
        format!("{path:?} cannot be read: {why}; name the log: capsule verify LOG")
    })?;
    let places = Places::from_env().ok().filter(|_| !arguments.forget);
    let genesis = genesis::read(&file, &path).ok().flatten();
    // Memory first, length second: the log only grows, so what is remembered is never ahead of what is read.
    let at_path = places
        .as_ref()
        .and_then(|places| heads::id_at(places, &path));
    let id = genesis
        .as_ref()
        .map(|genesis| genesis.log.clone())
        .or_else(|| at_path.clone());
    let remembered = match (&places, &id) {
        (Some(places), Some(id)) => memory(places, id)?,
        _ => None,
    };
    let length = settled_length(&file, &path, places.as_ref())?;
    let mut key = trusted(arguments, id.as_deref(), remembered.as_ref())?;
    if let (Some((known, "own")), Some(genesis)) = (&key, &genesis) {
        // Another machine's log is no forgery: without its key, all that can be said is `unauthenticated`.
        if VKey::parse(&genesis.key).is_none_or(|named| !named.same_key(known)) {
            key = None;
        }
    }
    let since = match &arguments.since {
        Some(file) => match given_checkpoint(file, key.as_ref(), genesis.as_ref())? {
            Ok(note) => Some(note),
            Err((outcome, why)) => {
                let id = genesis.as_ref().map(|genesis| genesis.log.clone());
                return Ok(show(arguments, &path, &Report::unread(outcome, why, id)));
            }
        },
        None => None,
    };
    let options = Options {
        key,
        remembered,
        since,
        quick: arguments.quick,
    };
    let mut progress = terminal::Progress::new(length);
    let genesis = genesis.as_ref();
    let verified = verifier::verify(&file, length, &options, genesis, &mut |done| {
        progress.at(done)
    });
    progress.done();
    let mut verified =
        verified.map_err(|why| format!("{path:?} cannot be read: {why}; check the disk"))?;
    if let (Some(id), Some(at)) = (
        &id,
        options
            .remembered
            .as_ref()
            .and_then(|head| head.at.as_ref()),
    ) {
        beside(&mut verified.report, &file, id, at);
    }
    if let (Some(before), Some(now)) = (&at_path, &id)
        && before != now
    {
        let detail = format!("log {before} was begun at this path, and this is another");
        verified.report.warnings.insert(
            0,
            Warning {
                kind: "replaced",
                seq: 0,
                detail,
            },
        );
        verified.report.warned += 1;
    }
    if let Some(places) = &places {
        remember(places, &verified, &options);
    }
    Ok(show(arguments, &path, &verified.report))
}

/// Where the log is not what is remembered of it: how it stands to the file that was last written to.
fn beside(report: &mut Report, file: &File, id: &str, at: &At) {
    let differs = [Outcome::RolledBack, Outcome::Truncated, Outcome::Forked];
    let Some(fault) = report
        .fault
        .as_mut()
        .filter(|_| differs.contains(&report.outcome))
    else {
        return;
    };
    let other = terminal::clean(&at.path);
    let more = match copies::kin(file, report.bytes, id, at) {
        None => return,
        Some(Kin::Older) => format!("it is an older copy of {other}, which goes on from here"),
        Some(Kin::Parted(common)) => {
            report.outcome = Outcome::Forked;
            format!(
                "it and {other} have their first {common} entries in common and then differ: two histories from one \
                 head, and neither file can say which is the log; keep both"
            )
        }
        Some(Kin::Unknown) => format!(
            "that head was last written to {other}, another file, which cannot be compared: this is an older copy, or \
             both were gone on with from one head"
        ),
    };
    fault.why = format!("{}; {more}", fault.why);
}

fn show(arguments: &Arguments, path: &Path, report: &Report) -> ExitCode {
    let (path, exit) = (path.to_string_lossy(), report.exit(arguments.strict));
    if arguments.json {
        // What a person is told is in it too, so that who needs both asks once.
        let mut found = report.json(&path, arguments.strict);
        found["text"] = terminal::page(report, &path, exit, false).trim_end().into();
        terminal::print_json(&found);
    } else {
        terminal::print(&terminal::page(report, &path, exit, terminal::colour()));
    }
    ExitCode::from(exit)
}

fn memory(places: &Places, id: &str) -> Result<Option<Head>, String> {
    let memory = Memory::existing(places, id).map_err(|why| why.to_string())?;
    let Some(mut memory) = memory else {
        return Ok(None);
    };
    memory
        .lock(libc::LOCK_SH, Hurry::default())
        .and_then(|()| memory.read())
        .map_err(|why| why.to_string())
}

/// The log's length while nobody is in the middle of a write.
fn settled_length(file: &File, path: &Path, places: Option<&Places>) -> Result<u64, String> {
    let length = || {
        file.metadata()
            .map(|meta| meta.len())
            .map_err(|why| format!("{path:?} cannot be read: {why}; check the path"))
    };
    // Writers and their lock are where the key is. Who has none asks nobody, and waits until the log stands still.
    let lock = places
        .filter(|places| places.key().exists())
        .and_then(|places| LogLock::of(places, file, path).ok());
    if let Some(lock) = lock {
        let hurry = Hurry {
            until: Some(Instant::now() + PATIENCE),
            signals: None,
        };
        // A writer that is stuck must not keep anybody from looking. Closing the lock gives it back.
        return match lock.take(libc::F_RDLCK, hurry) {
            Ok(()) | Err(Error::Busy { .. }) => length(),
            Err(why) => Err(why.to_string()),
        };
    }
    let begun = Instant::now();
    let mut before = length()?;
    loop {
        std::thread::sleep(Duration::from_millis(10));
        let now = length()?;
        if now == before || begun.elapsed() >= PATIENCE {
            return Ok(now);
        }
        before = now;
    }
}

/// Reads a kept checkpoint; inside, why it cannot be one of this log.
fn given_checkpoint(
    file: &Path,
    key: Option<&(VKey, &'static str)>,
    genesis: Option<&Genesis>,
) -> Result<Result<Note, (Outcome, String)>, String> {
    let note = Note::parse(&read_small(file)?).ok_or_else(|| {
        format!("{file:?} is not a checkpoint; keep one with `capsule log --checkpoint > FILE`")
    })?;
    if genesis.is_some_and(|genesis| origin(&genesis.log) != note.body.origin) {
        let why = format!(
            "the given checkpoint is of another log, {}",
            note.body.origin
        );
        return Ok(Err((Outcome::Forked, why)));
    }
    let own_word = genesis.and_then(|genesis| VKey::parse(&genesis.key));
    let Some(key) = key.map(|(key, _)| key).or(own_word.as_ref()) else {
        return Ok(Ok(note));
    };
    Ok(match note.verify(key) {
        Ok(()) => Ok(note),
        Err(Refusal::UnknownKey) => Err((
            Outcome::UnknownKey,
            "the given checkpoint is signed by another key".into(),
        )),
        Err(Refusal::BadSignature) => Err((
            Outcome::BadSignature,
            "the signature does not fit the given checkpoint".into(),
        )),
    })
}

/// Remembers the head of a verified log, so that a cut or an older copy is found next time.
fn remember(places: &Places, verified: &Verified, options: &Options) {
    let report = &verified.report;
    let (Some(id), Some(key)) = (&report.log, &report.key) else {
        return;
    };
    if report.outcome != Outcome::Verified || report.quick {
        return;
    }
    let done = Memory::open(places, id).and_then(|mut memory| {
        memory.lock(libc::LOCK_EX, Hurry::default())?;
        let before = memory.read()?;
        // The writer's own memory is ahead, or as good: only an older one, or none, is replaced.
        if before
            .as_ref()
            .is_some_and(|head| head.place.size >= verified.place.size)
        {
            return Ok(());
        }
        memory.write(&Head {
            at: before.as_ref().and_then(|head| head.at.clone()),
            generation: before.map_or(1, |head| head.generation + 1),
            log: id.clone(),
            place: verified.place,
            tree: verified.tree.clone(),
            time: options.remembered.as_ref().map_or(0, |head| head.time),
            key: key.clone(),
            note: report.note.clone(),
        })
    });
    if let Err(why) = done {
        terminal::error(&format!("this log's head was not remembered: {why}"));
    }
}

fn proof(arguments: &Arguments, path: &Path) -> Result<ExitCode, String> {
    const PATH: &str = "the path does not lead from this entry to the checkpoint's root";
    let bundle = Bundle::parse(&read_small(path)?)
        .ok_or_else(|| format!("{path:?} is not a proof; make one with `capsule prove SEQ`"))?;
    let entry = match &arguments.entry {
        Some(file) => read_small(file)?.trim_end_matches('\n').as_bytes().to_vec(),
        None if bundle.entry.is_empty() => {
            return Err("the entry is not in the proof; give its line with --entry FILE".into());
        }
        None => bundle.entry.clone(),
    };
    let body = &bundle.note.body;
    let id = body
        .origin
        .strip_prefix("capsule.log/")
        .filter(|id| !id.contains('/'))
        .map(str::to_owned);
    let places = Places::from_env().ok().filter(|_| !arguments.forget);
    let remembered = match (&places, &id) {
        (Some(places), Some(id)) => memory(places, id)?,
        _ => None,
    };
    let key = trusted(arguments, id.as_deref(), remembered.as_ref())?;
    let checked = key
        .as_ref()
        .map(|(key, from)| (bundle.check(&entry, key), *from));
    let (outcome, why) = match checked {
        _ if !bundle.leads_from(&entry) => (Outcome::TreeBroken, PATH),
        Some((Ok(()), _)) => (
            Outcome::Verified,
            "the entry is on the log that this key signed",
        ),
        Some((Err(Broken::Path), _)) => (Outcome::TreeBroken, PATH),
        Some((Err(Broken::Signature), _)) => (
            Outcome::BadSignature,
            "the signature does not fit the checkpoint",
        ),
        Some((Err(Broken::Key), "given" | "remembered")) => (
            Outcome::UnknownKey,
            "the checkpoint is signed by another key",
        ),
        _ => {
            let why = "the path leads to the checkpoint's root, but nobody's signature was checked: give --key";
            (Outcome::Unauthenticated, why)
        }
    };
    let (name, exit) = outcome.code();
    if arguments.json {
        let json = serde_json::json!({
            "capsule": 1, "outcome": name, "exit": exit, "why": why, "seq": bundle.index, "size": body.size,
            "origin": body.origin, "entry": String::from_utf8_lossy(&entry),
        });
        terminal::print_json(&json);
    } else {
        let shown = terminal::entry(&entry, terminal::colour());
        let (name, origin) = (name.replace('_', " "), terminal::clean(&body.origin));
        terminal::print(&format!(
            "{name}  seq {} of {} in {origin}\n  {why}\n  {shown}",
            bundle.index, body.size
        ));
    }
    Ok(ExitCode::from(exit))
}
