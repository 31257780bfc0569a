//! The measurements of a node's workloads, by workload and destination.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use slab::Slab;

use super::destination::{Addresses, PrefixNames};
use super::pair::{AttemptKey, Distribution, Instrument, Pair, Series, Way};
use super::series::Exemplar;
use super::workload::{self, WorkloadKey};
use crate::capture::tuple::Endpoint;
use crate::encode::attributes::Attributes;
use crate::encode::error_type;
use crate::identify::Identity;
use crate::identify::describe::Described;
use crate::names::attribute;
use crate::track::attempt::Role;
use crate::track::verdict::{Cause, Evidence, Outcome};

/// How metrics are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// This node's name: part of what tells its series from other nodes'.
    pub node_name: Arc<str>,
    /// Counters and histograms are told since the last collection.
    pub delta: bool,
    /// Histograms are exponential.
    pub exponential: bool,
    /// Most series of one instrument.
    pub max_series: usize,
    /// Most destinations of one workload.
    pub max_destinations: usize,
    /// Most destinations of one workload that are named by their address.
    pub max_addresses: usize,
    /// A destination that nothing was measured of for so long ends.
    pub expire_after: Duration,
    /// Whether measurements lead to traces.
    pub exemplars: bool,
    /// Names given to prefixes.
    pub prefixes: PrefixNames,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_name: Arc::from("localhost"),
            delta: false,
            exponential: false,
            max_series: 2_000,
            max_destinations: 200,
            max_addresses: 20,
            expire_after: Duration::from_secs(900),
            exemplars: true,
            prefixes: PrefixNames::default(),
        }
    }
}

/// Far ends by what they are known by; a look-up that costs no text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Far {
    /// The identity at this place in memory.
    Known(usize),
    Address(crate::capture::tuple::Addr),
}

/// The pair of a far end, and the identity whose place is looked up, so that no other takes it.
type Found = (usize, Option<Arc<Identity>>);

/// A workload that something was measured of.
pub(super) struct Workload {
    pub key: WorkloadKey,
    pub resource: Identity,
    pub pairs: usize,
    destinations: HashMap<(Arc<str>, u16), usize>,
    addresses: Addresses,
    overflow: Option<usize>,
}

/// Most look-ups that are remembered by place.
const MAX_REMEMBERED: usize = 16_384;

/// All series of a node's workloads.
pub struct Meter {
    pub(super) options: Options,
    pub(super) workloads: Slab<Workload>,
    pub(super) by_key: HashMap<WorkloadKey, usize>,
    /// Workloads by the place of their identity, which is held so that no other takes its place.
    by_identity: HashMap<usize, (Arc<Identity>, usize)>,
    pub(super) pairs: Slab<Pair>,
    by_far: HashMap<(usize, Far, u16), Found>,
    /// What found no room anywhere, on the resource of the node's network.
    pub(super) overflow: Pair,
    pub(super) network: Identity,
    /// Series of each instrument.
    pub(super) series: [usize; Instrument::COUNT],
    overflowed: u64,
    /// When the last collection was, in nanoseconds since 1970.
    pub(super) last: u64,
}

impl Meter {
    /// An empty one that begins at `start` (nanoseconds since 1970); `network` is the identity of the node's network.
    pub fn new(options: Options, network: &Identity, start: u64) -> Self {
        let (_, network) = workload::of(network, &options.node_name);
        Self {
            options,
            workloads: Slab::new(),
            by_key: HashMap::new(),
            by_identity: HashMap::new(),
            pairs: Slab::new(),
            by_far: HashMap::new(),
            overflow: Pair::new(usize::MAX, overflow_attributes()),
            network,
            series: [0; Instrument::COUNT],
            overflowed: 0,
            last: start,
        }
    }

    /// How many measurements went to a series of overflow.
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// What a destination that is known by its address alone is called: a prefix's name, else the address.
    pub fn called(&self, to: Endpoint) -> Arc<str> {
        self.options.prefixes.get(to.addr.ip()).cloned().unwrap_or_else(|| to.addr.to_string().into())
    }

