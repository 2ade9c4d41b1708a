//! What programs find around them: variables, search path, home, workspace, clock, name.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Group, line};
use crate::share;

pub(super) fn examine(group: &mut Group) {
    let variable = |name: &str| std::env::var(name).ok();
    for name in [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "NODE_OPTIONS",
        "BASH_ENV",
        "ENV",
        "GIT_SSH_COMMAND",
        "PERL5LIB",
    ] {
        group.check(
            format!("{name} changes no program"),
            variable(name).is_none(),
            variable(name).unwrap_or_else(|| "not set".to_owned()),
        );
    }
    for name in [
        "SSH_AUTH_SOCK",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "KUBECONFIG",
        "DOCKER_HOST",
    ] {
        let value = variable(name);
        // A placeholder stands for a secret that only the host knows.
        let harmless = value
            .as_ref()
            .is_none_or(|value| value.starts_with("capsule-secret-"));
        group.check(
            format!("{name} carries nothing of the host"),
            harmless,
            if value.is_some() { "set" } else { "not set" },
        );
    }
    let path = variable("PATH").unwrap_or_default();
    group.check(
        "PATH has absolute directories only",
        !path.is_empty() && path.split(':').all(|part| part.starts_with('/')),
        path.clone(),
    );
    let open: Vec<&str> = path
        .split(':')
        .filter(|part| fs::metadata(part).is_ok_and(|about| about.mode() & 0o002 != 0))
        .collect();
    group.check(
        "no directory of PATH is everybody's to write",
        open.is_empty(),
        open.join(" "),
    );
    let name = line("/proc/sys/kernel/hostname").unwrap_or_default();
    group.check(
        "the machine has a name",
        !name.is_empty() && name != "(none)",
        name.clone(),
    );
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    group.check(
        "the clock is set",
        seconds > 1_735_689_600,
        format!("{seconds} s since 1970"),
    );
    let boot = line("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    group.check("this boot has an id", boot.len() == 36, boot);
    let entropy = line("/proc/sys/kernel/random/entropy_avail").unwrap_or_default();
    group.check(
        "random numbers are seeded",
        entropy.parse::<u32>().is_ok_and(|bits| bits >= 256),
        format!("{entropy} bits"),
    );
    for path in [
        "/dev/null",
        "/dev/zero",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/ptmx",
        "/dev/fd",
        "/dev/stdin",
        "/dev/stdout",
    ] {
        group.check(
            format!("{path} is there"),
            fs::symlink_metadata(path).is_ok(),
            path,
        );
    }
    for path in [
        "/bin/sh",
        "/etc/passwd",
        "/etc/resolv.conf",
        "/etc/hosts",
        "/tmp",
        "/var/tmp",
    ] {
        group.check(format!("{path} is there"), Path::new(path).exists(), path);
    }
    workspace(group, Path::new("/workspace"));
}

fn workspace(group: &mut Group, place: &Path) {
    let about = fs::metadata(place);
    group.check(
        "there is a workspace",
        about.as_ref().is_ok_and(fs::Metadata::is_dir),
        place.display().to_string(),
    );
    let Ok(about) = about else { return };
    group.check(
        "the workspace is not everybody's to write",
        about.mode() & 0o002 == 0,
        format!("uid {} mode {:o}", about.uid(), about.mode() & 0o7777),
    );
    let ours = place.join(format!(".doctor.{}", std::process::id()));
    let done = fs::create_dir(&ours);
    group.check(
        "a directory can be made in the workspace",
        done.is_ok(),
        format!("{done:?}"),
    );
    if done.is_err() {
        return;
    }
    let file = ours.join("a");
    let step = fs::File::create(&file).and_then(|mut file| {
        file.write_all(b"#!/bin/sh\nexit 0\n")
            .and_then(|()| file.sync_all())
    });
    group.check(
        "a file can be written and synced in the workspace",
        step.is_ok(),
        format!("{step:?}"),
    );
    let step = fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
        .and_then(|()| std::process::Command::new(&file).status());
    group.check(
        "a program of the workspace runs",
        step.as_ref().is_ok_and(std::process::ExitStatus::success),
        format!("{step:?}"),
    );
    let link = std::os::unix::fs::symlink("a", ours.join("b"))
        .and_then(|()| fs::read_link(ours.join("b")))
        .and_then(|target| fs::read(ours.join(target)));
    group.check(
        "a link can be made in the workspace, and leads there",
        link.is_ok(),
        format!("{link:?}"),
    );
    let hard = fs::hard_link(&file, ours.join("c"));
    if share::mounted() {
        // What is made there is made on the host.
        let rights = fs::set_permissions(&file, fs::Permissions::from_mode(0o4755));
        for (name, step) in [
            ("no hard link can be made in the live share", hard),
            ("no file of the live share gives another's rights", rights),
        ] {
            group.check(name, step.is_err(), format!("{step:?}"));
        }
    } else {
        group.check(
            "a hard link can be made in the workspace",
            hard.is_ok(),
            format!("{hard:?}"),
        );
    }
    let step = fs::rename(&file, ours.join("d"));
    group.check(
        "a file can be renamed in the workspace",
        step.is_ok(),
        format!("{step:?}"),
    );
    let step = fs::remove_dir_all(&ours);
    group.check(
        "the workspace can be cleaned",
        step.is_ok(),
        format!("{step:?}"),
    );
}
