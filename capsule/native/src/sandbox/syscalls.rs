//! Names and numbers of system calls, from the table the policy compiler uses too.
//!
//! What it refuses: names that are not in the table, and numbers of another architecture.
//!
//! ```
//! assert!(capsule::sandbox::syscalls::number("openat").is_some());
//! assert!(capsule::sandbox::syscalls::number("no_such_call").is_none());
//! ```

/// Columns: name, number on x86_64, number on aarch64 (`-` where there is none). Sorted by name.
const TABLE: &str = include_str!("../../../src/capsule/sandbox/syscalls.tsv");

#[cfg(target_arch = "x86_64")]
const COLUMN: usize = 1;
#[cfg(target_arch = "aarch64")]
const COLUMN: usize = 2;

type Row = (&'static str, Option<u32>);

/// Read when this is compiled: a run should not begin with reading text that never changes.
static ROWS: [Row; count()] = rows();

/// How many lines follow the first.
const fn count() -> usize {
    let (bytes, mut at, mut lines) = (TABLE.as_bytes(), 0, 0);
    while at < bytes.len() {
        lines += (bytes[at] == b'\n') as usize;
        at += 1;
    }
    lines - 1
}

const fn rows() -> [Row; count()] {
    let mut rows: [Row; count()] = [("", None); count()];
    let (mut rest, mut row) = (TABLE.as_bytes(), 0);
    (_, rest) = cut(rest, b'\n');
    while row < rows.len() {
        let line;
        (line, rest) = cut(rest, b'\n');
        let (name, mut columns) = cut(line, b'\t');
        let (mut column, mut number) = (0, columns);
        while column < COLUMN {
            (number, columns) = cut(columns, b'\t');
            column += 1;
        }
        let Ok(name) = std::str::from_utf8(name) else {
            panic!("a name is not text")
        };
        rows[row] = (name, decimal(number));
        row += 1;
    }
    rows
}

/// What stands before the first `end`, and what after it.
const fn cut(text: &[u8], end: u8) -> (&[u8], &[u8]) {
    let mut at = 0;
    while at < text.len() {
        if text[at] == end {
            return (text.split_at(at).0, text.split_at(at + 1).1);
        }
        at += 1;
    }
    (text, &[])
}

const fn decimal(text: &[u8]) -> Option<u32> {
    let (mut at, mut number) = (0, 0);
    while at < text.len() {
        if !text[at].is_ascii_digit() {
            return None;
        }
        number = number * 10 + (text[at] - b'0') as u32;
        at += 1;
    }
    if text.is_empty() { None } else { Some(number) }
}

/// The first eight bytes of each name as one number: in the same order, and compared at once.
static BEGINNINGS: [u64; count()] = beginnings();

const fn beginnings() -> [u64; count()] {
    let (mut all, mut row) = ([0; count()], 0);
    while row < all.len() {
        all[row] = beginning(ROWS[row].0.as_bytes());
        row += 1;
    }
    all
}

const fn beginning(name: &[u8]) -> u64 {
    let (mut bytes, mut at) = ([0; 8], 0);
    while at < name.len() && at < bytes.len() {
        bytes[at] = name[at];
        at += 1;
    }
    u64::from_be_bytes(bytes)
}

/// Where `name` is in [`table`].
#[must_use]
pub fn row(name: &str) -> Option<usize> {
    let wanted = beginning(name.as_bytes());
    let first = BEGINNINGS.partition_point(|known| *known < wanted);
    (first..ROWS.len())
        .take_while(|row| BEGINNINGS[*row] == wanted)
        .find(|row| ROWS[*row].0 == name)
}

/// The number of `name` on this architecture; `None` for a name that does not exist here.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    ROWS[row(name)?].1
}

/// Whether `name` is a system call on any architecture of the table.
#[must_use]
pub fn known(name: &str) -> bool {
    row(name).is_some()
}

/// The name of `number` on this architecture.
#[must_use]
pub fn name(number: u32) -> Option<&'static str> {
    ROWS.iter()
        .find(|(_, known)| *known == Some(number))
        .map(|(name, _)| *name)
}

/// Every name with its number here, sorted by name: for building many decisions at once.
#[must_use]
pub fn table() -> &'static [(&'static str, Option<u32>)] {
    &ROWS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_agrees_with_the_headers() {
        let table = table();
        assert!(table.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(table.len() > 300);
        assert_eq!(number("execve"), Some(libc::SYS_execve as u32));
        assert_eq!(number("openat"), Some(libc::SYS_openat as u32));
        assert_eq!(number("seccomp"), Some(libc::SYS_seccomp as u32));
        assert_eq!(name(libc::SYS_connect as u32), Some("connect"));
        let lines = TABLE.lines().skip(1).map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            (columns[0], columns[COLUMN].parse().ok())
        });
        assert_eq!(table, lines.collect::<Vec<Row>>());
        for (at, (name, _)) in table.iter().enumerate() {
            assert_eq!(row(name), Some(at));
        }
        assert!(row("").is_none() && row("openatx").is_none() && row("open\0at").is_none());
    }
}