    /// Takes in an attempt of a client of this node. `kept` is where its span can be found, if it was kept.
    pub fn attempt(&mut self, described: &Described, kept: Option<Exemplar>) {
        let attempt = &*described.attempt;
        if attempt.role != Role::Client {
            return;
        }
        let Some(destination) = attempt.destination() else { return };
        let kept = kept.filter(|_| self.options.exemplars);
        let client = described.client.as_ref().unwrap_or(&described.unknown);
        let at = self.pair(client, described.peer.as_ref(), destination);
        let verdict = &attempt.verdict;
        let (outcome, failed) = (verdict.outcome, attempt.failed());
        // Successes are found by the slowest, which the histogram leads to.
        let worth = kept.filter(|_| failed || attempt.reused);
        let key = AttemptKey { outcome, cause: verdict.cause, side: verdict.responsible, error: error_type(attempt) };
        self.add(at, Series::Attempts(key), 1, worth);
        self.add(at, Series::Failures, u64::from(failed), worth.filter(|_| failed));
        self.add(at, Series::SynRetransmissions, attempt.syns.saturating_sub(1).into(), worth);
        let seconds = attempt.duration().as_secs_f64();
        self.record(at, Distribution::Duration(outcome), seconds, kept);
        // Sent as 0 from the first attempt.
        self.add(at, Series::Reuses(Evidence::Tuple, Outcome::Established), 0, None);
        let by_reuse = matches!(verdict.cause, Some(Cause::SourcePortReuse | Cause::SourcePortReuseSuspected));
        if attempt.reused || by_reuse {
            let evidence = if by_reuse { verdict.evidence } else { Evidence::Tuple };
            self.add(at, Series::Reuses(evidence, outcome), 1, worth);
            if let Some(gap) = attempt.previous_owner.as_ref().and_then(|owner| owner.gap) {
                self.record(at, Distribution::Gap, gap.as_secs_f64(), kept);
            }
        }
    }

    /// Takes in what a connection of a client of this node moved since it was told of last.
    pub fn flow(&mut self, client: &Arc<Identity>, peer: Option<&Arc<Identity>>, to: Endpoint, moved: Moved) {
        let at = self.pair(client, peer, to);
        for (series, by) in [
            (Series::Io(Way::Transmit), moved.sent_bytes),
            (Series::Io(Way::Receive), moved.received_bytes),
            (Series::Segments(Way::Transmit), moved.sent_segments),
            (Series::Segments(Way::Receive), moved.received_segments),
            (Series::Retransmissions, moved.retransmissions),
        ] {
            self.add(at, series, by, None);
        }
        if let Some(rtt) = moved.rtt {
            self.record(at, Distribution::RoundTrip, rtt.as_secs_f64(), None);
        }
    }

    /// Ends pairs of workload and destination, and each workload with its last pair.
    pub(super) fn forget(&mut self, ended: &HashSet<usize>) {
        if ended.is_empty() {
            return;
        }
        self.by_far.retain(|_, (of, _)| !ended.contains(of));
        for &at in ended {
            let Some(pair) = self.pairs.try_remove(at) else { continue };
            for instrument in pair.instruments() {
                self.series[instrument as usize] -= 1;
            }
            if let Some(workload) = self.workloads.get_mut(pair.workload) {
                workload.destinations.retain(|_, of| *of != at);
                workload.overflow = workload.overflow.filter(|&of| of != at);
                workload.pairs -= 1;
            }
            self.forget_if_empty(pair.workload);
        }
    }

    fn forget_if_empty(&mut self, at: usize) {
        if self.workloads.get(at).is_some_and(|workload| workload.pairs == 0) {
            let gone = self.workloads.remove(at);
            self.by_key.remove(&gone.key);
            self.by_identity.retain(|_, (_, of)| *of != at);
        }
    }

    fn add(&mut self, at: Option<usize>, series: Series, by: u64, exemplar: Option<Exemplar>) {
        match self.pair_with_room(at, series.instrument(), |pair| pair.has(series)) {
            Some(pair) => pair.add(series, by, exemplar),
            // Nothing needs no series of its own there.
            None if by == 0 => (),
            None => self.overflow.add(series, by, exemplar),
        }
    }

    fn record(&mut self, at: Option<usize>, of: Distribution, value: f64, exemplar: Option<Exemplar>) {
        let exponential = self.options.exponential;
        let exemplar = exemplar.map(|exemplar| Exemplar { value, ..exemplar });
        let pair = match self.pair_with_room(at, of.instrument(), |pair| pair.has_distribution(of)) {
            Some(pair) => pair,
            None => &mut self.overflow,
        };
        pair.record(of, value, exemplar, exponential);
    }

