//! What a program inside needs to reach hosts through egress: the authority it trusts, the resolver it asks.
//!
//! The authority is made once for a user, by Python's side; its key never enters a sandbox. Inside, files of ours lie in
//! `/run/capsule` and cover the system's bundle and its `resolv.conf`. It refuses: a key that others may read, and a
//! policy that shows the host's `/run` itself, where ours could not lie.

use super::start::Home;
use crate::plan::{self, Grant, Plan};
use crate::sandbox::brought::Brought;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where our files lie inside.
pub const INSIDE: &str = "/run/capsule";
/// Files of ours there.
const FILES: [&str; 4] = ["ca.pem", "bundle.pem", "truststore.p12", "resolv.conf"];
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
    if current(home) {
        return Ok(());
    }
    let python = plan::interpreter().map_err(|error| error.to_string())?;
    let told = |why: String| {
        format!("network.hosts: making the authority that programs inside trust: {why}")
    };
    let mut command = Command::new(&python);
    command.args(["-I", "-m", "capsule.egress.authority"]);
    let made = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| told(error.to_string()))?;
    if !made.status.success() {
        let words = String::from_utf8_lossy(&made.stderr);
        let last = words.lines().last().unwrap_or("it said nothing").trim();
        return Err(told(format!(
            "{last}; network.hosts needs Python 3.12 and capsule[egress]"
        )));
    }
    // The youngest of them says when all were looked after.
    let public = home.path("public");
    let aside = public.join(format!(".resolv.conf.{}", std::process::id()));
    fs::write(&aside, RESOLVER)
        .and_then(|()| fs::rename(&aside, public.join("resolv.conf")))
        .map_err(|error| told(error.to_string()))
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
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    let path = home.path("authority.key");
    let (found, key) = open(path.clone())?;
    if found.mode() & 0o077 != 0 {
        return Err(format!(
            "{} may be read by others; remove it, and a new one is made",
            path.display()
        ));
    }
    let (_, certificate) = open(home.path("public").join("ca.pem"))?;
    Ok([key.into(), certificate.into()])
}

/// Grant what lies inside, and hide what it lies in, in the run's own copy of the plan; what is brought there.
///
/// # Errors
/// A sentence, when the policy leaves no place for it.
pub fn furnish(plan: &mut Plan, home: &Home) -> Result<Vec<Brought>, String> {
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
    let mut brought: Vec<Brought> = FILES
        .iter()
        .map(|name| Brought {
            from: home.path("public").join(name),
            to: Path::new(INSIDE).join(name),
        })
        .collect();
    let mut cover = |name: &str, path: PathBuf| {
        if brought.iter().all(|known| known.to != path) {
            brought.push(Brought {
                from: home.path("public").join(name),
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
    plan.filesystem
        .read
        .extend(readable.into_iter().map(|path| Grant {
            path,
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

/// Without `..`, as text: for what does not exist.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
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
