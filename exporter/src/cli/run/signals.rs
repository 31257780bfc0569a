//! From described attempts to what is delivered: quiet, privacy, volume, then spans, records and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::capture::observation::Mono;
use crate::config::{Config, ConnectLogs};
use crate::deliver::{Delivery, Parcel, Priority as Due, Signal};
use crate::encode::metrics::{Exemplar, Meter};
use crate::encode::privacy::Privacy;
use crate::encode::spans::Encoder;
use crate::encode::summaries;
use crate::encode::volume::{Decision, Volume};
use crate::encode::{Priority, priority};
use crate::identify::Identity;
use crate::identify::clock::WallClock;
use crate::identify::describe::Described;
use crate::track::attempt::{InboundSummary, Role};
use crate::track::verdict::Outcome;

use crate::cli::stages;
use crate::identify::covered::Covered;

/// What is counted of what is not told, readable from elsewhere.
#[derive(Debug, Default)]
pub struct Untold {
    /// Successes that a pod's own sidecar took.
    pub sidecar: AtomicU64,
    /// Connects from outside a pod that closed again with nothing said.
    pub health_checks: AtomicU64,
    /// Successes that the ratio left out.
    pub by_ratio: AtomicU64,
    /// Successes beyond the ceiling.
    pub by_ceiling: AtomicU64,
    /// Others beyond their budget.
    pub by_budget: AtomicU64,
    /// Measurements that went to a series of overflow.
    pub overflowed: AtomicU64,
}

/// The signals of workloads.
pub struct Signals {
    encoder: Encoder,
    privacy: Privacy,
    volume: Volume,
    meter: Meter,
    connect_logs: ConnectLogs,
    stalled_logs: bool,
    quiet_sidecar: bool,
    interval: Duration,
    collected: Mono,
    delivery: Arc<Delivery>,
    untold: Arc<Untold>,
    network: Arc<Identity>,
    wanted: [bool; 3],
}

/// What became of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// It has a span.
    Kept,
    /// Metrics alone count it.
    Counted,
    /// It is left out of everything.
    Quiet,
}

impl Signals {
    /// By the configuration; `network` is the identity of the node's network, `now` when it begins.
    pub fn new(
        config: &Config,
        node_name: &Arc<str>,
        covered: Covered,
        network: Arc<Identity>,
        delivery: Arc<Delivery>,
        now: Mono,
    ) -> Self {
        let meter = Meter::new(stages::metrics(config, node_name), &network, WallClock::now().unix_nanos(now));
        let sent = |signal| delivery.sends(signal);
        Self {
            encoder: Encoder::new(stages::encode(config, node_name, covered.clone(), false)),
            privacy: stages::privacy(config, covered),
            volume: Volume::new(stages::volume(config)),
            meter,
            connect_logs: config.logs.connect,
            stalled_logs: config.logs.stalled,
            quiet_sidecar: config.quiet.sidecar,
            interval: config.metrics.interval,
            collected: now,
            wanted: [sent(Signal::Traces), sent(Signal::Logs), sent(Signal::Metrics)],
            delivery,
            untold: Arc::default(),
            network,
        }
    }

    /// What is not told, for whoever counts it.
    pub fn untold(&self) -> Arc<Untold> {
        Arc::clone(&self.untold)
    }

    /// What of an attempt may be told at all.
    pub fn privacy(&self) -> &Privacy {
        &self.privacy
    }

    /// Whether an attempt is left out of everything: a success that says nothing of the far side.
    pub fn is_quiet(&self, described: &Described) -> bool {
        let attempt = &*described.attempt;
        let quiet = self.quiet_sidecar && attempt.proxied && priority(attempt) == Priority::Success;
        if quiet {
            self.untold.sidecar.fetch_add(1, Ordering::Relaxed);
        }
        quiet
    }

