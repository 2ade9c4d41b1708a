//! What leads out of the machine: no network card, no open port, nothing but the agent's own channels.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::{Group, line};
use crate::{line as ports, share, sys};

fn names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub(super) fn examine(group: &mut Group) {
    let cards = names("/sys/class/net");
    group.check(
        "there is no network card",
        cards.iter().all(|name| name == "lo" || name == "dummy0"),
        cards.join(" "),
    );
    for card in &cards {
        let hardware = Path::new("/sys/class/net").join(card).join("device");
        group.check(
            format!("the interface {card} leads to no device"),
            !hardware.exists(),
            "no device",
        );
    }
    let flags = line("/sys/class/net/lo/flags").unwrap_or_default();
    let up =
        u32::from_str_radix(flags.trim_start_matches("0x"), 16).is_ok_and(|flags| flags & 1 == 1);
    group.check("loopback is up", up, flags);
    for (file, name) in [
        ("tcp", "no TCP port is open to others"),
        ("udp", "no UDP port is open to others"),
    ] {
        let text = line(&format!("/proc/net/{file}")).unwrap_or_default();
        let open: Vec<&str> = text
            .lines()
            .skip(1)
            .filter_map(|row| {
                let words: Vec<&str> = row.split_whitespace().collect();
                let (local, state) = (*words.get(1)?, *words.get(3)?);
                let listening = if file == "tcp" {
                    state == "0A"
                } else {
                    state == "07"
                };
                // The agent's own relay listens everywhere; there is nowhere to reach it from.
                let ours = words.get(7) == Some(&"0");
                (listening && !ours && !local.starts_with("0100007F") && !local.ends_with("7F:"))
                    .then_some(local)
            })
            .collect();
        group.check(
            name,
            open.is_empty(),
            if open.is_empty() {
                "none".to_owned()
            } else {
                open.join(" ")
            },
        );
    }
    let routes = line("/proc/net/route").unwrap_or_default();
    let elsewhere: Vec<&str> = routes
        .lines()
        .skip(1)
        .filter_map(|row| row.split_whitespace().next())
        .filter(|name| *name != "dummy0" && *name != "lo")
        .collect();
    group.check(
        "no route leads to a network card",
        elsewhere.is_empty(),
        elsewhere.join(" "),
    );
    let shares: Vec<String> = line("/proc/mounts")
        .unwrap_or_default()
        .lines()
        .filter(|row| {
            ["virtiofs", "9p", "nfs", "nfs4", "cifs"]
                .contains(&row.split(' ').nth(2).unwrap_or_default())
        })
        .map(str::to_owned)
        .collect();
    group.check(
        "nothing of the host is mounted",
        shares.is_empty(),
        shares.join("; "),
    );
    channels(group);
    let first = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    group.check(
        "process 1 is the agent",
        ["init", "capsem-agent"].contains(&first.trim()),
        first.trim(),
    );
    for (file, name) in [
        ("mem", "the agent's memory is closed to ordinary users"),
        (
            "environ",
            "the agent's environment is closed to ordinary users",
        ),
        ("root", "the agent's root is closed to ordinary users"),
    ] {
        let path = format!("/proc/1/{file}");
        if sys::effective_uid() == 0 {
            group.skip(name, "this is root");
        } else {
            let opened = if file == "root" {
                fs::read_link(&path).is_ok()
            } else {
                fs::File::open(&path).is_ok()
            };
            group.check(name, !opened, if opened { "it opens" } else { "refused" });
        }
    }
    let disks = names("/sys/block");
    let known = disks
        .iter()
        .all(|name| name.starts_with("vd") || name.starts_with("loop") || name.starts_with("ram"));
    group.check(
        "there are no disks but the machine's own",
        known,
        disks.join(" "),
    );
    let image = line("/sys/block/vda/ro").unwrap_or_default();
    group.check("the image's disk is read-only", image == "1", image);
}

fn channels(group: &mut Group) {
    let found = names("/sys/class/virtio-ports");
    let mut known = true;
    let shared = share::mounted();
    for port in &found {
        let name = line(&format!("/sys/class/virtio-ports/{port}/name")).unwrap_or_default();
        let number = name
            .strip_prefix("capsem.")
            .and_then(|number| number.parse::<u16>().ok());
        let of_share = name == share::NAME;
        known &= of_share || number.is_some_and(|number| ports::PORTS.contains(&number));
        let node = format!("/dev/{port}");
        match fs::metadata(&node) {
            Ok(about) => {
                let closed = about.file_type().is_char_device()
                    && about.mode() & 0o077 == 0
                    && about.uid() == 0;
                group.check(
                    format!("the channel {name} is root's alone"),
                    closed,
                    format!("{node} mode {:o}", about.mode() & 0o777),
                );
            }
            Err(error) => group.check(
                format!("the channel {name} is root's alone"),
                false,
                error.to_string(),
            ),
        }
        // Nobody has it in a machine that shares nothing; nor does anybody on the host listen to it then.
        if of_share && !shared {
            continue;
        }
        // A device can be opened once, and the agent has it.
        let taken = fs::File::options().read(true).write(true).open(&node);
        group.check(
            format!("the channel {name} is the agent's alone"),
            taken.is_err(),
            match taken {
                Ok(_) => "it opens".to_owned(),
                Err(error) => error.to_string(),
            },
        );
    }
    group.check(
        "every channel is one of the documented",
        known && !found.is_empty(),
        found.join(" "),
    );
}