    /// The pair, if it has the series or there is room for one more of its instrument.
    fn pair_with_room(
        &mut self,
        at: Option<usize>,
        instrument: Instrument,
        has: impl Fn(&Pair) -> bool,
    ) -> Option<&mut Pair> {
        let pair = at.and_then(|at| self.pairs.get_mut(at));
        let Some(pair) = pair else {
            self.overflowed += 1;
            return None;
        };
        if !has(pair) {
            let used = &mut self.series[instrument as usize];
            if *used >= self.options.max_series {
                self.overflowed += 1;
                return None;
            }
            *used += 1;
        }
        Some(pair)
    }

    /// The pair of a workload and a destination; none if there is no room for it.
    fn pair(&mut self, client: &Arc<Identity>, peer: Option<&Arc<Identity>>, to: Endpoint) -> Option<usize> {
        let workload = self.workload(client)?;
        let far = peer.map_or(Far::Address(to.addr), |peer| Far::Known(Arc::as_ptr(peer) as usize));
        let at = match self.by_far.get(&(workload, far, to.port)) {
            Some(&(at, _)) => Some(at),
            None => self.new_pair(workload, peer, far, to),
        };
        let Some(pair) = at.and_then(|at| self.pairs.get_mut(at)) else {
            self.forget_if_empty(workload);
            return None;
        };
        pair.fresh = true;
        at
    }

    fn new_pair(&mut self, at: usize, peer: Option<&Arc<Identity>>, far: Far, to: Endpoint) -> Option<usize> {
        let label = match peer.and_then(|peer| peer.display_name()) {
            Some(name) => Arc::from(name),
            None => match self.options.prefixes.get(to.addr.ip()) {
                Some(name) => name.clone(),
                None => self.workloads.get_mut(at)?.addresses.label(to.addr, self.options.max_addresses),
            },
        };
        let room = self.series[Instrument::Attempts as usize].max(self.series[Instrument::Failures as usize])
            < self.options.max_series;
        let workload = self.workloads.get_mut(at)?;
        let key = (label, to.port);
        let pair = match workload.destinations.get(&key) {
            Some(&pair) => pair,
            None if workload.destinations.len() < self.options.max_destinations && room => {
                let mut attributes = Attributes::with_capacity(2);
                attributes.str(attribute::SYNSPAN_DESTINATION, &key.0);
                attributes.int(attribute::SERVER_PORT, to.port);
                let pair = self.pairs.insert(Pair::new(at, attributes.finish()));
                workload.destinations.insert(key, pair);
                workload.pairs += 1;
                pair
            }
            None => match workload.overflow {
                Some(pair) => pair,
                None if room => {
                    let pair = self.pairs.insert(Pair::new(at, overflow_attributes()));
                    workload.overflow = Some(pair);
                    workload.pairs += 1;
                    pair
                }
                None => return None,
            },
        };
        if workload.overflow == Some(pair) {
            // Not remembered: there may be any number of these.
            self.overflowed += 1;
            return Some(pair);
        }
        if self.by_far.len() >= MAX_REMEMBERED {
            self.by_far.clear();
        }
        self.by_far.insert((at, far, to.port), (pair, peer.cloned()));
        Some(pair)
    }

    fn workload(&mut self, client: &Arc<Identity>) -> Option<usize> {
        let place = Arc::as_ptr(client) as usize;
        if let Some((_, at)) = self.by_identity.get(&place) {
            return Some(*at);
        }
        let (key, resource) = workload::of(client, &self.options.node_name);
        let at = match self.by_key.get(&key) {
            Some(&at) => {
                // The same one, of which more is known by now.
                let known = self.workloads.get_mut(at)?;
                if resource.attributes.len() > known.resource.attributes.len() {
                    known.resource = resource;
                }
                at
            }
            None if self.workloads.len() >= self.options.max_series => return None,
            None => {
                let (destinations, addresses) = (HashMap::new(), Addresses::default());
                let new = Workload { key: key.clone(), resource, pairs: 0, destinations, addresses, overflow: None };
                let at = self.workloads.insert(new);
                self.by_key.insert(key, at);
                at
            }
        };
        if self.by_identity.len() >= MAX_REMEMBERED {
            self.by_identity.clear();
        }
        self.by_identity.insert(place, (Arc::clone(client), at));
        Some(at)
    }
}

/// What a connection moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Moved {
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub sent_segments: u64,
    pub received_segments: u64,
    pub retransmissions: u64,
    /// Smoothed round trip time; in the last record alone, so that each connection counts once.
    pub rtt: Option<Duration>,
}

fn overflow_attributes() -> Vec<KeyValue> {
    let mut attributes = Attributes::with_capacity(1);
    attributes.bool(attribute::OTEL_METRIC_OVERFLOW, true);
    attributes.finish()
}
