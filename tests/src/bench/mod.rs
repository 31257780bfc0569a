//! The benchmark: what the agent costs a node, beside programs that people use for the same question.
//!
//! A client in a pod opens, uses and closes connections to servers outside, by source translation in the
//! node, as fast as one thread can. It does so with nothing watching, with the agent, and with each peer,
//! in turns, since a machine's speed drifts; ratios are of neighbours.

mod bed;
mod contender;
mod cost;
mod identity;
mod interfaces;
pub mod kernel;
mod kill;
mod relay;
mod report;
mod signals;
mod sink;
mod traffic;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::error::{Result, lab};
use crate::net::{cleanup, leftovers};

pub use traffic::{WorkerArgs, work};

/// What `lab bench` is asked to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Part {
    /// Time and memory per connection, beside the peers.
    Cost,
    /// The same of all three signals, sent to a real Collector.
    Signals,
    /// Memory with 100,000 connections open and as many that have ended.
    Memory,
    /// What is left behind after `kill -9`, with tcx and with clsact.
    Kill,
    /// How long a new pod's interface waits while the agent attaches to 200 others.
    Interfaces,
    /// What names from a Kubernetes API server add; only by scripts/lab-kubernetes.sh, and only where it is named.
    Identity,
}

/// The arguments of `lab bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct BenchArgs {
    /// What to measure; all but `identity` without.
    #[arg(value_enum)]
    pub parts: Vec<Part>,
    /// Connections of each run.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub connections: u32,
    /// Rounds, each with a run of every contender.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Runs only these contenders (bare always runs).
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<contender::Kind>,
    /// The agent to measure; the one beside this program without.
    #[arg(long)]
    pub agent: Option<PathBuf>,
    /// The Collector of `signals` and `memory`, by OTLP/gRPC without TLS, reached from here.
    #[arg(long)]
    pub collector: Option<SocketAddr>,
    /// Where the figures go, as JSON: those of `cost` here, those of `signals` and `memory` beside it.
    #[arg(long, default_value = "target/bench/report.json")]
    pub report: PathBuf,
    /// Interfaces on the node in `interfaces`.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=250))]
    pub interfaces: u32,
}

/// Measures what was asked for and prints it. Needs root.
///
/// # Errors
/// If something could not be measured, if a check of `kill` fails, or if a new interface waited too long.
pub fn run(args: &BenchArgs) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return lab("the benchmark makes network namespaces and needs root");
    }
    cleanup::take_over_signals()?;
    for gone in leftovers::clean()? {
        eprintln!("removed what an interrupted lab left: {gone}");
    }
    kernel::mount_tracefs()?;
    let agent = args.agent.clone().map_or_else(contender::agent_beside_us, Ok)?;
    let asked = |part| args.parts.is_empty() || args.parts.contains(&part);
    if asked(Part::Cost) {
        cost::measure(args, &agent)?;
    }
    if asked(Part::Signals) {
        let signals = signals::cost(args, &agent)?;
        print!("{}", report::signals_table(&signals));
        report::write(&signals, &args.report.with_file_name("signals.json"))?;
    }
    if asked(Part::Memory) {
        let memory = signals::memory(args, &agent)?;
        print!("{}", report::memory_table(&memory));
        report::write(&memory, &args.report.with_file_name("memory.json"))?;
    }
    let mut failed = Vec::new();
    if asked(Part::Kill) {
        failed.extend(kill::check(&agent)?);
    }
    if asked(Part::Interfaces) {
        failed.extend(interfaces::check(&agent, args.interfaces)?);
    }
    if args.parts.contains(&Part::Identity) {
        failed.extend(identity::measure(args, &agent)?);
    }
    if failed.is_empty() { Ok(()) } else { lab(failed.join("; ")) }
}
