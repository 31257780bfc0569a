//! Rounds of runs, and the figures made of them.

use std::collections::BTreeMap;
use std::path::Path;

use super::BenchArgs;
use super::bed::{Bed, NODE_INTERFACE, POD_INTERFACE};
use super::contender::{Kind, Running, Taken};
use super::kernel::{Constant, NEXT, Runs, Stats, programs_of, runs_of};
use super::report::{self, Agent, Bare, Peer, Report, Row, median, round};
use super::sink::Sink;
use crate::error::{Result, lab};

/// Rounds that count the programs' run time: it varies little.
const COUNTED_ROUNDS: u32 = 3;

/// All runs of one contender.
#[derive(Debug, Default)]
struct Series {
    wall_us: Vec<f64>,
    ratio: Vec<f64>,
    user_us: Vec<f64>,
    system_us: Vec<f64>,
    rss_mib: Vec<f64>,
    records: Vec<f64>,
    lost: Option<u64>,
}

/// Measures, prints the table and writes the report.
pub fn measure(args: &BenchArgs, agent: &Path) -> Result<()> {
    let bed = Bed::build()?;
    let sink = Sink::start(bed.node.name())?;
    let kinds: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| args.only.is_empty() || args.only.contains(kind)).collect();
    let mut bare = Vec::new();
    let mut runs: BTreeMap<Kind, Series> = BTreeMap::new();
    // One that is thrown away: the first finds cold caches.
    bed.connect(args.connections)?;
    for number in 0..args.rounds {
        eprintln!("round {} of {}", number + 1, args.rounds);
        for place in 0..kinds.len() {
            // Each begins a round in its turn, so that no one always follows the same other.
            let kind = kinds[(place + number as usize) % kinds.len()];
            bed.forget_connections();
            let before = bed.connect(args.connections)? / 1000.0;
            bare.push(before);
            bed.forget_connections();
            let contender = Running::start(kind, &bed, agent, &sink, "")?;
            let wall = bed.connect(args.connections)? / 1000.0;
            let taken = contender.stop()?;
            let run = runs.entry(kind).or_default();
            run.add(args.connections, before, wall, &taken);
            if kind == Kind::Synspan {
                let received = sink.take()?;
                run.records.push(received.connects as f64 / f64::from(args.connections));
            }
        }
        if kinds.is_empty() {
            bare.push(bed.connect(args.connections)? / 1000.0);
        }
    }
    let mut report = Report {
        connections: args.connections,
        rounds: args.rounds,
        runs: report::Runs { bare: Bare { wall_us: round(median(&bare), 2) }, ..report::Runs::default() },
    };
    let mut rows = vec![Row { name: "bare", wall: (median(&bare), None), ..Row::default() }];
    for kind in kinds {
        let Some(run) = runs.get(&kind) else { continue };
        rows.push(run.row(kind));
        let peer = Some(run.peer());
        match kind {
            Kind::Synspan => report.runs.synspan = Some(count_programs(args, &bed, agent, &sink, run)?),
            Kind::Tcplife => report.runs.tcplife = peer,
            Kind::Tcpstates => report.runs.tcpstates = peer,
            Kind::Conntrack => report.runs.conntrack = peer,
        }
    }
    print!("{}", report::table(&rows, &report));
    report::write(&report, &args.report)?;
    println!("written to {}", args.report.display());
    Ok(())
}

impl Series {
    fn add(&mut self, connections: u32, before: f64, wall: f64, taken: &Taken) {
        let each = f64::from(connections);
        self.wall_us.push(wall);
        self.ratio.push(wall / before);
        self.user_us.push(taken.cpu.user / each);
        self.system_us.push(taken.cpu.system / each);
        self.rss_mib.push(taken.rss_mib);
        self.records.extend(taken.lines.map(|lines| lines as f64 / each));
        if let Some(lost) = taken.lost {
            self.lost = Some(self.lost.unwrap_or(0) + lost);
        }
    }

    fn peer(&self) -> Peer {
        Peer {
            wall_us: round(median(&self.wall_us), 2),
            wall_ratio: round(median(&self.ratio), 4),
            user_us: round(median(&self.user_us), 2),
        }
    }

    fn row(&self, kind: Kind) -> Row {
        Row {
            name: kind.name(),
            wall: (median(&self.wall_us), Some(median(&self.ratio))),
            cpu: Some((median(&self.user_us), median(&self.system_us))),
            rss_mib: Some(median(&self.rss_mib)),
            records: (!self.records.is_empty()).then(|| median(&self.records)),
        }
    }
}

/// Runs of their own with `bpf_stats` on: what the agent's programs take, and what an empty one is accounted.
fn count_programs(args: &BenchArgs, bed: &Bed, agent: &Path, sink: &Sink, run: &Series) -> Result<Agent> {
    let (mut kernel_us, mut kernel_runs, mut empty_ns) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..COUNTED_ROUNDS {
        eprintln!("counting the programs' time, {} of {COUNTED_ROUNDS}", number + 1);
        bed.forget_connections();
        let contender = Running::start(Kind::Synspan, bed, agent, sink, "")?;
        let ids = programs_of(contender.id());
        if ids.is_empty() {
            return lab("the agent holds no eBPF program, so it captures nothing");
        }
        let runs = counted(args.connections, bed, || runs_of(&ids))?;
        contender.stop()?;
        sink.take()?;
        kernel_us.push(runs.nanoseconds as f64 / 1000.0 / f64::from(args.connections));
        kernel_runs.push(runs.count as f64 / f64::from(args.connections));

        let empty = Constant::attach(bed.node.name(), &[POD_INTERFACE, NODE_INTERFACE], NEXT)?;
        let runs = counted(args.connections, bed, || empty.runs())?;
        if runs.count == 0 {
            return lab("the empty program never ran");
        }
        empty_ns.push(runs.nanoseconds as f64 / runs.count as f64);
    }
    Ok(Agent {
        wall_us: round(median(&run.wall_us), 2),
        wall_ratio: round(median(&run.ratio), 4),
        kernel_us: round(median(&kernel_us), 3),
        kernel_runs: round(median(&kernel_runs), 2),
        empty_program_ns: round(median(&empty_ns), 1),
        user_us: round(median(&run.user_us), 2),
        rss_mib: round(median(&run.rss_mib), 1),
        lost: run.lost,
    })
}

fn counted(connections: u32, bed: &Bed, read: impl Fn() -> Result<Runs>) -> Result<Runs> {
    let _stats = Stats::enable()?;
    let before = read()?;
    bed.connect(connections)?;
    // The last segments of the last connection.
    std::thread::sleep(std::time::Duration::from_millis(20));
    Ok(read()?.since(before))
}
