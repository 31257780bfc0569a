//! A retry storm: one workload tries a refused destination again as fast as it can, another one a destination that does
//! not answer, and a third lives its ordinary life. Nothing may drown, and nothing may be missing in the sums.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::bed::{self, Burst};
use super::judge::Judgement;
use super::tally::{Kind, Truth};
use crate::counters::Counters;
use crate::error::{Result, lab};
use crate::scenario::agents::{Agents, Watch};
use crate::topology::{Masquerade, Topology};
use crate::worker::client::Pending;
use crate::worker::protocol::{Command, Done as Answered};
use crate::world::World;

const NODE: &str = "node-a";
const SERVER: &str = "server";
/// Who is refused, who is not answered, and who is well.
const PODS: [&str; 3] = ["cart", "vehicle-control", "billing"];
const OPEN: u16 = 8_443;
const CLOSED: u16 = 9_000;
const DARK: u16 = 9_100;
/// What the ordinary workload does meanwhile: so many connects that are taken at a time, and as many refused in all as
/// its own budget has room for.
const CALLS: u16 = 50;
const OWN_REFUSED: u16 = 40;
/// The storms' own patience.
const STORM_PATIENCE: Duration = Duration::from_secs(180);

/// How big a storm.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Size {
    /// Attempts that are refused.
    #[arg(long, default_value_t = 30_000)]
    pub refused: u32,
    /// Attempts that nobody answers.
    #[arg(long, default_value_t = 6_000)]
    pub dark: u32,
    /// Refused attempts a second at most; 0: as fast as the machine can.
    #[arg(long, default_value_t = 0)]
    pub rate: u32,
    /// Attempts a second, at most, that nobody answers; 0: as fast as the machine can.
    #[arg(long, default_value_t = 2_000)]
    pub dark_rate: u32,
    /// How many threads of the refused workload connect.
    #[arg(long, default_value_t = 2)]
    pub threads: u16,
    /// The agent's `sampling.budget.rate`.
    #[arg(long, default_value_t = 10)]
    pub budget_rate: u32,
    /// The agent's `sampling.budget.burst`.
    #[arg(long, default_value_t = 100)]
    pub budget_burst: u32,
    /// The most memory that the agent may ever hold, in MiB.
    #[arg(long, default_value_t = 160)]
    pub memory_mib: u64,
    /// The agent must lose nothing: the storm is one that it can follow.
    #[arg(long)]
    pub lossless: bool,
}

/// What was done, and how the agent bore it.
#[derive(Debug)]
pub struct Outcome {
    storm: Size,
    truth: Truth,
    /// How long the agent watched.
    watched: Duration,
    /// How long the storm of refused ones lasted.
    refused_for: Duration,
    dark_for: Duration,
    /// The most memory, in KiB.
    peak: u64,
    counters: Counters,
}

/// Makes the storm.
///
/// # Errors
/// Where the lab could not do its part.
pub fn run(storm: Size, program: &Path, watch: Watch) -> Result<(Outcome, Agents)> {
    let node = bed::node(NODE, &PODS, Some(Masquerade::default()));
    let topology = Topology { nodes: vec![node], servers: vec![SERVER.to_owned()], services: Vec::new() };
    let mut world = World::build(&topology, program)?;
    let server = bed::address(&world, SERVER)?;
    bed::listen(&mut world, SERVER, [OPEN])?;
    bed::darken(&world, SERVER, DARK)?;
    let mut agents = Agents::new(&world, watch)?;
    let start = Instant::now();
    agents.start(&world, NODE)?;
    let mut truth = Truth::default();
    let [refused, dark, ordinary] = PODS;
    let begin = |world: &mut World, pod, port, count, rate, patience_ms| {
        let (to, threads) = (SocketAddr::new(server, port), storm.threads);
        world.worker(pod)?.begin(Command::Storm { to, count, rate, threads, patience_ms })
    };
    let (stormed, mut ended) = (Instant::now(), [None, None]);
    let storms = [
        begin(&mut world, refused, CLOSED, storm.refused, storm.rate, None)?,
        begin(&mut world, dark, DARK, storm.dark, storm.dark_rate, Some(bed::GIVES_UP))?,
    ];
    let mut first = 10_000;
    let mut calls = |world: &mut World, port, count, expected| {
        let to = SocketAddr::new(server, port);
        first += count;
        bed::connect(world, Burst { from: ordinary, to, first, count, timeout_ms: 20_000, expected })
    };
    truth.add(ordinary, Kind::Refused, calls(&mut world, CLOSED, OWN_REFUSED, "ECONNREFUSED")?);
    while ended.iter().any(Option::is_none) {
        truth.add(ordinary, Kind::Taken, calls(&mut world, OPEN, CALLS, "ok")?);
        for (ended, storm) in ended.iter_mut().zip(&storms).filter(|(ended, _)| ended.is_none()) {
            *ended = over(storm)?.map(|results| (results, stormed.elapsed()));
        }
        if stormed.elapsed() > STORM_PATIENCE {
            return lab(format!("the storm was not over within {STORM_PATIENCE:?}"));
        }
    }
    let [Some((refusals, refused_for)), Some((silences, dark_for))] = ended else { return lab("a storm went on") };
    truth.add(refused, Kind::Refused, only(&refusals, "ECONNREFUSED")?);
    truth.add(dark, Kind::Dark, only(&silences, "timeout")?);
    bed::settle(&agents, &world, NODE, truth.tally().total())?;
    let peak = agents.memory_peaks().into_iter().map(|(_, peak)| peak).max().unwrap_or(u64::MAX);
    agents.stop()?;
    let Some(counters) = agents.counters()?.remove(NODE) else { return lab("the agent left no counters") };
    Ok((Outcome { storm, truth, watched: start.elapsed(), refused_for, dark_for, peak, counters }, agents))
}

