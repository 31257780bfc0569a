//! From described attempts to what is delivered: quiet, privacy, volume, then spans, records and metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::capture::live::monotonic;
use crate::capture::observation::Mono;
use crate::config::{Config, ConnectLogs};
use crate::deliver::{Delivery, Parcel, Priority as Due, Signal};
use crate::encode::metrics::{Exemplar, Meter, Moved, NodeMeter};
use crate::encode::privacy::Privacy;
use crate::encode::spans::{Encoder, Facts};
use crate::encode::summaries;
use crate::encode::volume::{Decision, Volume};
use crate::encode::{Priority, priority};
use crate::identify::Identity;
use crate::identify::clock::WallClock;
use crate::identify::describe::{Described, DescribedFlow};
use crate::names::attribute::K8S_POD_NAME;
use crate::track::attempt::{InboundSummary, Role};
use crate::track::flow::{Flow, FlowSide};
use crate::track::survey::Survey;
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
    /// Attempts that hung, beyond the budget for telling of it before their end.
    pub stalled: AtomicU64,
    /// Measurements that went to a series of overflow.
    pub overflowed: AtomicU64,
}

impl Untold {
    /// For the last line of the log.
    pub fn json(&self) -> serde_json::Value {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        serde_json::json!({
            "sidecar": of(&self.sidecar),
            "health_checks": of(&self.health_checks),
            "by_ratio": of(&self.by_ratio),
            "by_ceiling": of(&self.by_ceiling),
            "by_budget": of(&self.by_budget),
            "stalled": of(&self.stalled),
            "overflowed": of(&self.overflowed),
        })
    }
}

/// The signals of workloads.
pub struct Signals {
    encoder: Encoder,
    privacy: Privacy,
    volume: Volume,
    meter: Meter,
    node: NodeMeter,
    flow_logs: bool,
    connect_logs: ConnectLogs,
    stalled_logs: bool,
    quiet_sidecar: bool,
    quiet_health_checks: bool,
    interval: Duration,
    collected: Mono,
    delivery: Arc<Delivery>,
    untold: Arc<Untold>,
    network: Arc<Identity>,
    wanted: Wanted,
}

/// Which signals any exporter takes.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    traces: bool,
    logs: bool,
    metrics: bool,
}

