//! The files that egress cannot read itself: rules, detection rules, authorities. They are read before the run and again
//! when they change, and their digests are on the log.
//!
//! It refuses: a file that is not there at the start, is no text, or is longer than 1 MiB, and more than 8 MiB together.
//! During the run a file that cannot be read is told to egress with why, so that everything is denied until it is
//! mended.

use super::wire::Source;
use crate::log_terminal::{shown, words};
use crate::plan::{Egress, Origin, Variables, bracketed};
use crate::sandbox::system::check;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of one file, and of all together.
const MOST: u64 = 1 << 20;
const MOST_TOGETHER: usize = 8 << 20;
/// Files of one directory of detection rules.
const MOST_FILES: usize = 1000;
/// Directories beneath one another.
const DEEPEST: usize = 8;

/// What is read, and from where.
#[derive(Debug, Default)]
pub struct Sources {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    packs: Vec<String>,
    /// Which line of the policy names a file or directory.
    origins: BTreeMap<PathBuf, Origin>,
    watch: Option<OwnedFd>,
    known: Option<blake3::Hash>,
}

/// Put the variables' values into the names of files that egress looks up among the sources, and leave out optional
/// authorities that are absent.
///
/// # Errors
/// A variable that has no value here.
pub fn settle(egress: &mut Egress, variables: &Variables) -> Result<(), String> {
    let whole = |text: &mut String| -> Result<(), String> {
        let path = variables.path(text).map_err(|error| error.to_string())?;
        let named = path.to_str();
        let named =
            named.ok_or_else(|| format!("{} has a name that is not UTF-8", shown(&path)))?;
        *text = bracketed(named).into_owned();
        Ok(())
    };
    for rule in &mut egress.rules {
        whole(&mut rule.path)?;
    }
    for path in egress.detect.iter_mut().filter_map(|one| one.path.as_mut()) {
        whole(path)?;
    }
    for grant in &mut egress.authorities {
        whole(&mut grant.path)?;
    }
    let exists = |path: &str| variables.path(path).is_ok_and(|path| path.exists());
    let there = |grant: &crate::plan::Grant| !grant.optional || exists(&grant.path);
    egress.authorities.retain(there);
    Ok(())
}

impl Sources {
    /// Those of a plan whose paths are settled.
    ///
    /// # Errors
    /// A variable that has no value here.
    pub fn of(egress: &Egress, variables: &Variables) -> Result<Sources, String> {
        let mut sources = Sources::default();
        let path = |text: &str| variables.path(text).map_err(|error| error.to_string());
        for rule in &egress.rules {
            sources.named_at(&rule.origin, path(&rule.path)?);
        }
        for detection in &egress.detect {
            if let Some(text) = &detection.path {
                let path = path(text)?;
                if path.is_dir() {
                    sources
                        .origins
                        .insert(path.clone(), detection.origin.clone());
                    sources.directories.push(path);
                } else {
                    sources.named_at(&detection.origin, path);
                }
            }
            sources.packs.extend(detection.pack.clone());
        }
        for grant in &egress.authorities {
            sources.named_at(&grant.origin, path(&grant.path)?);
        }
        Ok(sources)
    }

    fn named_at(&mut self, origin: &Origin, path: PathBuf) {
        let first = self.origins.entry(path.clone());
        first.or_insert_with(|| origin.clone());
        self.files.push(path);
    }

    /// A problem with a named path, with the line of the policy that names it.
    fn told(&self, path: &Path, why: String) -> String {
        match self.origins.get(path) {
            Some(at) => format!(
                "{}:{}:{}: {why}; rules, detection and authorities lie beside the file that names them, or are \
                 named by ~/… or /…\ncorrect this and run it again",
                at.file, at.line, at.column
            ),
            None => why,
        }
    }

    /// Everything, as it is now.
    ///
    /// # Errors
    /// The file and why it cannot be used.
    pub fn read(&self) -> Result<Vec<Source>, String> {
        self.gather().map_err(|(named, why)| self.told(&named, why))
    }

    /// Everything; or which named path cannot be used, and why.
    fn gather(&self) -> Result<Vec<Source>, (PathBuf, String)> {
        let mut found = Vec::new();
        for path in &self.files {
            found.push(text(path).map_err(|why| (path.clone(), why))?);
        }
        for directory in &self.directories {
            let of = |why: String| (directory.clone(), why);
            let mut paths = Vec::new();
            beneath(directory, DEEPEST, &mut paths).map_err(of)?;
            paths.sort_unstable();
            for path in paths {
                found.push(text(&path).map_err(of)?);
            }
        }
        let together: usize = found.iter().map(|source| source.text.len()).sum();
        if together > MOST_TOGETHER {
            let why = format!(
                "rules, detection and authorities are {together} bytes together, more than {MOST_TOGETHER}"
            );
            return Err((PathBuf::new(), why));
        }
        Ok(found)
    }

