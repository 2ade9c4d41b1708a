//! The first moments of a machine: mounts, modules, the root, the ports.
//!
//! Refuses to go on without a root: a machine without its image is not one. Example of a kernel command line:
//! `capsem.root=/dev/vda capsem.fs=squashfs capsem.disk=/dev/vdb`.

use std::fs;
use std::io::{Error, Result, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::{hardening, identity, line, mcp, network, sys};

const NOSUID: libc::c_ulong = libc::MS_NOSUID;
const NODEV: libc::c_ulong = libc::MS_NODEV;
const NOEXEC: libc::c_ulong = libc::MS_NOEXEC;
/// How long devices may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the kernel command line says to the agent.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The device with the image.
    pub root: String,
    /// The image's file system.
    pub kind: String,
    /// A device for what is changed; without it changes are in memory.
    pub disk: Option<String>,
}

/// Reads the kernel command line.
pub fn parameters(line: &str) -> std::result::Result<Parameters, String> {
    let word = |name: &str| {
        line.split_whitespace()
            .filter_map(|word| word.strip_prefix(name))
            .next_back()
            .map(str::to_owned)
    };
    let root = word("capsem.root=").ok_or("the kernel command line names no capsem.root=")?;
    let kind = word("capsem.fs=").unwrap_or_else(|| "squashfs".to_owned());
    if !["squashfs", "erofs", "ext4"].contains(&kind.as_str()) {
        return Err(format!("capsem.fs={kind} is none of squashfs, erofs, ext4"));
    }
    Ok(Parameters {
        root,
        kind,
        disk: word("capsem.disk="),
    })
}

/// Boots and serves; returns with why it could not.
pub fn run() -> Error {
    match boot() {
        Ok(mut agent) => match agent.run() {
            Ok(()) => Error::other("the agent ended"),
            Err(error) => error,
        },
        Err(error) => error,
    }
}

/// Says on the console why the machine ends.
pub fn last_words(error: &Error) {
    for console in ["/dev/console", "/dev/hvc0", "/dev/ttyS0"] {
        if let Ok(mut console) = fs::OpenOptions::new().write(true).open(console) {
            let _ = writeln!(console, "capsem-agent: {error}");
            break;
        }
    }
}

fn step<T>(what: &str, done: Result<T>) -> Result<T> {
    done.map_err(|error| Error::other(format!("{what}: {error}")))
}

fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, data: &str) -> Result<()> {
    fs::create_dir_all(target)?;
    step(
        &format!("mounting {kind} on {target}"),
        sys::mount(source, target, kind, flags, data),
    )
}

fn boot() -> Result<Agent> {
    mount("proc", "/proc", "proc", NOSUID | NODEV | NOEXEC, "")?;
    mount("sysfs", "/sys", "sysfs", NOSUID | NODEV | NOEXEC, "")?;
    // The kernel may have mounted it already.
    if !Path::new("/dev/null").exists() || fs::metadata("/dev/vda").is_err() {
        mount("devtmpfs", "/dev", "devtmpfs", NOSUID | NOEXEC, "mode=0755")?;
    }
    load_modules(Path::new("/modules"))?;
    let parameters = parameters(&fs::read_to_string("/proc/cmdline")?).map_err(Error::other)?;
    make_root(&parameters)?;
    enter_root()?;
    furnish()?;
    harden();
    for (path, value) in hardening::QUIET {
        // A kernel without one has nothing that it would keep awake.
        let _ = fs::write(format!("/proc/sys/{path}"), value.to_string());
    }
    step("turning loopback on", sys::net::up("lo"))?;
    let ports = wait_for_ports()?;
    let mut agent = Agent::new(ports, identity::facts(), true)?;
    // A kernel without one of the parts gives a machine without a network, which says so in its capabilities.
    if let Err(error) = agent
        .offer_network()
        .and_then(|()| network::name_resolver())
    {
        eprintln!("capsem-agent: no network: {error}");
    }
    if let Err(error) = agent.offer_mcp(Path::new(mcp::SOCKET)) {
        eprintln!("capsem-agent: no MCP: {error}");
    }
    Ok(agent)
}

fn harden() {
    for setting in hardening::SETTINGS {
        let path = format!("/proc/sys/{}", setting.path);
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let seen = text
            .split_whitespace()
            .next()
            .and_then(|word| word.parse().ok());
        if !seen.is_some_and(|seen| hardening::holds(setting, seen)) {
            // One that the kernel does not take is told by the doctor.
            let _ = fs::write(&path, setting.value.to_string());
        }
    }
}

