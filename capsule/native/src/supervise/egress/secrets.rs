//! Values that egress puts in the place of their placeholders, and that no sandbox ever holds.
//!
//! A value comes from the caller's environment, a file, the keyring or a program, before the run; egress asks for a fresh
//! one when it has expired. It refuses to begin a run without one of them, naming the secret and never its value, and
//! values that are empty, longer than 64 KiB or not text.

use crate::log_terminal::shown;
use crate::plan::{Secret, SecretKind, Variables, interpreter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Bytes of a value.
const MOST: usize = 64 << 10;
/// How long a program may take to give one.
const PATIENCE: Duration = Duration::from_secs(30);

/// One secret as egress is told it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The secret itself.
    pub value: String,
    /// What stands for it inside.
    pub placeholder: String,
    /// Until when it holds (RFC 3339).
    pub expires: Option<String>,
}

/// A program that is asked for a value.
#[derive(Debug)]
pub struct Asking {
    /// The secret's name.
    pub name: String,
    expires_ms: Option<u64>,
    child: Child,
    output: ChildStdout,
    heard: Vec<u8>,
    until: Instant,
}

/// A value and until when it holds.
pub type Fresh = (String, Option<String>);

/// What stands for each secret inside, new for each run: by name.
///
/// # Errors
/// When the kernel gives no randomness.
pub fn placeholders(secrets: &[Secret]) -> Result<BTreeMap<String, String>, String> {
    let one = |secret: &Secret| Ok((secret.name.clone(), placeholder(&secret.name)?));
    secrets.iter().map(one).collect()
}

/// Every secret of a run with what stands for it.
///
/// # Errors
/// A sentence that names the secret whose value cannot be had.
pub fn gather(
    secrets: &[Secret],
    placeholders: &BTreeMap<String, String>,
    variables: &Variables,
) -> Result<BTreeMap<String, Held>, String> {
    let mut held = BTreeMap::new();
    for secret in secrets {
        let (value, expires) = match ask(secret, variables)? {
            Answer::Now(fresh) => fresh,
            Answer::Later(mut asking) => loop {
                asking.wait();
                if let Some(answer) = asking.turn() {
                    break answer?;
                }
            },
        };
        let placeholder = placeholders.get(&secret.name).cloned().unwrap_or_default();
        let name = secret.name.clone();
        held.insert(
            name,
            Held {
                value,
                placeholder,
                expires,
            },
        );
    }
    Ok(held)
}

/// Where a value comes from: it is there, or a program will say it.
#[derive(Debug)]
pub enum Answer {
    /// It is there.
    Now(Fresh),
    /// A program is asked.
    Later(Box<Asking>),
}

/// Ask for one secret's value.
///
/// # Errors
/// A sentence that names it.
pub fn ask(secret: &Secret, variables: &Variables) -> Result<Answer, String> {
    let from = &secret.from;
    let told = |why: &str| missing(&secret.name, why);
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    match from.kind {
        SecretKind::Env => {
            let name = text(&from.env);
            let found = std::env::var_os(&name)
                .ok_or_else(|| told(&format!("the variable {name} is not set")))?;
            let value = found
                .into_string()
                .map_err(|_| told(&format!("the variable {name} is not UTF-8")))?;
            Ok(Answer::Now((checked(&secret.name, value)?, None)))
        }
        SecretKind::File => {
            let path = variables
                .path(&text(&from.file))
                .map_err(|error| told(&error.to_string()))?;
            let mut bytes = Vec::new();
            fs::File::open(&path)
                .and_then(|file| file.take(MOST as u64 + 1).read_to_end(&mut bytes))
                .map_err(|error| told(&format!("{}: {error}", shown(&path))))?;
            let value = String::from_utf8(bytes)
                .map_err(|_| told(&format!("{} is not UTF-8", shown(&path))))?;
            Ok(Answer::Now((checked(&secret.name, value)?, None)))
        }
        SecretKind::Keyring => {
            let python = interpreter().map_err(|error| told(&error.to_string()))?;
            let mut command = Command::new(python);
            command.args(["-I", "-m", "capsule.egress.custodian"]);
            command.args([text(&from.service), text(&from.user)]);
            Asking::start(secret, command)
        }
        SecretKind::Command => {
            let words = from.command.as_deref().unwrap_or_default();
            let (program, rest) = words.split_first().ok_or_else(|| told("no command"))?;
            let program = variables
                .path(program)
                .map_err(|error| told(&error.to_string()))?;
            let mut command = Command::new(program);
            command.args(rest);
            Asking::start(secret, command)
        }
    }
}

