//! From the command line's words to a checked plan that says what its sources say now.
//!
//! A preset comes from the binary, anything else from the cache or, after a change, from the compiler. Whatever it
//! came from is parsed and checked, and the sources are read and compared. It refuses sources that somebody else could
//! have written, a policy that was only found and grants what its user has not accepted, and a compiler that speaks of other presets than this binary holds.
//!
//! ```no_run
//! use capsule::plan::{Request, load};
//! let loaded = load(&Request { policy: Some("workspace".as_ref()), tool: None }).unwrap();
//! println!("{} {}", loaded.plan.name, loaded.digest);
//! ```

use super::cache::{Cache, key};
use super::compile::compile;
use super::directories::Directories;
use super::find::{Chosen, choose, home_directory, variables, working_directory};
use super::model::Plan;
use super::presets;
use super::read::{PlanError, parse, parse_built_in};
use super::sources::{digest, unchanged};
use super::variables::{VariableError, Variables};
use crate::log_terminal::{shown, words};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no plan; nothing runs.
#[derive(Debug)]
pub enum LoadError {
    /// A file could not be read.
    File(PathBuf, io::Error),
    /// `--policy` is neither a file nor a preset's name.
    NotAPolicy(OsString),
    /// A source that may not be believed, and why.
    Untrusted(PathBuf, String),
    /// The policy has mistakes; the compiler's words.
    Policy(String),
    /// No interpreter; where it was looked for.
    NoPython(Vec<PathBuf>),
    /// The working directory is gone, or is none of the caller's.
    Nowhere(std::io::Error),
    /// The compiler itself failed.
    Compiler(PathBuf, String),
    /// What it answered is no plan.
    Plan(PlanError),
    /// A source changed while it was compiled, or the compiler has other presets.
    Changed(Chosen),
    /// A directory that paths begin in is not usable.
    Variables(VariableError),
    /// Without a policy this directory would be the writable workspace; what it is.
    Workspace(PathBuf, &'static str),
    /// A policy that was found grants what its user has not accepted: the file, and the lines that say what.
    NotAccepted(PathBuf, String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(
                f,
                "the policy {} cannot be read: {}; name a file or a preset",
                shown(path),
                words(error)
            ),
            Self::Nowhere(error) => write!(
                f,
                "the directory that this was started in cannot be used: {}; cd to one that is there",
                words(error)
            ),
            Self::NotAPolicy(text) => {
                write!(
                    f,
                    "--policy {text:?} is neither a file (write ./NAME) nor a preset ("
                )?;
                let names: Vec<&str> = presets::ALL.iter().map(|preset| preset.name).collect();
                write!(f, "{})", names.join(", "))
            }
            Self::Untrusted(path, why) => write!(f, "{}: {why}", shown(path)),
            Self::Policy(words) => f.write_str(words),
            Self::NoPython(places) => {
                f.write_str(
                    "this needs Python's side of capsule, and no interpreter was found; looked for",
                )?;
                for place in places {
                    write!(f, " {}", shown(place))?;
                    // A link may lead to where this user may not go.
                    if let (Ok(_), Err(why)) = (place.symlink_metadata(), place.metadata()) {
                        let to = place.read_link().unwrap_or_default();
                        write!(f, " (a link to {}: {})", shown(&to), words(&why))?;
                    }
                }
                f.write_str(". Set CAPSULE_PYTHON to the interpreter that capsule is installed in (a run under a preset needs none)")
            }
            Self::Compiler(python, why) => {
                write!(
                    f,
                    "the policy compiler ({} -I -m capsule.cli policy compile) failed: {why}",
                    shown(python)
                )
            }
            Self::Plan(error) => error.fmt(f),
            Self::Changed(chosen) => write!(
                f,
                "{chosen}: a source changed while it was compiled, or Python's capsule and this binary are of different \
                 versions; run it again, then reinstall capsule"
            ),
            Self::Variables(error) => error.fmt(f),
            Self::Workspace(path, what) => write!(
                f,
                "{} is {what}, and without a policy the directory that a run starts in can be written; cd to a project, \
                 or name a policy: capsule run --policy FILE|PRESET -- …",
                shown(path)
            ),
            Self::NotAccepted(path, lines) => write!(
                f,
                "{} was found, not named, and grants more than the preset `workspace`:\n{lines}\nread it; then \
                 `capsule policy accept` to have it used here until it changes, or name it: capsule run --policy {0} -- …",
                shown(path)
            ),
        }
    }
}

impl std::error::Error for LoadError {}

