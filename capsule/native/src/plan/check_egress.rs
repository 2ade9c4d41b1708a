//! What types cannot say about `network.egress`: names of hosts, addresses, and which fields go together.
//!
//! It refuses what the policy's reader would not have written; that one knows the words for people.

use super::check::{At, Checked, each, grant, integer, not_empty, origin, path, string};
use super::egress::{Carried, Detection, Egress, HostEntry, Inspect, Secret, SecretKind};
use super::model::{Network, NetworkMode};
use std::net::{Ipv4Addr, SocketAddr};

const TOP: &str = "network.egress";
/// Listeners of one run: they go to egress in one message with the two sockets for names.
const MAX_PORTS: usize = 240;
/// Port 53 answers names, and nothing else.
const NAMES: u16 = 53;

/// The mode, and what goes with it.
pub(super) fn network(network: &Network) -> Checked {
    match (network.mode, &network.egress) {
        (NetworkMode::Hosts, Some(found)) => egress(found),
        (NetworkMode::Hosts, None) => Err(At::Top(TOP).refuse("is null with the mode `hosts`")),
        (_, Some(_)) => Err(At::Top(TOP).refuse("belongs to the mode `hosts` alone")),
        (_, None) => Ok(()),
    }
}

fn egress(egress: &Egress) -> Checked {
    let top = At::Top(TOP);
    each(&top.field("hosts"), &egress.hosts, host)?;
    if egress.ports().len() > MAX_PORTS {
        return Err(top
            .field("hosts")
            .refuse(format!("names more than {MAX_PORTS} different ports")));
    }
    let budget = &egress.budget;
    for (name, value) in [
        ("requests", budget.requests),
        ("bytes", budget.bytes),
        ("tokens", budget.tokens),
        ("microdollars", budget.microdollars),
    ] {
        value.map_or(Ok(()), |v| integer(&top.field("budget").field(name), v))?;
    }
    each(
        &top.field("upstreams"),
        &egress.upstreams,
        |at, upstream| {
            named(&at.field("host"), &upstream.host)?;
            let address = at.field("address");
            string(&address, &upstream.address)?;
            match upstream.address.parse::<SocketAddr>() {
                Ok(found) if found.port() != 0 => origin(&at.field("origin"), &upstream.origin),
                _ => Err(address.refuse("is not `address:port`")),
            }
        },
    )?;
    each(&top.field("authorities"), &egress.authorities, grant)?;
    optional(&top.field("proxy"), egress.proxy.as_deref())?;
    each(&top.field("secrets"), &egress.secrets, secret)?;
    let mut names: Vec<&str> = egress.secrets.iter().map(|s| s.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|two| two[0] == two[1]) {
        return Err(top.field("secrets").refuse("has two of one name"));
    }
    let known = |name: &String| egress.secrets.iter().any(|secret| secret.name == *name);
    each(
        &top.field("hosts"),
        &egress.hosts,
        |at, entry| match &entry.credential {
            Some(name) if !known(name) => Err(at
                .field("credential")
                .refuse(format!("{name:?} is none of the secrets"))),
            _ => Ok(()),
        },
    )?;
    each(&top.field("rules"), &egress.rules, |at, rule| {
        path(&at.field("path"), &rule.path)?;
        origin(&at.field("origin"), &rule.origin)
    })?;
    each(&top.field("detect"), &egress.detect, detection)
}

fn host(at: &At, entry: &HostEntry) -> Checked {
    named(&at.field("host"), &entry.host)?;
    let ports = at.field("ports");
    if entry.ports.is_empty() {
        return Err(ports.refuse("is empty"));
    }
    each(&ports, &entry.ports, |at, port| match *port {
        0 => Err(at.refuse("0 is not a port")),
        NAMES => Err(at.refuse("53 is where names are resolved")),
        _ => Ok(()),
    })?;
    if let Some(methods) = &entry.methods {
        let sound = |m: &str| !m.is_empty() && m.len() <= 32 && m.bytes().all(is_token);
        each(&at.field("methods"), methods, |at, method| {
            if sound(method) {
                Ok(())
            } else {
                Err(at.refuse(format!("{method:?} is not an HTTP method")))
            }
        })?;
    }
    if let Some(paths) = &entry.paths {
        each(&at.field("paths"), paths, |at, glob| {
            string(at, glob)?;
            if glob.starts_with('/') {
                Ok(())
            } else {
                Err(at.refuse("does not begin with `/`"))
            }
        })?;
    }
    let looked_at = entry.methods.is_some() || entry.paths.is_some() || entry.credential.is_some();
    if entry.inspect == Inspect::Never && looked_at {
        return Err(at
            .field("inspect")
            .refuse("`never` beside methods, paths or a credential: they could not be checked"));
    }
    origin(&at.field("origin"), &entry.origin)
}

