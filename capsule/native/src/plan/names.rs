//! All literal names of a plan in one tree, so that a decision is one walk along the name.
//!
//! Each node is one directory or file; what a line says is a mark on its node. A pattern with globs hangs at the node
//! of its literal beginning. The walk allocates nothing.

use super::pattern::{Glob, Pattern, Telltale};

/// An index into the rules of `Access`.
pub(super) type RuleId = u32;

/// What the lines say about one node.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    pub hide: Option<RuleId>,
    pub private: Option<RuleId>,
    pub read: Option<RuleId>,
    pub write: Option<RuleId>,
    pub execute: Option<RuleId>,
    pub program: Option<RuleId>,
    pub deny: Option<RuleId>,
    pub protect: Option<RuleId>,
    /// Patterns whose literal beginning ends here: which, and whether they deny (else protect).
    pub globs: Vec<(Pattern, RuleId, bool)>,
    /// Of these, `**/glob`: nearly all there are, and asked at every open.
    pub deep: Deep,
}

/// Many `**/glob` at one node. Two sets of bytes tell for most segments that none of them can match.
#[derive(Debug, Clone, Default)]
pub(super) struct Deep {
    globs: Vec<(Glob, RuleId, bool)>,
    first: ByteSet,
    last: ByteSet,
    /// Whether some glob can match whatever the first and last bytes are.
    any: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct ByteSet([u64; 4]);

impl ByteSet {
    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn has(&self, byte: Option<&u8>) -> bool {
        byte.is_some_and(|byte| self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1)
    }
}

impl Deep {
    fn add(&mut self, glob: &Glob, rule: RuleId, denies: bool) {
        match glob.telltale() {
            Telltale::First(byte) => self.first.add(byte),
            Telltale::Last(byte) => self.last.add(byte),
            Telltale::None => self.any = true,
        }
        self.globs.push((glob.clone(), rule, denies));
    }

    /// The first deny that covers the anchor followed by these segments, else the first protect, and which it is.
    pub(super) fn covers(&self, rest: &[u8]) -> Option<(RuleId, bool)> {
        if self.globs.is_empty() {
            return None;
        }
        let mut protect = None;
        for segment in rest.split(|&b| b == b'/').filter(|s| !s.is_empty()) {
            if !(self.any || self.first.has(segment.first()) || self.last.has(segment.last())) {
                continue;
            }
            for (glob, rule, denies) in &self.globs {
                if glob.matches(segment) {
                    if *denies {
                        return Some((*rule, true));
                    }
                    protect = protect.or(Some((*rule, false)));
                }
            }
        }
        protect
    }
}

#[derive(Debug, Default)]
struct Node {
    marks: Marks,
    /// The first deny or protect here or beneath, or anchored here or beneath.
    guarded: Option<RuleId>,
    /// Whether anything here or beneath is granted for reading.
    readable: bool,
    /// Sorted by name.
    children: Vec<(Box<[u8]>, u32)>,
}

/// The tree; node 0 is the root.
#[derive(Debug)]
pub(super) struct Names {
    nodes: Vec<Node>,
}

/// One step of a walk: the marks of a directory on the way, and what is left of the name after it.
pub(super) struct Step<'a, 'p> {
    pub marks: &'a Marks,
    pub rest: &'p [u8],
    pub guarded: Option<RuleId>,
    pub readable: bool,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }

    /// Change the marks of a name.
    pub(super) fn mark(&mut self, path: &[u8], change: impl FnOnce(&mut Marks)) {
        let mut at = 0usize;
        for segment in path.split(|&b| b == b'/').filter(|s| !s.is_empty()) {
            let found = self.nodes[at]
                .children
                .binary_search_by(|(name, _)| name.as_ref().cmp(segment));
            at = match found {
                Ok(child) => self.nodes[at].children[child].1 as usize,
                Err(place) => {
                    let new = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[at]
                        .children
                        .insert(place, (segment.into(), new as u32));
                    new
                }
            };
        }
        change(&mut self.nodes[at].marks);
    }

    /// Work out what lies beneath; call once, after the last mark.
    pub(super) fn seal(&mut self) {
        // A child is always made after its parent, so going backward visits children first.
        for at in (0..self.nodes.len()).rev() {
            let node = &self.nodes[at];
            let marks = &node.marks;
            let own = marks
                .deny
                .or(marks.protect)
                .or(marks.globs.first().map(|g| g.1));
            let below = node
                .children
                .iter()
                .find_map(|&(_, child)| self.nodes[child as usize].guarded);
            let readable = marks.read.is_some()
                || marks.write.is_some()
                || marks.private.is_some()
                || node
                    .children
                    .iter()
                    .any(|&(_, child)| self.nodes[child as usize].readable);
            let guarded = own.or(below);
            let node = &mut self.nodes[at];
            for (pattern, rule, denies) in &node.marks.globs {
                if let Some(glob) = pattern.at_any_depth() {
                    node.marks.deep.add(glob, *rule, *denies);
                }
            }
            node.guarded = guarded;
            node.readable = readable;
        }
    }

    /// Call `visit` for the root and each known node along the name; stops early when it answers `Some`.
    /// Answers `Err` for a name that is not absolute and resolved.
    #[inline]
    pub(super) fn walk<'a, 'p, T>(
        &'a self,
        path: &'p [u8],
        mut visit: impl FnMut(Step<'a, 'p>) -> Option<T>,
    ) -> Result<Option<T>, Unresolved> {
        let Some((b'/', mut rest)) = path.split_first() else {
            return Err(Unresolved);
        };
        let mut node = Some(&self.nodes[0]);
        let mut answer = node.and_then(|n| visit(n.step(rest)));
        while !rest.is_empty() {
            let end = rest.iter().position(|&b| b == b'/').unwrap_or(rest.len());
            let (segment, after) = rest.split_at(end);
            rest = after.strip_prefix(b"/").unwrap_or(after);
            match segment {
                b"" => continue,
                b"." | b".." => return Err(Unresolved),
                _ => {}
            }
            if answer.is_some() {
                continue;
            }
            node = node.and_then(|n| {
                let found = n
                    .children
                    .binary_search_by(|(name, _)| name.as_ref().cmp(segment))
                    .ok()?;
                Some(&self.nodes[n.children[found].1 as usize])
            });
            answer = node.and_then(|n| visit(n.step(rest)));
        }
        Ok(answer)
    }

    /// Every node with its name, for construction and tests; not for decisions.
    pub(super) fn each(&self, mut visit: impl FnMut(&[u8], &Marks)) {
        let mut stack = vec![(0usize, Vec::new())];
        while let Some((at, name)) = stack.pop() {
            let node = &self.nodes[at];
            visit(if name.is_empty() { b"/" } else { &name }, &node.marks);
            for (segment, child) in &node.children {
                let mut below: Vec<u8> = name.clone();
                below.push(b'/');
                below.extend_from_slice(segment);
                stack.push((*child as usize, below));
            }
        }
    }
}

impl Node {
    fn step<'a, 'p>(&'a self, rest: &'p [u8]) -> Step<'a, 'p> {
        Step {
            marks: &self.marks,
            rest,
            guarded: self.guarded,
            readable: self.readable,
        }
    }
}

/// The name is not absolute, or has `.` or `..` in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unresolved;
