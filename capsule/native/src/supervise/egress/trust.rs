//! What a program inside needs to reach hosts through egress: the authority it trusts, the resolver it asks.
//!
//! The authority is made once for a user, by Python's side; its key never enters a sandbox. Inside, files of ours lie in
//! `/run/capsule` and cover the system's bundle, its `resolv.conf` and its `hosts`. A policy's own authorities are in files beside,
//! named by all that they hold, so that no run gets those of another. It refuses: a key that others may read, an
//! authority that is no certificate, and a policy that shows the host's `/run` itself, where ours could not lie.

use super::super::guard::plain;
use super::start::Home;
use super::wire::Source;
use crate::log_terminal::shown;
use crate::plan::{self, Grant, Plan, bracketed};
use crate::sandbox::brought::Brought;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where our files lie inside.
pub const INSIDE: &str = "/run/capsule";
/// Files of ours there.
const FILES: [&str; 4] = ["ca.pem", "bundle.pem", "truststore.p12", "resolv.conf"];
/// Those of them that say whom programs trust.
const TRUST: [&str; 3] = ["ca.pem", "bundle.pem", "truststore.p12"];
/// Where those lie that trust a policy's authorities too, each in a directory by its digest.
const BESIDE: &str = "public/with";
/// Whom programs ask for names.
const RESOLVER: &str = "nameserver 198.18.0.1\noptions edns0\n";
/// Where distributions keep the bundle that programs read.
const BUNDLES: [&str; 8] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/certs/ca-bundle.crt",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
];
const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// Where a host's own name leads that its file leads elsewhere, or not at all.
const OWN: &str = "127.0.1.1";
/// Bytes of the host's file that are read.
const MOST_HOSTS: u64 = 1 << 20;
/// Variables that name a bundle which takes the place of the program's own.
const WHOLE: [&str; 8] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "NIX_SSL_CERT_FILE",
];
/// Variables that name what is trusted in addition.
const MORE: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// How long the authority's files are not looked after: certificates end.
const LOOKED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Make what is missing, or older than the host's bundle.
///
/// # Errors
/// A sentence.
pub fn ensure(home: &Home) -> Result<(), String> {
    hosts_of_here(home)?;
    if current(home) {
        return Ok(());
    }
    let told = |why: String| {
        format!("network.hosts: making the authority that programs inside trust: {why}")
    };
    make(&[], b"").map_err(|why| {
        told(format!(
            "{why}; network.hosts needs Python 3.12 and capsule[egress]"
        ))
    })?;
    // The youngest of them says when all were looked after.
    put(home, "resolv.conf", RESOLVER).map_err(|error| told(error.to_string()))
}

/// A public file anew, whole at every moment.
fn put(home: &Home, name: &str, text: &str) -> io::Result<()> {
    let public = home.path("public");
    let aside = public.join(format!(".{name}.{}", std::process::id()));
    fs::write(&aside, text)?;
    fs::rename(&aside, public.join(name))
}

/// The file that covers the host's `/etc/hosts`, as the host's is now.
fn hosts_of_here(home: &Home) -> Result<(), String> {
    let mut text = Vec::new();
    // A host without one, or with one that this user may not read, has no lines to keep.
    if let Ok(file) = File::open(HOSTS) {
        let _ = file.take(MOST_HOSTS).read_to_end(&mut text);
    }
    let text = hosts(&String::from_utf8_lossy(&text), &own_name());
    if fs::read_to_string(home.path("public").join("hosts")).is_ok_and(|known| known == text) {
        return Ok(());
    }
    put(home, "hosts", &text)
        .map_err(|error| format!("network.hosts: the names of {HOSTS} inside: {error}"))
}

/// What is kept of the host's file: `localhost` and the host's own name, at addresses of loopback. Every other name is
/// asked for, so that it is known for whom a connection is meant.
fn hosts(untrusted: &str, own: &str) -> String {
    let local = |name: &str| {
        matches!(name, "localhost" | "ip6-localhost" | "ip6-loopback")
            || name.starts_with("localhost.")
    };
    let ours = |name: &str| {
        let rest = name.strip_prefix(own).filter(|_| !own.is_empty());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let (mut text, mut named) = (String::new(), [false; 2]);
    for line in untrusted.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let address = words.next().unwrap_or_default();
        if !address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) {
            continue;
        }
        let names: Vec<&str> = words.filter(|name| local(name) || ours(name)).collect();
        if !names.is_empty() {
            named[0] |= names.contains(&"localhost");
            named[1] |= names.contains(&own);
            text.push_str(&format!("{address} {}\n", names.join(" ")));
        }
    }
    if !named[0] {
        text.insert_str(0, "127.0.0.1 localhost\n");
    }
    if !named[1] && !own.is_empty() && !local(own) {
        text.push_str(&format!("{OWN} {own}\n"));
    }
    text
}