/// A character of an RFC 9110 (5.6.2) token.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A name in lower-case A-labels (RFC 1123 2.1 with underscores), `*.` and a name, or an IPv4 address.
fn named(at: &At, text: &str) -> Checked {
    let refuse = || {
        Err(at.refuse(format!(
            "{text:?} is not a host: a name, `*.suffix` or an IPv4 address"
        )))
    };
    let name = text.strip_prefix("*.").unwrap_or(text);
    if name.len() > 253 {
        return refuse();
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    if !name.split('.').all(label) {
        return refuse();
    }
    // What ends in a number is an address, in one of its spellings, to whoever resolves it.
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if numeric && (name != text || name.parse::<Ipv4Addr>().is_err()) {
        return refuse();
    }
    Ok(())
}

fn optional(at: &At, text: Option<&str>) -> Checked {
    text.map_or(Ok(()), |text| {
        string(at, text)?;
        not_empty(at, text)
    })
}

/// The name of an environment variable.
fn variable(at: &At, name: Option<&str>) -> Checked {
    optional(at, name)?;
    if name.is_some_and(|name| name.contains('=')) {
        return Err(at.refuse("is not a name for a variable: it has `=` in it"));
    }
    Ok(())
}

fn secret(at: &At, secret: &Secret) -> Checked {
    let name = secret.name.as_bytes();
    let sound = name.first().is_some_and(u8::is_ascii_lowercase)
        && name.len() <= 32
        && name
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    if !sound {
        return Err(at.field("name").refuse(format!(
            "{:?} is not `[a-z][a-z0-9_-]{{0,31}}`",
            secret.name
        )));
    }
    each(&at.field("to"), &secret.to, |at, host| named(at, host))?;
    if secret.to.is_empty() {
        return Err(at.field("to").refuse("is empty"));
    }
    optional(&at.field("field"), secret.field.as_deref())?;
    optional(&at.field("user"), secret.user.as_deref())?;
    variable(&at.field("env"), secret.env.as_deref())?;
    let takes_field = matches!(secret.carried, Carried::Header | Carried::Query);
    if takes_field != secret.field.is_some() {
        return Err(at
            .field("field")
            .refuse("goes with `header` and `query`, and with no other"));
    }
    let from = &secret.from;
    let from_at = at.field("from");
    variable(&from_at.field("env"), from.env.as_deref())?;
    if let Some(file) = &from.file {
        path(&from_at.field("file"), file)?;
    }
    optional(&from_at.field("service"), from.service.as_deref())?;
    optional(&from_at.field("user"), from.user.as_deref())?;
    if let Some(command) = &from.command {
        let command_at = from_at.field("command");
        each(&command_at, command, |at, word| string(at, word))?;
        if command.is_empty() {
            return Err(command_at.refuse("is empty"));
        }
    }
    if let Some(ms) = from.expires_ms {
        integer(&from_at.field("expires_ms"), ms)?;
    }
    let has = [
        from.env.is_some(),
        from.file.is_some(),
        from.service.is_some(),
        from.user.is_some(),
        from.command.is_some(),
    ];
    let expected = match from.kind {
        SecretKind::Env => [true, false, false, false, false],
        SecretKind::File => [false, true, false, false, false],
        SecretKind::Keyring => [false, false, true, true, false],
        SecretKind::Command => [false, false, false, false, true],
    };
    if has != expected {
        return Err(from_at.refuse("has other fields than its kind"));
    }
    origin(&at.field("origin"), &secret.origin)
}

fn detection(at: &At, detection: &Detection) -> Checked {
    match (&detection.pack, &detection.path) {
        (Some(pack), None) => {
            let at = at.field("pack");
            string(&at, pack)?;
            not_empty(&at, pack)?;
        }
        (None, Some(found)) => path(&at.field("path"), found)?,
        _ => return Err(at.refuse("is a pack or a path, one of them")),
    }
    origin(&at.field("origin"), &detection.origin)
}
