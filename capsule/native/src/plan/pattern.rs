//! Globs over names, on bytes: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`, and `**` as a whole segment.
//!
//! A pattern covers what it names and everything beneath. `*` and `?` also match a leading dot: a deny that a dot
//! walks around would be none. It refuses an unclosed `[`, an empty set, `**` inside a segment and more than 60 segments
//! after the first glob. Time is at most (length of the name) × (length of the pattern): the matcher follows all
//! possibilities at once in one word of bits and never goes back.
//!
//! ```
//! use capsule::plan::{Pattern, Variables};
//! let v = Variables::new("/w", None, "/w").unwrap();
//! let p = Pattern::new("${workspace}/**/.env", &v).unwrap();
//! assert!(p.covers(b"/w/a/b/.env") && p.covers(b"/w/.env/x") && !p.covers(b"/w/.envrc"));
//! ```

use super::variables::{VariableError, Variables, bracketed, split};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// Segments after the first glob: one bit each, and one for "covered".
const MAX_SEGMENTS: usize = 60;

/// Why a glob cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GlobError {
    Unclosed,
    EmptySet,
    BackwardRange,
    DoubleStar,
}

impl fmt::Display for GlobError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Unclosed => "`[` is never closed",
            Self::EmptySet => "`[]` names no character",
            Self::BackwardRange => "a range in `[…]` runs backward",
            Self::DoubleStar => "`**` must be a whole segment",
        })
    }
}

/// Why a pattern cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternError {
    /// Its path is not sound.
    Path(VariableError),
    /// A segment is not a glob.
    Glob(String, GlobError),
    /// Too many segments after the first glob.
    Long(String),
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Path(e) => e.fmt(f),
            Self::Glob(p, e) => write!(f, "{p:?}: {e}"),
            Self::Long(p) => write!(
                f,
                "{p:?} has more than {MAX_SEGMENTS} segments after the first glob"
            ),
        }
    }
}

impl std::error::Error for PatternError {}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    Any,
    Star,
    Set(Box<[u64; 4]>),
}

/// A glob over one segment, or over one environment name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Form);

/// Two forms that nearly every glob has are told apart: they cost a comparison or two.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// `name`
    Literal(Vec<u8>),
    /// `before*after`
    Around(Vec<u8>, Vec<u8>),
    /// Any other.
    Tokens(Vec<Token>),
}

impl Glob {
    /// From its text.
    pub fn new(text: &str) -> Result<Self, GlobError> {
        if text.contains("**") {
            return Err(GlobError::DoubleStar);
        }
        let bytes = text.as_bytes();
        if !text.contains(['?', '[']) {
            let mut parts = bytes.splitn(3, |&b| b == b'*').map(<[u8]>::to_vec);
            match (parts.next(), parts.next(), parts.next()) {
                (Some(name), None, None) => return Ok(Self(Form::Literal(name))),
                (Some(before), Some(after), None) => return Ok(Self(Form::Around(before, after))),
                _ => {}
            }
        }
        let (mut tokens, mut at) = (Vec::with_capacity(bytes.len()), 0);
        while let Some(&b) = bytes.get(at) {
            at += 1;
            tokens.push(match b {
                b'*' => Token::Star,
                b'?' => Token::Any,
                b'[' => {
                    let (set, used) = set(&bytes[at..])?;
                    at += used;
                    Token::Set(Box::new(set))
                }
                _ => Token::Byte(b),
            });
        }
        Ok(Self(Form::Tokens(tokens)))
    }

    /// Whether the whole of `name` matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        match &self.0 {
            Form::Literal(literal) => literal == name,
            Form::Around(before, after) => {
                name.len() >= before.len() + after.len()
                    && name.ends_with(after)
                    && name.starts_with(before)
            }
            Form::Tokens(tokens) => matches(tokens, name),
        }
    }

    fn is_literal(&self) -> bool {
        matches!(self.0, Form::Literal(_))
    }

    /// A byte that every match must end with, or else begin with.
    pub(super) fn telltale(&self) -> Telltale {
        let (before, after) = match &self.0 {
            Form::Literal(name) => (name.as_slice(), name.as_slice()),
            Form::Around(before, after) => (before.as_slice(), after.as_slice()),
            Form::Tokens(_) => return Telltale::None,
        };
        match (after.last(), before.first()) {
            (Some(last), _) => Telltale::Last(*last),
            (None, Some(first)) => Telltale::First(*first),
            (None, None) => Telltale::None,
        }
    }
}

