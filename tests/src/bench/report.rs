//! The figures of the cost part, for people and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::error::{Context, Error, Result};

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Connections of each run.
    pub connections: u32,
    /// Rounds.
    pub rounds: u32,
    /// A figure for each contender; those not run are left out.
    pub runs: Runs,
}

/// The contenders.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Runs {
    /// Nothing watching.
    pub bare: Bare,
    /// The agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synspan: Option<Agent>,
    /// tcplife.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcplife: Option<Peer>,
    /// tcpstates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcpstates: Option<Peer>,
    /// conntrack -E.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Peer>,
}

/// The client alone.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Bare {
    /// Microseconds for each connection, the median of all bare runs.
    pub wall_us: f64,
}

/// The agent's figures, for each connection where not said otherwise.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Agent {
    /// Microseconds, `bpf_stats` off.
    pub wall_us: f64,
    /// The median of each round's wall time over the bare run just before it.
    pub wall_ratio: f64,
    /// Microseconds in its eBPF programs, `bpf_stats` on, in runs of their own.
    pub kernel_us: f64,
    /// Runs of its eBPF programs.
    pub kernel_runs: f64,
    /// Nanoseconds that a run of an empty program is accounted, measured alike.
    pub empty_program_ns: f64,
    /// Microseconds of user mode, until its end: all is encoded, compressed and sent.
    pub user_us: f64,
    /// Largest resident memory, MiB.
    pub rss_mib: f64,
    /// Records lost in all runs, as the agent counts them; null where it does not say.
    pub lost: Option<u64>,
}

/// All three signals to a real Collector, with nothing left out: for each attempt where not said otherwise.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Signals {
    /// Microseconds of user mode, until its end: all is encoded, compressed and sent.
    pub user_us: f64,
    /// Microseconds of system mode.
    pub system_us: f64,
    /// Bytes that the agent sent over TCP, compressed, HTTP/2 with them.
    pub wire_bytes: f64,
    /// Largest resident memory, MiB.
    pub rss_mib: f64,
    /// Spans that the Collector took.
    pub spans: f64,
    /// Log records that it took: one of the attempt, one of its flow.
    pub log_records: f64,
    /// Points of metrics that it took.
    pub points: f64,
    /// Records lost in all runs, as the agent counts them.
    pub lost: u64,
}

/// The agent's memory with many connections, in MiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Connections open.
    pub open_flows: u32,
    /// Tenancies in the ledger, those of the open ones with them.
    pub tenancies: u64,
    /// Records of flows that were open, as many as their pace let through.
    pub flow_records: u64,
    /// Resident then.
    pub resident_mib: f64,
    /// The same with each page counted once: the kernel maps a ring's pages twice.
    pub once_mib: f64,
    /// Of it, what is not a page of a file.
    pub anonymous_mib: f64,
    /// The most that was resident.
    pub peak_mib: f64,
    /// BPF maps and rings; of the rings the pages are resident, too.
    pub maps_mib: f64,
    /// Records lost, as the agent counts them.
    pub lost: u64,
}

/// The figures of all signals, for people.
pub fn signals_table(signals: &Signals) -> String {
    format!(
        "\nAll signals to a Collector, for each attempt: user {:.1} us, system {:.1} us, {:.0} bytes on the wire;\n\
         {:.2} spans, {:.2} log records, {:.4} points; peak {:.1} MiB; records lost: {}\n",
        signals.user_us,
        signals.system_us,
        signals.wire_bytes,
        signals.spans,
        signals.log_records,
        signals.points,
        signals.rss_mib,
        signals.lost
    )
}

/// The figures of memory, for people.
pub fn memory_table(memory: &Memory) -> String {
    format!(
        "\n{} connections open, {} tenancies, {} records of open flows: {:.1} MiB resident, of it {:.1}\n\
         anonymous; {:.1} with each page once (a ring is mapped twice); {:.1} at most; {:.1} MiB of BPF maps, rings with them;\n\
         records lost: {}\n",
        memory.open_flows,
        memory.tenancies,
        memory.flow_records,
        memory.resident_mib,
        memory.anonymous_mib,
        memory.once_mib,
        memory.peak_mib,
        memory.maps_mib,
        memory.lost
    )
}

