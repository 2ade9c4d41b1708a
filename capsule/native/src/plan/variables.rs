//! `${workspace}`, `${home}` and `${cwd}` at the beginning of a path, and nothing else.
//!
//! It refuses: a variable that is not one of the three or stands elsewhere, a relative value, and a value or a
//! result with `.` or `..` in it. Values are bytes and are never searched for globs: a home called `/home/[a]` is safe.
//!
//! ```
//! use capsule::plan::Variables;
//! let v = Variables::new("/w", Some("/home/u"), "/w/src").unwrap();
//! assert_eq!(v.path("${home}/.ssh").unwrap(), std::path::Path::new("/home/u/.ssh"));
//! assert!(v.path("${home}/../x").is_err());
//! ```

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Where a path of the plan begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Start {
    Root,
    Workspace,
    Home,
    Cwd,
}

/// Why a path has no meaning here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariableError {
    /// Does not begin with `/` or one of the three variables.
    Start(String),
    /// An empty, `.` or `..` segment, or a trailing slash.
    Segment(String),
    /// `${` where none may be.
    Stray(String),
    /// The variable's own value is not an absolute, clean path.
    Value(&'static str, PathBuf),
    /// `${home}` is used and there is no home directory.
    NoHome,
}

impl fmt::Display for VariableError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Start(p) => {
                write!(
                    f,
                    "{p:?} begins with neither `/`, `${{workspace}}`, `${{home}}` nor `${{cwd}}`"
                )
            }
            Self::Segment(p) => write!(
                f,
                "{p:?} has an empty, `.` or `..` segment or a trailing slash"
            ),
            Self::Stray(p) => write!(f, "{p:?} has a `${{` that is not at its beginning"),
            Self::Value(name, p) => write!(
                f,
                "the value of ${{{name}}}, {p:?}, is not an absolute path without `..`"
            ),
            Self::NoHome => {
                f.write_str("the policy uses `~`, and this user has no home directory: set HOME")
            }
        }
    }
}

impl std::error::Error for VariableError {}

/// The three directories, as real paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variables {
    workspace: PathBuf,
    home: Option<PathBuf>,
    cwd: PathBuf,
}

impl Variables {
    /// From absolute paths that the caller has resolved (`realpath`): a symbolic link in them would let a name
    /// escape a deny.
    pub fn new<P: AsRef<Path>>(
        workspace: P,
        home: Option<P>,
        cwd: P,
    ) -> Result<Self, VariableError> {
        let home = home.map(|h| clean("home", h.as_ref())).transpose()?;
        Ok(Self {
            workspace: clean("workspace", workspace.as_ref())?,
            home,
            cwd: clean("cwd", cwd.as_ref())?,
        })
    }

    /// `${workspace}`.
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// `${home}`.
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// `${cwd}`.
    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// A path of the plan as an absolute path.
    pub fn path(&self, text: &str) -> Result<PathBuf, VariableError> {
        let (start, rest) = cut(text)?;
        let value = self.value(start)?.as_os_str().as_bytes();
        // `/` alone ends with the slash that the rest begins with.
        let value = if value == b"/" && !rest.is_empty() {
            b""
        } else {
            value
        };
        Ok(PathBuf::from(OsString::from_vec(
            [value, plainly(rest).as_bytes()].concat(),
        )))
    }

    /// The directory a path begins in.
    pub fn value(&self, start: Start) -> Result<&Path, VariableError> {
        match start {
            Start::Root => Ok(Path::new("/")),
            Start::Workspace => Ok(&self.workspace),
            Start::Home => self.home.as_deref().ok_or(VariableError::NoHome),
            Start::Cwd => Ok(&self.cwd),
        }
    }

    /// How a person writes this path in `capsule.yaml`: `./x` in the workspace, `~/x` at home, else absolute.
    /// `None` when it is not UTF-8, because YAML cannot say it.
    pub fn written(&self, path: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(path).ok()?;
        let under = |root: &Path, sign: &str| {
            let rest = text.strip_prefix(root.to_str()?)?;
            match rest.strip_prefix('/') {
                Some(rest) => Some(format!("{sign}/{}", bracketed(rest))),
                None if rest.is_empty() => Some(sign.to_owned()),
                None => None,
            }
        };
        let home = || self.home.as_deref().and_then(|h| under(h, "~"));
        Some(
            under(&self.workspace, ".")
                .or_else(home)
                .unwrap_or_else(|| bracketed(text).into_owned()),
        )
    }
}

/// The signs that stand in brackets where they are part of a name.
const SIGNS: [&str; 4] = ["[*]", "[?]", "[[]", "[]]"];

