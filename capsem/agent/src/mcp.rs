//! MCP: what programs say on `/run/capsem/mcp.sock`, handed to the host a stream each (port 5003).
//!
//! Nothing of it is read in here: the first line names a server, the rest is its protocol, and the host decides on both. Refuses
//! more than 64 streams at once (further connections wait in the kernel), and closes what the host refuses or lets go of.

use std::collections::BTreeMap;
use std::fs;
use std::io::Result;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::agent::{Agent, Place};
use crate::message::Guest;
use crate::port::{HIGH_WATER, Port};
use crate::stream::Stream;
use crate::{frame, sys, whose};

/// The port of the wire.
pub const MCP: u16 = 5003;
/// Where programs of a machine find it.
pub const SOCKET: &str = "/run/capsem/mcp.sock";
const STREAM_LIMIT: usize = 64;
/// Connections taken in one turn.
const TURN: usize = 32;

/// Programs that connected, and wait for the host's word.
#[derive(Debug)]
pub struct Relay {
    programs: UnixListener,
    waiting: BTreeMap<u32, UnixStream>,
    /// The host does not read from here yet.
    held: bool,
}

impl Relay {
    /// Listens at a place that every user of the machine can connect to.
    pub fn begin(place: &Path) -> Result<Self> {
        if let Some(directory) = place.parent() {
            fs::create_dir_all(directory)?;
        }
        let _ = fs::remove_file(place);
        let programs = UnixListener::bind(place)?;
        fs::set_permissions(place, fs::Permissions::from_mode(0o666))?;
        programs.set_nonblocking(true)?;
        Ok(Self {
            programs,
            waiting: BTreeMap::new(),
            held: true,
        })
    }
}

impl Agent {
    /// Begins the relay; a machine without the port for it has none.
    pub fn offer_mcp(&mut self, place: &Path) -> Result<()> {
        if self.ports.contains_key(&MCP) {
            self.relay = Some(Relay::begin(place)?);
            self.capabilities.push("mcp");
        }
        Ok(())
    }

    /// What to wait for.
    pub(crate) fn mcp_interests(&self, add: &mut impl FnMut(RawFd, i16, Place)) {
        if let Some(relay) = self.relay.as_ref().filter(|_| self.takes_programs()) {
            add(relay.programs.as_raw_fd(), libc::POLLIN, Place::Programs);
        }
    }

    fn takes_programs(&self) -> bool {
        let (Some(relay), Some(port)) = (&self.relay, self.ports.get(&MCP)) else {
            return false;
        };
        let streams = self.streams.range((MCP, 0)..=(MCP, u32::MAX)).count();
        // Where the host is away programs are taken too, and let go at once.
        let heard = !relay.held || !port.connected();
        let room = port.backlog() <= HIGH_WATER && streams + relay.waiting.len() < STREAM_LIMIT;
        self.ready && heard && room
    }

    pub(crate) fn take_programs(&mut self) {
        for _ in 0..TURN {
            if !self.takes_programs() {
                return;
            }
            let Some(relay) = &mut self.relay else {
                return;
            };
            let Ok((program, _)) = relay.programs.accept() else {
                return;
            };
            if !self.ports.get(&MCP).is_some_and(Port::connected)
                || program.set_nonblocking(true).is_err()
            {
                continue;
            }
            let owner = sys::net::peer(program.as_fd()).map_or_else(
                |_| whose::Owner::default(),
                |(pid, uid)| whose::who(pid, uid),
            );
            let last = self.opened.entry(MCP).or_insert(0);
            *last += 1;
            let stream = *last;
            self.say(
                MCP,
                &Guest::Open {
                    stream,
                    kind: "mcp",
                    address: None,
                    port: None,
                    pid: owner.pid,
                    uid: owner.uid,
                    program: owner.program,
                },
            );
            if let Some(relay) = &mut self.relay {
                relay.waiting.insert(stream, program);
            }
        }
    }

    /// The host lets a stream go on.
    pub(crate) fn mcp_opened(&mut self, number: u32) {
        let Some(program) = self
            .relay
            .as_mut()
            .and_then(|relay| relay.waiting.remove(&number))
        else {
            return;
        };
        let Ok(other) = program.try_clone() else {
            if let Some(port) = self.ports.get_mut(&MCP) {
                frame::write_reset(port.out(), number);
            }
            return;
        };
        let flows = Stream::over(program.into(), other.into(), MCP);
        self.streams.insert((MCP, number), flows);
    }

    /// The host refuses a stream, or lets go of it.
    pub(crate) fn mcp_refused(&mut self, number: u32) {
        if let Some(relay) = &mut self.relay {
            relay.waiting.remove(&number);
        }
    }

    /// The host reads from here on.
    pub(crate) fn mcp_served(&mut self) {
        if let Some(relay) = &mut self.relay {
            relay.held = false;
        }
    }

    /// Another conversation begins: nothing is sent before the host says that it reads.
    pub(crate) fn mcp_begins(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        if let Some(port) = self.ports.get_mut(&MCP).filter(|_| self.relay.is_some()) {
            port.start_over();
            port.drain(&mut scratch);
        }
        self.scratch = scratch;
    }

    /// Everything that goes on is over: the host is another one, or gone. Streams are closed by whoever drops them.
    pub(crate) fn mcp_over(&mut self) {
        if let Some(relay) = &mut self.relay {
            relay.held = true;
            relay.waiting.clear();
        }
    }
}
