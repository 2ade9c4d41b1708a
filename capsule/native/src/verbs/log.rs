//! `capsule log`: the entries of a log for a person, or as JSON; its newest checkpoint; its key.
//!
//! Every block is checked against chain and tree before its entries are shown. Refuses to show what is not sound:
//! it stops there, says so, and exits with the code `capsule verify` would.

use crate::dispatch::ExitCode;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::audit::clock::{self, Stamp};
use crate::audit::json::{self, View};
use crate::audit::merkle::Frontier;
use crate::audit::outcome::Outcome;
use crate::audit::scan::{Fault, Kind, Place, Scanner, Sound};
use crate::audit::{genesis, verifier};
use crate::log_story;
use crate::log_terminal::{self as terminal, Style};

const HELP: &str = "\
usage: capsule log [LOG] [--run RUN] [--type TYPE] [--denied] [--since TIME] [--follow]
                   [--full | --json]
       capsule log [LOG] --checkpoint | --key

Shows the entries of LOG (default ./capsule.log).

  --run RUN       only this run's (its beginning is enough)
  --type TYPE     only of this type; one that ends with . stands for all that begin so
  --denied        only what was denied
  --since TIME    from 2026-11-22T12:00 (UTC) on, or from 30s, 10m, 2h, 1d ago
  --follow        wait for more, and for a log that is not there yet
  --full          every field of each entry
  --json          the lines as they are on the log
  --checkpoint    the newest signed checkpoint, to keep elsewhere (then: capsule verify --since FILE)
  --key           the log's public key, to give to whoever is to verify it

example: capsule log --denied --since 2h
";

/// Between two looks at a log that is followed.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Arguments {
    log: Option<PathBuf>,
    run: Option<String>,
    kind: Option<String>,
    since: Option<String>,
    follow: bool,
    full: bool,
    json: bool,
    checkpoint: bool,
    key: bool,
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
        Err(why) => return super::usage(&why, "capsule log --help", json),
    };
    let path = arguments
        .log
        .clone()
        .unwrap_or_else(|| "capsule.log".into());
    let heading = arguments.checkpoint || arguments.key;
    let follow = arguments.follow && !heading;
    loop {
        let file = match opened(&path, follow) {
            Ok(file) => file,
            Err(why) => {
                return super::refuse(
                    &format!("{path:?} cannot be read: {why}; name the log: capsule log LOG"),
                    json,
                );
            }
        };
        let done = if heading {
            head(&arguments, &path, &file).map(Some)
        } else {
            show(&arguments, &path, &file)
        };
        match done {
            // Another log was begun at this path: that is followed now.
            Ok(None) => {}
            Ok(Some(code)) => return code,
            Err(why) => return super::refuse(&why, json),
        }
    }
}

