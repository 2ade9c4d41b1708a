//! What the kernel refuses: settings, system calls that are not there, interfaces that would lead around it.

use std::io::ErrorKind;
use std::path::Path;

use super::{Group, line};
use crate::{errno, hardening, sys};

/// Settings of `/proc/sys`.
pub(super) fn settings(group: &mut Group) {
    for setting in hardening::SETTINGS {
        let name = format!("{} ({})", setting.name, setting.path.replace('/', "."));
        match line(&format!("/proc/sys/{}", setting.path)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                group.check(name, true, "this kernel has no such setting")
            }
            Err(error) => group.skip(name, error.to_string()),
            Ok(text) => {
                let seen = text
                    .split_whitespace()
                    .next()
                    .and_then(|word| word.parse::<i64>().ok());
                let holds = seen.is_some_and(|seen| {
                    u64::try_from(seen).is_ok_and(|seen| hardening::holds(setting, seen))
                });
                group.check(name, holds, text);
            }
        }
    }
    let patterns = line("/proc/sys/kernel/core_pattern");
    group.check(
        "no program is started for a core file",
        patterns
            .as_ref()
            .map_or(true, |text| !text.starts_with('|')),
        patterns.unwrap_or_else(|_| "this kernel writes no core files".to_owned()),
    );
}

/// System calls that this kernel is built without.
pub(super) fn system_calls(group: &mut Group) {
    for &(call, number) in sys::UNWANTED_CALLS {
        let found = sys::probe(number);
        group.check(
            format!("the system call {call} is not there"),
            found == libc::ENOSYS,
            errno::name(found),
        );
    }
    let ports = sys::probe_ports();
    group.check(
        "ports of the hardware cannot be opened",
        ports == libc::ENOSYS || ports == libc::EPERM,
        errno::name(ports),
    );
    for &(family, number) in FAMILIES {
        let found = sys::probe_socket(number);
        group.check(
            format!("sockets of the family {family} do not exist"),
            found == libc::EAFNOSUPPORT,
            errno::name(found),
        );
    }
}

const FAMILIES: &[(&str, i32)] = &[
    ("IPv6", libc::AF_INET6),
    ("packet", libc::AF_PACKET),
    ("AX.25", libc::AF_AX25),
    ("IPX", libc::AF_IPX),
    ("AppleTalk", libc::AF_APPLETALK),
    ("X.25", libc::AF_X25),
    ("key", libc::AF_KEY),
    ("RDS", libc::AF_RDS),
    ("PPP over others", libc::AF_PPPOX),
    ("CAN", libc::AF_CAN),
    ("TIPC", libc::AF_TIPC),
    ("Bluetooth", libc::AF_BLUETOOTH),
    ("kernel cryptography", libc::AF_ALG),
    ("NFC", libc::AF_NFC),
    ("vsock", libc::AF_VSOCK),
    ("KCM", 41),
    ("SMC", 43),
    ("XDP", libc::AF_XDP),
];

const ABSENT: &[(&str, &str)] = &[
    ("/dev/mem", "physical memory is not a file"),
    ("/dev/kmem", "the kernel's memory is not a file"),
    ("/dev/port", "the hardware's ports are not a file"),
    ("/proc/kcore", "the kernel's memory is not a core file"),
    ("/proc/modules", "the kernel has no modules"),
    ("/proc/sysrq-trigger", "magic keys cannot be written"),
    ("/proc/kpagecount", "counts of physical pages are not shown"),
    ("/proc/swaps", "there is no swap"),
    ("/proc/net/if_inet6", "there is no IPv6"),
    (
        "/proc/sys/fs/binfmt_misc",
        "no further kinds of programs can be registered",
    ),
    (
        "/sys/kernel/debug/tracing",
        "the debug file system is not there",
    ),
    ("/sys/kernel/tracing", "tracing is not there"),
    ("/sys/fs/bpf", "there is no BPF file system"),
    ("/sys/firmware/efi", "the firmware cannot be written"),
    ("/sys/kernel/kexec_loaded", "the kernel has no kexec"),
    ("/sys/power/disk", "the machine cannot hibernate"),
    ("/sys/bus/usb", "there is no USB"),
    ("/sys/class/bluetooth", "there is no Bluetooth"),
    ("/sys/class/ieee80211", "there is no wireless network"),
    ("/sys/class/drm", "there is no graphics card"),
    ("/sys/class/sound", "there is no sound card"),
    ("/sys/class/scsi_host", "there is no SCSI"),
    ("/dev/kvm", "the machine starts no machines"),
    ("/dev/vsock", "there is no vsock"),
    ("/dev/vhost-vsock", "there is no vhost"),
    ("/dev/vfio", "devices cannot be handed on"),
    ("/dev/nvram", "the firmware's memory is not a file"),
    ("/dev/cpu", "registers of the processor are not files"),
    ("/dev/mcelog", "there is no machine check log"),
    ("/dev/fb0", "there is no screen"),
    ("/dev/input", "there is no keyboard"),
    ("/dev/uinput", "no keyboard can be invented"),
    ("/dev/snd", "there is no sound"),
    ("/dev/watchdog", "there is no watchdog to misuse"),
    ("/dev/mapper/control", "there is no device mapper"),
    ("/dev/btrfs-control", "there is no btrfs"),
    ("/dev/cuse", "no character devices can be invented"),
    ("/dev/userfaultfd", "userfaultfd is not a file"),
];

/// Interfaces that lead around the kernel's rules, and the modules that keep them.
pub(super) fn interfaces(group: &mut Group) {
    for &(path, name) in ABSENT {
        group.check(
            format!("{name} ({path})"),
            !Path::new(path).exists(),
            if Path::new(path).exists() {
                "it is there"
            } else {
                "absent"
            },
        );
    }
    match line("/sys/kernel/security/lockdown") {
        Ok(text) => group.check(
            "the kernel is locked down for confidentiality",
            text.contains("[confidentiality]"),
            text,
        ),
        Err(error) => group.check(
            "the kernel is locked down for confidentiality",
            false,
            error.to_string(),
        ),
    }
    let modules = line("/sys/kernel/security/lsm").unwrap_or_default();
    for (word, name) in [
        ("landlock", "Landlock is there"),
        ("yama", "Yama is there"),
        ("lockdown", "lockdown is there"),
    ] {
        group.check(
            name,
            modules.split(',').any(|module| module == word),
            modules.clone(),
        );
    }
    let status = line("/proc/self/status").unwrap_or_default();
    group.check(
        "seccomp filters are there",
        status.contains("Seccomp_filters:"),
        "Seccomp_filters in /proc/self/status",
    );
    match line("/proc/kallsyms") {
        Ok(text) => {
            let first = text.lines().next().unwrap_or_default().to_owned();
            let hidden = first
                .split(' ')
                .next()
                .is_some_and(|address| address.bytes().all(|byte| byte == b'0'));
            group.check(
                "addresses of the kernel are not told",
                hidden || sys::effective_uid() == 0,
                first,
            );
        }
        Err(error) => group.check(
            "addresses of the kernel are not told",
            true,
            error.to_string(),
        ),
    }
    let command = line("/proc/cmdline").unwrap_or_default();
    for (word, name) in [
        ("lockdown=none", "lockdown is not turned off at boot"),
        ("init=", "no other first program was named at boot"),
        ("nokaslr", "the kernel's addresses are random"),
        (
            "module.sig_enforce=0",
            "signatures are not turned off at boot",
        ),
        ("systemd.debug", "no debugging was asked for at boot"),
    ] {
        group.check(
            name,
            !command.split(' ').any(|given| given.starts_with(word)),
            command.clone(),
        );
    }
}
