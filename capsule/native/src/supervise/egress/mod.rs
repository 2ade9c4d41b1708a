//! Reaching hosts by name: what one run asks of `capsule-egress`, and what it believes of it.
//!
//! [`prepare`] reads what egress cannot read itself and furnishes the sandbox; [`Prepared::open`] hands the listeners out
//! and waits until egress stands; then the session speaks within the supervisor's loop. It refuses: to run without an
//! egress that is ready, to write anything on the log that is not egress's own to say, and to begin anew when egress
//! dies: its listeners die with it, so that nothing is reached any more.

pub mod fitting;
pub mod prompt;
pub mod secrets;
pub mod session;
pub mod sources;
pub mod start;
pub mod trust;
pub mod wire;

use crate::log_terminal::shown;
use crate::plan::{Egress, Plan, Variables};
use crate::sandbox::brought::Brought;
use crate::sandbox::messages;
use secrets::Held;
use serde_json::{Value, json};
use session::Session;
use sources::Sources;
use start::Home;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::{Frame, Reader, Source, Word};

/// How long egress may take to stand: it is a Python program that may just be starting.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that is known before the sandbox stands.
pub struct Prepared {
    home: Home,
    egress: Egress,
    /// The same as egress is told it.
    named: Egress,
    variables: Variables,
    sources: Sources,
    read: Vec<Source>,
    placeholders: BTreeMap<String, String>,
    held: BTreeMap<String, Held>,
    /// Files of ours for the view.
    pub brought: Vec<Brought>,
    stream: Option<UnixStream>,
}

/// What egress is told of the run.
pub struct About {
    /// Its name.
    pub run: String,
    /// The command.
    pub command: Vec<String>,
    /// Where it starts.
    pub cwd: String,
    /// The policy's name and digest.
    pub policy: Value,
    /// Whether a person can be asked.
    pub interactive: bool,
}

/// Make ready for a run whose plan reaches hosts by name; `None` for any other. Changes the run's own copy of the plan:
/// what is readable inside, and the environment.
///
/// # Errors
/// A sentence.
pub fn prepare(
    plan: &mut Plan,
    variables: &Variables,
    state: Option<&Path>,
) -> Result<Option<Prepared>, String> {
    let Some(mut egress) = plan.network.egress.clone() else {
        return Ok(None);
    };
    sources::settle(&mut egress, variables)?;
    let home = Home::open(state)?;
    let mut sources = Sources::of(&egress, variables)?;
    let named = sources::named(&egress, variables)?;
    // Watched first: what changes while it is read is read again.
    sources.watch().map_err(|error| format!("rules: {error}"))?;
    let read = sources.read()?;
    sources.remember(&read);
    let placeholders = secrets::placeholders(&egress.secrets)?;
    trust::ensure(&home)?;
    // It starts while the sandbox is made.
    let stream = Some(home.connect()?);
    let trusted = trust::beside(&home, &authorities(&egress, variables, &read)?)
        .map_err(|why| placed(&egress, variables, why))?;
    let brought = trust::furnish(plan, &home, trusted.as_deref())?;
    for secret in &egress.secrets {
        if let (Some(name), Some(placeholder)) = (&secret.env, placeholders.get(&secret.name)) {
            let set = &mut plan.environment.set;
            set.insert(name.clone(), placeholder.clone());
        }
    }
    Ok(Some(Prepared {
        home,
        egress,
        named,
        variables: variables.clone(),
        sources,
        read,
        placeholders,
        held: BTreeMap::new(),
        brought,
        stream,
    }))
}

/// The texts of the authorities that the policy names.
fn authorities(
    egress: &Egress,
    variables: &Variables,
    read: &[Source],
) -> Result<Vec<Source>, String> {
    let mut found = Vec::new();
    for grant in &egress.authorities {
        let path = variables
            .path(&grant.path)
            .map_err(|error| error.to_string())?;
        let known = read.iter().find(|source| Path::new(&source.path) == path);
        found.extend(known.cloned());
    }
    Ok(found)
}

/// What is wrong with an authority, behind the place in the policy that names it.
fn placed(egress: &Egress, variables: &Variables, why: String) -> String {
    let about = |path: &str| {
        let path = variables.path(path).unwrap_or_default();
        why.contains(&format!(" {} ", shown(&path)))
    };
    match egress.authorities.iter().find(|grant| about(&grant.path)) {
        Some(grant) => {
            let origin = &grant.origin;
            format!("{}:{}:{}: {why}", origin.file, origin.line, origin.column)
        }
        None => why,
    }
}

impl Prepared {
    /// What the start of the run says of it.
    #[must_use]
    pub fn sources(&self) -> Vec<Value> {
        sources::digests(&self.read)
    }

    /// Ask for every secret's value. After the sandbox's first process was made: that one is a copy of this.
    ///
    /// # Errors
    /// A sentence that names the secret.
    pub fn gather(&mut self) -> Result<(), String> {
        let secrets = &self.egress.secrets;
        self.held = secrets::gather(secrets, &self.placeholders, &self.variables)?;
        Ok(())
    }