/// What became of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// It has a span.
    Kept,
    /// Metrics alone count it.
    Counted,
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
        let start = WallClock::now().unix_nanos(now);
        let options = stages::metrics(config, node_name);
        let node = NodeMeter::new(&network, node_name, start, options.delta);
        let meter = Meter::new(options, &network, start);
        let sent = |signal| delivery.sends(signal);
        Self {
            encoder: Encoder::new(stages::encode(config, node_name, covered.clone(), false)),
            privacy: stages::privacy(config, covered),
            volume: Volume::new(stages::volume(config)),
            meter,
            node,
            flow_logs: config.logs.flows,
            connect_logs: config.logs.connect,
            stalled_logs: config.logs.stalled,
            quiet_sidecar: config.quiet.sidecar,
            quiet_health_checks: config.quiet.health_checks,
            interval: config.metrics.interval,
            collected: now,
            wanted: Wanted { traces: sent(Signal::Traces), logs: sent(Signal::Logs), metrics: sent(Signal::Metrics) },
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
        if priority(attempt) == Priority::Failure {
            return false;
        }
        let sidecar = self.quiet_sidecar && attempt.proxied;
        // Somebody outside a pod looks whether a pod here takes connections, as a kubelet or a load balancer does.
        let of_pod = described.client.as_ref().is_some_and(|client| client.get(K8S_POD_NAME).is_some());
        let check = self.quiet_health_checks && attempt.closed_without_data && attempt.server.is_some() && !of_pod;
        if sidecar {
            self.untold.sidecar.fetch_add(1, Ordering::Relaxed);
        } else if check {
            self.untold.health_checks.fetch_add(1, Ordering::Relaxed);
        }
        sidecar || check
    }

    /// Tells of an attempt, as [`Self::privacy`] made it.
    pub fn attempt(&mut self, described: &Described, now: Mono) -> Told {
        let attempt = &*described.attempt;
        let spans = self.encoder.count(attempt);
        let decision = if spans == 0 { Decision::Keep(None) } else { self.volume.decide(described, spans, now) };
        self.note(decision);
        let kept = decision.keeps();
        if let Decision::Keep(threshold) = decision
            && (self.wanted.traces || self.wanted.logs)
        {
            let facts = self.encoder.facts(described);
            self.spans(described, &facts, threshold);
            self.record(described, &facts);
        }
        if self.wanted.metrics {
            let exemplar = Exemplar {
                trace: attempt.trace,
                span: self.encoder.own_span(attempt),
                value: 1.0,
                time: described.clock.unix_nanos(attempt.ended),
            };
            self.meter.attempt(described, (kept && self.wanted.traces).then_some(exemplar));
            self.untold.overflowed.store(self.meter.overflowed(), Ordering::Relaxed);
        }
        if kept && attempt.role == Role::Client { Told::Kept } else { Told::Counted }
    }

    /// Tells of an attempt that is open after its second SYN, within a budget: a black hole may take any number of them.
    pub fn stalled(&mut self, described: &Described) {
        if self.stalled_logs && self.wanted.logs {
            if !self.volume.tells_hanging(described, monotonic()) {
                self.untold.stalled.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let record = self.encoder.record(described, &self.encoder.facts(described), false);
            self.delivery.offer(stages::records(Due::Failure, record));
        }
    }

    /// Whether anything is to be told of a flow: the client's node tells, the server's of those whose client has no
    /// agent, and metrics are the client's alone.
    pub fn wants(&self, flow: &Flow) -> bool {
        let logs = self.flow_logs && self.wanted.logs;
        match flow.side {
            FlowSide::Client => logs || self.wanted.metrics,
            FlowSide::Server => logs && !self.privacy.covered.contains(flow.socket.src.addr.ip()),
        }
    }

    /// Tells of a connection that ended, or is open for long.
    pub fn flow(&mut self, described: &DescribedFlow) {
        let described = self.privacy.flow(described);
        let DescribedFlow { flow, own, peer, destination, .. } = &*described;
        if flow.side == FlowSide::Client && self.wanted.metrics {
            let delta = flow.delta;
            let moved = Moved {
                sent_bytes: delta.sent_bytes,
                received_bytes: delta.received_bytes,
                sent_segments: delta.sent_segments,
                received_segments: delta.received_segments,
                retransmissions: delta.retransmissions,
                rtt: flow.rtt.filter(|_| flow.end.is_some()),
            };
            self.meter.flow(own, peer.as_ref(), *destination, moved);
        }
        let tells = match flow.side {
            FlowSide::Client => described.attempt_sent != Some(false),
            // A client of this node tells itself.
            FlowSide::Server => described.attempt_sent.is_none(),
        };
        if tells && self.flow_logs && self.wanted.logs {
            let record = self.encoder.flow(&described, described.attempt_sent == Some(true));
            self.delivery.offer(stages::records(Due::Success, [record]));
        }
    }

    /// Takes in how things stand.
    pub fn survey(&mut self, survey: &Survey) {
        let mut survey = survey.clone();
        survey.snat.iter_mut().for_each(|usage| usage.destination = self.privacy.endpoint(usage.destination));
        self.node.survey(survey);
    }

    /// Tells of SYNs from outside that came to nothing.
    pub fn inbound(&mut self, summary: &InboundSummary) {
        if self.wanted.logs {
            let summary = InboundSummary { listener: self.privacy.endpoint(summary.listener), ..*summary };
            let record = summaries::inbound(&summary, &self.network, WallClock::now());
            self.delivery.offer(stages::records(Due::Failure, [record]));
        }
    }

    /// What is due at a time; all of it at the end.
    pub fn tick(&mut self, now: Mono, last: bool) {
        for summary in self.volume.summaries(now, last) {
            let record = summaries::beyond_budget(&summary, &self.network, WallClock::now());
            self.delivery.offer(stages::records(Due::Failure, [record]));
        }
        if self.wanted.metrics && (last || now.since(self.collected) >= self.interval) {
            self.collected = now;
            let unix = WallClock::now().unix_nanos(now);
            let mut metrics = self.meter.collect(now, unix);
            metrics.extend(self.node.collect(unix, |to| self.meter.called(to)));
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

    fn spans(&self, described: &Described, facts: &Facts, threshold: Option<crate::encode::volume::Threshold>) {
        if !self.wanted.traces {
            return;
        }
        // What a link leads to goes first. Links are the client's, and so are those whom they lead to.
        if let Some(owner) = &described.attempt.previous_owner
            && described.attempt.role == Role::Client
            && owner.serial != 0
            && described.previous_owner_sent != Some(true)
        {
            let identity = described.previous_owner.as_ref().unwrap_or(&described.unknown);
            self.delivery.offer(stages::spans(Due::Failure, [self.encoder.late(owner, identity, described.clock)]));
        }
        let spans = self.encoder.spans(described, facts, threshold);
        self.delivery.offer(stages::spans(stages::due(&described.attempt), spans));
    }

    fn record(&self, described: &Described, facts: &Facts) {
        let attempt = &*described.attempt;
        let wanted = match self.connect_logs {
            ConnectLogs::All => true,
            ConnectLogs::Failures => priority(attempt) == Priority::Failure,
            ConnectLogs::None => false,
        };
        // One that is open at the agent's end has no outcome to tell.
        if self.wanted.logs && wanted && attempt.verdict.outcome != Outcome::Pending {
            let record = self.encoder.record(described, facts, self.wanted.traces);
            self.delivery.offer(stages::records(stages::due(attempt), record));
        }
    }
}
