//! What deserves a look in a sound log: runs that never ended, gaps, recoveries, clocks that went back,
//! policies that changed, enforcement that was degraded. Bounded: a hostile log cannot make it grow.

use std::collections::HashMap;

use super::json::View;
use super::outcome::{MAX_WARNINGS, Warning};

/// So many runs are followed at once.
const MAX_OPEN: usize = 10_000;

/// The watch over entries as they pass.
#[derive(Debug, Default)]
pub struct Watch {
    open: HashMap<Vec<u8>, u64>,
    overflow: u64,
    warnings: Vec<Warning>,
    total: u64,
}

impl Watch {
    /// Takes note of one entry.
    pub fn see(&mut self, view: &View<'_>, line: &[u8]) {
        match view.kind {
            b"run.started" => {
                if let Some(run) = view.run {
                    if self.open.len() < MAX_OPEN {
                        self.open.insert(run.to_vec(), view.seq);
                    } else {
                        self.overflow += 1;
                    }
                }
                let json: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
                let degraded = json
                    .pointer("/enforced/degraded")
                    .and_then(serde_json::Value::as_array);
                if let Some(list) = degraded.filter(|list| !list.is_empty()) {
                    let names: Vec<_> = list
                        .iter()
                        .take(8)
                        .filter_map(serde_json::Value::as_str)
                        .collect();
                    self.warn("degraded", view, names.join(", "));
                }
            }
            b"run.ended" => {
                if let Some(run) = view.run {
                    self.open.remove(run);
                }
            }
            b"gap" | b"recovery" | b"clock" | b"policy.changed" | b"log.created" => {
                self.record(view, line)
            }
            _ => {}
        }
    }

    fn record(&mut self, view: &View<'_>, line: &[u8]) {
        let json: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
        let text = |name: &str| {
            json.get(name)
                .and_then(serde_json::Value::as_str)
                .unwrap_or("")
                .to_owned()
        };
        let number = |name: &str| {
            json.get(name)
                .and_then(serde_json::Value::as_u64)
                .unwrap_or(0)
        };
        match view.kind {
            b"gap" => self.warn(
                "gap",
                view,
                format!("{} events lost: {}", number("lost"), text("why")),
            ),
            b"recovery" => self.warn("recovery", view, text("why")),
            b"clock" => self.warn(
                "clock",
                view,
                format!("went back {} ms", number("back_us") / 1000),
            ),
            b"policy.changed" => {
                let run = String::from_utf8_lossy(view.run.unwrap_or(b"")).into_owned();
                self.warn("policy_changed", view, run);
            }
            _ => {
                if let Some(id) = json
                    .pointer("/replaces/log")
                    .and_then(serde_json::Value::as_str)
                {
                    self.warn(
                        "replaced",
                        view,
                        format!("this log was begun in the place of {id}"),
                    );
                }
            }
        }
    }

    fn warn(&mut self, kind: &'static str, view: &View<'_>, detail: String) {
        self.add(Warning {
            kind,
            seq: view.seq,
            detail,
        });
    }

    fn add(&mut self, warning: Warning) {
        self.total += 1;
        if self.warnings.len() < MAX_WARNINGS {
            self.warnings.push(warning);
        }
    }

    /// What was seen, in the log's order, and how much of it there was.
    pub fn finish(mut self) -> (Vec<Warning>, u64) {
        let mut open: Vec<_> = std::mem::take(&mut self.open).into_iter().collect();
        open.sort_by_key(|(_, seq)| *seq);
        for (run, seq) in open {
            let detail = String::from_utf8_lossy(&run).into_owned();
            self.add(Warning {
                kind: "unclosed",
                seq,
                detail,
            });
        }
        if self.overflow > 0 {
            let detail = format!("{} more runs than can be followed at once", self.overflow);
            self.add(Warning {
                kind: "unclosed",
                seq: 0,
                detail,
            });
        }
        self.warnings.sort_by_key(|warning| warning.seq);
        (self.warnings, self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::json;

    fn seen(lines: &[&str]) -> Vec<&'static str> {
        let mut watch = Watch::default();
        for (seq, rest) in lines.iter().enumerate() {
            let line = format!(
                r#"{{"seq":{seq},"time":"2026-11-22T12:00:00.000000Z","mono":5,"run":{rest}}}"#
            );
            watch.see(&json::entry(line.as_bytes()).unwrap(), line.as_bytes());
        }
        watch
            .finish()
            .0
            .iter()
            .map(|warning| warning.kind)
            .collect()
    }

    #[test]
    fn each_kind_is_noticed_and_ordinary_entries_are_not() {
        assert!(
            seen(&[
                r#""r-1","type":"run.started""#,
                r#""r-1","type":"exec""#,
                r#""r-1","type":"run.ended""#
            ])
            .is_empty()
        );
        assert_eq!(
            seen(&[
                r#""r-1","type":"run.started","enforced":{"degraded":["cgroup"]}"#,
                r#"null,"type":"gap","lost":3,"why":"full""#,
                r#"null,"type":"recovery","why":"torn""#,
                r#"null,"type":"clock","back_us":2000000"#,
                r#""r-1","type":"policy.changed""#,
                r#"null,"type":"log.created","replaces":{"log":"x"}"#,
            ]),
            [
                "degraded",
                "unclosed",
                "gap",
                "recovery",
                "clock",
                "policy_changed",
                "replaced"
            ]
        );
    }

    #[test]
    fn a_flood_of_runs_is_bounded() {
        let mut watch = Watch::default();
        for seq in 0..30_000u64 {
            let run = format!("r-{seq}");
            let view = json::View {
                seq,
                time: b"",
                run: Some(run.as_bytes()),
                kind: b"run.started",
            };
            watch.see(&view, b"{}");
        }
        let (warnings, total) = watch.finish();
        assert_eq!((warnings.len(), total), (MAX_WARNINGS, 10_001));
    }
}
