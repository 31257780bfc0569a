//! An attempt's steps in words.
//!
//! A segment is one step at each point that saw it; people want to read of it once.

use std::time::Duration;

use super::text::duration;
use crate::capture::observation::Mono;
use crate::capture::tuple::Endpoint;
use crate::track::attempt::{Attempt, StoryStep};
use crate::track::verdict::{Cause, Evidence};

/// What happened after the first SYN, in lines. `owner` is what the previous owner is called.
pub fn lines(attempt: &Attempt, owner: Option<&str>) -> Vec<String> {
    let mut story = Story { attempt, lines: Vec::new(), line: Vec::new(), again: Vec::new(), last: None };
    for (at, step) in attempt.steps.iter().enumerate() {
        story.tell(at, step.step, step.time, owner);
    }
    story.end_line();
    if attempt.steps_dropped > 0 {
        story.lines.push(format!("and {} more steps", attempt.steps_dropped));
    }
    story.lines
}

struct Story<'a> {
    attempt: &'a Attempt,
    lines: Vec<String>,
    /// Phrases of the line under construction.
    line: Vec<String>,
    /// When SYNs were sent again that are not in the line yet.
    again: Vec<String>,
    last: Option<StoryStep>,
}

impl Story<'_> {
    fn tell(&mut self, at: usize, step: StoryStep, time: Mono, owner: Option<&str>) {
        let after = time.since(self.attempt.started);
        match step {
            StoryStep::Syn { retry: 0, .. } => {}
            StoryStep::Syn { retry, .. } => {
                if !self.told_before(at, retry) {
                    self.syn_again(at, retry, after);
                }
            }
            _ if self.last == Some(step) => {}
            StoryStep::StaleAck { ack, .. } => {
                self.end_line();
                self.lines.push(self.stale_ack(ack, owner));
            }
            StoryStep::SynAck => self.phrase("SYN-ACK"),
            StoryStep::Reset { by_client: true, .. } => self.phrase("RST by the client"),
            StoryStep::Reset { by_client: false, .. } => self.phrase("RST by the server's side"),
            StoryStep::SynAckAgain => self.phrase("SYN-ACK again"),
            StoryStep::Icmp { kind, code } => self.phrase(&format!("ICMP error, type {kind} code {code}")),
            StoryStep::Dropped { answer: false } => self.phrase("dropped in this node, says the kernel"),
            StoryStep::Dropped { answer: true } => self.phrase("the answer dropped in this node, says the kernel"),
            StoryStep::GaveUp => self.phrase(&format!("the kernel gave up after {}", duration(after))),
            StoryStep::Closed => self.phrase(&format!("the application closed the socket after {}", duration(after))),
            // The heading says it.
            StoryStep::Established => {}
        }
        self.last = Some(step);
    }

    /// Whether a SYN was seen already, at another point.
    fn told_before(&self, at: usize, retry: u32) -> bool {
        let same = |step: &StoryStep| matches!(step, StoryStep::Syn { retry: other, .. } if *other == retry);
        self.attempt.steps.iter().take(at).any(|step| same(&step.step))
    }

    fn syn_again(&mut self, at: usize, retry: u32, after: Duration) {
        match self.new_source(at, retry) {
            None => self.again.push(duration(after)),
            Some(source) => {
                self.end_again();
                self.line.push(format!("SYN again after {}, now from {source}", duration(after)));
            }
        }
    }

    /// The source of a SYN sent again, if at any point it is not the one it had there before.
    fn new_source(&self, at: usize, retry: u32) -> Option<Endpoint> {
        let steps = &self.attempt.steps;
        steps.iter().skip(at).find_map(|step| {
            let StoryStep::Syn { retry: same, tuple } = step.step else { return None };
            let before = steps.iter().rev().find_map(|other| match other.step {
                StoryStep::Syn { retry: earlier, tuple } if earlier < retry && other.point == step.point => Some(tuple),
                _ => None,
            })?;
            (same == retry && before.src != tuple.src).then_some(tuple.src)
        })
    }

    fn stale_ack(&self, ack: u32, owner: Option<&str>) -> String {
        // Numbers of a connection that is open still would help an attacker (design section 6).
        let open = self.attempt.previous_owner.as_ref().is_some_and(|owner| owner.closed.is_none());
        let ack = if open { String::new() } else { format!(" {ack}") };
        let verdict = &self.attempt.verdict;
        let reuse = verdict.cause == Some(Cause::SourcePortReuse);
        match (owner, verdict.evidence) {
            (Some(owner), Evidence::Exact) if reuse => {
                format!("stale ACK{ack} = exactly where {owner}'s connection ended")
            }
            (Some(owner), Evidence::Window) if reuse => {
                format!("stale ACK{ack}, inside the range of {owner}'s connection")
            }
            (Some(owner), _) => format!("stale ACK{ack}; {owner} had this port before"),
            (None, _) => format!("stale ACK{ack}, of a connection that nobody here is known to have had"),
        }
    }

    fn phrase(&mut self, phrase: &str) {
        self.end_again();
        self.line.push(phrase.to_owned());
    }

    fn end_again(&mut self) {
        if !self.again.is_empty() {
            let mut times = std::mem::take(&mut self.again);
            let last = times.pop().unwrap_or_default();
            let times = if times.is_empty() { last } else { format!("{} and {last}", times.join(", ")) };
            self.line.push(format!("SYN again after {times}"));
        }
    }

    fn end_line(&mut self) {
        self.end_again();
        if !self.line.is_empty() {
            let line = std::mem::take(&mut self.line).join(", ");
            self.lines.push(line);
        }
    }
}
