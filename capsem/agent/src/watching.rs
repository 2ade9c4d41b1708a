//! `capsem-agent watch [--below] -- DIR`: what changes in a directory, a line of JSON each, until nobody reads it any more.
//!
//! First `{"watching": DIR}`; then `{"what", "path", "from"}` of each change, in order, gathered for 200 ms; `{"lost": N}` where
//! more happened than is told, `{"unwatched": N}` where so many directories are not watched. Refuses what is no directory.

use std::fs;
use std::io::{Error, Result, Write};
use std::os::fd::AsRawFd;
use std::time::Instant;

use serde_json::{Value, json};

use crate::changes::{Changes, Looked, Scope};
use crate::sys;

/// Watches until standard output is closed.
pub fn report(directory: &str, below: bool) -> Result<()> {
    let named = |error: Error| Error::new(error.kind(), format!("{directory}: {error}"));
    // A link to a directory is that directory, as for everybody else.
    let directory = fs::canonicalize(directory).map_err(named)?;
    fs::read_dir(&directory).map_err(named)?;
    let directory = directory
        .to_str()
        .ok_or_else(|| Error::from_raw_os_error(libc::EILSEQ))?
        .to_owned();
    let scope = Scope {
        below,
        mounted: true,
    };
    let mut changes = Changes::within(std::slice::from_ref(&directory), scope)?;
    while !changes.walked() {
        changes.walk(Instant::now());
    }
    let out = std::io::stdout();
    say(&out, &[json!({ "watching": directory })])?;
    let mut scratch = vec![0; 64 << 10];
    loop {
        let now = Instant::now();
        let wait = changes
            .deadline(now)
            .map(|due| due.saturating_duration_since(now));
        // Of a pipe whose reader has gone it is told without asking.
        let mut interests = vec![(out.as_raw_fd(), 0)];
        interests.extend(changes.interest().map(|fd| (fd, libc::POLLIN)));
        let ready = sys::poll(&interests, wait)?;
        if ready[0] & (libc::POLLERR | libc::POLLHUP) != 0 {
            return Ok(());
        }
        let now = Instant::now();
        if ready.get(1).is_some_and(|events| *events != 0) {
            changes.woken(now);
        }
        changes.walk(now);
        if changes.is_due(now) {
            say(&out, &lines(&changes.look(&mut scratch)))?;
        }
    }
}

fn lines(looked: &Looked) -> Vec<Value> {
    let mut lines: Vec<Value> = looked
        .changes
        .iter()
        .map(|one| json!({ "what": one.what.word(), "path": one.path, "from": one.from }))
        .collect();
    if looked.lost > 0 {
        lines.push(json!({ "lost": looked.lost }));
    }
    if looked.unwatched > 0 {
        lines.push(json!({ "unwatched": looked.unwatched }));
    }
    lines
}

fn say(mut out: &std::io::Stdout, lines: &[Value]) -> Result<()> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::{Change, What};

    #[test]
    fn changes_and_what_is_not_told_are_lines() {
        let looked = Looked {
            changes: vec![Change {
                what: What::Rename,
                path: "/b\n".to_owned(),
                from: Some("/a".to_owned()),
            }],
            lost: 2,
            unwatched: 3,
        };
        let told: Vec<String> = lines(&looked).iter().map(Value::to_string).collect();
        assert_eq!(
            told,
            [
                r#"{"from":"/a","path":"/b\n","what":"rename"}"#,
                r#"{"lost":2}"#,
                r#"{"unwatched":3}"#
            ]
        );
    }

    #[test]
    fn what_is_no_directory_is_not_watched() {
        assert!(report("/nowhere/at/all", true).is_err());
        let error = report("/proc/self/status", true).expect_err("a file");
        assert!(error.to_string().contains("/proc/self/status"), "{error}");
    }
}
