//! What `capsule trace` counts: system calls by number, and what was done with each name.
//!
//! Kept here and told at the end, because a message for each call would cost more than the call. Beyond
//! [`MOST_NAMES`] names, uses of new ones are only counted as lost.

use super::wire::{Event, Operation, SeenFile, text};
use std::collections::{HashMap, HashSet};

/// Names that are remembered.
const MOST_NAMES: usize = 200_000;
/// Bytes of names in one message; each may take five times as much when it is written.
const MESSAGE: usize = 16 * 1024;

/// Uses of one name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uses {
    read: u64,
    write: u64,
    create: u64,
    remove: u64,
    change: u64,
    absent: u64,
}

/// Counts of one run.
#[derive(Debug, Default)]
pub struct Observed {
    watched: HashSet<u32>,
    calls: HashMap<u32, u64>,
    files: HashMap<Vec<u8>, Uses>,
    lost: u64,
}

impl Observed {
    /// `watched`: calls that go on in the kernel once they are counted.
    pub fn new(watched: HashSet<u32>) -> Self {
        Self {
            watched,
            ..Self::default()
        }
    }

    /// Count a call; whether that is all there is to do.
    pub fn call(&mut self, number: u32) -> bool {
        *self.calls.entry(number).or_default() += 1;
        self.watched.contains(&number)
    }

    /// Something was done with a name.
    pub fn done(&mut self, operation: Operation, name: &[u8], from: Option<&[u8]>) {
        match operation {
            Operation::Read => self.count(name, |uses| uses.read += 1),
            Operation::Write => self.count(name, |uses| uses.write += 1),
            Operation::Create | Operation::Link | Operation::Bind => {
                self.count(name, |uses| uses.create += 1)
            }
            Operation::Remove => self.count(name, |uses| uses.remove += 1),
            Operation::Change => self.count(name, |uses| uses.change += 1),
            Operation::Rename => {
                self.count(name, |uses| uses.create += 1);
                if let Some(from) = from {
                    self.count(from, |uses| uses.remove += 1);
                }
            }
            Operation::Execute
            | Operation::Connect
            | Operation::Send
            | Operation::Syscall
            | Operation::Request
            | Operation::Resolve => {}
        }
    }

    /// A name was looked for and was not there.
    pub fn absent(&mut self, name: &[u8]) {
        self.count(name, |uses| uses.absent += 1);
    }

    fn count(&mut self, name: &[u8], one: impl FnOnce(&mut Uses)) {
        if let Some(uses) = self.files.get_mut(name) {
            one(uses);
        } else if self.files.len() < MOST_NAMES {
            let mut uses = Uses::default();
            one(&mut uses);
            self.files.insert(name.to_vec(), uses);
        } else {
            self.lost += 1;
        }
    }

    /// All of it as messages, once.
    pub fn tell(&mut self, mut name_of: impl FnMut(u32) -> String, mut send: impl FnMut(&Event)) {
        let calls = std::mem::take(&mut self.calls);
        let calls = calls
            .into_iter()
            .map(|(number, count)| (name_of(number), count))
            .collect();
        send(&Event::Observed {
            syscalls: calls,
            files: Vec::new(),
            lost: std::mem::take(&mut self.lost),
        });
        let (mut part, mut size) = (Vec::new(), 0);
        for (name, uses) in std::mem::take(&mut self.files) {
            size += name.len() + 64;
            part.push(SeenFile {
                path: text(&name),
                read: uses.read,
                write: uses.write,
                create: uses.create,
                remove: uses.remove,
                change: uses.change,
                absent: uses.absent,
            });
            if size > MESSAGE {
                size = 0;
                send(&Event::Observed {
                    syscalls: Vec::new(),
                    files: std::mem::take(&mut part),
                    lost: 0,
                });
            }
        }
        if !part.is_empty() {
            send(&Event::Observed {
                syscalls: Vec::new(),
                files: part,
                lost: 0,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_is_told_once_in_messages_that_fit() {
        let mut observed = Observed::new(HashSet::from([7]));
        assert!(observed.call(7) && !observed.call(8) && observed.call(7));
        for n in 0..1000 {
            observed.done(
                Operation::Read,
                format!("/{n}{}", "\u{1}".repeat(200)).as_bytes(),
                None,
            );
        }
        observed.done(Operation::Rename, b"/new", Some(b"/old"));
        observed.absent(b"/none");
        let (mut calls, mut files) = (Vec::new(), HashMap::new());
        observed.tell(
            |number| number.to_string(),
            |event| {
                assert!(super::super::wire::encode(event).len() <= super::super::wire::MAX_MESSAGE);
                let Event::Observed {
                    syscalls,
                    files: part,
                    lost,
                } = event.clone()
                else {
                    panic!("{event:?}")
                };
                assert_eq!(lost, 0);
                calls.extend(syscalls);
                files.extend(part.into_iter().map(|file| (file.path.clone(), file)));
            },
        );
        calls.sort();
        assert_eq!(calls, [("7".to_owned(), 2), ("8".to_owned(), 1)]);
        assert_eq!(files.len(), 1003);
        assert_eq!(
            (
                files["/new"].create,
                files["/old"].remove,
                files["/none"].absent
            ),
            (1, 1, 1)
        );
        observed.tell(|_| String::new(), |event| {
            assert!(matches!(event, Event::Observed { syscalls, files, .. } if syscalls.is_empty() && files.is_empty()));
        });
    }

    #[test]
    fn too_many_names_are_lost_and_said_so() {
        let mut observed = Observed::default();
        for n in 0..MOST_NAMES + 5 {
            observed.absent(&n.to_ne_bytes());
        }
        observed.absent(&0usize.to_ne_bytes());
        assert_eq!((observed.files.len(), observed.lost), (MOST_NAMES, 5));
    }
}
