//! Whether somebody listens on the host, where a command that looked inside met nobody.
//!
//! Read from `/proc/net` of the supervisor's own network; a bounded part, and what cannot be read is nobody.
//!
//! `tcp:127.0.0.1:5432` → true while a database runs on the host

use std::io::Read;

/// Bytes of one table.
const MOST: u64 = 4 * 1024 * 1024;

/// Whether a target of a refusal (`tcp:127.0.0.1:80`, `unix:@name`) is listened on.
#[must_use]
pub fn on_host(target: &str) -> bool {
    if let Some(name) = target.strip_prefix("unix:@") {
        return table("unix").is_some_and(|text| abstract_in(&text, name));
    }
    let Some(port) = target.rsplit(':').next().and_then(|port| port.parse().ok()) else {
        return false;
    };
    ["tcp", "tcp6"]
        .into_iter()
        .any(|name| table(name).is_some_and(|text| port_in(&text, port)))
}

fn table(name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(format!("/proc/self/net/{name}")).ok()?;
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `  0: 0100007F:1F90 00000000:0000 0A …`: the fourth column is the state, 0A listens.
fn port_in(table: &str, port: u16) -> bool {
    table.lines().skip(1).any(|line| {
        let mut columns = line.split_ascii_whitespace();
        let (local, state) = (columns.nth(1), columns.nth(1));
        let at = local.and_then(|local| local.rsplit(':').next());
        state == Some("0A") && at.and_then(|at| u16::from_str_radix(at, 16).ok()) == Some(port)
    })
}

/// The last column is the name.
fn abstract_in(table: &str, name: &str) -> bool {
    let name = format!("@{name}");
    table
        .lines()
        .skip(1)
        .any(|line| line.split_ascii_whitespace().nth(7) == Some(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_the_host_is_seen_and_a_free_port_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(on_host(&format!("tcp:127.0.0.1:{port}")));
        drop(listener);
        assert!(!on_host(&format!("tcp:127.0.0.1:{port}")));
        assert!(!on_host("tcp:nothing") && !on_host("unix:@capsule-no-such-name"));
    }

    #[test]
    fn tables_are_read_by_column() {
        let tcp =
            "head\n 0: 0100007F:1F90 00000000:0000 0A 0\n 1: 0100007F:0050 0100007F:1F91 01 0\n";
        assert!(port_in(tcp, 8080) && !port_in(tcp, 80) && !port_in(tcp, 8081));
        let unix = "head\n0: 00000002 00000000 00010000 0001 01 5 @bus\n";
        assert!(abstract_in(unix, "bus") && !abstract_in(unix, "bu"));
    }
}