/// The log; with `wait`, also one that is begun later.
fn opened(path: &Path, wait: bool) -> io::Result<File> {
    let mut told = false;
    loop {
        match super::open_log(path) {
            Err(why) if wait && why.kind() == io::ErrorKind::NotFound => {
                if !told {
                    terminal::error(&format!("{path:?} is not there yet: waiting for it"));
                }
                told = true;
                std::thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

fn parse(arguments: Vec<OsString>) -> Result<Option<Arguments>, String> {
    use lexopt::prelude::*;
    let mut parsed = Arguments::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|why| why.to_string())? {
        match argument {
            Long("run") => parsed.run = Some(text_value(&mut parser)?),
            Long("type") => parsed.kind = Some(text_value(&mut parser)?),
            Long("denied") => parsed.kind = Some("denied".into()),
            Long("since") => parsed.since = Some(since(&text_value(&mut parser)?)?),
            Long("follow") | Short('f') => parsed.follow = true,
            Long("full") => parsed.full = true,
            Long("json") => parsed.json = true,
            Long("checkpoint") => parsed.checkpoint = true,
            Long("key") => parsed.key = true,
            Long("help") | Short('h') => return Ok(None),
            Value(path) if parsed.log.is_none() => parsed.log = Some(path.into()),
            other => return Err(other.unexpected().to_string()),
        }
    }
    Ok(Some(parsed))
}

fn text_value(parser: &mut lexopt::Parser) -> Result<String, String> {
    let value = parser.value().map_err(|why| why.to_string())?;
    value
        .into_string()
        .map_err(|value| format!("{value:?} is not UTF-8"))
}

/// A moment, as the beginning of a time on the log: times there compare as text.
fn since(text: &str) -> Result<String, String> {
    const REST: &str = "0000-01-01T00:00:00.000000Z";
    let wrong =
        || format!("{text:?} is not a time: write 2026-11-22T12:00 (UTC), or 30s, 10m, 2h, 1d");
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        Some(b'd') => 86_400,
        _ => {
            let moment = text.strip_suffix('Z').unwrap_or(text).replace(' ', "T");
            let rest = REST
                .get(moment.len()..)
                .filter(|rest| rest.len() <= 23 && !moment.ends_with('Z'))
                .ok_or_else(wrong)?;
            let whole = format!("{moment}{rest}");
            return clock::parse(whole.as_bytes())
                .map(|_| moment)
                .ok_or_else(wrong);
        }
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let ago = count.checked_mul(unit * 1_000_000).ok_or_else(wrong)?;
    let moment = clock::render(Stamp::now().wall.saturating_sub(ago));
    Ok(String::from_utf8_lossy(&moment).into_owned())
}

fn head(arguments: &Arguments, path: &Path, file: &File) -> Result<ExitCode, String> {
    let found = genesis::read(file, path).map_err(|why| why.to_string())?;
    let found =
        found.ok_or_else(|| format!("{path:?} has no first entry; see `capsule verify`"))?;
    if arguments.key {
        terminal::print(&format!("{}\n", found.key));
        return Ok(ExitCode::SUCCESS);
    }
    let length = file.metadata().map_err(|why| why.to_string())?.len();
    let options = verifier::Options {
        quick: true,
        ..verifier::Options::default()
    };
    let verified = verifier::verify(file, length, &options, Some(&found), &mut |_| {});
    let report = verified
        .map_err(|why| format!("{path:?} cannot be read: {why}; check the disk"))?
        .report;
    let sound = matches!(
        report.outcome,
        Outcome::Unauthenticated | Outcome::Unsealed | Outcome::Torn
    );
    if !sound || report.note.is_empty() {
        let (name, exit) = report.outcome.code();
        let why =
            format!("{path:?} is {name}: it has no checkpoint worth keeping; see `capsule verify`");
        terminal::error(&why);
        return Ok(ExitCode::from(exit));
    }
    terminal::print(&report.note);
    Ok(ExitCode::SUCCESS)
}

fn wanted(arguments: &Arguments, view: &View<'_>) -> bool {
    let run = arguments.run.as_ref().is_none_or(|run| {
        let found = view.run.unwrap_or(b"");
        found.starts_with(run.as_bytes())
            || found
                .strip_prefix(b"r-")
                .is_some_and(|id| id.starts_with(run.as_bytes()))
    });
    let kind = arguments.kind.as_ref().is_none_or(|kind| {
        view.kind == kind.as_bytes()
            || (kind.ends_with('.') && view.kind.starts_with(kind.as_bytes()))
    });
    let since = arguments
        .since
        .as_ref()
        .is_none_or(|since| view.time >= since.as_bytes());
    run && kind && since
}

/// The text of a block's entries that are wanted, from seq `from` on.
fn text(arguments: &Arguments, sound: &Sound<'_>, from: u64, style: Style) -> String {
    let mut text = String::new();
    let entries = sound.extent.entries(sound.bytes);
    for line in entries[..entries.len() - 1].split(|byte| *byte == b'\n') {
        let wanted =
            json::entry(line).is_ok_and(|view| view.seq >= from && wanted(arguments, &view));
        if wanted && arguments.json {
            text.push_str(&terminal::json_line(&String::from_utf8_lossy(line)));
            text.push('\n');
        } else if wanted && arguments.full {
            text.push_str(&terminal::entry(line, terminal::colour()));
        } else if wanted {
            text.push_str(&log_story::entry(line, style, terminal::width()));
        }
    }
    text
}

/// `None`: while it was followed another file took its place.
fn show(arguments: &Arguments, path: &Path, file: &File) -> Result<Option<ExitCode>, String> {
    let style = Style::wanted();
    let mut last = (Place::default(), Frontier::default());
    let (mut shown, mut replaced) = (0, false);
    loop {
        // A checkpoint may have been added to the last block since: go on from that block, not from after it.
        let mut scanner = Scanner::new(file, last.clone(), None);
        let fault = loop {
            let before = (scanner.place, scanner.tree.clone());
            match scanner
                .advance()
                .map_err(|why| format!("{path:?} cannot be read: {why}; check the disk"))?
            {
                Ok(None) => break None,
                Err(fault) => break Some(fault),
                Ok(Some(sound)) => {
                    let text = text(arguments, &sound, shown, style);
                    if !text.is_empty() && !terminal::print(&text) {
                        return Ok(Some(ExitCode::SUCCESS));
                    }
                    last = before;
                }
            }
        };
        shown = scanner.place.size;
        let writing = matches!(
            &fault,
            None | Some(Fault {
                kind: Kind::Torn,
                ..
            })
        );
        if !(arguments.follow && writing) {
            let unsound = fault.map(|fault| unsound(path, &fault));
            return Ok(Some(unsound.unwrap_or(ExitCode::SUCCESS)));
        }
        if replaced {
            // A log is begun under another name: nobody need hear of the empty file that stood here.
            if shown > 0 {
                terminal::error(&format!("{path:?} is another file now: following that"));
            }
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
        // What was added until then is shown first.
        replaced = is_another(path, file);
        let meta = file.metadata().map_err(|why| why.to_string())?;
        if meta.len() < last.0.offset {
            return Err(format!(
                "{path:?} became shorter while it was followed; see `capsule verify`"
            ));
        }
    }
}

/// Whether a path leads to a file that is not this one; where there is none it may come back.
fn is_another(path: &Path, file: &File) -> bool {
    let identity = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => identity(named) != identity(open),
        _ => false,
    }
}

fn unsound(path: &Path, fault: &Fault) -> ExitCode {
    let (name, exit) = Outcome::from(fault.kind).code();
    let (offset, why) = (fault.offset, &fault.why);
    terminal::error(&format!(
        "{path:?} is not sound from byte {offset} on ({name}: {why}); see `capsule verify`"
    ));
    ExitCode::from(exit)
}

#[cfg(test)]
mod tests {
    use super::since;

    #[test]
    fn moments_are_beginnings_of_times_or_ages() {
        for text in [
            "2026",
            "2026-11-22",
            "2026-11-22T12:00",
            "2026-11-22 12:00:00",
            "2026-11-22T12:00:00.123456Z",
        ] {
            assert!(
                "2026-11-22T12:00:00.123456Z" >= since(text).unwrap().as_str(),
                "{text}"
            );
        }
        assert!(since("1d").unwrap() < since("30s").unwrap());
        for text in [
            "",
            "x",
            "5",
            "5x",
            "2026-13-01",
            "99999999999999999999d",
            "2026-11-22T12:00:00.123456ZZ",
            "é",
        ] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}
