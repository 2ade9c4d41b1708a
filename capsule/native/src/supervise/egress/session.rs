//! The session with egress while the command runs: entries and questions come, news of the run go.
//!
//! Nothing here waits: what egress does not read is kept, up to a bound. It refuses: frames that are none, entries that
//! are not egress's own, and an egress that does not read; each ends the session, and that is on the log.

use super::prompt::{Prompt, Reply};
use super::secrets::{self, Answer, Asking};
use super::sources::Sources;
use super::wire::{self, Frame, Reader, Word};
use crate::monitor::wire::Event;
use crate::plan::{Egress, Variables};
use crate::supervise::recorder::Recorder;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Bytes that are kept for an egress that does not read.
const MOST_WAITING: usize = 64 << 20;
/// How long its last entries are waited for when the run is over.
const FAREWELL: Duration = Duration::from_millis(2000);
/// Secrets that are asked for at one time.
const MOST_ASKING: usize = 16;

/// A session that stands, or that is lost.
pub struct Session {
    stream: Option<UnixStream>,
    reader: Reader,
    out: Vec<u8>,
    sent: usize,
    sources: Sources,
    egress: Egress,
    variables: Variables,
    asking: Vec<Asking>,
    prompt: Option<Prompt>,
    early: Vec<Frame>,
    parting: Parting,
}

/// How far the end has come.
#[derive(Clone, Copy, PartialEq)]
enum Parting {
    /// The command runs.
    No,
    /// It has ended, and egress is told.
    Begun,
    /// Egress has told all.
    Done,
}

