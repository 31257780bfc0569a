//! All three signals to a real Collector: what each attempt costs, and the agent's memory with many connections.

use std::path::Path;
use std::time::{Duration, Instant};

use super::BenchArgs;
use super::bed::Bed;
use super::contender::{Counted, Kind, Running};
use super::kernel::maps_of;
use super::relay::Relay;
use super::report::{Memory, Signals, median, round};
use crate::error::{Result, lab};

const ROUNDS: u32 = 3;
/// Connections that stay open, and those that have ended, in the look at memory.
const OPEN: u32 = 100_000;
const ENDED: u32 = 100_000;
/// Nothing is left out: every success is sent, and every flow at its end and each second.
const ALL: &str = "sampling: {ceiling: 0, budget: {rate: 0}}\n";
/// As long as the agent may take to have told what it was told.
const PATIENCE: Duration = Duration::from_secs(60);

/// The cost of an attempt that is sent three times over: a span for each place, a record, its part of the metrics; and
/// the flow's record.
pub fn cost(args: &BenchArgs, agent: &Path) -> Result<Signals> {
    let Some(collector) = args.collector else {
        return lab("a Collector is needed: run it by scripts/bench.sh, or name one by --collector");
    };
    let bed = Bed::build()?;
    let relay = Relay::start(bed.node.name(), collector)?;
    let (mut user, mut system, mut bytes, mut rss) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut all = Counted::default();
    bed.connect(args.connections)?;
    for number in 0..ROUNDS {
        eprintln!("all signals to the Collector, {} of {ROUNDS}", number + 1);
        bed.forget_connections();
        let before = relay.sent();
        let running = Running::start_to(Kind::Synspan, &bed, agent, relay.address, ALL)?;
        bed.connect(args.connections)?;
        let taken = running.stop()?;
        let each = f64::from(args.connections);
        user.push(taken.cpu.user / each);
        system.push(taken.cpu.system / each);
        bytes.push((relay.sent() - before) as f64 / each);
        rss.push(taken.rss_mib);
        all.add(&taken.counted()?);
    }
    let told = f64::from(args.connections * ROUNDS);
    Ok(Signals {
        user_us: round(median(&user), 2),
        system_us: round(median(&system), 2),
        wire_bytes: round(median(&bytes), 1),
        rss_mib: round(median(&rss), 1),
        spans: round(all.traces as f64 / told, 3),
        log_records: round(all.logs as f64 / told, 3),
        points: round(all.metrics as f64 / told, 4),
        lost: all.lost,
    })
}

/// The agent's memory with connections that are open and such that have ended.
pub fn memory(args: &BenchArgs, agent: &Path) -> Result<Memory> {
    let Some(collector) = args.collector else {
        return lab("a Collector is needed: run it by scripts/bench.sh, or name one by --collector");
    };
    let bed = Bed::build()?;
    let relay = Relay::start(bed.node.name(), collector)?;
    let running =
        Running::start_to(Kind::Synspan, &bed, agent, relay.address, &format!("{ALL}flows: {{interval: 10s}}\n"))?;
    eprintln!("{ENDED} connections that end");
    bed.connect(ENDED)?;
    eprintln!("{OPEN} connections that stay open");
    let held = bed.hold(OPEN)?;
    let deadline = Instant::now() + PATIENCE;
    // The records of open flows come at their pace; meanwhile the peak is as high as it gets.
    while Instant::now() < deadline {
        std::thread::sleep(Duration::from_secs(1));
    }
    let resident = running.memory()?;
    let maps = maps_of(running.id());
    let taken = running.stop()?;
    drop(held);
    let counted = taken.counted()?;
    Ok(Memory {
        open_flows: OPEN,
        tenancies: counted.tenancies,
        flow_records: counted.logs.saturating_sub(u64::from(OPEN + 2 * ENDED)),
        resident_mib: round(resident.now, 1),
        once_mib: round(resident.once, 1),
        anonymous_mib: round(resident.anonymous, 1),
        peak_mib: round(resident.peak, 1),
        maps_mib: round(maps as f64 / f64::from(1 << 20), 1),
        lost: counted.lost,
    })
}
