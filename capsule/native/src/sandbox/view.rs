//! How the sandbox's view of files is laid out: which places are covered, and what shines through.
//!
//! Pure: [`lay_out`] turns places into steps, `mounts` takes the steps. The most specific path wins; at one path a
//! grant wins over a private directory, and that over a hidden one. A read-only grant inside a writable one is
//! shown read-only. It refuses: grants inside `/proc`, and private directories where none can be made.

use super::brought::{self, Brought};
use std::cmp::Ordering;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Covered by an empty, read-only directory.
    Hide,
    /// Covered by an empty, writable directory of the run's own.
    Private,
    /// The host's, readable.
    Read,
    /// The host's, writable.
    Write,
    /// The minimal `/dev`.
    Devices,
    /// The namespace's own `/proc`.
    Processes,
}

/// A resolved place of the host: its path holds no symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Absolute.
    pub path: PathBuf,
    /// What for.
    pub wanted: Use,
    /// Whether it is a directory on the host.
    pub directory: bool,
    /// Whether it exists on the host.
    pub exists: bool,
    /// Whether files in it may be executed, as far as the view can say.
    pub execution: Execution,
}

/// Whether a place's files may be executed or mapped executable. Landlock decides about executing; it does not see a
/// loader that maps a program it was told to run, and a mount does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Execution {
    /// As around it.
    #[default]
    Inherited,
    /// Never.
    Never,
    /// Also where it may not be around it.
    Allowed,
}

/// A symbolic link of the host on the way to a granted place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Where it is; its directory holds no symbolic link.
    pub path: PathBuf,
    /// What it says.
    pub target: PathBuf,
}

/// One step, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Keep a copy of the host's mounts at this path, before anything is covered: copy number `index`.
    Keep {
        /// Counts from 0.
        index: usize,
        /// On the host.
        path: PathBuf,
    },
    /// Instead of keeping a copy: lay an overlay over `lower`, and keep that.
    Layer {
        /// Counts from 0, together with the copies.
        index: usize,
        /// The host's directory.
        lower: PathBuf,
        /// What is written.
        upper: PathBuf,
        /// The overlay's own.
        work: PathBuf,
    },
    /// Everything becomes read-only.
    Freeze,
    /// Cover `path` with an empty directory.
    Cover {
        /// In the view.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// Nothing in it may be executed.
        no_execute: bool,
    },
    /// Make a directory (and those above it) or a file in a covering directory.
    Make {
        /// In the view.
        path: PathBuf,
        /// A directory, else a file.
        directory: bool,
    },
    /// Make a symbolic link in a covering directory.
    Link(Link),
    /// Put kept copy `index` at `path`.
    Show {
        /// Which copy.
        index: usize,
        /// In the view.
        path: PathBuf,
        /// Else read-only.
        writable: bool,
        /// Nothing in it may be executed.
        no_execute: bool,
    },
    /// Make the minimal `/dev`.
    Devices,
    /// Cover a file with an empty one that nobody may open; where the view has no such file, nothing.
    Mask {
        /// In the view.
        path: PathBuf,
    },
    /// The covering directory at `path` is finished.
    Seal {
        /// In the view.
        path: PathBuf,
    },
}

/// Why a view cannot be made.
#[derive(Debug, PartialEq, Eq)]
pub enum ViewError {
    /// A private directory where none can be made.
    Private(PathBuf),
}

impl std::fmt::Display for ViewError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Private(path) => {
                write!(
                    f,
                    "filesystem: private: {} does not exist; create it first",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for ViewError {}

/// What a path lies in after the steps so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// The host's, frozen.
    Plain,
    /// A covering directory.
    Cover,
    /// A kept copy; writable or not.
    Kept(bool),
    /// `/proc`.
    Processes,
}

/// Roots, what lies there, and whether nothing there may be executed.
type Grounds<'a> = Vec<(&'a Path, Ground, bool)>;