fn missing(name: &str, why: &str) -> String {
    format!("the secret `{name}` cannot be had: {why}")
}

impl Asking {
    fn start(secret: &Secret, mut command: Command) -> Result<Answer, String> {
        let told = |error: io::Error| missing(&secret.name, &format!("its program: {error}"));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(told)?;
        let output = child
            .stdout
            .take()
            .ok_or_else(|| missing(&secret.name, "its program has no output"))?;
        // SAFETY: plain integers; the descriptor is ours.
        unsafe { libc::fcntl(output.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        Ok(Answer::Later(Box::new(Asking {
            name: secret.name.clone(),
            expires_ms: secret.from.expires_ms,
            child,
            output,
            heard: Vec::new(),
            until: Instant::now() + PATIENCE,
        })))
    }

    /// For `poll`.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.output.as_raw_fd()
    }

    /// When it has taken too long.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.until
    }

    fn wait(&self) {
        let left = self.until.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd {
            fd: self.descriptor(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid structure, and its number.
        unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as i32 + 1) };
    }

    /// Take what it said; the value once it has ended.
    pub fn turn(&mut self) -> Option<Result<Fresh, String>> {
        let mut buffer = [0u8; 4096];
        loop {
            match self.output.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) if self.heard.len() + length <= MOST => {
                    self.heard.extend_from_slice(&buffer[..length]);
                }
                Ok(_) => return Some(Err(self.give_up("its program says more than 64 KiB"))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if Instant::now() < self.until {
                        return None;
                    }
                    return Some(Err(self.give_up("its program takes more than 30 s")));
                }
                Err(error) => return Some(Err(self.give_up(&error.to_string()))),
            }
        }
        // It has closed its output; what ends later than that is not waited for long.
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > self.until {
                return Some(Err(self.give_up("its program does not end")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        match self.child.try_wait() {
            Ok(Some(status)) if status.success() => {}
            Ok(Some(status)) => {
                return Some(Err(missing(&self.name, &format!("its program: {status}"))));
            }
            _ => return Some(Err(missing(&self.name, "its program cannot be waited for"))),
        }
        let heard = std::mem::take(&mut self.heard);
        Some(understood(&self.name, heard, self.expires_ms))
    }

    fn give_up(&mut self, why: &str) -> String {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        missing(&self.name, why)
    }
}

/// What a program may print instead of the plain value.
#[derive(Deserialize)]
struct Spoken {
    token: String,
    #[serde(default)]
    expires: Option<String>,
}

fn understood(name: &str, heard: Vec<u8>, expires_ms: Option<u64>) -> Result<Fresh, String> {
    let text = String::from_utf8(heard)
        .map_err(|_| missing(name, "what its program says is not UTF-8"))?;
    let by_clock = || {
        let time = SystemTime::now() + Duration::from_millis(expires_ms?);
        Some(rfc3339(time.duration_since(UNIX_EPOCH).ok()?.as_secs()))
    };
    if text.trim_start().starts_with('{')
        && let Ok(spoken) = serde_json::from_str::<Spoken>(&text)
    {
        let value = checked(name, spoken.token)?;
        return Ok((value, spoken.expires.or_else(by_clock)));
    }
    Ok((checked(name, text)?, by_clock()))
}

/// Without the line's end that files and programs put after it.
fn checked(name: &str, text: String) -> Result<String, String> {
    let value = text.trim_end_matches(['\n', '\r']);
    if value.is_empty() {
        return Err(missing(name, "it is empty"));
    }
    if value.len() > MOST {
        return Err(missing(name, "it is longer than 64 KiB"));
    }
    if value.contains(['\n', '\r', '\0']) {
        return Err(missing(name, "it has more than one line"));
    }
    Ok(value.to_owned())
}

/// Seconds since 1970 as RFC 3339, in UTC (the civil calendar from days, counted in eras of 400 years).
fn rfc3339(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn placeholder(name: &str) -> Result<String, String> {
    let mut random = [0u8; 16];
    // SAFETY: the place has the length given.
    let filled = unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) };
    if filled != random.len() as isize {
        return Err(format!("randomness: {}", io::Error::last_os_error()));
    }
    let head = format!("capsule-secret-{name}-");
    Ok(random
        .iter()
        .fold(head, |text, byte| format!("{text}{byte:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Carried, Origin, SecretFrom};

    fn secret(kind: SecretKind, change: impl Fn(&mut SecretFrom)) -> Secret {
        let mut from = SecretFrom {
            kind,
            env: None,
            file: None,
            service: None,
            user: None,
            command: None,
            expires_ms: None,
        };
        change(&mut from);
        Secret {
            name: "one".into(),
            from,
            to: vec!["a.example".into()],
            carried: Carried::Body,
            field: None,
            user: None,
            env: None,
            origin: Origin {
                file: "/p".into(),
                line: 1,
                column: 1,
            },
        }
    }

    fn gathered(secret: Secret) -> Result<Held, String> {
        let variables = Variables::new("/", Some("/"), "/").unwrap();
        let placeholders = placeholders(std::slice::from_ref(&secret)).unwrap();
        gather(&[secret], &placeholders, &variables).map(|mut held| held.remove("one").unwrap())
    }

    fn said(script: &str, expires_ms: Option<u64>) -> Result<Held, String> {
        gathered(secret(SecretKind::Command, |from| {
            from.command = Some(vec!["/bin/sh".into(), "-c".into(), script.into()]);
            from.expires_ms = expires_ms;
        }))
    }

    #[test]
    fn files_and_programs_give_values() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().canonicalize().unwrap().join("token");
        fs::write(&path, "abc\n").unwrap();
        let file = |from: &mut SecretFrom| from.file = path.to_str().map(str::to_owned);
        let held = gathered(secret(SecretKind::File, file)).unwrap();
        assert_eq!(held.value, "abc");
        assert!(held.placeholder.starts_with("capsule-secret-one-"));
        assert_eq!(held.placeholder.len(), "capsule-secret-one-".len() + 32);
        assert_eq!(said("echo plain", None).unwrap().value, "plain");
        let json = said(
            r#"echo '{"token":"t","expires":"2030-01-01T00:00:00Z"}'"#,
            Some(5),
        )
        .unwrap();
        assert_eq!(
            (json.value.as_str(), json.expires.as_deref()),
            ("t", Some("2030-01-01T00:00:00Z"))
        );
        assert!(said("echo x", Some(900_000)).unwrap().expires.is_some());
    }

    #[test]
    fn what_cannot_be_had_is_named_and_its_value_is_not() {
        for (script, why) in [
            ("exit 3", "exit status: 3"),
            ("true", "empty"),
            ("echo secretvalue; echo secretvalue", "more than one line"),
            ("head -c 70000 /dev/zero | tr '\\0' x", "64 KiB"),
            ("printf '\\377'", "UTF-8"),
        ] {
            let error = said(script, None).map(drop).unwrap_err();
            assert!(error.contains("`one`") && error.contains(why), "{error}");
            assert!(!error.contains("secretvalue"));
        }
        let unset = |from: &mut SecretFrom| from.env = Some("CAPSULE_TEST_NOT_SET".into());
        let error = gathered(secret(SecretKind::Env, unset)).map(drop);
        assert!(error.unwrap_err().contains("CAPSULE_TEST_NOT_SET"));
    }

    #[test]
    fn times_are_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_798_761_599), "2026-12-31T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