/// The name of this host; empty when it is none that a file of hosts can hold.
fn own_name() -> String {
    let mut bytes = [0u8; 256];
    // SAFETY: the place has the length given; the last byte stays zero.
    let got = unsafe { libc::gethostname(bytes.as_mut_ptr().cast(), bytes.len() - 1) };
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(0);
    let name = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if got == 0 && name.chars().all(plain) {
        name
    } else {
        String::new()
    }
}

/// Have Python's side make files; its last words when it cannot.
fn make(more: &[&str], given: &[u8]) -> Result<(), String> {
    let python = plan::interpreter().map_err(|error| error.to_string())?;
    let mut command = Command::new(&python);
    command.args(["-I", "-m", "capsule.egress.authority"]);
    command.args(more).stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let Some(mut input) = child.stdin.take() {
        // One that ended before it read says why.
        let _ = input.write_all(given);
    }
    let made = child
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    if made.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&made.stderr);
    let last = words.lines().last().unwrap_or("it said nothing").trim();
    Err(last.trim_start_matches("capsule: ").to_owned())
}

/// The directory of what programs trust when a policy names authorities of its own; `None` when it names none.
///
/// # Errors
/// A sentence: one of them is no certificate.
pub fn beside(home: &Home, authorities: &[Source]) -> Result<Option<PathBuf>, String> {
    if authorities.is_empty() {
        return Ok(None);
    }
    let given = serde_json::to_vec(authorities).map_err(|error| error.to_string())?;
    let usual = home.path("public").join("bundle.pem");
    let usual = fs::read(&usual).map_err(|error| format!("{}: {error}", shown(&usual)))?;
    let mut digest = Sha256::new();
    digest.update((usual.len() as u64).to_be_bytes());
    digest.update(&usual);
    digest.update(&given);
    let name = format!("{:x}", digest.finalize());
    let place = home.path(BESIDE).join(&name);
    if !TRUST.iter().all(|file| place.join(file).is_file()) {
        make(&[name.as_str()], &given).map_err(|why| format!("network.authorities: {why}"))?;
    }
    Ok(Some(place))
}

/// The host's own bundle.
fn bundle() -> Option<PathBuf> {
    BUNDLES
        .iter()
        .find_map(|path| Path::new(path).canonicalize().ok())
        .filter(|path| path.is_file())
}

fn current(home: &Home) -> bool {
    let made = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let public = home.path("public");
    let Some(ours) = made(&public.join("resolv.conf")) else {
        return false;
    };
    let whole = home.path("authority.key").is_file()
        && FILES.iter().all(|name| public.join(name).is_file());
    let host = bundle().and_then(|path| made(&path));
    let young = ours.elapsed().is_ok_and(|age| age < LOOKED_AFTER);
    whole && young && host.is_none_or(|host| host <= ours)
}

/// The key and the certificate, open for reading: what egress needs to answer for hosts.
///
/// # Errors
/// A sentence.
pub fn authority(home: &Home) -> Result<[OwnedFd; 2], String> {
    let open = |path: PathBuf| {
        File::open(&path)
            .and_then(|file| Ok((file.metadata()?, file)))
            .map_err(|error| format!("{}: {error}", shown(&path)))
    };
    let path = home.path("authority.key");
    let (found, key) = open(path.clone())?;
    if found.mode() & 0o077 != 0 {
        return Err(format!(
            "{} may be read by others; remove it, and a new one is made",
            shown(&path)
        ));
    }
    let (_, certificate) = open(home.path("public").join("ca.pem"))?;
    Ok([key.into(), certificate.into()])
}

/// Grant what lies inside, and hide what it lies in, in the run's own copy of the plan; what is brought there. `trusted`
/// is of [`beside`].
///
/// # Errors
/// A sentence, when the policy leaves no place for it.
pub fn furnish(
    plan: &mut Plan,
    home: &Home,
    trusted: Option<&Path>,
) -> Result<Vec<Brought>, String> {
    let origin = plan.network.origin.clone();
    if plan
        .filesystem
        .read
        .iter()
        .chain(&plan.filesystem.write)
        .any(|grant| grant.path == "/run")
    {
        return Err(format!(
            "network.hosts: the files of ours lie in {INSIDE}, and the policy shows the host's /run; grant what is \
             needed beneath /run instead"
        ));
    }
    let hidden = |list: &[plan::Place]| list.iter().any(|place| place.path == "/run");
    if !hidden(&plan.filesystem.hide) && !hidden(&plan.filesystem.private) {
        plan.filesystem.hide.push(plan::Place {
            path: "/run".to_owned(),
            origin: origin.clone(),
        });
    }
    let from = |name: &str| match trusted {
        Some(place) if TRUST.contains(&name) => place.join(name),
        _ => home.path("public").join(name),
    };
    let mut brought: Vec<Brought> = FILES
        .iter()
        .map(|name| Brought {
            from: from(name),
            to: Path::new(INSIDE).join(name),
        })
        .collect();
    let mut cover = |name: &str, path: PathBuf| {
        if brought.iter().all(|known| known.to != path) {
            brought.push(Brought {
                from: from(name),
                to: path,
            });
        }
    };
    for path in BUNDLES {
        if let Some(path) = Path::new(path).canonicalize().ok().filter(|p| p.is_file()) {
            cover("bundle.pem", path);
        }
    }
    let mut readable = vec![INSIDE.to_owned()];
    if let Ok(path) = leads_to(Path::new(RESOLV_CONF)) {
        readable.extend(path.to_str().map(str::to_owned));
        cover("resolv.conf", path);
    }
    // A name that a program looks up by itself leads it to an address that stands for no name.
    if let Ok(path) = leads_to(Path::new(HOSTS)) {
        readable.extend(path.to_str().map(str::to_owned));
        cover("hosts", path);
    }
    plan.filesystem
        .read
        .extend(readable.into_iter().map(|path| Grant {
            path: bracketed(&path).into_owned(),
            optional: true,
            origin: origin.clone(),
        }));
    for name in WHOLE {
        set(plan, name, &format!("{INSIDE}/bundle.pem"));
    }
    for name in MORE {
        set(plan, name, &format!("{INSIDE}/ca.pem"));
    }
    set(
        plan,
        "JAVA_TOOL_OPTIONS",
        &format!(
            "-Djavax.net.ssl.trustStore={INSIDE}/truststore.p12 -Djavax.net.ssl.trustStorePassword=changeit \
             -Djavax.net.ssl.trustStoreType=PKCS12"
        ),
    );
    Ok(brought)
}