/// What the command line says about the policy.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// `--policy`.
    pub policy: Option<&'a OsStr>,
    /// `--tool`: the overrides of one tool.
    pub tool: Option<&'a str>,
}

/// Where a plan came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origination {
    /// Compiled into the binary.
    BuiltIn,
    /// Compiled earlier.
    Cached,
    /// Compiled now.
    Compiled,
}

/// A plan to run under.
#[derive(Debug)]
pub struct Loaded {
    /// Checked.
    pub plan: Plan,
    /// `blake3:` and 64 hex digits of the plan's canonical text.
    pub digest: String,
    /// The policy it is of.
    pub chosen: Chosen,
    /// The directories its paths begin in.
    pub variables: Variables,
    /// Where the user's directories of capsule are.
    pub directories: Directories,
    /// Where it came from.
    pub from: Origination,
    /// Something the user should know: the cache could not be used.
    pub notice: Option<String>,
}

/// Find the policy and its plan.
pub fn load(request: &Request) -> Result<Loaded, LoadError> {
    let cwd = working_directory()?;
    let home = home_directory();
    let chosen = choose(request.policy, &cwd, home.as_deref())?;
    if let (Chosen::Preset(_), None) = (&chosen, request.policy)
        && let Some(what) = super::find::no_workspace(&cwd, home.as_deref())
    {
        return Err(LoadError::Workspace(cwd, what));
    }
    let variables = variables(&chosen, &cwd, home.as_deref())?;
    let directories = Directories::of(home.as_deref(), |name| std::env::var_os(name));
    let (plan, digest, from, notice) = plan_of(&chosen, request.tool, &directories)?;
    if let (Chosen::File(path), None) = (&chosen, request.policy) {
        super::accepted::required(path, request.tool, &digest, &directories)?;
    }
    Ok(Loaded {
        plan,
        digest,
        chosen,
        variables,
        directories,
        from,
        notice,
    })
}

type Found = (Plan, String, Origination, Option<String>);

fn plan_of(
    chosen: &Chosen,
    tool: Option<&str>,
    directories: &Directories,
) -> Result<Found, LoadError> {
    if let (Chosen::Preset(name), None) = (chosen, tool)
        && let Some(preset) = presets::named(name)
    {
        let plan = parse_built_in(preset.plan).map_err(LoadError::Plan)?;
        return Ok((plan, preset.digest.to_owned(), Origination::BuiltIn, None));
    }
    let key = key(chosen, tool);
    let mut notices = Vec::new();
    let mut say = |doing: &str, error: io::Error| {
        let place = directories
            .cache
            .as_ref()
            .map_or_else(String::new, |d| d.join("plans").display().to_string());
        notices.push(format!(
            "cannot {doing} the cache of plans, {place}: {error}"
        ));
    };
    if let Some(own) = &directories.cache {
        match Cache::open(own).and_then(|cache| cache.map_or(Ok(None), |c| c.get(&key))) {
            Ok(Some(bytes)) => {
                // Whatever is wrong with what was kept, compiling anew puts it right.
                if let Ok(plan) = parse(&bytes)
                    && names(&plan, chosen)
                    && unchanged(&plan)?
                {
                    return Ok((plan, digest(&bytes), Origination::Cached, None));
                }
            }
            Ok(None) => {}
            Err(error) => say("read", error),
        }
    }
    if let Chosen::File(path) = chosen {
        // Before an interpreter reads it.
        super::sources::read(path)?;
    }
    let bytes = compile(chosen, tool)?;
    let bytes = bytes.trim_ascii_end();
    let plan = parse(bytes).map_err(LoadError::Plan)?;
    if !names(&plan, chosen) || !unchanged(&plan)? {
        return Err(LoadError::Changed(chosen.clone()));
    }
    if let Some(own) = &directories.cache
        && let Err(error) = Cache::create(own).and_then(|cache| cache.put(&key, bytes))
    {
        say("write", error);
    }
    let notice = (!notices.is_empty()).then(|| notices.join("; "));
    Ok((plan, digest(bytes), Origination::Compiled, notice))
}

/// Whether the plan is of this policy: a cache entry under another's name is not.
fn names(plan: &Plan, chosen: &Chosen) -> bool {
    let top = plan
        .policy
        .sources
        .first()
        .map(|source| source.path.as_str());
    match chosen {
        Chosen::File(path) => top == path.to_str(),
        Chosen::Preset(name) => top.and_then(|path| path.strip_prefix("preset:")) == Some(name),
    }
}