    /// What a changed set comes to: a file that cannot be read is one with a problem, which denies everything.
    #[must_use]
    pub fn read_again(&self) -> Vec<Source> {
        self.gather().unwrap_or_else(|(named, why)| {
            let at = self.origins.get(&named);
            let at = at.map(|at| format!(", which {}:{} names", at.file, at.line));
            let problem = format!(
                "{why}{}; mend it, and the run goes on",
                at.unwrap_or_default()
            );
            vec![Source {
                path: named.to_string_lossy().into_owned(),
                text: String::new(),
                problem: Some(problem),
            }]
        })
    }

    /// Begin to watch: the directories that hold them, because editors put a new file in the old one's place.
    ///
    /// # Errors
    /// As `inotify_init1(2)`, `inotify_add_watch(2)`.
    pub fn watch(&mut self) -> io::Result<()> {
        let mut places: BTreeSet<&Path> = self.files.iter().filter_map(|f| f.parent()).collect();
        places.extend(self.directories.iter().map(PathBuf::as_path));
        if places.is_empty() {
            return Ok(());
        }
        // SAFETY: plain integers.
        let raw =
            check(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) }.into())?;
        // SAFETY: a new descriptor that nothing else owns.
        let watch = unsafe { OwnedFd::from_raw_fd(raw as RawFd) };
        let mask = libc::IN_CLOSE_WRITE
            | libc::IN_CREATE
            | libc::IN_DELETE
            | libc::IN_MOVED_FROM
            | libc::IN_MOVED_TO;
        for place in places {
            let path = CString::new(place.as_os_str().as_bytes())?;
            // SAFETY: a valid C string.
            let added = unsafe { libc::inotify_add_watch(watch.as_raw_fd(), path.as_ptr(), mask) };
            check(added.into())?;
        }
        self.watch = Some(watch);
        Ok(())
    }

    /// For `poll`; -1 where nothing is watched.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.watch.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Remember what egress knows.
    pub fn remember(&mut self, sources: &[Source]) {
        self.known = Some(digest(sources));
    }

    /// What egress does not know yet. Much happens in a directory that leaves these files as they are.
    pub fn news(&mut self) -> Option<Vec<Source>> {
        if !self.changed() {
            return None;
        }
        let sources = self.read_again();
        let known = self.known.replace(digest(&sources));
        (known != self.known).then_some(sources)
    }

    /// Take what the kernel tells; whether something happened in a watched directory.
    fn changed(&self) -> bool {
        let Some(watch) = &self.watch else {
            return false;
        };
        let mut buffer = [0u8; 8192];
        let mut any = false;
        // SAFETY: the buffer has the length given.
        while unsafe { libc::read(watch.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) } > 0
        {
            any = true;
        }
        any
    }
}

/// What egress is told of a plan: its paths as those of the sources are, so that it finds each one's text. An optional
/// authority that is not there is not named.
///
/// # Errors
/// A variable that has no value here, a name that is not UTF-8.
pub fn named(egress: &Egress, variables: &Variables) -> Result<Egress, String> {
    let mut named = egress.clone();
    let whole = |path: &mut String| {
        let found = variables.path(path).map_err(|error| error.to_string())?;
        let text = found.to_str();
        let text = text.ok_or_else(|| format!("{}: is not UTF-8", shown(&found)))?;
        *path = text.to_owned();
        Ok::<(), String>(())
    };
    for rule in &mut named.rules {
        whole(&mut rule.path)?;
    }
    for path in named.detect.iter_mut().filter_map(|d| d.path.as_mut()) {
        whole(path)?;
    }
    for grant in &mut named.authorities {
        whole(&mut grant.path)?;
    }
    named
        .authorities
        .retain(|grant| !grant.optional || Path::new(&grant.path).exists());
    Ok(named)
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {}", words(error))
}

fn text(path: &Path) -> Result<Source, String> {
    let told = |why: String| format!("{} {why}", shown(path));
    let found = fs::metadata(path).map_err(|error| told(unreadable(&error)))?;
    if !found.is_file() {
        return Err(told("is not a file".into()));
    }
    if found.len() > MOST {
        return Err(told(format!(
            "is {} bytes long, more than {MOST}",
            found.len()
        )));
    }
    let bytes = fs::read(path).map_err(|error| told(unreadable(&error)))?;
    let text = String::from_utf8(bytes).map_err(|_| told("is not UTF-8".into()))?;
    Ok(Source {
        path: path
            .to_str()
            .ok_or_else(|| told("has a name that is not UTF-8".into()))?
            .to_owned(),
        text,
        problem: None,
    })
}

