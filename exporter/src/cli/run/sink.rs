//! The capture thread's end of the pipeline: the tracker, and the channel to the telemetry thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::answer::held::{Lookup, MAX_HOLDERS};
use crate::capture::live::{Sink, monotonic};
use crate::capture::observation::{Mono, Observation, Process, What};
use crate::capture::question::Question;
use crate::health::heartbeat::Heartbeat;
use crate::track::attempt::Finding;
use crate::track::holders::Holders;
use crate::track::survey::Survey;
use crate::track::{Counts, Tracker};

/// A process is mentioned again after this long: its facts are read while it lives.
const MENTIONED: Duration = Duration::from_secs(4);
const MAX_MENTIONED: usize = 4_096;
/// Messages that may wait while the telemetry thread has fallen behind; beyond, findings are dropped and
/// counted. Twice as many, here and in the channel, took 90 MiB more in a storm.
const MAX_WAITING: usize = 8_192;
/// Messages of a batch: what waits in the channel is bounded by these, and not by how much came while it was full.
const MAX_BATCH: usize = 512;
/// How often it is told how things stand.
const SURVEY: Duration = Duration::from_secs(10);
/// With nothing else to tell, the time is told this often.
const QUIET_TICK: Duration = Duration::from_secs(1);

/// What the capture thread tells the telemetry thread.
pub enum Message {
    /// A process called connect(), in the network namespace of that cookie; it may be gone when its attempt ends.
    Called(Process, u64, Mono),
    /// A finding.
    Found(Finding),
    /// Somebody asked who held a port, and this is what the tracker says.
    Held(Lookup, Holders),
    /// How things stand, from time to time.
    Survey(Survey),
    /// Time has passed.
    Tick(Mono),
}

/// The tracker's counts, readable from elsewhere.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

impl Tally {
    /// The counts now.
    pub fn get(&self) -> Counts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts, for the last line of the log.
    pub fn json(&self) -> serde_json::Value {
        let counts = self.get();
        serde_json::json!({
            "observations": counts.observations.all(),
            "lost": counts.lost,
            "lost_inbound": counts.lost_inbound,
            "failed_calls": counts.failed_calls,
            "questions_dropped": counts.questions_dropped,
            "inbound_summed": counts.inbound_summed,
            "seeded": counts.seeded,
            "open_attempts": counts.open_attempts,
            "finished_attempts": counts.finished_attempts,
            "evicted_attempts": counts.evicted_attempts,
            "tenancies": counts.tenancies,
            "evicted_tenancies": counts.evicted_tenancies,
            "quiet_loopback": counts.quiet_loopback,
            "quiet_own": counts.quiet_own,
            "unended_flows": counts.unended_flows,
            "fingerprint_collisions": counts.fingerprint_collisions,
            "reuses": counts.reuses,
            "unended_flows": counts.unended_flows,
        })
    }
}

/// Messages go over in batches, since each crossing may have to wake a thread on another CPU.
pub type Batch = Vec<Message>;

/// Drives the tracker, and never waits.
pub struct TrackerSink {
    tracker: Tracker,
    sender: SyncSender<Batch>,
    waiting: Batch,
    ticked: Mono,
    surveyed: Mono,
    dropped: Arc<AtomicU64>,
    mentioned: HashMap<(u32, u64), Mono>,
    tally: Tally,
    lookups: Receiver<Lookup>,
    heartbeat: Heartbeat,
}

impl TrackerSink {
    /// `dropped` counts the findings that found no room; `tally` is kept up to date; `lookups` are questions
    /// to the ledger; `heartbeat` is the capture thread's.
    pub fn new(
        tracker: Tracker,
        sender: SyncSender<Batch>,
        dropped: Arc<AtomicU64>,
        tally: Tally,
        lookups: Receiver<Lookup>,
        heartbeat: Heartbeat,
    ) -> Self {
        let (waiting, mentioned) = (Vec::new(), HashMap::new());
        let (ticked, surveyed) = (Mono(0), Mono(0));
        Self { tracker, sender, waiting, ticked, surveyed, dropped, mentioned, tally, lookups, heartbeat }
    }

