//! Runs scenarios side by side, each in a process of its own, and sums up.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result, lab};
use crate::net::process::Process;
use crate::scenario::agents::Watch;
use crate::scenario::judged::Judged;
use crate::scenario::model::Scenario;
use crate::scenario::run::Run;
use crate::topology::Family;

/// What came of one run of a scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What is wrong; empty if all is right.
    pub wrong: Vec<String>,
    /// How each connect was judged; none where there was no agent, or the lab did not get to its end.
    #[serde(default)]
    pub judged: Vec<Judged>,
}

impl Report {
    /// A run that the lab itself did not get to its end.
    fn broken(error: &Error) -> Self {
        Self { wrong: vec![format!("the lab: {error}")], judged: Vec::new() }
    }
}

/// Runs a scenario once, in this process.
pub fn once(scenario: &Scenario, family: Family, program: &Path, watch: Watch) -> Report {
    let judgement = Run::start(scenario, family, program, watch).and_then(|mut run| {
        run.steps()?;
        run.verdict()
    });
    match judgement {
        Ok(judgement) => Report { wrong: judgement.wrong, judged: judgement.judged },
        Err(error) => Report::broken(&error),
    }
}

/// One run to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// Which scenario.
    pub scenario: String,
    /// With which family.
    pub family: Family,
    /// Whether nothing else may run beside it.
    pub alone: bool,
}

/// How the suite runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lab's own program.
    pub program: PathBuf,
    /// The agent's; none runs the scenarios unwatched.
    pub agent: Option<PathBuf>,
    /// Where to hand the agents' telemetry on to.
    pub forward: Option<SocketAddr>,
    /// Keep capture files below this directory, each run's in one of its own.
    pub captures: Option<PathBuf>,
    /// How many at the same time.
    pub parallel: usize,
}

/// Runs jobs, some at the same time: most of their time is waiting; then those that want to be alone, one after the
/// other. Tells of each as it ends.
///
/// The jobs' processes are started by the threads that wait for them, since a child dies with its thread.
pub fn run(jobs: Vec<Job>, options: &Options, told: impl Fn(&Job, &Report, Duration) + Sync) -> Vec<(Job, Report)> {
    let (alone, together): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.alone);
    let mut results = side_by_side(together, options.parallel.max(1), options, &told);
    results.extend(side_by_side(alone, 1, options, &told));
    results
}

fn side_by_side(
    jobs: Vec<Job>,
    parallel: usize,
    options: &Options,
    told: &(impl Fn(&Job, &Report, Duration) + Sync),
) -> Vec<(Job, Report)> {
    let queue = Mutex::new(VecDeque::from(jobs));
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                loop {
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(job) = job else { return };
                    let start = Instant::now();
                    let report = in_process(&job, options).unwrap_or_else(|error| Report::broken(&error));
                    told(&job, &report, start.elapsed());
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((job, report));
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn in_process(job: &Job, options: &Options) -> Result<Report> {
    let mut command = Command::new(&options.program);
    command.arg("one").arg(&job.scenario).arg("--family").arg(u8::from(job.family).to_string());
    match &options.agent {
        Some(agent) => command.arg("--agent").arg(agent),
        None => command.arg("--no-agent"),
    };
    if let Some(to) = options.forward {
        command.arg("--forward").arg(to.to_string());
    }
    if let Some(dir) = &options.captures {
        command.arg("--captures").arg(own_directory(dir, job)?);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::spawn_tidy(command, &format!("a run of {}", job.scenario))?;
    let Some(mut stdout) = process.child().stdout.take() else { return lab("a run without standard output") };
    let mut text = String::new();
    stdout.read_to_string(&mut text).context("read a run's report")?;
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| Error::Lab(format!("a run ended without a report ({error}): {text}")))
}

/// Makes a directory for a run's captures: SCENARIO-IPvN, and a number if it ran before.
fn own_directory(below: &Path, job: &Job) -> Result<PathBuf> {
    std::fs::create_dir_all(below).context(format_args!("make {}", below.display()))?;
    let name = format!("{}-ipv{}", job.scenario, u8::from(job.family));
    for number in 1.. {
        let path = below.join(if number == 1 { name.clone() } else { format!("{name}-{number}") });
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| path.clone()).context(format_args!("make {}", path.display())),
        }
    }
    lab(format!("too many runs of {name} are kept in {}", below.display()))
}

/// The result table: scenario, family, runs, right, and what went wrong first.
pub fn table(results: &[(Job, Report)]) -> String {
    let mut rows: BTreeMap<(&str, Family), (usize, usize, &str)> = BTreeMap::new();
    for (job, report) in results {
        let row = rows.entry((&job.scenario, job.family)).or_default();
        row.0 += 1;
        match report.wrong.first() {
            None => row.1 += 1,
            Some(why) if row.2.is_empty() => row.2 = why.lines().next().unwrap_or_default(),
            Some(_) => {}
        }
    }
    let width = rows.keys().map(|(name, _)| name.len()).max().unwrap_or(0).max(8);
    let mut text = format!("{:width$}  IPv  runs  right  wrong\n", "scenario");
    for ((name, family), (runs, right, why)) in &rows {
        let wrong = if runs == right { String::new() } else { format!("{}: {why}", runs - right) };
        let wrong: String = wrong.chars().take(150).collect();
        let line = format!("{name:width$}  {:3}  {runs:4}  {right:5}  {wrong}", u8::from(*family));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_counts_and_gives_the_first_reason() {
        let job = |scenario: &str, family| Job { scenario: scenario.into(), family, alone: false };
        let wrong = |text: &str| Report { wrong: vec![text.into()], judged: Vec::new() };
        let results = [
            (job("reuse", Family::V4), Report { wrong: Vec::new(), judged: Vec::new() }),
            (job("reuse", Family::V4), wrong("cause is none\nand more")),
            (job("refused", Family::V6), Report { wrong: Vec::new(), judged: Vec::new() }),
        ];
        let text = table(&results);
        assert!(text.contains("refused     6     1      1\n"), "{text}");
        assert!(text.contains("reuse       4     2      1  1: cause is none\n"), "{text}");
    }
}
