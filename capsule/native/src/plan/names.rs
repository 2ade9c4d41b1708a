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
    /// Patterns whose literal beginning ends here; few nodes have any.
    patterns: Option<Box<Patterns>>,
}

/// What a pattern with globs means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Means {
    Denies,
    Protects,
    /// Protects, but not in a repository that the run made itself: `**/.git/…`.
    ProtectsRepository,
}

#[derive(Debug, Clone, Default)]
struct Patterns {
    /// Which, and what they mean.
    globs: Vec<(Pattern, RuleId, Means)>,
    /// Of these, `**/glob`: nearly all there are, and asked at every open.
    deep: Deep,
    /// Whether one of them protects repositories.
    repositories: bool,
}

impl Marks {
    /// Patterns whose literal beginning ends here: which, and what they mean.
    pub(super) fn globs(&self) -> &[(Pattern, RuleId, Means)] {
        self.patterns.as_ref().map_or(&[], |all| &all.globs)
    }

    /// One more of them.
    pub(super) fn add(&mut self, pattern: Pattern, rule: RuleId, means: Means) {
        let all = self.patterns.get_or_insert_default();
        if let Some(glob) = pattern.at_any_depth() {
            all.deep.add(glob, rule, means == Means::Denies);
        }
        all.repositories |= means == Means::ProtectsRepository;
        all.globs.push((pattern, rule, means));
    }

    /// Whether a pattern here protects repositories wherever they are.
    pub(super) fn keeps_repositories(&self) -> bool {
        self.patterns.as_ref().is_some_and(|all| all.repositories)
    }

    /// The first deny at any depth that covers this node's name followed by `rest`, else the first protect, and which
    /// it is.
    pub(super) fn deep(&self, rest: &[u8]) -> Option<(RuleId, bool)> {
        self.patterns.as_ref()?.deep.covers(rest)
    }
}

/// Many `**/glob` at one node. Two sets of bytes tell for most segments that none of them can match.
#[derive(Debug, Clone, Default)]
struct Deep {
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
    fn covers(&self, rest: &[u8]) -> Option<(RuleId, bool)> {
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

#[derive(Clone, Debug, Default)]
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
#[derive(Clone, Debug)]
pub(super) struct Names {
    nodes: Vec<Node>,
}

/// One step of a walk: the marks of a directory on the way, and what is left of the name after it.
pub(super) struct Step<'a, 'p> {
    pub marks: &'a Marks,
    pub rest: &'p [u8],
    pub guarded: Option<RuleId>,
}

impl Names {
    /// With room for about so many names.
    pub(super) fn new(names: usize) -> Self {
        let mut nodes = Vec::with_capacity(names);
        nodes.push(Node::default());
        Self { nodes }
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

    /// Work out what lies beneath; call after the last mark, also after one that was made later.
    pub(super) fn seal(&mut self) {
        // A child is always made after its parent, so going backward visits children first.
        for at in (0..self.nodes.len()).rev() {
            let node = &self.nodes[at];
            let marks = &node.marks;
            let own = marks
                .deny
                .or(marks.protect)
                .or(marks.globs().first().map(|g| g.1));
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

    /// Call `visit` for the marks of every known node.
    pub(super) fn each(&self, visit: impl FnMut(&Marks)) {
        self.nodes.iter().map(|node| &node.marks).for_each(visit);
    }

    /// Whether `visit` says yes at some node. It is given what holds above, to change into what holds here, the node's
    /// marks, and whether something here or beneath is readable.
    pub(super) fn any<T: Copy>(
        &self,
        begin: T,
        visit: impl Fn(&mut T, &Marks, bool) -> bool,
    ) -> bool {
        let mut stack = vec![(0, begin)];
        while let Some((at, mut state)) = stack.pop() {
            let node = &self.nodes[at];
            if visit(&mut state, &node.marks, node.readable) {
                return true;
            }
            stack.extend(node.children.iter().map(|(_, at)| (*at as usize, state)));
        }
        false
    }
}

impl Node {
    fn step<'a, 'p>(&'a self, rest: &'p [u8]) -> Step<'a, 'p> {
        Step {
            marks: &self.marks,
            rest,
            guarded: self.guarded,
        }
    }
}

/// The name is not absolute, or has `.` or `..` in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unresolved;