/// A path of the plan that is no pattern, without the brackets around signs of globs.
fn plainly(text: &str) -> Cow<'_, str> {
    if !text.contains('[') {
        return Cow::Borrowed(text);
    }
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('[') {
        let sign = SIGNS.iter().find(|sign| rest[at..].starts_with(**sign));
        let length = sign.map_or(1, |sign| sign.len());
        plain.push_str(&rest[..at]);
        plain.push_str(sign.map_or("[", |sign| &sign[1..2]));
        rest = &rest[at + length..];
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// A name as a path of a policy: every sign that could begin a glob in brackets.
pub fn bracketed(name: &str) -> Cow<'_, str> {
    if !name.contains(['*', '?', '[']) {
        return Cow::Borrowed(name);
    }
    let mut text = String::with_capacity(name.len() + 8);
    for sign in name.chars() {
        match sign {
            '*' | '?' | '[' => text.extend(['[', sign, ']']),
            _ => text.push(sign),
        }
    }
    Cow::Owned(text)
}

/// Whether a path has a glob in it: a sign of one that does not stand in brackets alone.
pub(super) fn has_glob(text: &str) -> bool {
    let mut rest = text;
    while let Some(at) = rest.find(['*', '?', '[']) {
        match SIGNS.iter().find(|sign| rest[at..].starts_with(**sign)) {
            Some(sign) => rest = &rest[at + sign.len()..],
            None => return true,
        }
    }
    false
}

/// The start of a path and its segments.
pub(super) fn split(text: &str) -> Result<(Start, std::str::Split<'_, char>), VariableError> {
    let (start, rest) = cut(text)?;
    let mut segments = rest.split('/');
    // Before the first slash, or all there is, is nothing.
    segments.next();
    Ok((start, segments))
}

/// The start of a path, and what follows: nothing, or a slash and sound segments.
fn cut(text: &str) -> Result<(Start, &str), VariableError> {
    const NAMES: [(&str, Start); 3] = [
        ("${workspace}", Start::Workspace),
        ("${home}", Start::Home),
        ("${cwd}", Start::Cwd),
    ];
    let (start, rest) = if text.starts_with('/') {
        (Start::Root, text)
    } else {
        let named = NAMES
            .iter()
            .find_map(|(name, start)| Some((*start, text.strip_prefix(name)?)));
        named.ok_or_else(|| VariableError::Start(text.to_owned()))?
    };
    let bytes = rest.as_bytes();
    if bytes.windows(2).any(|pair| pair == b"${") {
        return Err(VariableError::Stray(text.to_owned()));
    }
    if rest.is_empty() || text == "/" {
        return Ok((start, ""));
    }
    let Some(segments) = bytes.strip_prefix(b"/") else {
        return Err(VariableError::Start(text.to_owned()));
    };
    if segments
        .split(|&byte| byte == b'/')
        .any(|segment| matches!(segment, b"" | b"." | b".."))
    {
        return Err(VariableError::Segment(text.to_owned()));
    }
    Ok((start, rest))
}

fn clean(name: &'static str, path: &Path) -> Result<PathBuf, VariableError> {
    let bytes = path.as_os_str().as_bytes();
    let inner = bytes.strip_prefix(b"/").filter(|_| !bytes.contains(&0));
    let sound = inner.is_some_and(|i| {
        i.is_empty()
            || i.split(|&b| b == b'/')
                .all(|s| !matches!(s, b"" | b"." | b".."))
    });
    if sound {
        Ok(path.to_owned())
    } else {
        Err(VariableError::Value(name, path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_a_glob_in_brackets_is_part_of_a_name() {
        for (text, name) in [
            ("/app/[[]id]/page", "/app/[id]/page"),
            ("/app/[[]id[]]/page", "/app/[id]/page"),
            ("/[[][[].slug]]", "/[[.slug]]"),
            ("/a[*]b[?]", "/a*b?"),
            ("/a]", "/a]"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(plainly(text), name);
            assert_eq!(plainly(&bracketed(name)), name);
            assert!(!has_glob(&bracketed(name)), "{name}");
        }
        for name in ["/app/[[]id]", "/[[]a[]]", "/a[*]", "/[?]", "/a]"] {
            assert!(!has_glob(name), "{name}");
        }
        for glob in [
            "/a*", "/a?", "/[ab]", "/[!a]", "/[a", "/[[]*", "/[[", "/[", "/[*",
        ] {
            assert!(has_glob(glob), "{glob}");
        }
    }

    #[test]
    fn what_a_variable_stands_for_keeps_its_brackets() {
        let v = Variables::new("/w/[*]", Some("/home/[[]u"), "/w").unwrap();
        assert_eq!(v.path("${workspace}/[*]").unwrap(), Path::new("/w/[*]/*"));
        assert_eq!(v.path("${home}").unwrap(), Path::new("/home/[[]u"));
        assert_eq!(v.written(b"/w/[*]/[id]/x").unwrap(), "./[[]id]/x");
        assert_eq!(v.written(b"/srv/*").unwrap(), "/srv/[*]");
    }
}
