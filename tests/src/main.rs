//! The lab's program.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use synspan_lab::error::{Context, Result};
use synspan_lab::load::command;
use synspan_lab::net::{cleanup, leftovers};
use synspan_lab::scenario::agents::Watch;
use synspan_lab::scenario::catalog;
use synspan_lab::suite;
use synspan_lab::topology::Family;
use synspan_lab::{agent, bench, flood, handover, load, replicas, worker};

mod perform;

use perform::{MatrixArgs, RunArgs, WatchArgs, ended, own, pick, root};

/// The fault lab: real faults on one kernel, and what the agent must say of them. Needs root.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the scenarios.
    List,
    /// Run scenarios and compare the verdicts with what they must be.
    Run(RunArgs),
    /// Run all scenarios several times, and print the confusion table: cause expected by cause reported.
    Matrix(MatrixArgs),
    /// The case of a source port used again, with the agent's console tree.
    Demo {
        /// The IP family: 4 or 6.
        #[arg(long, default_value = "4")]
        family: Family,
        /// The agent's program; `synspan` beside this one without.
        #[arg(long)]
        agent: Option<PathBuf>,
        /// The scenario.
        #[arg(long, default_value = "reuse-never-closed")]
        scenario: String,
        /// A shell command to run when the agent watches, before the case.
        #[arg(long)]
        first: Option<String>,
    },
    /// What the agent costs a node, beside programs that people use for the same question.
    Bench(bench::BenchArgs),
    /// The benchmark's client and servers (used by `bench`).
    #[command(hide = true)]
    BenchWorker(bench::WorkerArgs),
    /// The scenario `flood` with many more SYNs, and what the agent held and said at its end.
    Flood {
        /// How many SYNs.
        #[arg(long, default_value_t = 1_000_000)]
        syns: u32,
        /// How many a second, at most.
        #[arg(long, default_value_t = 50_000)]
        rate: u32,
        /// The IP family: 4 or 6.
        #[arg(long, default_value = "4")]
        family: Family,
        /// Judge the sums that a Collector wrote into this directory, to which `--forward` leads.
        #[arg(long, requires = "forward")]
        written: Option<PathBuf>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// One address handed from pod to pod, under load: whose is each attempt? Run by scripts/lab-kubernetes.sh.
    Handover {
        /// How often.
        #[arg(long, default_value_t = 200)]
        times: usize,
        /// The agent's program; `synspan` beside this one without.
        #[arg(long)]
        agent: Option<PathBuf>,
    },
    /// Many attempts of a known mix, and whether spans, records and metrics each tell all of them.
    Load {
        #[command(flatten)]
        mix: load::Mix,
        /// Judge what a Collector wrote into this directory, to which `--forward` leads.
        #[arg(long, requires = "forward")]
        written: Option<PathBuf>,
        /// Something is left out on purpose: this part of the successes has spans, and all else that no summary counts.
        #[arg(long)]
        sampled: Option<f64>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Two nodes with an agent each that keep a share of the successes, and whether they keep the same traces.
    Pair {
        #[command(flatten)]
        pair: load::pair::Connects,
        /// Judge what a Collector wrote into this directory, to which `--forward` leads.
        #[arg(long, requires = "forward")]
        written: Option<PathBuf>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// A retry storm, and whether what is told of it stays within the budgets and adds up.
    Storm {
        #[command(flatten)]
        storm: load::storm::Size,
        /// Judge what a Collector wrote into this directory, to which `--forward` leads.
        #[arg(long, requires = "forward")]
        written: Option<PathBuf>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Two pods of one Deployment on two nodes, one with two containers, and the first port that is used again; by
    /// scripts/lab-kubernetes.sh. It says in JSON what was attempted after each stage, and waits for a line.
    Replicas {
        /// Hand the agents' OTLP on to a receiver at this address.
        #[arg(long)]
        forward: SocketAddr,
        /// The agent's program; `synspan` beside this one without.
        #[arg(long)]
        agent: Option<PathBuf>,
    },
    /// Remove what labs left that are gone.
    Clean,
    /// Run one scenario once and print a report in JSON (used by `run`).
    #[command(hide = true)]
    One {
        name: String,
        #[arg(long)]
        family: Family,
        #[arg(long)]
        captures: Option<PathBuf>,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Replay the captures that `run --captures` and `matrix --captures` kept, and compare with what live said.
    Replay {
        /// The directory.
        captures: PathBuf,
        /// The agent's program; `synspan` beside this one without.
        #[arg(long)]
        agent: Option<PathBuf>,
    },
    /// Own the sockets of a pod, process or server (used by the lab itself).
    #[command(hide = true)]
    Worker {
        #[arg(long)]
        netns: String,
        #[arg(long)]
        cgroup: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error}");
            ExitCode::from(2)
        }
    }
}

fn execute(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::List => {
            for scenario in catalog::all()? {
                println!("{}\n    {}", scenario.name, scenario.about.trim());
            }
        }
        Command::Worker { netns, cgroup } => worker::serve::serve(&netns, cgroup.as_deref())?,
        Command::Bench(args) => bench::run(&args)?,
        Command::BenchWorker(args) => bench::work(&args)?,
        Command::Flood { syns, rate, family, written, watch } => {
            root()?;
            cleanup::take_over_signals()?;
            let scenario = flood::scaled(pick(&["flood".to_owned()])?.remove(0), syns, rate)?;
            return perform::big_flood(&scenario, family, watch.watch()?, written.as_deref());
        }
        Command::Handover { times, agent: given } => {
            root()?;
            cleanup::take_over_signals()?;
            return handover(times, &agent::program(given.as_deref())?);
        }
        Command::Load { mix, written, sampled, watch } => {
            root()?;
            cleanup::take_over_signals()?;
            return command::mix(mix, &own()?, watch.watch()?, written.as_deref(), sampled).map(ended);
        }
        Command::Pair { pair, written, watch } => {
            root()?;
            cleanup::take_over_signals()?;
            return command::pair(pair, &own()?, watch.watch()?, written.as_deref()).map(ended);
        }
        Command::Storm { storm, written, watch } => {
            root()?;
            cleanup::take_over_signals()?;
            return command::storm(storm, &own()?, watch.watch()?, written.as_deref()).map(ended);
        }
        Command::Replicas { forward, agent: given } => {
            root()?;
            cleanup::take_over_signals()?;
            replicas::run(&own()?, &agent::program(given.as_deref())?, forward)?;
        }
        Command::Clean => {
            for what in leftovers::clean()? {
                println!("removed {what}");
            }
        }
        Command::Replay { captures, agent: given } => {
            return perform::replay(&captures, &agent::program(given.as_deref())?);
        }
        Command::One { name, family, captures, watch } => {
            root()?;
            cleanup::take_over_signals()?;
            let scenario = pick(&[name])?.remove(0);
            let watch = Watch { captures, ..watch.watch()? };
            let report = suite::once(&scenario, family, &own()?, watch);
            println!("{}", serde_json::to_string(&report).map_err(std::io::Error::from).context("write the report")?);
        }
        Command::Demo { family, agent: given, scenario, first } => {
            root()?;
            cleanup::take_over_signals()?;
            let watch =
                Watch { agent: Some(agent::program(given.as_deref())?), forward: None, captures: None, console: true };
            perform::demo(&scenario, family, watch, first.as_deref())?;
        }
        Command::Run(args) => return perform::run(&args),
        Command::Matrix(args) => return perform::matrix(&args),
    }
    Ok(ExitCode::SUCCESS)
}

fn handover(times: usize, agent: &Path) -> Result<ExitCode> {
    let found = handover::run(times, &own()?, agent)?;
    println!("{found}");
    let faults = found.faults();
    faults.iter().take(50).for_each(|fault| println!("WRONG  {fault}"));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
