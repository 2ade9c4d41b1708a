//! Files that are read ahead of need, so that memory that many machines start from has them already.
//!
//! Nothing of them is run, kept or told. Refuses what is no regular file, and stops after `LIMIT` bytes.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// Bytes of all files together.
pub const LIMIT: usize = 32 << 20;

/// Reads what is there of these files; returns how many bytes that were.
pub fn read(paths: &[String], scratch: &mut [u8]) -> usize {
    let mut total = 0;
    for path in paths {
        // A pipe or a device of that name is opened without waiting for it, and let go of.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        let Ok(mut file) = opened else {
            continue;
        };
        if !file.metadata().is_ok_and(|found| found.is_file()) {
            continue;
        }
        while total < LIMIT {
            let piece = scratch.len().min(LIMIT - total);
            match file.read(&mut scratch[..piece]) {
                Ok(count) if count > 0 => total += count,
                _ => break,
            }
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_everything_else_is_left_alone() {
        let place = std::env::temp_dir().join(format!("capsem-prefetch-{}", std::process::id()));
        std::fs::create_dir_all(&place).expect("a directory");
        let path = |name: &str| place.join(name).to_string_lossy().into_owned();
        std::fs::write(path("one"), vec![1; 3000]).expect("a file");
        std::fs::write(path("two"), vec![2; 500]).expect("a file");
        let sparse = std::fs::File::create(path("large")).expect("a file");
        sparse.set_len(2 * LIMIT as u64).expect("room");
        let mut scratch = [0; 1024];
        // The pipe has no other end: reading it, or opening it as usual, would wait for ever.
        let pipe = path("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|status| status.success()));
        let few = [
            path("absent"),
            pipe,
            path(""),
            "/dev/zero".to_owned(),
            path("one"),
            path("two"),
        ];
        assert_eq!(read(&few, &mut scratch), 3500);
        assert_eq!(read(&[path("large"), path("one")], &mut scratch), LIMIT);
        std::fs::remove_dir_all(&place).expect("removed");
    }
}