/// The steps for these places.
///
/// # Errors
/// [`ViewError::Private`] for a private directory that neither exists nor can be made.
pub fn lay_out(
    places: &[Place],
    links: &[Link],
    brought: &[Brought],
) -> Result<Vec<Step>, ViewError> {
    let mut places: Vec<&Place> = places.iter().collect();
    places.sort_by(|a, b| match a.path.cmp(&b.path) {
        // The strongest first.
        Ordering::Equal => (b.wanted, b.execution).cmp(&(a.wanted, a.execution)),
        other => other,
    });
    places.dedup_by(|later, earlier| later.path == earlier.path);

    let (mut keep, mut build, mut seal) = (Vec::new(), Vec::new(), Vec::new());
    let mut grounds: Grounds<'_> = vec![(Path::new("/"), Ground::Plain, false)];
    for place in places {
        let (ground, around) = ground_of(&grounds, &place.path);
        let no_execute = match place.execution {
            Execution::Inherited => around,
            Execution::Never => true,
            Execution::Allowed => false,
        };
        if ground == Ground::Processes {
            continue;
        }
        let path = || place.path.clone();
        match place.wanted {
            Use::Processes => grounds.push((&place.path, Ground::Processes, true)),
            Use::Devices => {
                build.push(Step::Devices);
                seal.push(Step::Seal { path: path() });
                grounds.push((&place.path, Ground::Cover, no_execute));
            }
            Use::Hide | Use::Private => {
                let private = place.wanted == Use::Private;
                if ground == Ground::Cover {
                    if !private {
                        continue; // already empty
                    }
                    build.push(Step::Make {
                        path: path(),
                        directory: true,
                    });
                } else if !place.exists || !place.directory {
                    if private {
                        return Err(ViewError::Private(path()));
                    }
                    continue; // nothing to hide; a single file is denied by name, not covered
                }
                build.push(Step::Cover {
                    path: path(),
                    mode: if private { 0o1777 } else { 0o755 },
                    no_execute,
                });
                if !private {
                    seal.push(Step::Seal { path: path() });
                }
                grounds.push((&place.path, Ground::Cover, no_execute));
            }
            Use::Read | Use::Write => {
                let writable = place.wanted == Use::Write;
                let enough = match ground {
                    Ground::Plain => !writable,
                    Ground::Kept(present) => present == writable,
                    Ground::Cover | Ground::Processes => false,
                };
                if !place.exists || (enough && no_execute == around) {
                    continue;
                }
                let index = keep.len();
                keep.push(Step::Keep {
                    index,
                    path: path(),
                });
                if ground == Ground::Cover {
                    build.push(Step::Make {
                        path: path(),
                        directory: place.directory,
                    });
                }
                build.push(Step::Show {
                    index,
                    path: path(),
                    writable,
                    no_execute,
                });
                grounds.push((&place.path, Ground::Kept(writable), no_execute));
            }
        }
    }
    for link in links {
        if ground_of(&grounds, &link.path).0 == Ground::Cover {
            build.push(Step::Link(link.clone()));
        }
    }
    let covered = |path: &Path| match ground_of(&grounds, path).0 {
        Ground::Processes => None,
        ground => Some(ground == Ground::Cover),
    };
    brought::lay(brought, covered, &mut keep, &mut build);
    let mut steps = keep;
    steps.push(Step::Freeze);
    steps.append(&mut build);
    seal.reverse();
    steps.append(&mut seal);
    Ok(steps)
}

/// Whether `path` is `root` or beneath it; both are clean and absolute, so bytes tell what parts would.
#[must_use]
pub fn lies_in(path: &Path, root: &Path) -> bool {
    let (path, root) = (path.as_os_str().as_bytes(), root.as_os_str().as_bytes());
    let rest = path.strip_prefix(root);
    rest.is_some_and(|rest| matches!(rest, [] | [b'/', ..]) || root == b"/")
}