/// What a storm's worker says; none while it goes on.
fn over(storm: &Pending) -> Result<Option<BTreeMap<String, u64>>> {
    match storm.glance(Duration::from_millis(200))? {
        None => Ok(None),
        Some(Answered::Counted(results)) => Ok(Some(results)),
        Some(_) => lab("a worker did not say what came of its storm"),
    }
}

/// How many there were, if all had the same result.
fn only(results: &BTreeMap<String, u64>, expected: &str) -> Result<u64> {
    match results.iter().find(|(result, _)| *result != expected) {
        Some((other, count)) => lab(format!("{count} connects of a storm ended with {other}, not {expected}")),
        None => Ok(results.values().sum()),
    }
}

impl Outcome {
    /// What is not as it must be; nothing if all is.
    pub fn faults(&self, said: &Judgement) -> Vec<String> {
        let mut faults = Vec::new();
        let (done, lost) = (self.truth.tally(), self.counters.lost());
        let told = said.attempts.total();
        // What was lost is missing everywhere, and may take a cause with it; nothing else is missing.
        if lost == 0 && said.attempts != *done {
            faults.push("the totals of synspan.connect.attempts are not what was done, and nothing was lost".into());
        } else if told > done.total() || done.total() - told > lost {
            let done = done.total();
            faults.push(format!("the totals tell of {told} attempts of {done}, and {lost} observations were lost"));
        }
        if self.storm.lossless && lost > 0 {
            faults.push(format!("{lost} observations or findings were lost: {}", self.counters));
        }
        if self.counters.undelivered() > 0 {
            faults.push(format!("{} items were not delivered: {}", self.counters.undelivered(), self.counters));
        }
        // Each attempt has a span, or is in a sum, and no attempt is in both. What is no failure may be one that the
        // ceiling took, which is counted.
        let mut known = said.spans.clone();
        said.summed.0.iter().for_each(|(key, count)| known.add(key.clone(), *count));
        let more = known.0.iter().any(|(key, count)| *count > said.attempts.0.get(key).copied().unwrap_or(0));
        let thinned = self.counters.get("/untold/by_ceiling").unwrap_or(0);
        if more || known.total() + thinned != told {
            faults.push(format!(
                "spans and sums, and {thinned} left out, do not add up to the totals; they say\n{known}"
            ));
        }
        // One whose end was lost is open when the agent ends: there is nothing to record of it yet.
        let pending = said.spans.only(|outcome| outcome == "pending").total();
        let over = |outcome: &str| outcome != "pending";
        if said.spans.only(over) != said.records {
            faults.push("records are not what spans are".to_owned());
        }
        // Where observations were lost, some of those that were not established are no failures.
        let failed = said.summed.failed().only(over);
        if said.summed_failed != failed && (lost == 0 || said.summed_failed.total() > failed.total()) {
            faults.push(format!("of the attempts in sums these failed, they say:\n{}", said.summed_failed));
        }
        faults.extend(self.beyond(said));
        for count in [said.went_back, said.twice, said.alone.saturating_sub(pending), said.dangling] {
            if count > 0 {
                faults.push("totals went back, something came twice, or a span, record or link is alone".to_owned());
            }
        }
        if self.peak > self.storm.memory_mib * 1024 {
            faults.push(format!("the agent held {} MiB", self.peak / 1024));
        }
        faults
    }

    /// What a budget lets through from the agent's start to its end.
    fn budget(&self) -> u64 {
        let Size { budget_rate, budget_burst, .. } = self.storm;
        u64::from(budget_burst) + (f64::from(budget_rate) * self.watched.as_secs_f64()).ceil() as u64
    }

    /// Where a storm had more than its budget, or something less than is due to it.
    fn beyond(&self, said: &Judgement) -> Vec<String> {
        let mut faults = Vec::new();
        let (least, most) = (u64::from(self.storm.budget_burst), self.budget());
        for (what, tally) in
            [("records", said.records.failed()), ("records of attempts that hang", said.stalled.clone())]
        {
            for ((who, outcome, cause, _), count) in tally.0.iter().filter(|(_, count)| **count > most) {
                faults.push(format!("{who} has {count} {what} of {outcome} {cause}, and {most} at most may be"));
            }
        }
        // What was lost may have taken any of them, or its cause.
        for (key, done) in self.truth.tally().failed().0.iter().filter(|_| self.counters.lost() == 0) {
            let (records, due) = (said.records.0.get(key).copied().unwrap_or(0), least.min(*done));
            if records < due {
                faults.push(format!("{} has {records} records of {done} failures, and {due} are due to it", key.0));
            }
        }
        faults
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |count: u32, time: Duration| f64::from(count) / time.as_secs_f64();
        let Size { refused, dark, .. } = self.storm;
        writeln!(f, "done\n{}", self.truth.tally())?;
        writeln!(
            f,
            "refused {:.0} a second, unanswered {:.0}",
            rate(refused, self.refused_for),
            rate(dark, self.dark_for)
        )?;
        writeln!(f, "a budget lets {} through at most", self.budget())?;
        writeln!(f, "lost {}; the agent held {} MiB at most", self.counters.lost(), self.peak / 1024)
    }
}
