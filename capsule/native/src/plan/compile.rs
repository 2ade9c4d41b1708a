//! Ask the Python side for a plan. It happens once for each change of a policy; after that the cache answers.
//!
//! The interpreter is `CAPSULE_PYTHON`, else `python3` or `python` beside the real path of this binary, which is where
//! an installation puts both. It runs isolated (`-I`): neither the working directory nor `PYTHONPATH` decides which
//! capsule is asked. It refuses an answer of more than 1 MiB.

use super::find::Chosen;
use super::load::LoadError;
use super::read::MAX_BYTES;
use std::env;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// What the compiler says of a mistake in the policy.
const MISTAKE: i32 = 2;
/// The longest explanation that is passed on, in bytes.
const MAX_WORDS: u64 = 64 << 10;

/// The interpreter that has capsule installed.
pub fn interpreter() -> Result<PathBuf, LoadError> {
    let named = env::var_os("CAPSULE_PYTHON").filter(|value| !value.is_empty());
    let binary = env::current_exe().and_then(|path| path.canonicalize());
    let beside = binary.as_deref().ok().and_then(Path::parent);
    let places: Vec<PathBuf> = match named {
        Some(path) => vec![PathBuf::from(path)],
        None => beside.map_or(Vec::new(), |d| vec![d.join("python3"), d.join("python")]),
    };
    let runs = |path: &&PathBuf| {
        path.metadata()
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    places
        .iter()
        .find(runs)
        .cloned()
        .ok_or(LoadError::NoPython(places))
}

/// The command that runs one of Python's verbs.
pub fn verb(interpreter: &Path) -> Command {
    let mut command = Command::new(interpreter);
    command.args(["-I", "-m", "capsule.cli"]);
    command
}

/// The canonical plan of a policy.
pub fn compile(chosen: &Chosen, tool: Option<&str>) -> Result<Vec<u8>, LoadError> {
    let policy = match chosen {
        Chosen::File(path) => path.clone().into_os_string(),
        Chosen::Preset(name) => OsString::from(name),
    };
    let answer = ask(&["compile"], policy, tool)?;
    match answer.status.code() {
        Some(0) => Ok(answer.output),
        _ => Err(answer.failure()),
    }
}

/// What the Python side answered.
pub(super) struct Answer {
    python: PathBuf,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, at most one byte more than a plan may have.
    pub output: Vec<u8>,
    words: String,
}

impl Answer {
    /// The error that an exit code other than the expected ones is.
    pub fn failure(self) -> LoadError {
        match self.status.code() {
            Some(MISTAKE) => LoadError::Policy(self.words),
            _ => LoadError::Compiler(
                self.python,
                format!("it ended with {}\n{}", self.status, self.words),
            ),
        }
    }
}

/// `capsule policy WORDS… POLICY`, answered by the Python side.
pub(super) fn ask(
    words: &[&str],
    policy: OsString,
    tool: Option<&str>,
) -> Result<Answer, LoadError> {
    let python = interpreter()?;
    let mut command = verb(&python);
    command.arg("policy").args(words).arg(policy);
    if let Some(tool) = tool {
        command.arg("--tool").arg(tool);
    }
    let failed = |error: io::Error| LoadError::Compiler(python.clone(), error.to_string());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let words = std::thread::spawn(move || read(stderr, MAX_WORDS));
    let output = read(stdout, MAX_BYTES as u64 + 1);
    let words = words.join().unwrap_or_default();
    let status = child.wait().map_err(failed)?;
    let words = spoken(&String::from_utf8_lossy(&words));
    Ok(Answer {
        python,
        status,
        output,
        words,
    })
}

/// The compiler's words without its name before each line: whoever tells them puts it there.
fn spoken(words: &str) -> String {
    let lines = words.trim_end().lines();
    let lines: Vec<&str> = lines
        .map(|line| line.strip_prefix("capsule: ").unwrap_or(line))
        .collect();
    lines.join("\n")
}

/// At most `limit` bytes; the rest is not waited for.
fn read(from: Option<impl Read>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read before an error is what there is; the exit status decides.
        let _ = from.take(limit).read_to_end(&mut bytes);
    }
    bytes
}