/// As much as the socket takes; never a signal.
///
/// # Errors
/// As `send(2)`.
pub fn send(socket: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: `bytes` has the length given and outlives the call.
    let sent = unsafe {
        libc::send(
            socket,
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// As much as is there, up to a buffer.
fn receive(socket: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buffer` has the length given and outlives the call.
    let got = unsafe {
        libc::recv(
            socket,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// How a turn fails.
enum Trouble {
    /// The session is over.
    Lost(String),
    /// The log cannot be written: the run is over.
    Log(String),
}

impl Session {
    pub(super) fn new(
        stream: UnixStream,
        reader: Reader,
        early: Vec<Frame>,
        sources: Sources,
        (egress, variables): (Egress, Variables),
        interactive: bool,
    ) -> Session {
        Session {
            stream: Some(stream),
            reader,
            out: Vec::new(),
            sent: 0,
            sources,
            egress,
            variables,
            asking: Vec::new(),
            prompt: interactive.then(Prompt::default),
            early,
            parting: Parting::No,
        }
    }

    /// Whether entries of the run are told.
    #[must_use]
    pub fn detects(&self) -> bool {
        !self.egress.detect.is_empty()
    }

    /// Whether the terminal's keys are ours.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.prompt.as_ref().is_some_and(Prompt::open)
    }

    /// What to poll for.
    #[must_use]
    pub fn interests(&self) -> Vec<libc::pollfd> {
        let poll = |fd: RawFd, events: i16| libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        let Some(stream) = &self.stream else {
            return Vec::new();
        };
        let waiting = if self.sent < self.out.len() {
            libc::POLLOUT
        } else {
            0
        };
        let mut list = vec![
            poll(stream.as_raw_fd(), libc::POLLIN | waiting),
            poll(self.sources.descriptor(), libc::POLLIN),
            poll(if self.asks() { 0 } else { -1 }, libc::POLLIN),
        ];
        let asked = self.asking.iter();
        list.extend(asked.map(|one| poll(one.descriptor(), libc::POLLIN)));
        list
    }

    /// When it must be looked at without anything having happened.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.asking.iter().map(Asking::deadline).min()
    }

    /// Somebody began a connection.
    pub fn flow(&mut self, event: &Event) {
        if let Event::Egress {
            pid,
            program,
            argv,
            source,
            target,
            ..
        } = event
        {
            self.tell(&Word::Flow {
                source,
                target,
                pid: *pid,
                program,
                argv,
            });
        }
    }

    /// An entry of the run went on the log.
    pub fn entry(&mut self, line: &[u8]) {
        if let Ok(frame) = wire::event(line) {
            self.queue(&frame);
        }
    }

    fn tell(&mut self, word: &Word) {
        // What is too long for a frame was refused where it was read.
        if let Ok(frame) = wire::encode(word) {
            self.queue(&frame);
        }
    }

    fn queue(&mut self, frame: &[u8]) {
        if self.stream.is_some() {
            self.out.extend_from_slice(frame);
            // Most frames go at once, and the rest when `poll` says so.
            let _ = self.push();
        }
    }

    fn push(&mut self) -> io::Result<()> {
        while let Some(stream) = &self.stream
            && self.sent < self.out.len()
        {
            match send(stream.as_raw_fd(), &self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        Ok(())
    }

    /// Do what is possible.
    ///
    /// # Errors
    /// When the log cannot be written: the run ends.
    pub fn turn(&mut self, recorder: &mut dyn Recorder) -> Result<(), String> {
        if self.stream.is_none() {
            return Ok(());
        }
        match self.work(recorder) {
            Ok(()) => Ok(()),
            Err(Trouble::Log(why)) => Err(why),
            Err(Trouble::Lost(why)) => self.lost(&why, recorder),
        }
    }

    fn work(&mut self, recorder: &mut dyn Recorder) -> Result<(), Trouble> {
        self.listen(recorder)?;
        if let Some(sources) = self.sources.news() {
            self.tell(&Word::Sources { sources: &sources });
        }
        self.hear_secrets(recorder)?;
        while let Some(reply) = self.prompt.as_mut().and_then(Prompt::keys) {
            let Reply { id, allow, scope } = reply;
            self.tell(&Word::Answer {
                id: &id,
                allow,
                scope,
                for_ms: None,
            });
        }
        self.push()
            .map_err(|error| Trouble::Lost(error.to_string()))?;
        let waiting = self.out.len() - self.sent;
        if waiting > MOST_WAITING {
            return Err(Trouble::Lost(format!(
                "it does not read: {waiting} bytes wait for it"
            )));
        }
        Ok(())
    }

    fn listen(&mut self, recorder: &mut dyn Recorder) -> Result<(), Trouble> {
        for frame in std::mem::take(&mut self.early) {
            self.take(frame, recorder)?;
        }
        let mut buffer = [0u8; 64 << 10];
        loop {
            while let Some(frame) = self.reader.next().map_err(Trouble::Lost)? {
                self.take(frame, recorder)?;
            }
            let Some(stream) = &self.stream else {
                return Ok(());
            };
            match receive(stream.as_raw_fd(), &mut buffer) {
                Ok(0) => return Err(Trouble::Lost("it ended".to_owned())),
                Ok(length) => self.reader.feed(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(Trouble::Lost(error.to_string())),
            }
        }
    }

    fn take(&mut self, frame: Frame, recorder: &mut dyn Recorder) -> Result<(), Trouble> {
        match frame {
            Frame::Record { entry } => {
                let (kind, fields) = wire::entry(entry).map_err(Trouble::Lost)?;
                match recorder.egress(kind, fields) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(Trouble::Lost(
                        "it sent an entry that the log cannot hold".to_owned(),
                    )),
                    Err(why) => Err(Trouble::Log(why)),
                }
            }
            Frame::Ask(ask) => match &mut self.prompt {
                Some(prompt) => {
                    prompt.ask(*ask);
                    Ok(())
                }
                None => Err(Trouble::Lost(
                    "it asks where nobody is to be asked".to_owned(),
                )),
            },
            Frame::Asked { id, outcome } => {
                if let Some(prompt) = &mut self.prompt {
                    prompt.over(&id, &outcome);
                }
                Ok(())
            }
            Frame::NeedSecret { name } => self.ask_for(&name),
            Frame::Over {} if self.parting == Parting::Begun => {
                self.parting = Parting::Done;
                Ok(())
            }
            Frame::Over {} => Err(Trouble::Lost("it parted while the run goes on".to_owned())),
            Frame::Ready { .. } | Frame::NeedAuthority {} => Err(Trouble::Lost(
                "it said what belongs to the beginning".to_owned(),
            )),
        }
    }

    fn ask_for(&mut self, name: &str) -> Result<(), Trouble> {
        let Some(secret) = self.egress.secrets.iter().find(|one| one.name == name) else {
            return Err(Trouble::Lost(
                "it asks for a secret that is none".to_owned(),
            ));
        };
        if self.asking.iter().any(|one| one.name == name) || self.asking.len() >= MOST_ASKING {
            return Ok(());
        }
        match secrets::ask(secret, &self.variables) {
            Ok(Answer::Later(asking)) => self.asking.push(*asking),
            Ok(Answer::Now((value, expires))) => self.tell(&Word::Secret {
                name,
                value: &value,
                expires: expires.as_deref(),
            }),
            Err(why) => crate::log_terminal::error_lines(&why),
        }
        Ok(())
    }

    fn hear_secrets(&mut self, recorder: &mut dyn Recorder) -> Result<(), Trouble> {
        for mut asking in std::mem::take(&mut self.asking) {
            match asking.turn() {
                None => self.asking.push(asking),
                Some(Ok((value, expires))) => {
                    recorder.secret(&value);
                    self.tell(&Word::Secret {
                        name: &asking.name,
                        value: &value,
                        expires: expires.as_deref(),
                    });
                }
                // Egress goes on refusing what needs it.
                Some(Err(why)) => crate::log_terminal::error_lines(&why),
            }
        }
        Ok(())
    }

    fn lost(&mut self, why: &str, recorder: &mut dyn Recorder) -> Result<(), String> {
        self.stream = None;
        self.prompt = None;
        self.out.clear();
        self.sent = 0;
        let then = if self.parting == Parting::No {
            "nothing is reached any more"
        } else {
            "what it saw last may be missing from the log"
        };
        crate::log_terminal::error(&format!("capsule-egress is lost: {why}; {then}"));
        let mut fields = serde_json::Map::new();
        fields.insert("reason".to_owned(), why.into());
        recorder.egress("egress.lost".to_owned(), fields).map(drop)
    }

    /// The run is over: say so, and take what egress still has to record; without its last word it is lost.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn finish(mut self, recorder: &mut dyn Recorder) -> Result<(), String> {
        let until = Instant::now() + FAREWELL;
        self.prompt = None;
        let Some(stream) = &self.stream else {
            return Ok(());
        };
        let raw = stream.as_raw_fd();
        self.parting = Parting::Begun;
        let mut said = false;
        loop {
            // What is queued goes first; egress may be gone already.
            let gone = self.push().is_err();
            let rest = !gone && self.sent < self.out.len();
            if let (false, false, Some(stream)) = (rest, said, &self.stream) {
                said = true;
                let _ = stream.shutdown(std::net::Shutdown::Write);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return match self.parting {
                    Parting::Done => Ok(()),
                    _ => self.lost("it did not part in time", recorder),
                };
            }
            let mut poll = libc::pollfd {
                fd: raw,
                events: libc::POLLIN | if rest { libc::POLLOUT } else { 0 },
                revents: 0,
            };
            // SAFETY: one valid structure, and its number.
            unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as i32 + 1) };
            match self.listen(recorder) {
                Ok(()) => {}
                Err(Trouble::Log(why)) => return Err(why),
                // Its end is what was waited for.
                Err(Trouble::Lost(_)) if self.parting == Parting::Done => return Ok(()),
                Err(Trouble::Lost(why)) => return self.lost(&why, recorder),
            }
        }
    }
}
