//! What the lab's commands do with scenarios.

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use synspan_lab::agent;
use synspan_lab::error::{Context, Result, lab};
use synspan_lab::matrix::Matrix;
use synspan_lab::net::cleanup;
use synspan_lab::scenario::agents::Watch;
use synspan_lab::scenario::catalog;
use synspan_lab::scenario::model::Scenario;
use synspan_lab::scenario::records;
use synspan_lab::scenario::run::Run;
use synspan_lab::suite::{self, Job, Options, Report};
use synspan_lab::topology::Family;

#[derive(Args)]
pub struct RunArgs {
    /// Scenarios, or beginnings of their names; all without.
    names: Vec<String>,
    /// How often each.
    #[arg(long, default_value_t = 1)]
    times: usize,
    /// Only this IP family: 4 or 6.
    #[arg(long)]
    family: Option<Family>,
    /// Keep capture files of every interface of the nodes below this directory, and what the agents said, for
    /// `lab replay`.
    #[arg(long)]
    captures: Option<PathBuf>,
    /// How many at the same time.
    #[arg(long, default_value_t = 3)]
    parallel: usize,
    /// Do one scenario's steps, then leave all standing until Enter or a signal, and say how to look at it.
    #[arg(long)]
    hold: bool,
    #[command(flatten)]
    watch: WatchArgs,
}

#[derive(Args)]
pub struct MatrixArgs {
    /// Scenarios, or beginnings of their names; all without.
    names: Vec<String>,
    /// How often each, with each family.
    #[arg(long, default_value_t = 5)]
    times: usize,
    /// How many at the same time.
    #[arg(long, default_value_t = 3)]
    parallel: usize,
    /// Keep capture files of every run below this directory, for `lab replay`.
    #[arg(long)]
    captures: Option<PathBuf>,
    /// Where to write the table as JSON.
    #[arg(long, default_value = "target/matrix.json")]
    out: PathBuf,
    /// The agent's program; `synspan` beside this one without.
    #[arg(long)]
    agent: Option<PathBuf>,
}

#[derive(Args)]
pub struct WatchArgs {
    /// The agent's program; `synspan` beside this one without.
    #[arg(long)]
    agent: Option<PathBuf>,
    /// Run with no agent: only the lab's own checks of the wire count.
    #[arg(long, conflicts_with = "agent")]
    no_agent: bool,
    /// Hand the agents' OTLP on to a receiver at this address, reached from here, and compare nothing.
    #[arg(long)]
    forward: Option<SocketAddr>,
}

impl WatchArgs {
    pub fn agent(&self) -> Result<Option<PathBuf>> {
        if self.no_agent { Ok(None) } else { agent::program(self.agent.as_deref()).map(Some) }
    }

    pub fn watch(&self) -> Result<Watch> {
        Ok(Watch { agent: self.agent()?, forward: self.forward, captures: None, console: false })
    }
}