fn load_modules(directory: &Path) -> Result<()> {
    let Ok(order) = fs::read_to_string(directory.join("order")) else {
        return Ok(());
    };
    for name in order.split_whitespace() {
        let file = step(name, fs::File::open(directory.join(name)))?;
        match sys::load_module(file.as_fd()) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            done => step(&format!("loading {name}"), done)?,
        }
    }
    fs::remove_dir_all(directory)
}

fn wait_for(path: &str) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !Path::new(path).exists() {
        if Instant::now() > until {
            return Err(Error::other(format!("{path} did not appear")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn make_root(parameters: &Parameters) -> Result<()> {
    wait_for(&parameters.root)?;
    mount(
        &parameters.root,
        "/lower",
        &parameters.kind,
        libc::MS_RDONLY | NODEV,
        "",
    )?;
    match &parameters.disk {
        Some(disk) => {
            wait_for(disk)?;
            mount(disk, "/upper", "ext4", NODEV | libc::MS_NOATIME, "")?;
        }
        None => mount("changes", "/upper", "tmpfs", NODEV, "mode=0755,size=80%")?,
    }
    for directory in ["/upper/changed", "/upper/work"] {
        fs::create_dir_all(directory)?;
    }
    fs::set_permissions("/upper/changed", fs::Permissions::from_mode(0o755))?;
    mount(
        "capsem",
        "/newroot",
        "overlay",
        NODEV,
        "lowerdir=/lower,upperdir=/upper/changed,workdir=/upper/work",
    )
}

fn enter_root() -> Result<()> {
    for name in ["dev", "proc", "sys"] {
        let target = format!("/newroot/{name}");
        fs::create_dir_all(&target)?;
        step(
            &target,
            sys::mount(&format!("/{name}"), &target, "", libc::MS_MOVE, ""),
        )?;
    }
    std::env::set_current_dir("/newroot")?;
    step(
        "moving the root",
        sys::mount(".", "/", "", libc::MS_MOVE, ""),
    )?;
    step("entering the root", sys::change_root("."))?;
    std::env::set_current_dir("/")
}

fn furnish() -> Result<()> {
    mount(
        "devpts",
        "/dev/pts",
        "devpts",
        NOSUID | NOEXEC,
        "ptmxmode=0666,mode=0620",
    )?;
    mount("shm", "/dev/shm", "tmpfs", NOSUID | NODEV, "mode=1777")?;
    mount("run", "/run", "tmpfs", NOSUID | NODEV, "mode=0755")?;
    mount("tmp", "/tmp", "tmpfs", NOSUID | NODEV, "mode=1777")?;
    // What a kernel without them does not have is reported by the doctor, not a reason not to start.
    let _ = sys::mount(
        "cgroup2",
        "/sys/fs/cgroup",
        "cgroup2",
        NOSUID | NODEV | NOEXEC,
        "",
    );
    let _ = sys::mount(
        "securityfs",
        "/sys/kernel/security",
        "securityfs",
        NOSUID | NODEV | NOEXEC,
        "",
    );
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let link = format!("/dev/{link}");
        if fs::symlink_metadata(&link).is_err() {
            step(&link, std::os::unix::fs::symlink(target, &link))?;
        }
    }
    // Terminals are opened through the mounted instance.
    if fs::symlink_metadata("/dev/ptmx").is_err() {
        step(
            "/dev/ptmx",
            std::os::unix::fs::symlink("pts/ptmx", "/dev/ptmx"),
        )?;
    }
    Ok(())
}

fn wait_for_ports() -> Result<Vec<(u16, line::Line)>> {
    let until = Instant::now() + PATIENCE;
    loop {
        let ports = line::devices(Path::new("/sys/class/virtio-ports"), Path::new("/dev"))?;
        if ports.iter().any(|(number, _)| *number == 5000) {
            // Ports are announced one after the other; one that comes later than its control port is given a moment.
            if ports.len() < line::PORTS.len() {
                std::thread::sleep(Duration::from_millis(20));
                drop(ports);
                return line::devices(Path::new("/sys/class/virtio-ports"), Path::new("/dev"));
            }
            return Ok(ports);
        }
        drop(ports);
        if Instant::now() > until {
            return Err(Error::other(
                "no virtio-serial port named capsem.5000 appeared",
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_the_root() {
        let read = parameters("quiet capsem.root=/dev/vda capsem.fs=erofs capsem.disk=/dev/vdb\n")
            .expect("good");
        assert_eq!(
            (read.root.as_str(), read.kind.as_str(), read.disk.as_deref()),
            ("/dev/vda", "erofs", Some("/dev/vdb"))
        );
        assert_eq!(
            parameters("capsem.root=/dev/vda").expect("good").kind,
            "squashfs"
        );
        assert!(parameters("quiet").is_err());
        assert!(parameters("capsem.root=/dev/vda capsem.fs=9p").is_err());
    }
}