fn ground_of(grounds: &Grounds<'_>, path: &Path) -> (Ground, bool) {
    grounds
        .iter()
        .filter(|(root, ..)| lies_in(path, root))
        .max_by_key(|(root, ..)| root.as_os_str().len())
        .map_or((Ground::Plain, false), |(_, ground, no_execute)| {
            (*ground, *no_execute)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, wanted: Use) -> Place {
        Place {
            path: path.into(),
            wanted,
            directory: true,
            exists: true,
            execution: Execution::Inherited,
        }
    }

    fn show(index: usize, path: &str, writable: bool) -> Step {
        Step::Show {
            index,
            path: path.into(),
            writable,
            no_execute: false,
        }
    }

    #[test]
    fn a_grant_shines_through_a_hidden_home() {
        let places = [
            place("/", Use::Read),
            place("/home/u", Use::Hide),
            place("/home/u/work", Use::Write),
            place("/home/u/.cargo", Use::Read),
            place("/usr", Use::Read),
        ];
        let steps = lay_out(&places, &[], &[]).unwrap();
        assert_eq!(
            steps,
            [
                Step::Keep {
                    index: 0,
                    path: "/home/u/.cargo".into()
                },
                Step::Keep {
                    index: 1,
                    path: "/home/u/work".into()
                },
                Step::Freeze,
                Step::Cover {
                    path: "/home/u".into(),
                    mode: 0o755,
                    no_execute: false
                },
                Step::Make {
                    path: "/home/u/.cargo".into(),
                    directory: true
                },
                show(0, "/home/u/.cargo", false),
                Step::Make {
                    path: "/home/u/work".into(),
                    directory: true
                },
                show(1, "/home/u/work", true),
                Step::Seal {
                    path: "/home/u".into()
                },
            ]
        );
    }

    #[test]
    fn at_one_path_the_grant_wins_and_the_most_specific_holds() {
        let steps = lay_out(
            &[
                place("/w", Use::Hide),
                place("/w", Use::Write),
                place("/w/docs", Use::Read),
                place("/w/secret", Use::Hide),
                place("/w/secret/open", Use::Read),
            ],
            &[],
            &[],
        )
        .unwrap();
        assert_eq!(
            steps,
            [
                Step::Keep {
                    index: 0,
                    path: "/w".into()
                },
                Step::Keep {
                    index: 1,
                    path: "/w/docs".into()
                },
                Step::Keep {
                    index: 2,
                    path: "/w/secret/open".into()
                },
                Step::Freeze,
                show(0, "/w", true),
                show(1, "/w/docs", false),
                Step::Cover {
                    path: "/w/secret".into(),
                    mode: 0o755,
                    no_execute: false
                },
                Step::Make {
                    path: "/w/secret/open".into(),
                    directory: true
                },
                show(2, "/w/secret/open", false),
                Step::Seal {
                    path: "/w/secret".into()
                },
            ]
        );
    }

    #[test]
    fn nothing_is_granted_inside_proc_and_dev_is_ours() {
        let places = [
            place("/proc", Use::Processes),
            place("/proc/sys", Use::Write),
            place("/dev", Use::Devices),
            place("/dev", Use::Write),
            Place {
                exists: false,
                ..place("/dev/shm", Use::Private)
            },
        ];
        assert_eq!(
            lay_out(&places, &[], &[]).unwrap(),
            [
                Step::Freeze,
                Step::Devices,
                Step::Make {
                    path: "/dev/shm".into(),
                    directory: true
                },
                Step::Cover {
                    path: "/dev/shm".into(),
                    mode: 0o1777,
                    no_execute: false
                },
                Step::Seal {
                    path: "/dev".into()
                },
            ]
        );
    }

    #[test]
    fn named_programs_shine_through_where_nothing_may_be_executed() {
        let never = |path: &str, wanted| Place {
            execution: Execution::Never,
            ..place(path, wanted)
        };
        let git = Place {
            execution: Execution::Allowed,
            directory: false,
            ..place("/usr/bin/git", Use::Read)
        };
        let places = [
            place("/usr", Use::Read),
            never("/usr/bin", Use::Read),
            place("/usr/bin/other", Use::Read),
            git,
            never("/w", Use::Write),
            never("/tmp", Use::Private),
        ];
        let steps = lay_out(&places, &[], &[]).unwrap();
        let shown = |path: &str| {
            steps.iter().find_map(|step| match step {
                Step::Show {
                    path: p,
                    no_execute,
                    ..
                } if p == Path::new(path) => Some(*no_execute),
                Step::Cover {
                    path: p,
                    no_execute,
                    ..
                } if p == Path::new(path) => Some(*no_execute),
                _ => None,
            })
        };
        assert_eq!(shown("/usr/bin"), Some(true));
        assert_eq!(shown("/usr/bin/git"), Some(false));
        assert_eq!(shown("/usr/bin/other"), None);
        assert_eq!(shown("/w"), Some(true));
        assert_eq!(shown("/tmp"), Some(true));
    }

    #[test]
    fn a_place_lies_in_itself_and_in_what_is_above() {
        let lies = |path: &str, root: &str| lies_in(Path::new(path), Path::new(root));
        assert!(lies("/a/b", "/a") && lies("/a", "/a") && lies("/a", "/") && lies("/", "/"));
        assert!(!lies("/ab", "/a") && !lies("/", "/a") && !lies("/a", "/a/b"));
    }

    #[test]
    fn links_are_made_only_where_the_host_is_covered() {
        let link = |path: &str| Link {
            path: path.into(),
            target: "/data/work".into(),
        };
        let places = [place("/home/u", Use::Hide), place("/data/work", Use::Write)];
        let steps = lay_out(&places, &[link("/home/u/work"), link("/srv/work")], &[]).unwrap();
        assert!(steps.contains(&Step::Link(link("/home/u/work"))));
        assert!(!steps.contains(&Step::Link(link("/srv/work"))));
    }

    #[test]
    fn a_private_directory_must_have_a_place() {
        let missing = Place {
            exists: false,
            ..place("/nowhere", Use::Private)
        };
        assert_eq!(
            lay_out(&[missing], &[], &[]),
            Err(ViewError::Private("/nowhere".into()))
        );
        let missing = Place {
            exists: false,
            ..place("/nowhere", Use::Hide)
        };
        assert_eq!(lay_out(&[missing], &[], &[]), Ok(vec![Step::Freeze]));
    }

    #[test]
    fn a_name_that_only_begins_alike_is_another_place() {
        let steps = lay_out(
            &[place("/home/u", Use::Hide), place("/home/u2", Use::Read)],
            &[],
            &[],
        )
        .unwrap();
        assert!(!steps.iter().any(|s| matches!(s, Step::Show { .. })));
    }
}