pub fn run(args: &RunArgs) -> Result<ExitCode> {
    root()?;
    cleanup::take_over_signals()?;
    let scenarios = pick(&args.names)?;
    if args.hold {
        let [scenario] = scenarios.as_slice() else { return lab("--hold takes one scenario") };
        let family = args.family.unwrap_or(scenario.families[0]);
        return hold(scenario, family, args.watch.watch()?);
    }
    let jobs = jobs(&scenarios, args.times, args.family);
    let options = Options {
        program: own()?,
        agent: args.watch.agent()?,
        forward: args.watch.forward,
        captures: args.captures.clone(),
        parallel: args.parallel,
    };
    let results = suite::run(jobs, &options, tell);
    println!("\n{}", suite::table(&results));
    let right = results.iter().all(|(_, report)| report.wrong.is_empty());
    Ok(if right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub fn big_flood(scenario: &Scenario, family: Family, watch: Watch, written: Option<&Path>) -> Result<ExitCode> {
    let mut run = Run::start(scenario, family, &own()?, watch)?;
    let start = std::time::Instant::now();
    run.steps()?;
    println!("the flood and the node's own attempts took {:.1} s", start.elapsed().as_secs_f64());
    for (node, kib) in run.agents().memory_peaks() {
        println!("the agent of {node} held {} MiB at most", kib / 1024);
    }
    let mut wrong = run.verdict()?.wrong;
    if let Some(dir) = written {
        let kept = run.agents().written(dir)?;
        for flood in run.flooded(&kept)? {
            println!("{flood}");
            wrong.extend(flood.faults());
        }
        wrong.extend(records::wrong(&kept)?);
    }
    for line in run.agents().logs().lines().filter(|line| line.contains("synspan counters")) {
        println!("{line}");
    }
    for line in wrong.iter().flat_map(|why| why.lines()).take(200) {
        println!("{line}");
    }
    println!("{}", if wrong.is_empty() { "right" } else { "WRONG" });
    Ok(ended(wrong.is_empty()))
}

fn jobs(scenarios: &[Scenario], times: usize, only: Option<Family>) -> Vec<Job> {
    let mut jobs = Vec::new();
    for _ in 0..times {
        for scenario in scenarios {
            let families = scenario.families.iter().filter(|&&family| only.is_none_or(|only| only == family));
            jobs.extend(families.map(|&family| Job { scenario: scenario.name.clone(), family, alone: scenario.alone }));
        }
    }
    jobs
}

/// Says how a run ended.
fn tell(job: &Job, report: &Report, took: Duration) {
    let word = if report.wrong.is_empty() { "right" } else { "WRONG" };
    println!("{word}  {} IPv{} ({:.1} s)", job.scenario, u8::from(job.family), took.as_secs_f64());
    for line in report.wrong.iter().flat_map(|why| why.lines()) {
        println!("    {line}");
    }
}

pub fn matrix(args: &MatrixArgs) -> Result<ExitCode> {
    root()?;
    cleanup::take_over_signals()?;
    let jobs = jobs(&pick(&args.names)?, args.times, None);
    let agent = Some(agent::program(args.agent.as_deref())?);
    let options =
        Options { program: own()?, agent, forward: None, captures: args.captures.clone(), parallel: args.parallel };
    let results = suite::run(jobs, &options, tell);
    let matrix = Matrix::new(args.times, &results);
    println!("\n{}", matrix.table());
    matrix.write(&args.out)?;
    println!("written to {}", args.out.display());
    Ok(if matrix.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compares replay with live, run by run. Needs no root.
pub fn replay(dir: &Path, agent: &Path) -> Result<ExitCode> {
    let (mut attempts, mut less, mut wrong) = (0, 0, 0);
    for run in synspan_lab::replay::runs(dir)? {
        let compared = synspan_lab::replay::compare(agent, &run)?;
        println!("{}  {}", if compared.wrong.is_empty() { "same " } else { "OTHER" }, run.display());
        compared.wrong.iter().for_each(|line| println!("    {line}"));
        attempts += compared.attempts;
        less += compared.less;
        wrong += compared.wrong.len();
    }
    println!("\n{attempts} attempts, {less} of them with less in replay as their scenarios say, {wrong} differences");
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn hold(scenario: &Scenario, family: Family, watch: Watch) -> Result<ExitCode> {
    let mut run = Run::start(scenario, family, &own()?, watch)?;
    let steps = run.steps();
    println!("{} stands. Look at it:", scenario.name);
    for (name, netns) in run.world().namespaces() {
        println!("  {name:16} nsenter --net=/run/netns/{netns} bash");
    }
    for (node, id) in run.agents().ids() {
        println!("  agent of {node}: process {id}, files in {}", run.world().dir().display());
    }
    if let Err(error) = steps {
        println!("a step failed: {error}");
    }
    println!("Enter takes it down.");
    let _ = std::io::stdin().lock().read_line(&mut String::new());
    for line in run.verdict()?.wrong.iter().flat_map(|why| why.lines()) {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

pub fn demo(name: &str, family: Family, watch: Watch, first: Option<&str>) -> Result<()> {
    let scenario = pick(&[name.to_owned()])?.remove(0);
    println!("{}\n", scenario.about.trim());
    let mut run = Run::start(&scenario, family, &own()?, watch)?;
    if let Some(command) = first {
        let status = std::process::Command::new("bash").args(["-euc", command]).status().context("run bash")?;
        if !status.success() {
            return lab(format!("`{command}` ended with {status}"));
        }
    }
    run.steps()?;
    // The console shows an attempt once it has settled; the agent's end prints the rest.
    std::thread::sleep(Duration::from_millis(700));
    run.verdict()?;
    // What works less well than it might, on this machine or with these rights.
    for line in run.agents().logs().lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")) {
        eprintln!("{line}");
    }
    println!("{LOOK_FURTHER}");
    Ok(())
}

const LOOK_FURTHER: &str = "
To look further:
  make demo-collector                               the same case as spans, records and metrics, from a Collector's own file
  make demo-kubernetes                              the same case with names from a real Kubernetes API server
  make lab ARGS='run --hold reuse-never-closed'     leave it standing, to look with tcpdump, ss and conntrack
  make lab                                          the other faults: lost RSTs, black holes, drops in the node, ...
  target/debug/synspan doctor                       what works on this machine
  target/debug/synspan run                          watch this machine itself; stop with Ctrl-C";

pub fn pick(names: &[String]) -> Result<Vec<Scenario>> {
    let all = catalog::all()?;
    if names.is_empty() {
        return Ok(all);
    }
    for name in names {
        if !all.iter().any(|scenario| scenario.name.starts_with(name.as_str())) {
            return lab(format!("no scenario is called `{name}`; `lab list` shows them"));
        }
    }
    let exact = |scenario: &Scenario| names.contains(&scenario.name);
    let fits = |scenario: &Scenario| names.iter().any(|name| scenario.name.starts_with(name.as_str()));
    let only_exact = names.iter().all(|name| all.iter().any(|scenario| scenario.name == *name));
    Ok(all.into_iter().filter(|scenario| if only_exact { exact(scenario) } else { fits(scenario) }).collect())
}

pub fn own() -> Result<PathBuf> {
    std::env::current_exe().context("find the lab's own program")
}

pub fn ended(right: bool) -> ExitCode {
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub fn root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        Ok(())
    } else {
        lab("the lab needs root: it makes network namespaces and cgroups")
    }
}
