//! The authority that the host shows to programs in here: put where they look for authorities.
//!
//! Given with the identity, so that it is there before anything runs. The image's own bundle stays and ours is added at its
//! end, once, between two lines of text; the authority's key never comes here. Refuses a text that is no certificate.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const BEFORE: &str = "# capsem: the authority of this machine's network\n";
const AFTER: &str = "# capsem: its end\n";
/// Where programs look: what curl, git and Node read here, and what OpenSSL itself does.
const BUNDLES: [&str; 2] = ["etc/ssl/certs/ca-certificates.crt", "usr/lib/ssl/cert.pem"];
/// The authority alone, for programs that are told of one more.
pub const ALONE: &str = "run/capsem/ca.pem";

/// The bundle with our part in it once.
///
/// ```
/// let once = capsem_agent::trust::with("theirs\n", "ours\n");
/// assert_eq!(capsem_agent::trust::with(&once, "ours\n"), once);
/// assert!(once.starts_with("theirs\n"));
/// ```
pub fn with(bundle: &str, authority: &str) -> String {
    let mut theirs = bundle.to_owned();
    while let Some(start) = theirs.find(BEFORE) {
        let end = theirs[start..]
            .find(AFTER)
            .map_or(theirs.len(), |length| start + length + AFTER.len());
        theirs.replace_range(start..end, "");
    }
    if !theirs.is_empty() && !theirs.ends_with('\n') {
        theirs.push('\n');
    }
    format!("{theirs}{BEFORE}{}\n{AFTER}", authority.trim_end())
}

/// Puts it where programs look, below `root`.
pub fn install(root: &Path, authority: &str) -> Result<()> {
    if !authority.starts_with("-----BEGIN CERTIFICATE-----") {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "the authority is no certificate",
        ));
    }
    write(&root.join(ALONE), authority)?;
    let theirs = fs::read_to_string(root.join(BUNDLES[0])).unwrap_or_default();
    let whole = with(&theirs, authority);
    for place in BUNDLES {
        write(&root.join(place), &whole)?;
    }
    Ok(())
}

fn write(place: &Path, content: &str) -> Result<()> {
    if let Some(directory) = place.parent() {
        fs::create_dir_all(directory)?;
    }
    let aside = place.with_extension("capsem-new");
    fs::write(&aside, content)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o644))?;
    fs::rename(&aside, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_authority_takes_the_place_of_the_last() {
        let first = with("a\nb", "one");
        let second = with(&first, "two");
        assert!(second.starts_with("a\nb\n") && second.contains("two") && !second.contains("one"));
    }

    #[test]
    fn it_is_put_where_programs_look() {
        let root = std::env::temp_dir().join(format!("capsem-trust-{}", std::process::id()));
        let authority = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
        assert!(install(&root, "something else").is_err());
        install(&root, authority).expect("a writable directory");
        install(&root, authority).expect("again");
        for place in BUNDLES {
            let text = fs::read_to_string(root.join(place)).expect("there");
            assert_eq!(text.matches("BEGIN CERTIFICATE").count(), 1);
        }
        assert_eq!(
            fs::read_to_string(root.join(ALONE)).expect("there"),
            authority
        );
        fs::remove_dir_all(&root).expect("ours");
    }
}
