//! Where the verifier's time goes: each of its parts alone, on one thread, in nanoseconds of processor time.
//!
//! `cargo run --release --example floor -- LOG`: reads at most 256 MiB of LOG. Refuses logs that are not sound.

use std::fs::File;
use std::io::Read as _;

use capsule::audit::block::{Split, split};
use capsule::audit::{chain, json, merkle};

fn cpu() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec for the kernel to fill.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn timed<T>(what: &str, count: usize, bytes: usize, work: impl FnOnce() -> T) -> T {
    let start = cpu();
    let result = work();
    let seconds = cpu() - start;
    println!(
        "{{\"part\":\"{what}\",\"ns_each\":{:.1},\"gigabytes_per_second\":{:.2}}}",
        seconds * 1e9 / count as f64,
        bytes as f64 / seconds / 1e9
    );
    result
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: floor LOG")?;
    let mut bytes = Vec::new();
    let (mut file, mut piece) = (File::open(&path)?, vec![0; 256 * 1024]);
    timed("read from the page cache, in pieces", 1, 256 << 20, || {
        file.by_ref()
            .take(256 << 20)
            .read(&mut piece)
            .and_then(|_| {
                let mut total = 0;
                while total < 256 << 20 {
                    let count = file.read(&mut piece)?;
                    if count == 0 {
                        break;
                    }
                    total += count;
                }
                Ok(total)
            })
    })?;
    File::open(&path)?.take(256 << 20).read_to_end(&mut bytes)?;
    let (mut at, mut blocks, mut lines) = (0, Vec::new(), Vec::new());
    while let Split::Block(extent) = split(&bytes[at..], true) {
        blocks.push((at, extent));
        at += extent.len();
    }
    timed("find the blocks", blocks.len(), at, || {
        let mut at = 0;
        while let Split::Block(extent) = split(&bytes[at..], true) {
            at += extent.len();
        }
    });
    timed("BLAKE3 of each block", blocks.len(), at, || {
        blocks.iter().fold(0u8, |sum, (from, extent)| {
            sum ^ chain::digest(&bytes[*from..*from + extent.len()])[0]
        })
    });
    for (from, extent) in &blocks {
        let entries = extent.entries(&bytes[*from..]);
        lines.extend(entries[..entries.len() - 1].split(|byte| *byte == b'\n'));
    }
    timed("find the lines", lines.len(), at, || {
        blocks
            .iter()
            .map(|(from, extent)| {
                extent
                    .entries(&bytes[*from..])
                    .split(|byte| *byte == b'\n')
                    .count()
            })
            .sum::<usize>()
    });
    timed("check UTF-8", lines.len(), at, || {
        blocks
            .iter()
            .filter(|(from, extent)| std::str::from_utf8(extent.entries(&bytes[*from..])).is_ok())
            .count()
    });
    timed("check the dialect", lines.len(), at, || {
        lines
            .iter()
            .filter(|line| json::entry(line).is_ok())
            .count()
    });
    let leaves = timed("SHA-256 of each leaf", lines.len(), at, || {
        lines
            .iter()
            .map(|line| merkle::leaf(line))
            .collect::<Vec<_>>()
    });
    timed("grow the tree", lines.len(), at, || {
        let mut tree = merkle::Frontier::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree.root()
    });
    Ok(())
}
