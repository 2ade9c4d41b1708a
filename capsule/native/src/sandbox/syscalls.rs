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

fn rows() -> impl Iterator<Item = (&'static str, Option<u32>)> {
    TABLE.lines().skip(1).filter_map(|line| {
        let mut columns = line.split('\t');
        let name = columns.next()?;
        Some((name, columns.nth(COLUMN - 1)?.parse().ok()))
    })
}

/// The number of `name` on this architecture; `None` for a name that does not exist here.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    rows()
        .find(|(known, _)| *known == name)
        .and_then(|(_, number)| number)
}

/// Whether `name` is a system call on any architecture of the table.
#[must_use]
pub fn known(name: &str) -> bool {
    rows().any(|(known, _)| known == name)
}

/// The name of `number` on this architecture.
#[must_use]
pub fn name(number: u32) -> Option<&'static str> {
    rows()
        .find(|(_, known)| *known == Some(number))
        .map(|(name, _)| name)
}

/// Every name with its number here, sorted by name: for building many decisions at once.
#[must_use]
pub fn table() -> Vec<(&'static str, Option<u32>)> {
    rows().collect()
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
    }
}
