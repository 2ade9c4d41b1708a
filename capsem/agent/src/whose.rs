//! Whose a connection is: the process, user and program that `/proc` knows for a socket's own address.
//!
//! It is the guest's word: a program that is root in here can make `/proc` say anything. Refuses to look at more than so many
//! descriptors for one connection, so that a program that holds many cannot keep the machine's network waiting.
//!
//! ```
//! use capsem_agent::whose::row;
//! let line = "   1: 020000C0:9C40 22D8B85D:01BB 02 00000000:00000000 01:00000000 00000000  1000        0 4242 1 0";
//! assert_eq!(row(line, 0x9c40), Some((1000, 4242)));
//! ```

use std::fs;

/// Where an image has this program.
const AGENT: &str = "/capsem/capsem-agent";
/// Descriptors that are looked at for one connection.
const LOOKS: usize = 8192;

/// Who made a connection, as far as it is known.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Owner {
    pub pid: Option<u32>,
    pub uid: Option<u32>,
    pub program: Option<String>,
}

/// The user and the inode of a line of `/proc/net/tcp` whose own port is this one.
pub fn row(line: &str, port: u16) -> Option<(u32, u64)> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let own = words.get(1)?.rsplit_once(':')?.1;
    if u16::from_str_radix(own, 16) != Ok(port) {
        return None;
    }
    Some((words.get(7)?.parse().ok()?, words.get(9)?.parse().ok()?))
}

/// Who has a socket of this port; `table` is `tcp` or `udp`. `hint` is looked at first.
pub fn owner(table: &str, port: u16, hint: Option<u32>) -> Owner {
    let mut found = Owner::default();
    let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
    // The agent's own end has the port as the other one's; a socket without an inode is nobody's any more.
    let Some((uid, inode)) = text
        .lines()
        .skip(1)
        .filter_map(|line| row(line, port))
        .find(|(_, inode)| *inode != 0)
    else {
        return found;
    };
    found.uid = Some(uid);
    let link = format!("socket:[{inode}]");
    let mut looks = LOOKS;
    let pid = hint
        .filter(|pid| has(*pid, &link, &mut looks))
        .or_else(|| processes().find(|pid| has(*pid, &link, &mut looks)));
    if let Some(pid) = pid {
        found.pid = Some(pid);
        found.program = program(pid);
    }
    found
}

fn processes() -> impl Iterator<Item = u32> {
    let own = std::process::id();
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(move |pid| *pid != own)
}

fn has(pid: u32, link: &str, looks: &mut usize) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    for entry in entries.flatten() {
        if *looks == 0 {
            return false;
        }
        *looks -= 1;
        if fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == link) {
            return true;
        }
    }
    false
}

/// Who a process is that connected; the program that speaks for its client is told as that client, where that is none of ours.
pub fn who(pid: u32, uid: u32) -> Owner {
    let speaks = |pid: &u32| program(*pid).as_deref() == Some(AGENT);
    let client = Some(pid)
        .filter(speaks)
        .and_then(parent)
        .filter(|pid| *pid > 1)
        .unwrap_or(pid);
    Owner {
        pid: Some(client),
        uid: Some(uid),
        program: program(client),
    }
}

fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may have anything in it.
    text.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

fn program(pid: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.to_string_lossy().chars().take(1000).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_none_are_nobodys() {
        for line in [
            "",
            "  sl  local_address rem_address   st",
            "1: x y",
            "1: 0100007F:ZZZZ 0:0 01 0 0 0 5 0 9",
        ] {
            assert_eq!(row(line, 80), None);
        }
    }

    #[test]
    fn a_socket_of_this_machine_is_found() {
        let listener = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let port = listener.local_addr().expect("bound").port();
        let found = owner("udp", port, None);
        assert_eq!(found.uid, Some(sys_uid()));
        // Its own process is the agent here, which is never the answer.
        assert_eq!(found.pid, None);
        assert_eq!(owner("udp", 1, None), Owner::default());
    }

    #[test]
    fn a_process_is_told_with_its_program_and_its_parent_is_known() {
        let own = std::process::id();
        let found = who(own, 7);
        assert_eq!((found.pid, found.uid), (Some(own), Some(7)));
        assert_eq!(found.program, program(own));
        assert_eq!(parent(own), Some(std::os::unix::process::parent_id()));
        assert_eq!(parent(0), None);
    }

    fn sys_uid() -> u32 {
        crate::sys::effective_uid()
    }
}
