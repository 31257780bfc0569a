//! What names cost: the agent with a real API server to ask, and the same agent with none, in turns.

use std::path::Path;

use serde::Serialize;

use super::BenchArgs;
use super::bed::{Bed, Placed};
use super::contender::{Kind, Running};
use super::kernel::{Runs, Stats, programs_of, runs_of};
use super::report::{median, round};
use super::sink::Sink;
use crate::cluster::Cluster;
use crate::error::{Context, Error, Result, lab};
use crate::receiver::Receiver;

/// The lab's name of the pod whose object, and whose cgroup's name, the client has.
const POD: &str = "vehicle-control";
const NODE: &str = "node-a";
/// Most microseconds of kernel time that names may add to a connection.
const MOST_US: f64 = 0.1;

/// The figures for each connection, in microseconds: medians of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    rounds: u32,
    connections: u32,
    kernel_without_us: f64,
    kernel_with_us: f64,
    /// The median of the rounds' differences, each of two neighbours.
    kernel_added_us: f64,
    user_without_us: f64,
    user_with_us: f64,
    user_added_us: f64,
}

/// Measures, prints, and writes `identity.json` beside the report of the costs. Returns what is over its bound.
pub fn measure(args: &BenchArgs, agent: &Path) -> Result<Vec<String>> {
    let Some(cluster) = Cluster::from_environment()? else {
        return lab("this needs a cluster's API server: run it by scripts/lab-kubernetes.sh");
    };
    let cgroup = cluster.cgroups.get(POD).cloned();
    let placed = Placed { node: NODE.to_owned(), pod: cgroup.ok_or_else(|| Error::Lab(format!("no pod {POD}")))? };
    let bed = Bed::place(&placed)?;
    let sink = Sink::start(bed.node.name())?;
    let relay = Receiver::start(None)?;
    relay.relay(bed.node.name(), cluster.server)?;
    let asked = format!("kubernetes:\n  enabled: true\n  kubeconfig: {}\n", cluster.kubeconfig.display());
    let ways = ["kubernetes:\n  enabled: false\n", &asked];
    let (mut kernel, mut user) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    bed.connect(args.connections)?;
    for number in 0..args.rounds {
        eprintln!("round {} of {}", number + 1, args.rounds);
        for place in 0..ways.len() {
            // Each begins a round in its turn.
            let way = (place + number as usize) % ways.len();
            let run = run(args.connections, &bed, agent, &sink, ways[way])?;
            if (run.named > 0) != (way == 1) || (way == 1 && run.named < u64::from(args.connections)) {
                return lab(format!("{} of {} connections had a pod's name", run.named, args.connections));
            }
            kernel[way].push(run.kernel_us);
            user[way].push(run.user_us);
        }
    }
    let added = |of: &[Vec<f64>; 2]| {
        median(&of[1].iter().zip(&of[0]).map(|(with, without)| with - without).collect::<Vec<_>>())
    };
    let figures = Figures {
        rounds: args.rounds,
        connections: args.connections,
        kernel_without_us: round(median(&kernel[0]), 3),
        kernel_with_us: round(median(&kernel[1]), 3),
        kernel_added_us: round(added(&kernel), 3),
        user_without_us: round(median(&user[0]), 2),
        user_with_us: round(median(&user[1]), 2),
        user_added_us: round(added(&user), 2),
    };
    println!("names from a Kubernetes API server, microseconds a connection (medians of {} rounds):", args.rounds);
    println!("                     without     with    added");
    let line =
        |name: &str, without: f64, with: f64, added: f64| println!("  {name:15} {without:10.3} {with:8.3} {added:8.3}");
    line("eBPF programs", figures.kernel_without_us, figures.kernel_with_us, figures.kernel_added_us);
    line("user mode", figures.user_without_us, figures.user_with_us, figures.user_added_us);
    let path = args.report.with_file_name("identity.json");
    let text = serde_json::to_string_pretty(&figures).map_err(std::io::Error::from).context("write the figures")?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).context(format_args!("make {}", folder.display()))?;
    }
    std::fs::write(&path, text + "\n").context(format_args!("write {}", path.display()))?;
    println!("written to {}", path.display());
    let over = figures.kernel_added_us >= MOST_US;
    Ok(over
        .then(|| format!("names add {} us of kernel time, {MOST_US} at most", figures.kernel_added_us))
        .into_iter()
        .collect())
}

struct Run {
    kernel_us: f64,
    user_us: f64,
    named: u64,
}

/// Two runs with one agent each: one whose user time is taken, and one whose programs are counted, since counting has
/// a price.
fn run(connections: u32, bed: &Bed, agent: &Path, sink: &Sink, extra: &str) -> Result<Run> {
    let each = f64::from(connections);
    bed.forget_connections();
    let contender = Running::start(Kind::Synspan, bed, agent, sink, extra)?;
    bed.connect(connections)?;
    let taken = contender.stop()?;
    let named = sink.take()?.named;
    bed.forget_connections();
    let contender = Running::start(Kind::Synspan, bed, agent, sink, extra)?;
    let ids = programs_of(contender.id());
    let spent: Runs = {
        let _stats = Stats::enable()?;
        let before = runs_of(&ids)?;
        bed.connect(connections)?;
        std::thread::sleep(std::time::Duration::from_millis(20));
        runs_of(&ids)?.since(before)
    };
    contender.stop()?;
    sink.take()?;
    Ok(Run { kernel_us: spent.nanoseconds as f64 / 1000.0 / each, user_us: taken.cpu.user / each, named })
}
