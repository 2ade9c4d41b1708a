//! Files of ours in the view, at paths of their own: an authority's certificate, a resolver's address.
//!
//! Pure. In a covering directory the place is made, elsewhere the file lies over one of the host's. It refuses: to bring
//! anything into `/proc`.

use super::view::Step;
use std::path::{Path, PathBuf};

/// A file of ours that lies in the view at a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// On the host; holds no symbolic link.
    pub from: PathBuf,
    /// In the view: a file there, or anything in a covering directory.
    pub to: PathBuf,
}

/// The steps for these files. `covered` says whether a path lies in a covering directory; `None`: in `/proc`.
pub(super) fn lay(
    files: &[Brought],
    covered: impl Fn(&Path) -> Option<bool>,
    keep: &mut Vec<Step>,
    build: &mut Vec<Step>,
) {
    for file in files {
        let Some(covered) = covered(&file.to) else {
            continue;
        };
        let index = keep.len();
        keep.push(Step::Keep {
            index,
            path: file.from.clone(),
        });
        let path = || file.to.clone();
        if covered {
            build.push(Step::Make {
                path: path(),
                directory: false,
            });
        }
        build.push(Step::Show {
            index,
            path: path(),
            writable: false,
            no_execute: true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::{Execution, Place, Use, lay_out};
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

    #[test]
    fn a_file_of_ours_is_made_where_the_host_is_covered_and_laid_over_the_hosts_elsewhere() {
        let bring = |to: &str| Brought {
            from: "/state/ca.pem".into(),
            to: to.into(),
        };
        let places = [
            place("/etc", Use::Read),
            place("/proc", Use::Processes),
            place("/run", Use::Hide),
        ];
        let brought = [
            bring("/run/capsule/ca.pem"),
            bring("/etc/ssl/cert.pem"),
            bring("/proc/x"),
        ];
        let shown = |index, path: &str| Step::Show {
            index,
            path: path.into(),
            writable: false,
            no_execute: true,
        };
        let kept = |index| Step::Keep {
            index,
            path: "/state/ca.pem".into(),
        };
        assert_eq!(
            lay_out(&places, &[], &brought).unwrap(),
            [
                kept(0),
                kept(1),
                Step::Freeze,
                Step::Cover {
                    path: "/run".into(),
                    mode: 0o755,
                    no_execute: false
                },
                Step::Make {
                    path: "/run/capsule/ca.pem".into(),
                    directory: false
                },
                shown(0, "/run/capsule/ca.pem"),
                shown(1, "/etc/ssl/cert.pem"),
                Step::Seal {
                    path: "/run".into()
                },
            ]
        );
    }
}