    /// Tells of an attempt, as [`Self::privacy`] made it.
    pub fn attempt(&mut self, described: &Described, now: Mono) -> Told {
        let attempt = &*described.attempt;
        let spans = self.encoder.count(attempt);
        let decision = if spans == 0 { Decision::Keep(None) } else { self.volume.decide(described, spans, now) };
        self.note(decision);
        let kept = match decision {
            Decision::Keep(threshold) => {
                self.spans(described, threshold);
                true
            }
            Decision::ByRatio | Decision::ByCeiling | Decision::ByBudget => false,
        };
        if kept {
            self.record(described);
        }
        if self.wanted[2] {
            let exemplar = Exemplar {
                trace: attempt.trace,
                span: self.encoder.own_span(attempt),
                value: 1.0,
                time: described.clock.unix_nanos(attempt.ended),
            };
            self.meter.attempt(described, (kept && self.wanted[0]).then_some(exemplar));
            self.untold.overflowed.store(self.meter.overflowed(), Ordering::Relaxed);
        }
        if kept && attempt.role == Role::Client { Told::Kept } else { Told::Counted }
    }

    /// Tells of an attempt that is open after its second SYN.
    pub fn stalled(&mut self, described: &Described) {
        if self.stalled_logs && self.wanted[1] {
            let record = self.encoder.record(described, false);
            self.delivery.offer(Parcel::logs(Due::Failure, record.into_iter().collect()));
        }
    }

    /// Tells of SYNs from outside that came to nothing.
    pub fn inbound(&mut self, summary: &InboundSummary) {
        if self.wanted[1] {
            let summary = InboundSummary { listener: self.privacy.endpoint(summary.listener), ..*summary };
            let record = summaries::inbound(&summary, &self.network, WallClock::now());
            self.delivery.offer(Parcel::logs(Due::Failure, vec![record]));
        }
    }

    /// What is due at a time; all of it at the end.
    pub fn tick(&mut self, now: Mono, last: bool) {
        for summary in self.volume.summaries(now, last) {
            let record = summaries::beyond_budget(&summary, &self.network, WallClock::now());
            self.delivery.offer(Parcel::logs(Due::Failure, vec![record]));
        }
        if self.wanted[2] && (last || now.since(self.collected) >= self.interval) {
            self.collected = now;
            let metrics = self.meter.collect(now, WallClock::now().unix_nanos(now));
            self.delivery.offer(Parcel::metrics(metrics));
        }
    }

    fn note(&self, decision: Decision) {
        let counter = match decision {
            Decision::Keep(_) => return,
            Decision::ByRatio => &self.untold.by_ratio,
            Decision::ByCeiling => &self.untold.by_ceiling,
            Decision::ByBudget => &self.untold.by_budget,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn spans(&self, described: &Described, threshold: Option<crate::encode::volume::Threshold>) {
        if !self.wanted[0] {
            return;
        }
        // What a link leads to goes first.
        if let Some(owner) = &described.attempt.previous_owner
            && owner.serial != 0
            && described.previous_owner_sent != Some(true)
        {
            let identity = described.previous_owner.as_ref().unwrap_or(&described.unknown);
            self.delivery
                .offer(Parcel::traces(Due::Failure, vec![self.encoder.late(owner, identity, described.clock)]));
        }
        let encoded = self.encoder.encode_kept(described, threshold);
        let priority = if encoded.keep { Due::Failure } else { Due::Success };
        self.delivery.offer(Parcel::traces(priority, encoded.resource_spans));
    }

    fn record(&self, described: &Described) {
        let attempt = &*described.attempt;
        let wanted = match self.connect_logs {
            ConnectLogs::All => true,
            ConnectLogs::Failures => priority(attempt) == Priority::Failure,
            ConnectLogs::None => false,
        };
        // One that is open at the agent's end has no outcome to tell.
        if self.wanted[1] && wanted && attempt.verdict.outcome != Outcome::Pending {
            let due = if priority(attempt) == Priority::Failure { Due::Failure } else { Due::Success };
            let record = self.encoder.record(described, self.wanted[0]);
            self.delivery.offer(Parcel::logs(due, record.into_iter().collect()));
        }
    }
}
