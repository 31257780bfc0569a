//! What is left when the agent is killed without a word, in the middle of traffic.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::bed::{Bed, POD_INTERFACE};
use super::contender::{Kind, Running, in_node};
use super::kernel::{programs, programs_of};
use super::sink::Sink;
use crate::error::{Context, Result, lab};

/// Added to the agent's configuration to have it attach as on kernels below 6.6.
const CLSACT: &str = "  attach: clsact\n";
/// The preference of a filter that is not ours.
const FOREIGN: &str = "777";

/// Kills it with tcx and with clsact. Gives what is wrong.
pub fn check(agent: &Path) -> Result<Vec<String>> {
    let bed = Bed::build()?;
    let sink = Sink::start(bed.node.name())?;
    let mut wrong = Vec::new();
    println!("\nkill -9 in the middle of traffic");

    let left = killed(&bed, agent, &sink, "")?;
    say(&mut wrong, left.is_empty(), &format!("tcx: {} programs left", left.len()));

    add_foreign_filter(&bed)?;
    let left = killed(&bed, agent, &sink, CLSACT)?;
    println!("  clsact: {} programs left, as the kernel keeps its filters", left.len());
    let next = Running::start(Kind::Synspan, &bed, agent, &sink, CLSACT)?;
    let still = remaining(&left)?;
    next.stop()?;
    say(&mut wrong, still.is_empty(), &format!("clsact: {} of them left after the next start", still.len()));
    say(&mut wrong, has_foreign_filter(&bed)?, "clsact: the foreign filter stays after the next start");

    let left = killed(&bed, agent, &sink, CLSACT)?;
    let mut clean = in_node(&bed);
    let status = clean.arg(agent).arg("clean").stdin(Stdio::null()).status().context("start `synspan clean`")?;
    let still = remaining(&left)?;
    say(&mut wrong, status.success(), "`synspan clean` succeeds");
    say(&mut wrong, still.is_empty(), &format!("clsact: {} of {} left after `synspan clean`", still.len(), left.len()));
    say(&mut wrong, has_foreign_filter(&bed)?, "clsact: the foreign filter stays after `synspan clean`");
    Ok(wrong)
}

fn say(wrong: &mut Vec<String>, right: bool, what: &str) {
    println!("  {} {what}", if right { "ok  " } else { "FAIL" });
    if !right {
        wrong.push(format!("kill: not so: {what}"));
    }
}

/// Starts an agent, kills it under load, and gives the numbers of its programs that stay. The connections go on.
fn killed(bed: &Bed, agent: &Path, sink: &Sink, extra: &str) -> Result<Vec<u32>> {
    let running = Running::start(Kind::Synspan, bed, agent, sink, extra)?;
    let ids = programs_of(running.id());
    if ids.is_empty() {
        return lab("the agent holds no eBPF program, so it captures nothing");
    }
    let mut client = bed.start_client(20_000)?;
    std::thread::sleep(Duration::from_millis(500));
    if client.ended().is_some() {
        return lab("the client ended before the agent was killed");
    }
    running.kill();
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        match client.ended() {
            Some(status) => break status,
            None if Instant::now() > deadline => return lab("the client hangs since the agent was killed"),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    if !status.success() {
        return lab(format!("the client failed when the agent was killed: {status}"));
    }
    remaining(&ids)
}

/// Those of the programs that are still there after a while: the kernel frees them late.
fn remaining(ids: &[u32]) -> Result<Vec<u32>> {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        let left: Vec<u32> = programs()?.iter().map(|program| program.id).filter(|id| ids.contains(id)).collect();
        if left.is_empty() || Instant::now() > deadline {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn add_foreign_filter(bed: &Bed) -> Result<()> {
    bed.node.run("tc", &["qdisc", "add", "dev", POD_INTERFACE, "clsact"])?;
    // A classic BPF program that matches nothing (returns 0), so that the packet goes on.
    let filter = ["filter", "add", "dev", POD_INTERFACE, "ingress", "pref", FOREIGN, "bpf", "bytecode", "1,6 0 0 0"];
    bed.node.run("tc", &filter).map(drop)
}

fn has_foreign_filter(bed: &Bed) -> Result<bool> {
    let filters = bed.node.run("tc", &["filter", "show", "dev", POD_INTERFACE, "ingress"])?;
    Ok(filters.contains(&format!("pref {FOREIGN} ")))
}