/// A variable, unless the policy sets it.
fn set(plan: &mut Plan, name: &str, value: &str) {
    let entry = plan.environment.set.entry(name.to_owned());
    entry.or_insert_with(|| value.to_owned());
}

/// What a name leads to, also where the last link of the chain leads to nothing.
fn leads_to(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let real = parent.canonicalize().unwrap_or_else(|_| plain(parent));
        path = real.join(path.file_name().unwrap_or_default());
        match fs::read_link(&path) {
            Ok(target) => path = plain(&real.join(target)),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(path),
            // Inside, what lies in a covered directory is made.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.starts_with("/run") => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_name_leads_where_its_links_lead() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        fs::write(root.join("real"), "").unwrap();
        symlink("real", root.join("one")).unwrap();
        symlink(root.join("one"), root.join("two")).unwrap();
        assert_eq!(leads_to(&root.join("two")).unwrap(), root.join("real"));
        symlink("/run/capsule-nowhere/x", root.join("gone")).unwrap();
        assert_eq!(
            leads_to(&root.join("gone")).unwrap(),
            Path::new("/run/capsule-nowhere/x")
        );
        symlink("nothing", root.join("lost")).unwrap();
        assert!(leads_to(&root.join("lost")).is_err());
        symlink("b", root.join("a")).unwrap();
        symlink("a", root.join("b")).unwrap();
        assert!(leads_to(&root.join("a")).is_err());
    }

    #[test]
    fn a_key_that_others_may_read_is_not_used() {
        let here = tempfile::tempdir().unwrap();
        let home = Home::open(Some(here.path())).unwrap();
        fs::write(home.path("authority.key"), "k").unwrap();
        fs::write(home.path("public/ca.pem"), "c").unwrap();
        let mode = |mode| {
            let path = home.path("authority.key");
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o644);
        assert!(authority(&home).unwrap_err().contains("others"));
        mode(0o600);
        assert!(authority(&home).is_ok());
    }

    #[test]
    fn of_the_hosts_names_its_own_stay_and_only_at_loopback() {
        let found = "# a comment\n127.0.0.1\tlocalhost app.test # and more\n::1 localhost ip6-loopback\n\
                     10.0.0.7 box box.lan db.internal\n127.0.0.53 tracker.example\nnonsense localhost\n";
        assert_eq!(
            hosts(found, "box"),
            "127.0.0.1 localhost\n::1 localhost ip6-loopback\n127.0.1.1 box\n"
        );
        let own = "127.0.1.1 box.lan box boxer\n";
        assert_eq!(
            hosts(own, "box"),
            "127.0.0.1 localhost\n127.0.1.1 box.lan box\n"
        );
        assert_eq!(hosts("", ""), "127.0.0.1 localhost\n");
        assert_eq!(hosts("", "localhost"), "127.0.0.1 localhost\n");
    }

    #[test]
    fn the_file_of_hosts_is_as_the_host_is_now() {
        let here = tempfile::tempdir().unwrap();
        let home = Home::open(Some(here.path())).unwrap();
        hosts_of_here(&home).unwrap();
        let path = home.path("public").join("hosts");
        let first = fs::read_to_string(&path).unwrap();
        assert!(first.contains("localhost"));
        fs::write(&path, "203.0.113.7 planted.example\n").unwrap();
        hosts_of_here(&home).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
    }

    #[test]
    fn what_is_missing_is_made_anew() {
        let here = tempfile::tempdir().unwrap();
        let home = Home::open(Some(here.path())).unwrap();
        assert!(!current(&home));
        fs::write(home.path("authority.key"), "k").unwrap();
        for name in FILES {
            assert!(!current(&home));
            fs::write(home.path("public").join(name), "x").unwrap();
        }
        assert!(current(&home));
    }
}