    /// Whether entries of the run are told.
    #[must_use]
    pub fn detects(&self) -> bool {
        !self.egress.detect.is_empty()
    }

    /// Values that must never be on the log.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.held.values().map(|held| held.value.as_str())
    }

    /// How many sockets the first process hands out.
    #[must_use]
    pub fn sockets(&self) -> usize {
        2 + self.egress.ports().len()
    }

    /// Hand the listeners to egress and wait until it stands. None of them is ours afterwards.
    ///
    /// # Errors
    /// A sentence: nothing may run.
    pub fn open(mut self, about: &About, listeners: Vec<OwnedFd>) -> Result<Session, String> {
        let hello = json!({
            "type": "session",
            "version": 1,
            "run": about.run,
            "command": about.command,
            "cwd": about.cwd,
            "policy": about.policy,
            "egress": self.named,
            "sources": self.read,
            "secrets": self.held,
            "ports": self.egress.ports(),
            "interactive": about.interactive,
        });
        let hello = serde_json::to_vec(&hello).map_err(|error| error.to_string())?;
        let hello = wire::frame(&hello)?;
        let mut why = String::new();
        for _ in 0..2 {
            let stream = match self.stream.take() {
                Some(stream) => stream,
                None => self.home.connect()?,
            };
            match self.greet(&stream, &hello, &listeners) {
                Ok((reader, early)) => return self.stands(stream, reader, early, about),
                Err(Unready::Ended(cause)) => why = cause,
                Err(Unready::Wrong(cause)) => {
                    return Err(format!("capsule-egress is not ready: {cause}"));
                }
            }
        }
        Err(match self.home.last_words() {
            Some(words) => format!("capsule-egress did not start: {words}"),
            None => format!(
                "capsule-egress hung up before it was ready: {why}; what it said is in {}, what it was refused in {}; \
                 the next run starts another one when it is gone",
                shown(&self.home.path("egress.log")),
                shown(&self.home.path("egress.capsule.log")),
            ),
        })
    }

    fn stands(
        self,
        stream: UnixStream,
        reader: Reader,
        early: Vec<Frame>,
        about: &About,
    ) -> Result<Session, String> {
        stream
            .set_nonblocking(true)
            .map_err(|error| error.to_string())?;
        Ok(Session::new(
            stream,
            reader,
            early,
            self.sources,
            (self.egress, self.variables),
            about.interactive,
        ))
    }

    /// The first words of both sides.
    fn greet(
        &self,
        stream: &UnixStream,
        hello: &[u8],
        listeners: &[OwnedFd],
    ) -> Result<(Reader, Vec<Frame>), Unready> {
        let until = Instant::now() + PATIENCE;
        let numbers: Vec<i32> = listeners.iter().map(AsRawFd::as_raw_fd).collect();
        stream
            .set_write_timeout(Some(PATIENCE))
            .map_err(|error| Unready::Wrong(error.to_string()))?;
        say(stream, hello, &numbers)?;
        let (mut reader, mut early) = (Reader::default(), Vec::new());
        let mut buffer = vec![0; 64 << 10];
        loop {
            while let Some(frame) = reader.next().map_err(Unready::Wrong)? {
                match frame {
                    Frame::Ready { problems, .. } => {
                        // It stands and denies everything: what is wrong is said, and goes on being said.
                        for problem in problems {
                            crate::log_terminal::error_lines(&problem);
                        }
                        return Ok((reader, early));
                    }
                    Frame::NeedAuthority {} => {
                        let open = trust::authority(&self.home).map_err(Unready::Wrong)?;
                        let numbers = open.each_ref().map(AsRawFd::as_raw_fd);
                        let word = wire::encode(&Word::Authority {}).map_err(Unready::Wrong)?;
                        say(stream, &word, &numbers)?;
                    }
                    other => early.push(other),
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || early.len() > 1000 {
                let seconds = PATIENCE.as_secs();
                return Err(Unready::Wrong(format!("it did not answer for {seconds} s")));
            }
            stream
                .set_read_timeout(Some(left))
                .map_err(|error| Unready::Wrong(error.to_string()))?;
            match (&*stream).read(&mut buffer) {
                Ok(0) => return Err(Unready::Ended("it ended before it was ready".to_owned())),
                Ok(length) => reader.feed(&buffer[..length]),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    _ => return Err(Unready::Ended(error.to_string())),
                },
            }
        }
    }
}

/// Why egress does not stand.
enum Unready {
    /// It is gone; another one may do.
    Ended(String),
    /// It is there and of no use.
    Wrong(String),
}

/// All of `bytes`, descriptors beside the first.
fn say(stream: &UnixStream, bytes: &[u8], descriptors: &[i32]) -> Result<(), Unready> {
    let ended = |error: io::Error| Unready::Ended(error.to_string());
    let (head, rest) = bytes.split_at(bytes.len().min(4));
    messages::send(stream.as_fd(), head, descriptors).map_err(ended)?;
    let mut at = 0;
    while at < rest.len() {
        match session::send(stream.as_raw_fd(), &rest[at..]) {
            Ok(sent) => at += sent,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(ended(error)),
        }
    }
    Ok(())
}