    /// Answers one question at a time: each is a look at the whole ledger, and records wait meanwhile.
    fn look_up(&mut self) {
        // Who asked and went away needs no answer.
        if let Ok(lookup) = self.lookups.try_recv()
            && !lookup.reply.is_closed()
        {
            let holders = self.tracker.holders_of(lookup.port, MAX_HOLDERS);
            self.waiting.push(Message::Held(lookup, holders));
        }
    }

    fn mention(&mut self, process: &Process, netns: u64, time: Mono) {
        let key = (process.pid, process.cgroup);
        if self.mentioned.get(&key).is_some_and(|&last| time.since(last) < MENTIONED) {
            return;
        }
        if self.mentioned.len() >= MAX_MENTIONED {
            self.mentioned.retain(|_, last| time.since(*last) < MENTIONED);
            if self.mentioned.len() >= MAX_MENTIONED {
                self.mentioned.clear();
            }
        }
        self.mentioned.insert(key, time);
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push(Message::Called(process.clone(), netns, time));
        }
    }

    /// Hands over what waits. If the other side has fallen behind it waits on, and what finds no room is
    /// dropped.
    fn hand_over(&mut self) {
        while let Some(finding) = self.tracker.next_finding() {
            if self.waiting.len() < MAX_WAITING {
                self.waiting.push(Message::Found(finding));
            } else if self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::error!("telemetry cannot keep up: findings are dropped, and counted");
            }
        }
        self.waiting = send(&self.sender, std::mem::take(&mut self.waiting));
        *self.tally.0.lock().unwrap_or_else(PoisonError::into_inner) = self.tracker.counts();
    }
}

impl Sink for TrackerSink {
    fn observations(&mut self, batch: &[Observation]) {
        for observation in batch {
            if let What::Process(step) = &observation.what {
                self.mention(&step.process, step.netns, observation.time);
            }
            self.tracker.observe(observation);
        }
    }

    fn tick(&mut self, now: Mono) {
        self.tracker.advance(now);
        if now.since(self.ticked) >= QUIET_TICK {
            self.ticked = now;
            self.waiting.push(Message::Tick(now));
            if now.since(self.surveyed) >= SURVEY {
                self.surveyed = now;
                self.waiting.push(Message::Survey(self.tracker.survey()));
            }
        }
        self.look_up();
        self.hand_over();
        // Not `now`, which lags behind while a ring is full.
        self.heartbeat.beat(monotonic());
    }

    fn question(&mut self) -> Option<Question> {
        self.tracker.next_question()
    }
}

impl Drop for TrackerSink {
    fn drop(&mut self) {
        self.tracker.finish_all();
        self.hand_over();
        // The end may wait: nothing is captured any more.
        if !self.waiting.is_empty() && self.sender.send(std::mem::take(&mut self.waiting)).is_err() {
            tracing::error!("the last findings could not be told");
        }
    }
}

/// Sends what waits, in batches, as far as there is room; gives the rest.
fn send(sender: &SyncSender<Batch>, mut waiting: Batch) -> Batch {
    while !waiting.is_empty() {
        let mut rest = waiting.split_off(waiting.len().min(MAX_BATCH));
        if let Err(TrySendError::Full(mut batch) | TrySendError::Disconnected(mut batch)) = sender.try_send(waiting) {
            batch.append(&mut rest);
            return batch;
        }
        waiting = rest;
    }
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_one_that_has_fallen_behind_is_bounded_and_stays_in_order() {
        let (sender, receiver) = std::sync::mpsc::sync_channel(2);
        let many = 10 * MAX_BATCH as u64;
        let rest = send(&sender, (0..many).map(|at| Message::Tick(Mono(at))).collect());
        assert_eq!(rest.len(), 8 * MAX_BATCH, "two batches found room");
        let mut got: Batch = receiver.try_iter().flatten().collect();
        assert_eq!(got.len(), 2 * MAX_BATCH);
        got.extend(rest);
        let times = got.iter().map(|message| if let Message::Tick(at) = message { at.0 } else { many });
        assert!(times.eq(0..many));
        assert!(send(&sender, Batch::new()).is_empty() && receiver.try_recv().is_err(), "nothing is no batch");
    }
}
