//! The machine's network as netfilter knows it: what programs send anywhere arrives at the agent.
//!
//! Pure but for `apply`. One table, `ip capsem`: TCP to anywhere but this machine is redirected to the agent's port, DNS
//! (UDP and TCP, port 53) to its resolver's; everything else that would leave is refused at once. There is no card behind
//! it: without these rules nothing is reached either. Messages are those of nfnetlink (linux/netfilter/nf_tables.h).
//!
//! ```
//! let batch = capsem_agent::redirect::batch(15002, 53);
//! assert_eq!(batch.len() % 4, 0);
//! ```

use std::io::Result;

use crate::sys;

const SUBSYSTEM: u16 = 10;
const BEGIN: u16 = 16;
const END: u16 = 17;
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
const IPV4: u8 = 2;
const TABLE: &str = "capsem";
const REGISTER: u32 = 1;
const ACCEPT: u32 = 1;
const OUTPUT: u32 = 3;
const LOOPBACK: u32 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Answers that the kernel gives to the batch: one for each message that asks for it.
pub const ANSWERS: usize = 3 + 5 + 3;

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    sequence: u32,
}

impl Writer {
    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) {
        self.sequence += 1;
        let length = u32::try_from(20 + body.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&0u32.to_ne_bytes());
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        self.bytes.extend_from_slice(body);
    }

    fn make(&mut self, what: u16, flags: u16, body: &[u8]) {
        self.message(
            SUBSYSTEM << 8 | what,
            CREATE | ACKNOWLEDGE | flags,
            IPV4,
            0,
            body,
        );
    }
}

fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + content.len()).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(content.len() + 8);
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn name(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

fn expression(kind: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[name(1, kind), nested(2, parts)])
}

fn equals(value: &[u8]) -> Vec<u8> {
    let data = nested(3, &[attribute(1, value)]);
    expression("cmp", &[number(1, REGISTER), number(2, 0), data])
}

fn protocol(value: u8) -> Vec<u8> {
    const L4PROTO: u32 = 16;
    let meta = expression("meta", &[number(1, REGISTER), number(2, L4PROTO)]);
    [meta, equals(&[value])].concat()
}

fn out_of(interface: u32) -> Vec<u8> {
    const OIF: u32 = 5;
    let meta = expression("meta", &[number(1, REGISTER), number(2, OIF)]);
    [meta, equals(&interface.to_ne_bytes())].concat()
}

fn payload(base: u32, offset: u32, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap_or(1);
    let load = expression(
        "payload",
        &[
            number(1, REGISTER),
            number(2, base),
            number(3, offset),
            number(4, length),
        ],
    );
    [load, equals(value)].concat()
}

// The first byte of 127.0.0.0/8 in the header's destination.
fn to_loopback() -> Vec<u8> {
    payload(1, 16, &[127])
}

fn to_port(port: u16) -> Vec<u8> {
    payload(2, 2, &port.to_be_bytes())
}

fn accept() -> Vec<u8> {
    let verdict = nested(2, &[number(1, ACCEPT)]);
    expression("immediate", &[number(1, 0), nested(2, &[verdict])])
}

fn redirect(port: u16) -> Vec<u8> {
    let value = nested(2, &[attribute(1, &port.to_be_bytes())]);
    let load = expression("immediate", &[number(1, REGISTER), value]);
    [load, expression("redir", &[number(1, REGISTER)])].concat()
}

fn refuse() -> Vec<u8> {
    const UNREACHABLE: u32 = 0;
    const PROHIBITED: u8 = 13;
    expression(
        "reject",
        &[number(1, UNREACHABLE), attribute(2, &[PROHIBITED])],
    )
}

fn chain(name_of: &str, kind: &str, priority: i32) -> Vec<u8> {
    let hook = nested(4, &[number(1, OUTPUT), number(2, priority.cast_unsigned())]);
    [
        name(1, TABLE),
        name(3, name_of),
        hook,
        number(5, ACCEPT),
        name(7, kind),
    ]
    .concat()
}

fn rule(chain: &str, expressions: &[Vec<u8>]) -> Vec<u8> {
    [name(1, TABLE), name(2, chain), nested(4, expressions)].concat()
}

/// The messages that make the table, as one batch: all of it or nothing.
pub fn batch(port: u16, resolver: u16) -> Vec<u8> {
    let mut out = Writer::default();
    out.message(BEGIN, 0, 0, SUBSYSTEM, &[]);
    out.make(NEW_TABLE, 0, &name(1, TABLE));
    out.make(NEW_CHAIN, 0, &chain("redirect", "nat", -100));
    out.make(NEW_CHAIN, 0, &chain("refuse", "filter", 0));
    let rules: [&[Vec<u8>]; 5] = [
        &[out_of(LOOPBACK), accept()],
        &[to_loopback(), accept()],
        &[protocol(UDP), to_port(53), redirect(resolver)],
        &[protocol(TCP), to_port(53), redirect(resolver)],
        &[protocol(TCP), redirect(port)],
    ];
    for expressions in rules {
        out.make(NEW_RULE, APPEND, &rule("redirect", expressions));
    }
    // The interface is the one that was chosen before the redirection, the destination is the one after it.
    for expressions in [
        vec![out_of(LOOPBACK), accept()],
        vec![to_loopback(), accept()],
        vec![refuse()],
    ] {
        out.make(NEW_RULE, APPEND, &rule("refuse", &expressions));
    }
    out.message(END, 0, 0, SUBSYSTEM, &[]);
    out.bytes
}

/// Puts the rules in force.
pub fn apply(port: u16, resolver: u16) -> Result<()> {
    sys::net::netfilter(&batch(port, resolver), ANSWERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_batch_is_whole_messages_in_order() {
        let bytes = batch(15002, 53);
        let (mut rest, mut kinds) = (bytes.as_slice(), Vec::new());
        while let Some(head) = rest.get(..8) {
            let length = u32::from_ne_bytes(head[..4].try_into().expect("four")) as usize;
            kinds.push(u16::from_ne_bytes(head[4..6].try_into().expect("two")));
            rest = &rest[length.next_multiple_of(4)..];
        }
        assert!(rest.is_empty());
        assert_eq!((kinds[0], kinds[kinds.len() - 1]), (BEGIN, END));
        let asked = kinds.iter().filter(|kind| **kind >> 8 == SUBSYSTEM);
        assert_eq!(asked.count(), ANSWERS);
        assert_eq!(kinds[1], SUBSYSTEM << 8 | NEW_TABLE);
    }

    #[test]
    fn ports_are_in_the_order_of_the_network() {
        let bytes = batch(0x1234, 53);
        assert!(bytes.windows(2).any(|two| two == [0x12, 0x34]));
        assert!(!bytes.windows(2).any(|two| two == [0x34, 0x12]));
    }
}