/// A peer's figures, as in [`Agent`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Peer {
    /// Microseconds.
    pub wall_us: f64,
    /// Over the bare run just before.
    pub wall_ratio: f64,
    /// Microseconds of user mode.
    pub user_us: f64,
}

/// What the table shows beside the report.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The contender.
    pub name: &'static str,
    /// Microseconds, ratio.
    pub wall: (f64, Option<f64>),
    /// Microseconds of user and system time.
    pub cpu: Option<(f64, f64)>,
    /// MiB.
    pub rss_mib: Option<f64>,
    /// Spans or lines for each connection.
    pub records: Option<f64>,
}

/// The table for people.
pub fn table(rows: &[Row], report: &Report) -> String {
    let mut text = format!(
        "\n{} connections a run, {} rounds, medians; for each connection:\n\n\
         {:<12}{:>10}{:>10}{:>10}{:>11}{:>10}{:>10}\n",
        report.connections, report.rounds, "", "wall us", "to bare", "user us", "system us", "peak MiB", "records"
    );
    let cell =
        |value: Option<f64>, digits: usize| value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"));
    for row in rows {
        let _ = writeln!(
            text,
            "{:<12}{:>10.1}{:>10}{:>10}{:>11}{:>10}{:>10}",
            row.name,
            row.wall.0,
            cell(row.wall.1, 3),
            cell(row.cpu.map(|cpu| cpu.0), 1),
            cell(row.cpu.map(|cpu| cpu.1), 1),
            cell(row.rss_mib, 1),
            cell(row.records, 2)
        );
    }
    if let Some(agent) = &report.runs.synspan {
        let lost = agent.lost.map_or_else(|| "not said by the agent".into(), |lost| lost.to_string());
        let _ = write!(
            text,
            "\nsynspan's eBPF programs: {:.2} us and {:.1} runs a connection, with bpf_stats on;\n\
             an empty program is accounted {:.0} ns a run, so {:.2} us of it is the accounting's own. Records lost: {lost}\n",
            agent.kernel_us,
            agent.kernel_runs,
            agent.empty_program_ns,
            agent.kernel_runs * agent.empty_program_ns / 1000.0
        );
    }
    text
}

/// Writes the report.
pub fn write(report: &impl Serialize, path: &Path) -> Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).context(format_args!("make {}", dir.display()))?;
    }
    let text = serde_json::to_string_pretty(report).map_err(|error| Error::Lab(error.to_string()))?;
    std::fs::write(path, text + "\n").context(format_args!("write {}", path.display()))
}

/// The middle one, or the mean of the middle two; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Two digits after the point are all that is meant.
pub fn round(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn the_report_has_its_fixed_shape() {
        let agent = Agent {
            wall_us: 100.0,
            wall_ratio: 1.04,
            kernel_us: 2.5,
            kernel_runs: 30.0,
            empty_program_ns: 34.0,
            user_us: 9.0,
            rss_mib: 40.0,
            lost: Some(0),
        };
        let peer = Peer { wall_us: 120.0, wall_ratio: 1.3, user_us: 20.0 };
        let report = Report {
            connections: 10,
            rounds: 1,
            runs: Runs {
                bare: Bare { wall_us: 96.0 },
                synspan: Some(agent),
                tcplife: Some(peer),
                tcpstates: None,
                conntrack: None,
            },
        };
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["runs"]["synspan"]["lost"], 0);
        assert_eq!(json["runs"]["tcplife"]["wall_ratio"], 1.3);
        assert!(json["runs"].get("conntrack").is_none());
        assert_eq!(json["runs"]["synspan"].as_object().unwrap().len(), 8);
    }
}
