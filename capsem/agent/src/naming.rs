//! The machine's own name among its `/etc/hosts`, so that nobody outside is asked what it is.
//!
//! A clone has another name than what it was cloned from: our line, which says that it is ours, is written anew. Refuses to
//! touch what is no text file of a usual size: then it is somebody's own arrangement.

use std::fs;
use std::io::{ErrorKind, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const PLACE: &str = "etc/hosts";
const OURS: &str = "# capsem: this machine";
const LIMIT: u64 = 1 << 20;

/// The text with our line in it once, at its end.
///
/// ```
/// let once = capsem_agent::naming::with("127.0.0.1 localhost\n", "build");
/// assert_eq!(once, "127.0.0.1 localhost\n127.0.1.1 build # capsem: this machine\n");
/// assert_eq!(capsem_agent::naming::with(&once, "build"), once);
/// ```
pub fn with(hosts: &str, name: &str) -> String {
    let mut whole = String::new();
    for line in hosts.lines().filter(|line| !line.ends_with(OURS)) {
        whole.push_str(line);
        whole.push('\n');
    }
    format!("{whole}127.0.1.1 {name} {OURS}\n")
}

/// Puts it there, below `root`; where it is there already nothing is written.
pub fn install(root: &Path, name: &str) -> Result<()> {
    let place = root.join(PLACE);
    let before = match fs::symlink_metadata(&place) {
        Ok(about) if about.is_file() && about.len() <= LIMIT => fs::read(&place)?,
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let Ok(before) = String::from_utf8(before) else {
        return Ok(());
    };
    let after = with(&before, name);
    if before == after {
        return Ok(());
    }
    let aside = place.with_extension("capsem-new");
    fs::write(&aside, after)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o644))?;
    fs::rename(&aside, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_s_name_takes_the_place_of_the_last_and_others_lines_stay() {
        let root = std::env::temp_dir().join(format!("capsem-naming-{}", std::process::id()));
        let place = root.join(PLACE);
        fs::create_dir_all(place.parent().expect("a parent")).expect("writable");
        fs::write(&place, "127.0.0.1 localhost\n10.0.0.1 mine").expect("writable");
        install(&root, "one").expect("writable");
        install(&root, "two").expect("writable");
        let text = fs::read_to_string(&place).expect("there");
        assert_eq!(
            text,
            "127.0.0.1 localhost\n10.0.0.1 mine\n127.0.1.1 two # capsem: this machine\n"
        );
        fs::remove_file(&place).expect("ours");
        std::os::unix::fs::symlink("/dev/zero", &place).expect("writable");
        install(&root, "three").expect("nothing to do");
        assert!(place.is_symlink());
        fs::remove_dir_all(&root).expect("ours");
    }
}
