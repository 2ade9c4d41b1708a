//! Whether a policy that was only found may grant what it grants: its user's word, kept as one file for each plan.
//!
//! A `capsule.yaml` comes with a repository, from whoever wrote it. Beyond what the preset `workspace` grants it holds
//! only once its user accepted it (`capsule policy accept`) or named it. The Python side says what is beyond, and keeps
//! the file also where nothing is; here only its name is looked for: the digest of the plan. It refuses a file that is a
//! link, no regular file or somebody else's, and a user without a state directory.

use super::compile::ask;
use super::directories::Directories;
use super::load::LoadError;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the Python side ends with when the policy needs to be accepted and is not.
const ASKED: i32 = 1;
/// How many lines of what it grants a refusal shows.
const SHOWN: usize = 8;

/// Refuse unless the plan with this digest (`blake3:…`), of the file `policy`, was accepted or needs no acceptance.
pub fn required(
    policy: &Path,
    tool: Option<&str>,
    digest: &str,
    directories: &Directories,
) -> Result<(), LoadError> {
    if kept(digest, directories) {
        return Ok(());
    }
    let answer = ask(&["accept", "--check"], policy.as_os_str().to_owned(), tool)?;
    match answer.status.code() {
        Some(0) => Ok(()),
        Some(ASKED) => {
            let lines = String::from_utf8_lossy(&answer.output);
            Err(LoadError::NotAccepted(policy.to_owned(), worst(&lines)))
        }
        _ => Err(answer.failure()),
    }
}

/// The first lines, which are the most dangerous, and how many there are besides.
fn worst(lines: &str) -> String {
    let all: Vec<&str> = lines.trim_end().lines().collect();
    let mut shown = all[..all.len().min(SHOWN)].join("\n");
    if all.len() > SHOWN {
        shown += &format!(
            "\nand {} more: capsule policy accept --check",
            all.len() - SHOWN
        );
    }
    shown
}

fn kept(digest: &str, directories: &Directories) -> bool {
    let Some(state) = &directories.state else {
        return false;
    };
    let name = digest.strip_prefix("blake3:").unwrap_or(digest);
    // SAFETY: geteuid cannot fail and touches no memory.
    let own = unsafe { libc::geteuid() };
    state
        .join("accepted")
        .join(name)
        .symlink_metadata()
        .is_ok_and(|found| found.is_file() && found.uid() == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_counted() {
        assert_eq!(worst("a\nb\n"), "a\nb");
        let long = "x\n".repeat(SHOWN + 3);
        assert_eq!(worst(&long).lines().count(), SHOWN + 1);
        assert!(worst(&long).contains("and 3 more"));
    }

    #[test]
    fn only_a_file_of_one_s_own_is_an_acceptance() {
        let here = tempfile::tempdir().unwrap();
        let state = here.path().join("state");
        let of = Directories {
            state: Some(state.clone()),
            ..Directories::default()
        };
        std::fs::create_dir_all(state.join("accepted/directory")).unwrap();
        std::fs::write(state.join("accepted/aa"), "{}").unwrap();
        std::os::unix::fs::symlink("aa", state.join("accepted/link")).unwrap();
        assert!(kept("blake3:aa", &of));
        for other in ["blake3:ab", "blake3:link", "blake3:directory"] {
            assert!(!kept(other, &of), "{other}");
        }
        assert!(!kept("blake3:aa", &Directories::default()));
    }
}
