//! Measures the log's writer: `cargo run --release --example log -- append PATH ENTRIES` and `… -- run PATH RUNS`.
//!
//! Refuses an existing path. Prints one JSON object. Used by `benchmarks/log.py`.

use std::path::Path;
use std::time::Instant;

use capsule::audit::{Entry, Places, Seal, Writer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, path, count] = args.as_slice() else {
        return Err("usage: log append|run PATH COUNT".into());
    };
    let (path, count) = (Path::new(path), count.parse::<u64>()?);
    if what != "run" && path.exists() {
        return Err(format!("{} exists: measure on a new path", path.display()).into());
    }
    let places = Places::from_env()?;
    match what.as_str() {
        "append" => append(path, &places, count),
        "run" => run(path, &places, count),
        _ => Err("usage: log append|run PATH COUNT".into()),
    }
}

/// Appends `count` entries of about 209 bytes, 256 at a time, with a checkpoint every 64 blocks.
fn append(path: &Path, places: &Places, count: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut writer = Writer::open(path, places)?;
    let (start, mut done, mut batch) = (Instant::now(), 0, Vec::with_capacity(256));
    while done < count {
        batch.clear();
        for n in done..count.min(done + 256) {
            batch.push(
                Entry::new("exec", Some("r-0123456789abcdef"))
                    .with("pid", n % 32768)
                    .with("program", "/usr/lib/git-core/git-remote-https")
                    .with("count", n)
                    .with("note", "an ordinary entry"),
            );
        }
        let seal = if done / 256 % 64 == 63 {
            Seal::Sign
        } else {
            Seal::No
        };
        writer.append(&batch, seal)?;
        done += batch.len() as u64;
    }
    writer.seal(true)?;
    let seconds = start.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(path)?.len();
    println!(
        "{{\"entries\":{count},\"bytes\":{bytes},\"seconds\":{seconds:.4},\"per_second\":{:.0}}}",
        count as f64 / seconds
    );
    Ok(())
}

/// What one short run costs: open, run.started, run.ended, without waiting for the disk; the median of `count`.
fn run(path: &Path, places: &Places, count: u64) -> Result<(), Box<dyn std::error::Error>> {
    drop(Writer::open(path, places)?);
    let mut times = Vec::new();
    for n in 0..count {
        let (run, start) = (format!("r-{n:016x}"), Instant::now());
        let mut writer = Writer::open(path, places)?;
        let opened = start.elapsed();
        let started = Entry::new("run.started", Some(&run))
            .with("command", vec!["git", "status", "--short"])
            .with("cwd", "/home/somebody/project")
            .with(
                "policy",
                "blake3:0000000000000000000000000000000000000000000000000000000000000000",
            );
        writer.append(&[started], Seal::Sign)?;
        let began = start.elapsed();
        writer.append(
            &[Entry::new("run.ended", Some(&run)).with("code", 0u8)],
            Seal::Sign,
        )?;
        times.push((start.elapsed(), opened, began - opened));
    }
    times.sort();
    let (least, _, _) = times[0];
    let (all, open, first) = times[times.len() / 2];
    println!(
        "{{\"runs\":{count},\"least_us\":{:.1},\"median_us\":{:.1},\"open_us\":{:.1},\"started_us\":{:.1}}}",
        least.as_secs_f64() * 1e6,
        all.as_secs_f64() * 1e6,
        open.as_secs_f64() * 1e6,
        first.as_secs_f64() * 1e6
    );
    Ok(())
}
