//! Mounts and their flags, programs that change user, and who may write where.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Group, line};

const MOUNTS: &[(&str, &str, &[&str])] = &[
    ("/", "overlay", &["nodev"]),
    ("/proc", "proc", &["nosuid", "nodev", "noexec"]),
    ("/sys", "sysfs", &["nosuid", "nodev", "noexec"]),
    ("/dev", "devtmpfs", &["nosuid", "noexec"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec"]),
    ("/dev/shm", "tmpfs", &["nosuid", "nodev"]),
    ("/run", "tmpfs", &["nosuid", "nodev"]),
    ("/tmp", "tmpfs", &["nosuid", "nodev"]),
    ("/sys/fs/cgroup", "cgroup2", &["nosuid", "nodev", "noexec"]),
];

pub(super) fn mounts(group: &mut Group) {
    let text = line("/proc/mounts").unwrap_or_default();
    let rows: Vec<Vec<&str>> = text.lines().map(|row| row.split(' ').collect()).collect();
    for (place, kind, flags) in MOUNTS {
        let row = rows.iter().rev().find(|row| row.get(1) == Some(place));
        let seen = row
            .map(|row| row.join(" "))
            .unwrap_or_else(|| "not mounted".to_owned());
        group.check(
            format!("{place} is {kind}"),
            row.is_some_and(|row| row.get(2) == Some(kind)),
            seen.clone(),
        );
        let given: Vec<&str> = row
            .and_then(|row| row.get(3))
            .map(|flags| flags.split(',').collect())
            .unwrap_or_default();
        for flag in *flags {
            group.check(
                format!("{place} is mounted {flag}"),
                given.contains(flag),
                seen.clone(),
            );
        }
    }
    let lower = rows.iter().any(|row| {
        row.get(1) == Some(&"/")
            && row
                .get(3)
                .is_some_and(|flags| flags.contains("lowerdir=/lower"))
    });
    group.check(
        "what is changed lies over the image, not in it",
        lower,
        "lowerdir of /",
    );
    group.check(
        "the image itself is out of reach",
        !Path::new("/lower").exists() && !Path::new("/newroot").exists(),
        "no /lower, no /newroot",
    );
}

#[derive(Default)]
struct Found {
    looked: usize,
    setuid: Vec<String>,
    setgid: Vec<String>,
    open_files: Vec<String>,
    open_directories: Vec<String>,
    devices: Vec<String>,
    strangers: Vec<String>,
}

// One file system, every name once; links are not followed.
fn walk(directory: &Path, device: u64, known: &[u32], found: &mut Found, depth: usize) {
    if depth > 64 || found.looked > 2_000_000 {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(about) = entry.metadata() else {
            continue;
        };
        found.looked += 1;
        let path = entry.path();
        let name = || path.display().to_string();
        let mode = about.mode();
        if !known.contains(&about.uid()) {
            found.strangers.push(name());
        }
        if about.is_file() {
            if mode & 0o4000 != 0 {
                found.setuid.push(name());
            }
            if mode & 0o2000 != 0 && mode & 0o010 != 0 {
                found.setgid.push(name());
            }
            if mode & 0o002 != 0 {
                found.open_files.push(name());
            }
        } else if about.is_dir() {
            if mode & 0o1002 == 0o002 {
                found.open_directories.push(name());
            }
            if about.dev() == device {
                walk(&path, device, known, found, depth + 1);
            }
        } else if about.rdev() != 0 {
            found.devices.push(name());
        }
    }
}

pub(super) fn files(group: &mut Group) {
    let accounts = line("/etc/passwd").unwrap_or_default();
    let accounts: Vec<Vec<&str>> = accounts
        .lines()
        .map(|row| row.split(':').collect())
        .collect();
    let uids: Vec<u32> = accounts
        .iter()
        .filter_map(|row| row.get(2)?.parse().ok())
        .collect();
    let mut found = Found::default();
    if let Ok(root) = fs::metadata("/") {
        walk(Path::new("/"), root.dev(), &uids, &mut found, 0);
    }
    let looked = format!("{} names looked at", found.looked);
    for (name, wrong) in [
        ("no program runs as its owner (setuid)", &found.setuid),
        ("no program runs as its group (setgid)", &found.setgid),
        ("no file is everybody's to write", &found.open_files),
        (
            "no directory is everybody's to write without the sticky bit",
            &found.open_directories,
        ),
        ("there are no device files outside /dev", &found.devices),
        ("every file has a known owner", &found.strangers),
    ] {
        group.check(
            name,
            wrong.is_empty(),
            if wrong.is_empty() {
                looked.clone()
            } else {
                wrong.iter().take(5).cloned().collect::<Vec<_>>().join(" ")
            },
        );
    }
    let roots: Vec<&str> = accounts
        .iter()
        .filter(|row| row.get(2) == Some(&"0"))
        .map(|row| row[0])
        .collect();
    group.check("only root is root", roots == ["root"], roots.join(" "));
    let empty: Vec<&str> = accounts
        .iter()
        .filter(|row| row.get(1) == Some(&""))
        .map(|row| row[0])
        .collect();
    group.check(
        "no account is without a password field",
        empty.is_empty(),
        empty.join(" "),
    );
    match line("/etc/shadow") {
        Ok(text) => {
            let usable = |row: &&str| {
                !row.split(':')
                    .nth(1)
                    .is_some_and(|hash| hash.starts_with(['*', '!']))
            };
            let open: Vec<&str> = text
                .lines()
                .filter(usable)
                .map(|row| row.split(':').next().unwrap_or_default())
                .collect();
            group.check(
                "nobody can log in by a password",
                open.is_empty(),
                open.join(" "),
            );
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            group.skip("nobody can log in by a password", error.to_string())
        }
        Err(error) => group.check("nobody can log in by a password", true, error.to_string()),
    }
    for (path, mode) in [
        ("/etc/passwd", 0o022),
        ("/etc/group", 0o022),
        ("/etc/shadow", 0o027),
        ("/etc", 0o022),
        ("/usr", 0o022),
        ("/usr/bin", 0o022),
        ("/usr/lib", 0o022),
        ("/root", 0o022),
    ] {
        let name = format!("{path} is root's to change");
        match fs::metadata(path) {
            Ok(about) => group.check(
                name,
                about.uid() == 0 && about.mode() & mode == 0,
                format!("uid {} mode {:o}", about.uid(), about.mode() & 0o7777),
            ),
            Err(error) => group.check(
                name,
                error.kind() == std::io::ErrorKind::NotFound,
                error.to_string(),
            ),
        }
    }
    for program in [
        "sudo", "su", "doas", "pkexec", "mount", "umount", "passwd", "newgrp", "chsh", "chfn",
    ] {
        let places =
            ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map(|place| Path::new(place).join(program));
        let powerful = places
            .iter()
            .any(|path| fs::metadata(path).is_ok_and(|about| about.mode() & 0o6000 != 0));
        group.check(
            format!("{program} has no power of its own"),
            !powerful,
            if powerful {
                "it changes user"
            } else {
                "no setuid bit"
            },
        );
    }
    if let Ok(agent) = fs::metadata("/capsem/capsem-agent") {
        group.check(
            "the agent's program cannot be written",
            agent.mode() & 0o222 == 0,
            format!("mode {:o}", agent.mode() & 0o7777),
        );
    }
}
