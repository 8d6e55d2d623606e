//! The figures, for people and for programs.

use std::fmt;

use serde_json::{Value, json};

/// Cost of a packet.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Of the program alone.
    pub(crate) net_ns: f64,
    /// With the harness, as a multiple of the harness.
    pub(crate) x_floor: f64,
    /// For this machine.
    pub(crate) gate_ns: f64,
}

/// Cost of a generation.
pub(crate) struct Commit {
    pub(crate) name: String,
    pub(crate) ms: f64,
    pub(crate) gate_ms: f64,
}

pub(crate) struct Report {
    /// A bare `XDP_TX`, the loop included.
    pub(crate) floor: f64,
    pub(crate) cases: Vec<Case>,
    pub(crate) commits: Vec<Commit>,
}

impl Report {
    pub(crate) fn json(&self) -> Value {
        let cases = self.cases.iter().map(|case| {
            json!({
                "name": case.name,
                "net_ns": rounded(case.net_ns),
                "x_floor": rounded(case.x_floor),
                "gate_ns": rounded(case.gate_ns),
                "ok": case.net_ns <= case.gate_ns,
            })
        });
        let commits = self.commits.iter().map(|commit| {
            json!({
                "name": commit.name,
                "ms": rounded(commit.ms),
                "gate_ms": commit.gate_ms,
                "ok": commit.ms <= commit.gate_ms,
            })
        });
        json!({
            "floor_ns": rounded(self.floor),
            "cases": cases.collect::<Vec<_>>(),
            "commits": commits.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = |ok| if ok { "ok" } else { "MISSED" };
        writeln!(f, "floor (XDP_TX): {:.1} ns\n", self.floor)?;
        writeln!(f, "{:<28} {:>8} {:>8} {:>8}", "CASE", "NET ns", "x FLOOR", "GATE ns")?;
        for case in &self.cases {
            let Case { name, net_ns, x_floor, gate_ns } = case;
            let ok = verdict(net_ns <= gate_ns);
            writeln!(f, "{name:<28} {net_ns:>8.1} {x_floor:>8.2} {gate_ns:>8.1}  {ok}")?;
        }
        writeln!(f, "\n{:<28} {:>8} {:>17}", "COMMIT", "ms", "GATE ms")?;
        for commit in &self.commits {
            let Commit { name, ms, gate_ms } = commit;
            writeln!(f, "{name:<28} {ms:>8.2} {gate_ms:>17.0}  {}", verdict(ms <= gate_ms))?;
        }
        Ok(())
    }
}

/// The middle one; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
