//! The way to the host's network, tried from inside: names, connections, and what must lead nowhere.
//!
//! A host over TLS is tried where one is named: `CAPSEM_DOCTOR_HOST=example.com capsem-agent doctor`.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use super::{Group, line};
use crate::trust;

/// The proxy may be started by the first question.
const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(3);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

pub(super) fn examine(group: &mut Group) {
    let resolver = line("/etc/resolv.conf").unwrap_or_default();
    if !resolver.starts_with("nameserver 198.18.0.1") {
        group.skip(
            "there is a way to the host's network",
            "this machine has none",
        );
        return;
    }
    group.check(
        "the resolver is the machine's own",
        resolver.matches("nameserver").count() == 1,
        resolver,
    );
    let flags = line("/sys/class/net/dummy0/flags").unwrap_or_default();
    let up =
        u32::from_str_radix(flags.trim_start_matches("0x"), 16).is_ok_and(|flags| flags & 1 == 1);
    group.check("the interface without a card is up", up, flags);
    let routes = line("/proc/net/route").unwrap_or_default();
    let first = routes
        .lines()
        .find(|row| row.split_whitespace().nth(1) == Some("00000000"));
    let leads = first.unwrap_or_default().to_owned();
    group.check(
        "what has no other route goes nowhere",
        leads.starts_with("dummy0"),
        leads,
    );
    names(group);
    connections(group);
    authority(group);
}

fn names(group: &mut Group) {
    for (server, name) in [
        (RESOLVER, "a name that no policy lists does not exist"),
        (
            Ipv4Addr::new(8, 8, 8, 8),
            "another resolver is the machine's own",
        ),
    ] {
        let answer = ask(server, "capsem-doctor.invalid");
        let seen = answer.map_or_else(|error| error.to_string(), |code| format!("code {code}"));
        group.check(name, seen == "code 3", seen);
    }
}

// The code of the answer: 3 is NXDOMAIN (RFC 1035 §4.1.1).
fn ask(server: Ipv4Addr, name: &str) -> std::io::Result<u8> {
    let mut question = b"\x0c\x0d\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap_or(1));
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(b"\0\0\x01\0\x01");
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((server, 53))?;
    socket.send(&question)?;
    let mut answer = [0; 512];
    let count = socket.recv(&mut answer)?;
    if count < 12 || answer[..2] != question[..2] {
        return Err(ErrorKind::InvalidData.into());
    }
    Ok(answer[3] & 15)
}

fn connections(group: &mut Group) {
    for (target, name) in [
        ("169.254.169.254:80", "the metadata address answers nothing"),
        ("10.0.0.1:80", "a private address answers nothing"),
        ("192.0.2.1:443", "an address without a name answers nothing"),
        ("[2001:db8::1]:80", "IPv6 leads nowhere"),
    ] {
        let (silent, seen) = tried(target);
        group.check(name, silent, seen);
    }
    let seen = datagram().map_or_else(|error| error.to_string(), |count| format!("{count} bytes"));
    group.check(
        "a datagram to elsewhere is refused",
        !seen.ends_with("bytes"),
        seen,
    );
}

// Whether nothing came back, and what was seen.
fn tried(target: &str) -> (bool, String) {
    let Ok(address) = target.parse::<SocketAddr>() else {
        return (false, "not an address".to_owned());
    };
    let mut stream = match TcpStream::connect_timeout(&address, SOON) {
        Ok(stream) => stream,
        Err(error) => return (true, error.to_string()),
    };
    let mut into = [0; 64];
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    match stream.read(&mut into) {
        Ok(0) => (true, "closed".to_owned()),
        Ok(_) => (false, String::from_utf8_lossy(&into).into_owned()),
        Err(error) => (true, error.to_string()),
    }
}

fn datagram() -> std::io::Result<usize> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(SOON))?;
    socket.connect("203.0.113.1:123")?;
    socket.send(b"?")?;
    socket.recv(&mut [0; 64])
}

fn authority(group: &mut Group) {
    let Ok(own) = fs::read_to_string(format!("/{}", trust::ALONE)) else {
        group.skip(
            "programs trust the machine's authority",
            "no host can be reached",
        );
        return;
    };
    let bundle = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
    group.check(
        "programs trust the machine's authority",
        bundle.contains(own.trim()),
        trust::ALONE,
    );
    group.check(
        "the authority's key is not in here",
        !own.contains("PRIVATE"),
        trust::ALONE,
    );
    let Ok(host) = std::env::var("CAPSEM_DOCTOR_HOST") else {
        group.skip(
            "a host is reached over TLS",
            "CAPSEM_DOCTOR_HOST names none",
        );
        return;
    };
    let tried = Command::new("curl")
        .args([
            "-sS",
            "-m",
            "20",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{ssl_verify_result}",
        ])
        .arg(format!("https://{host}/"))
        .output();
    match tried {
        Err(error) => group.skip("a host is reached over TLS", format!("curl: {error}")),
        Ok(done) => {
            let said = [done.stdout, done.stderr].concat();
            let seen = String::from_utf8_lossy(&said).into_owned();
            group.check(
                "a host is reached over TLS",
                done.status.success() && seen.ends_with(" 0"),
                seen,
            );
        }
    }
}
