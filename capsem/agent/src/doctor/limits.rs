//! What a program may use before the machine itself is in danger.

use super::{Group, line};
use crate::sys;

pub(super) fn examine(group: &mut Group) {
    for (name, resource, least) in [
        ("a program may open 1,024 files", libc::RLIMIT_NOFILE, 1024),
        (
            "a program may have a stack of 8 MiB",
            libc::RLIMIT_STACK,
            8 << 20,
        ),
        (
            "a program may have any size in memory",
            libc::RLIMIT_AS,
            u64::MAX,
        ),
        (
            "a program may write files of any size",
            libc::RLIMIT_FSIZE,
            u64::MAX,
        ),
        (
            "a program may use the processor without end",
            libc::RLIMIT_CPU,
            u64::MAX,
        ),
    ] {
        let limit = sys::limit(resource);
        group.check(
            name,
            limit.is_some_and(|limit| limit >= least),
            format!("{limit:?}"),
        );
    }
    let cores = sys::limit(libc::RLIMIT_CORE);
    let no_cores =
        cores == Some(0) || !std::path::Path::new("/proc/sys/kernel/core_pattern").exists();
    group.check(
        "programs leave no core files",
        no_cores,
        format!("{cores:?}"),
    );
    let memory = line("/proc/meminfo").unwrap_or_default();
    let kilobytes = |name: &str| {
        let row = memory.lines().find(|row| row.starts_with(name))?;
        row.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let total = kilobytes("MemTotal:");
    group.check(
        "there are at least 64 MiB of memory",
        total.is_some_and(|total| total >= 64 << 10),
        format!("{total:?} kB"),
    );
    let free = kilobytes("MemAvailable:");
    group.check(
        "a tenth of the memory is free",
        free.zip(total)
            .is_some_and(|(free, total)| free * 10 >= total),
        format!("{free:?} kB"),
    );
    group.check(
        "nothing is swapped",
        kilobytes("SwapTotal:").unwrap_or(0) == 0,
        format!("{:?} kB", kilobytes("SwapTotal:")),
    );
    let controllers = line("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    for name in ["cpu", "memory", "pids"] {
        let there = controllers.split(' ').any(|controller| controller == name);
        group.check(
            format!("control groups can bound {name}"),
            there,
            controllers.clone(),
        );
    }
    let most = line("/proc/sys/kernel/pid_max").unwrap_or_default();
    group.check(
        "processes are bounded in number",
        most.parse::<u64>().is_ok_and(|most| most <= 4_194_304),
        most,
    );
    let files = line("/proc/sys/fs/file-max").unwrap_or_default();
    group.check(
        "open files of the machine are bounded",
        !files.is_empty(),
        files,
    );
    for place in ["/tmp", "/dev/shm", "/run"] {
        let size = sys::file_system_size(place);
        let bounded = size
            .zip(total)
            .is_some_and(|(size, total)| size <= total << 10);
        group.check(
            format!("{place} cannot take more than the memory"),
            bounded,
            format!("{size:?} bytes"),
        );
    }
}