/// The `.yml` and `.yaml` files of a directory of detection rules; links are not followed.
fn beneath(directory: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), String> {
    let told = |error: io::Error| format!("{} {}", shown(directory), unreadable(&error));
    for entry in fs::read_dir(directory).map_err(told)? {
        let entry = entry.map_err(told)?;
        let kind = entry.file_type().map_err(told)?;
        let path = entry.path();
        if kind.is_dir() && depth > 0 {
            beneath(&path, depth - 1, paths)?;
        } else if kind.is_file()
            && path
                .extension()
                .is_some_and(|end| end == "yml" || end == "yaml")
        {
            if paths.len() >= MOST_FILES {
                return Err(format!(
                    "{}: more than {MOST_FILES} files",
                    shown(directory)
                ));
            }
            paths.push(path);
        }
    }
    Ok(())
}

/// Over all of them, lengths included.
fn digest(sources: &[Source]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let none = String::new();
    let parts = |one: &'_ Source| {
        let problem = one.problem.clone().unwrap_or_else(|| none.clone());
        [one.path.clone(), one.text.clone(), problem]
    };
    for part in sources.iter().flat_map(parts) {
        hasher.update(&(part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize()
}

/// What the start of the run says of them: path and digest.
#[must_use]
pub fn digests(sources: &[Source]) -> Vec<serde_json::Value> {
    sources
        .iter()
        .map(|source| {
            let digest = blake3::hash(source.text.as_bytes()).to_hex();
            serde_json::json!({"path": source.path, "digest": format!("blake3:{digest}")})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(files: &[&Path], directories: &[&Path]) -> Sources {
        let owned = |list: &[&Path]| list.iter().map(|path| path.to_path_buf()).collect();
        let mut sources = Sources {
            files: owned(files),
            directories: owned(directories),
            ..Sources::default()
        };
        sources.watch().unwrap();
        sources
    }

    #[test]
    fn names_are_whole_and_absent_options_left_out() {
        let here = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(here.path()).unwrap();
        let variables = Variables::new(&place, None, &place).unwrap();
        let origin = serde_json::json!({"file": "capsule.yaml", "line": 1, "column": 1});
        let mut value = serde_json::json!({
            "unlisted": "deny", "hosts": [], "upstreams": [], "proxy": null, "secrets": [],
            "budget": {"requests": null, "bytes": null, "tokens": null, "microdollars": null},
        });
        value["rules"] = serde_json::json!([{"path": "${workspace}/rules.yaml", "origin": origin}]);
        value["detect"] =
            serde_json::json!([{"pack": null, "path": "${cwd}/sigma", "origin": origin}]);
        value["authorities"] = serde_json::json!([
            {"path": "${workspace}/absent.pem", "optional": true, "origin": origin},
            {"path": "${workspace}/needed.pem", "optional": false, "origin": origin},
        ]);
        let mut egress: Egress = serde_json::from_value(value).unwrap();
        settle(&mut egress, &variables).unwrap();
        let at = |name: &str| place.join(name).to_string_lossy().into_owned();
        assert_eq!(egress.rules[0].path, at("rules.yaml"));
        assert_eq!(egress.detect[0].path, Some(at("sigma")));
        let kept: Vec<&str> = egress
            .authorities
            .iter()
            .map(|one| one.path.as_str())
            .collect();
        assert_eq!(kept, [at("needed.pem")]);
        let sources = Sources::of(&egress, &variables).unwrap();
        let refused = sources.read().err().unwrap();
        assert!(refused.starts_with("capsule.yaml:1:1: "), "{refused}");
        assert!(refused.contains(&at("rules.yaml")) && !refused.contains("os error"));
        assert_eq!(
            sources.files.len(),
            3,
            "what egress looks up is what is read"
        );
        egress.rules[0].path = "${home}/x".to_owned();
        assert!(settle(&mut egress, &variables).is_err());
    }

    #[test]
    fn what_is_settled_means_the_same_name_again() {
        let here = tempfile::tempdir().unwrap();
        let place = fs::canonicalize(here.path()).unwrap().join("[*] [[]");
        fs::create_dir(&place).unwrap();
        fs::write(place.join("[?].pem"), "").unwrap();
        let variables = Variables::new(&place, None, &place).unwrap();
        let origin = serde_json::json!({"file": "capsule.yaml", "line": 1, "column": 1});
        let value = serde_json::json!({
            "unlisted": "deny", "hosts": [], "upstreams": [], "proxy": null, "secrets": [], "rules": [],
            "budget": {"requests": null, "bytes": null, "tokens": null, "microdollars": null}, "detect": [],
            "authorities": [{"path": "${workspace}/[[][?]].pem", "optional": true, "origin": origin}],
        });
        let mut egress: Egress = serde_json::from_value(value).unwrap();
        for _ in 0..2 {
            settle(&mut egress, &variables).unwrap();
            let found = variables.path(&egress.authorities[0].path).unwrap();
            assert_eq!(found, place.join("[?].pem"));
        }
        let told = named(&egress, &variables).unwrap();
        assert_eq!(Path::new(&told.authorities[0].path), place.join("[?].pem"));
    }

    #[test]
    fn files_and_directories_are_read_and_a_change_is_seen() {
        let here = tempfile::tempdir().unwrap();
        let rules = here.path().join("rules.yaml");
        let sigma = here.path().join("sigma");
        fs::create_dir_all(sigma.join("deep")).unwrap();
        fs::write(&rules, "rules: []").unwrap();
        fs::write(sigma.join("deep/one.yml"), "title: x").unwrap();
        fs::write(sigma.join("notes.txt"), "no").unwrap();
        let mut sources = watched(&[&rules], &[&sigma]);
        let read = sources.read().unwrap();
        sources.remember(&read);
        let texts: Vec<&str> = read.iter().map(|source| source.text.as_str()).collect();
        assert_eq!(texts, ["rules: []", "title: x"]);
        assert!(sources.news().is_none());
        fs::write(here.path().join("new"), "rules: [1]").unwrap();
        assert!(sources.news().is_none(), "no file of ours");
        fs::rename(here.path().join("new"), &rules).unwrap();
        assert_eq!(sources.news().unwrap()[0].text, "rules: [1]");
        assert!(sources.news().is_none());
        fs::write(sigma.join("deep/one.yml"), "title: y").unwrap();
        assert!(
            sources.news().is_none(),
            "only the directory itself is watched"
        );
    }

    #[test]
    fn what_cannot_be_read_refuses_the_start_and_denies_later() {
        let here = tempfile::tempdir().unwrap();
        let rules = here.path().join("rules.yaml");
        let sources = watched(&[&rules], &[]);
        assert!(sources.read().unwrap_err().contains("rules.yaml"));
        fs::write(&rules, [0xff]).unwrap();
        assert!(sources.read().unwrap_err().contains("UTF-8"));
        let again = sources.read_again();
        assert_eq!(again.len(), 1);
        let why = again[0].problem.clone().unwrap();
        assert!(again[0].text.is_empty() && why.contains("rules.yaml is not UTF-8"));
    }

    #[test]
    fn a_file_that_goes_is_told_by_its_own_name() {
        let here = tempfile::tempdir().unwrap();
        let (rules, roots) = (here.path().join("rules.yaml"), here.path().join("ca.pem"));
        fs::write(&rules, "rules: []").unwrap();
        fs::write(&roots, "x").unwrap();
        let mut sources = watched(&[&rules, &roots], &[]);
        let origin = serde_json::json!({"file": "capsule.yaml", "line": 7, "column": 1});
        let origin = serde_json::from_value(origin).unwrap();
        sources.origins.insert(roots.clone(), origin);
        let read = sources.read().unwrap();
        sources.remember(&read);
        fs::remove_file(&roots).unwrap();
        let news = sources.news().unwrap();
        assert_eq!(news[0].path, roots.to_string_lossy());
        let why = news[0].problem.clone().unwrap();
        let wanted = format!(
            "{} cannot be read: No such file or directory, which capsule.yaml:7 names; mend it, and the run goes on",
            roots.display()
        );
        assert_eq!(why, wanted);
        assert!(sources.news().is_none());
        fs::write(&roots, "x").unwrap();
        let back = sources.news().unwrap();
        assert!(back.len() == 2 && back.iter().all(|source| source.problem.is_none()));
    }

    #[test]
    fn digests_are_of_the_text() {
        let source = Source {
            path: "/r".into(),
            text: "a".into(),
            problem: None,
        };
        let digest = &digests(&[source])[0]["digest"];
        let expected = format!("blake3:{}", blake3::hash(b"a").to_hex());
        assert_eq!(digest, &serde_json::Value::from(expected));
    }
}
