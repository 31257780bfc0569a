//! What must hold of the agents themselves at a scenario's end: memory, losses, summaries.

use std::path::Path;

use super::agents::Agents;
use super::model::AgentsWant;
use crate::counters::Counters;

/// What is wrong with the agents; `peaks` are the most memory each held, in KiB.
pub fn wrong(want: &AgentsWant, peaks: &[(String, u64)], agents: &Agents, dir: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(most) = want.memory_mib {
        for (node, peak) in peaks.iter().filter(|(_, peak)| *peak > most * 1024) {
            wrong.push(format!("the agent of {node} held {} MiB, and {most} are allowed", peak / 1024));
        }
        if peaks.is_empty() {
            wrong.push("no agent's memory could be read".into());
        }
    }
    for (node, log) in agents.stderrs() {
        if want.lossless {
            match Counters::of(&log).and_then(|counters| counters.get("/capture/lost")) {
                Some(0) => {}
                Some(lost) => wrong.push(format!("the agent of {node} lost {lost} observations of its own attempts")),
                None => wrong.push(format!("the agent of {node} left no line `synspan counters`")),
            }
        }
    }
    if let Some(least) = want.summed_syns {
        let texts = peaks.iter().filter_map(|(node, _)| std::fs::read_to_string(dir.join(format!("{node}.out"))).ok());
        let summed: u64 = texts.map(|text| summed_syns(&text)).sum();
        if summed < least {
            wrong.push(format!("the summaries tell of {summed} SYNs from outside, and at least {least} came"));
        }
    }
    wrong
}

/// The SYNs in the console's lines `N SYNs from outside to LISTENER came to nothing`.
fn summed_syns(console: &str) -> u64 {
    let numbers =
        console.lines().filter_map(|line| line.split_once(" SYNs from outside to ")?.0.trim().parse::<u64>().ok());
    numbers.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_added_up() {
        let console = "120 SYNs from outside to 10.244.1.11:80 came to nothing in 1.2 s: a flood, or a scan\nother\n\
                       30 SYNs from outside to [fd00::1]:80 came to nothing in 2 s: a flood, or a scan\n";
        assert_eq!(summed_syns(console), 150);
    }
}