/// What can be told of a match from one byte.
pub(super) enum Telltale {
    Last(u8),
    First(u8),
    None,
}

fn matches(tokens: &[Token], name: &[u8]) -> bool {
    // Going back to the last star alone is enough: what an earlier star could take, the last one can.
    let (mut t, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match tokens.get(t) {
            Some(Token::Star) => {
                star = Some((t, n));
                t += 1;
            }
            Some(token) if token.takes(name[n]) => (t, n) = (t + 1, n + 1),
            _ => match star {
                Some((star_token, from)) => {
                    star = Some((star_token, from + 1));
                    (t, n) = (star_token + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    tokens[t..].iter().all(|token| *token == Token::Star)
}

impl Token {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(b) => *b == byte,
            Self::Any => true,
            Self::Star => false,
            Self::Set(set) => set[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1,
        }
    }
}

/// The set after `[`, and how many bytes it took with its `]`.
fn set(bytes: &[u8]) -> Result<([u64; 4], usize), GlobError> {
    let negated = bytes.first() == Some(&b'!');
    let first = usize::from(negated);
    // As in a shell, a `]` right at the beginning stands for itself; `[]` and `[!]` alone are then unclosed.
    let close = bytes
        .iter()
        .skip(first + 1)
        .position(|&b| b == b']')
        .map(|p| p + first + 1);
    let Some(end) = close else {
        return Err(if bytes.get(first) == Some(&b']') {
            GlobError::EmptySet
        } else {
            GlobError::Unclosed
        });
    };
    let (members, mut words, mut at) = (&bytes[first..end], [0u64; 4], 0);
    while at < members.len() {
        let low = members[at];
        let high = if members.get(at + 1) == Some(&b'-') {
            members.get(at + 2).copied()
        } else {
            None
        };
        at += if high.is_some() { 3 } else { 1 };
        let high = high.unwrap_or(low);
        if high < low {
            return Err(GlobError::BackwardRange);
        }
        (low..=high).for_each(|b| words[usize::from(b >> 6)] |= 1 << (b & 63));
    }
    if negated {
        words.iter_mut().for_each(|w| *w = !*w);
    }
    Ok((words, end + 1))
}

/// A name as a glob that matches it alone.
fn escaped(name: &[u8]) -> Option<String> {
    Some(bracketed(std::str::from_utf8(name).ok()?).into_owned())
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    One(Glob),
    AnyDepth,
}

/// A pattern with its variables put in: a literal beginning, then globs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    anchor: Vec<u8>,
    tail: Vec<Segment>,
}

impl Pattern {
    /// From the text in a plan.
    pub fn new(text: &str, variables: &Variables) -> Result<Self, PatternError> {
        let (start, segments) = split(text).map_err(PatternError::Path)?;
        let value = variables
            .value(start)
            .map_err(PatternError::Path)?
            .as_os_str()
            .as_bytes();
        let mut anchor = value.strip_suffix(b"/").unwrap_or(value).to_vec();
        let mut tail = Vec::new();
        for segment in segments {
            if segment == "**" {
                tail.push(Segment::AnyDepth);
                continue;
            }
            let glob = Glob::new(segment).map_err(|e| PatternError::Glob(text.to_owned(), e))?;
            if tail.is_empty() && glob.is_literal() {
                anchor.push(b'/');
                anchor.extend_from_slice(segment.as_bytes());
            } else {
                tail.push(Segment::One(glob));
            }
        }
        // `**` takes no segment too, so at the end it adds nothing to "and everything beneath".
        while tail.last() == Some(&Segment::AnyDepth) {
            tail.pop();
        }
        if tail.len() > MAX_SEGMENTS {
            return Err(PatternError::Long(text.to_owned()));
        }
        Ok(Self { anchor, tail })
    }

    /// A pattern for one name and what is beneath it; never read as a glob.
    pub fn literal(path: &[u8]) -> Self {
        Self {
            anchor: path.strip_suffix(b"/").unwrap_or(path).to_vec(),
            tail: Vec::new(),
        }
    }

    /// A pattern for every name in the same directory that begins as this one does; never read as a glob.
    pub fn beginning(path: &[u8]) -> Self {
        let slash = path.iter().rposition(|&b| b == b'/').unwrap_or(0);
        let start = path.get(slash + 1..).unwrap_or_default().to_vec();
        let glob = Glob(Form::Around(start, Vec::new()));
        Self {
            anchor: path[..slash].to_vec(),
            tail: vec![Segment::One(glob)],
        }
    }

    /// A pattern for this name in every directory; never read as a glob.
    pub fn anywhere(name: &[u8]) -> Self {
        let glob = Glob(Form::Literal(name.to_vec()));
        Self {
            anchor: Vec::new(),
            tail: vec![Segment::AnyDepth, Segment::One(glob)],
        }
    }

    /// A pattern for every name that begins so, in every directory; never read as a glob.
    pub fn anywhere_beginning(start: &[u8]) -> Self {
        let glob = Glob(Form::Around(start.to_vec(), Vec::new()));
        Self {
            anchor: Vec::new(),
            tail: vec![Segment::AnyDepth, Segment::One(glob)],
        }
    }

    /// The directory or name before the first glob, without a trailing slash (the root is empty).
    pub fn anchor(&self) -> &[u8] {
        &self.anchor
    }

    /// What follows the anchor, as text: empty for a literal name. `None` when a segment is more than a name or one star.
    pub fn tail_text(&self) -> Option<String> {
        let segment = |segment: &Segment| match segment {
            Segment::AnyDepth => Some("**".to_owned()),
            Segment::One(Glob(Form::Literal(name))) => escaped(name),
            Segment::One(Glob(Form::Around(before, after))) => {
                Some(format!("{}*{}", escaped(before)?, escaped(after)?))
            }
            Segment::One(Glob(Form::Tokens(_))) => None,
        };
        let segments: Option<Vec<String>> = self.tail.iter().map(segment).collect();
        Some(segments?.join("/"))
    }

    /// Whether it is one name, without globs.
    pub fn is_literal(&self) -> bool {
        self.tail.is_empty()
    }

    /// The glob, when this is `anchor/**/glob`.
    pub(super) fn at_any_depth(&self) -> Option<&Glob> {
        match self.tail.as_slice() {
            [Segment::AnyDepth, Segment::One(glob)] => Some(glob),
            _ => None,
        }
    }

    /// Whether it is `anchor/**/.git/…`: what it covers lies in a repository, wherever that is.
    pub(super) fn in_any_repository(&self) -> bool {
        matches!(self.tail.as_slice(),
            [Segment::AnyDepth, Segment::One(Glob(Form::Literal(name))), _, ..] if name == b".git")
    }

    /// The same pattern with another beginning.
    pub(super) fn anchored_at(&self, anchor: &[u8]) -> Self {
        Self {
            anchor: anchor.strip_suffix(b"/").unwrap_or(anchor).to_vec(),
            tail: self.tail.clone(),
        }
    }

    /// Whether it covers this absolute, resolved name.
    pub fn covers(&self, path: &[u8]) -> bool {
        match path.strip_prefix(self.anchor.as_slice()) {
            Some([]) => self.tail.is_empty(),
            Some(rest @ [b'/', ..]) => self.covers_below(rest),
            _ => false,
        }
    }

    /// Whether it covers the anchor followed by these segments.
    pub(super) fn covers_below(&self, rest: &[u8]) -> bool {
        self.positions(rest) >> self.tail.len() & 1 == 1
    }

    /// Every place in the tail that the matcher can be at after these segments, a bit each; the bit after the last
    /// says that the name is covered. No bit: nothing beneath can ever be covered.
    pub(super) fn positions(&self, rest: &[u8]) -> u64 {
        let covered = 1u64 << self.tail.len();
        let mut now = self.closure(1);
        for segment in rest.split(|&b| b == b'/').filter(|s| !s.is_empty()) {
            if now & covered != 0 || now == 0 {
                return now;
            }
            let (mut next, mut left) = (0u64, now);
            while left != 0 {
                let at = left.trailing_zeros() as usize;
                left &= left - 1;
                next |= match &self.tail[at] {
                    Segment::AnyDepth => 1 << at,
                    Segment::One(glob) if glob.matches(segment) => 1 << (at + 1),
                    Segment::One(_) => 0,
                };
            }
            now = self.closure(next);
        }
        now
    }

    /// `**` may take nothing: whoever stands at one stands behind it too.
    fn closure(&self, mut positions: u64) -> u64 {
        for (at, segment) in self.tail.iter().enumerate() {
            if *segment == Segment::AnyDepth && positions >> at & 1 == 1 {
                positions |= 1 << (at + 1);
            }
        }
        positions
    }
}
