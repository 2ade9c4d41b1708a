//! The kernel settings that a machine starts with: set at boot, and those that harden it looked at by the doctor.
//!
//! Pure, a table. A setting that this kernel does not have is not there to be misused, which holds too.

/// One setting: below `/proc/sys`, its value, and what it is for.
pub struct Setting {
    /// Path below `/proc/sys`.
    pub path: &'static str,
    /// The least value that holds (for `exact`, the only one).
    pub value: u64,
    /// Whether a greater value does not hold.
    pub exact: bool,
    /// What must hold.
    pub name: &'static str,
}

const fn least(path: &'static str, value: u64, name: &'static str) -> Setting {
    Setting {
        path,
        value,
        exact: false,
        name,
    }
}

const fn exact(path: &'static str, value: u64, name: &'static str) -> Setting {
    Setting {
        path,
        value,
        exact: true,
        name,
    }
}

/// What lets an idle machine sleep, and where it is set below `/proc/sys`: memory is not tidied up for large pages twice a
/// second, counters are gathered once a minute, and no timer looks whether a processor hangs, which the host sees.
pub const QUIET: &[(&str, u64)] = &[
    ("vm/compaction_proactiveness", 0),
    ("vm/stat_interval", 60),
    ("kernel/watchdog", 0),
];

/// All of them.
pub const SETTINGS: &[Setting] = &[
    least(
        "kernel/kptr_restrict",
        1,
        "kernel addresses are hidden from ordinary users",
    ),
    least(
        "kernel/dmesg_restrict",
        1,
        "the kernel's log is root's to read",
    ),
    least(
        "kernel/yama/ptrace_scope",
        1,
        "a process is traced by its ancestors only",
    ),
    least(
        "kernel/randomize_va_space",
        2,
        "addresses of programs are random, the heap too",
    ),
    least(
        "kernel/perf_event_paranoid",
        2,
        "performance events of the kernel are root's",
    ),
    least(
        "kernel/unprivileged_bpf_disabled",
        1,
        "BPF is not for ordinary users",
    ),
    least(
        "kernel/kexec_load_disabled",
        1,
        "no other kernel can be loaded",
    ),
    least("kernel/panic_on_oops", 1, "a kernel that has erred stops"),
    least(
        "kernel/modules_disabled",
        1,
        "no module can be loaded any more",
    ),
    exact("kernel/sysrq", 0, "magic keys do nothing"),
    exact(
        "kernel/core_uses_pid",
        0,
        "core files have no names of their own",
    ),
    exact("kernel/ctrl-alt-del", 0, "keys do not restart the machine"),
    exact(
        "kernel/io_uring_disabled",
        2,
        "io_uring is off for everyone",
    ),
    least(
        "fs/protected_hardlinks",
        1,
        "hard links to other people's files are refused",
    ),
    least(
        "fs/protected_symlinks",
        1,
        "other people's links in shared directories are not followed",
    ),
    least(
        "fs/protected_fifos",
        1,
        "other people's fifos in shared directories are not opened",
    ),
    least(
        "fs/protected_regular",
        1,
        "other people's files in shared directories are not created over",
    ),
    exact(
        "fs/suid_dumpable",
        0,
        "programs that changed user leave no core",
    ),
    least(
        "vm/mmap_min_addr",
        65536,
        "nothing is mapped at low addresses",
    ),
    exact(
        "vm/unprivileged_userfaultfd",
        0,
        "userfaultfd is not for ordinary users",
    ),
    least(
        "vm/mmap_rnd_bits",
        28,
        "mappings have random addresses of 28 bits and more",
    ),
    exact("net/ipv4/ip_forward", 0, "packets are not forwarded"),
    least(
        "net/ipv4/tcp_syncookies",
        1,
        "a flood of connections does not fill the table",
    ),
    exact(
        "net/ipv4/conf/all/accept_redirects",
        0,
        "redirects are not believed",
    ),
    exact(
        "net/ipv4/conf/all/send_redirects",
        0,
        "redirects are not sent",
    ),
    exact(
        "net/ipv4/conf/all/accept_source_route",
        0,
        "routes chosen by the sender are not taken",
    ),
    exact(
        "net/ipv4/conf/default/accept_redirects",
        0,
        "redirects are not believed on later interfaces",
    ),
    exact(
        "net/ipv4/conf/default/send_redirects",
        0,
        "redirects are not sent on later interfaces",
    ),
    exact(
        "net/ipv4/conf/default/accept_source_route",
        0,
        "nor routes chosen by the sender on later interfaces",
    ),
    least(
        "net/ipv4/icmp_echo_ignore_broadcasts",
        1,
        "echo requests to everyone are not answered",
    ),
    least(
        "net/ipv4/icmp_ignore_bogus_error_responses",
        1,
        "bogus errors are not logged",
    ),
];

/// Whether a value that was read holds.
pub fn holds(setting: &Setting, seen: u64) -> bool {
    if setting.exact {
        seen == setting.value
    } else {
        seen >= setting.value
    }
}
