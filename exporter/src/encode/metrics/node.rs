//! The metrics of the node's network: what is open, source ports, connection tracking.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, ResourceMetrics};

use super::collect::{enclose, metric, sum};
use super::series::{Counter, Times, point};
use super::workload;
use crate::capture::observation::ConntrackState;
use crate::capture::tuple::Endpoint;
use crate::encode::attributes::Attributes;
use crate::identify::Identity;
use crate::names::value::age;
use crate::names::{attribute, metric as names};
use crate::track::survey::{SnatUse, Survey};

/// Age classes of open attempts.
const AGES: [&str; 4] = [age::UNDER_1S, age::FROM_1S_TO_10S, age::FROM_10S_TO_60S, age::OVER_60S];

/// What is measured of a node's network.
#[derive(Debug)]
pub struct NodeMeter {
    resource: Identity,
    survey: Option<Survey>,
    insert_failures: Counter,
    drops: Counter,
    early_drops: Counter,
    /// The kernel's totals when they were seen last: they began with the node.
    before: Option<ConntrackState>,
    start: u64,
    last: u64,
    delta: bool,
}

impl NodeMeter {
    /// An empty one that begins at `start` (nanoseconds since 1970); counters are told since the last collection where
    /// `delta` says so.
    pub fn new(network: &Identity, node_name: &str, start: u64, delta: bool) -> Self {
        let (_, resource) = workload::of(network, node_name);
        Self {
            resource,
            survey: None,
            insert_failures: Counter::default(),
            drops: Counter::default(),
            early_drops: Counter::default(),
            before: None,
            start,
            last: start,
            delta,
        }
    }

    /// Takes in how things stand.
    pub fn survey(&mut self, survey: Survey) {
        if let Some(now) = survey.conntrack {
            let before = self.before.unwrap_or(now);
            self.insert_failures.add(now.insert_failed.saturating_sub(before.insert_failed), None);
            self.drops.add(now.dropped.saturating_sub(before.dropped), None);
            self.early_drops.add(now.early_drop.saturating_sub(before.early_drop), None);
            self.before = Some(now);
        }
        self.survey = Some(survey);
    }

    /// All points at a time; `named` tells what a destination is called.
    pub fn collect(&mut self, unix: u64, named: impl Fn(Endpoint) -> Arc<str>) -> Option<ResourceMetrics> {
        let times = Times::at(unix, self.last, self.delta);
        let now = times.now;
        self.last = now;
        let survey = self.survey.as_ref()?;
        let start = self.start;
        let gauge = |attributes: &[KeyValue], value: u64| point(attributes, start, now, value, Vec::new());
        let mut metrics = Vec::new();
        let mut both_ways = |name, points: Vec<NumberDataPoint>| {
            if !points.is_empty() {
                metrics.push(metric(name, sum(points, false, false)));
            }
        };
        let pending = AGES.iter().zip(survey.pending).map(|(age, count)| {
            let mut attributes = Attributes::with_capacity(1);
            attributes.str(attribute::SYNSPAN_AGE, age);
            gauge(&attributes.finish(), count)
        });
        both_ways(&names::SYNSPAN_CONNECT_PENDING, pending.collect());
        let ports = |value: fn(&SnatUse) -> Option<u64>| -> Vec<NumberDataPoint> {
            let of = |usage: &SnatUse| Some(gauge(&of_usage(usage, &named), value(usage)?));
            survey.snat.iter().filter_map(of).collect()
        };
        let used = ports(|usage| Some(usage.used.into()));
        both_ways(&names::SYNSPAN_SNAT_PORT_USAGE, used);
        let limits = ports(|usage| usage.range.map(|(low, high)| u64::from(high.saturating_sub(low)) + 1));
        both_ways(&names::SYNSPAN_SNAT_PORT_LIMIT, limits);
        if let Some(state) = survey.conntrack {
            let entries = vec![gauge(&[], state.entries)];
            both_ways(&names::SYNSPAN_CONNTRACK_ENTRY_USAGE, entries);
            let limit = (state.limit > 0).then(|| gauge(&[], state.limit)).into_iter().collect();
            both_ways(&names::SYNSPAN_CONNTRACK_ENTRY_LIMIT, limit);
            for (counter, name) in [
                (&mut self.insert_failures, &names::SYNSPAN_CONNTRACK_ENTRY_INSERT_FAILURES),
                (&mut self.drops, &names::SYNSPAN_CONNTRACK_ENTRY_DROPS),
                (&mut self.early_drops, &names::SYNSPAN_CONNTRACK_ENTRY_EARLY_DROPS),
            ] {
                let mut points = Vec::new();
                counter.points(&[], times, &mut points);
                if !points.is_empty() {
                    metrics.push(metric(name, sum(points, self.delta, true)));
                }
            }
        }
        enclose(&self.resource, metrics)
    }
}

fn of_usage(usage: &SnatUse, named: &impl Fn(Endpoint) -> Arc<str>) -> Vec<KeyValue> {
    let mut attributes = Attributes::with_capacity(3);
    attributes.str(attribute::SYNSPAN_WIRE_LOCAL_ADDRESS, &usage.egress.to_string());
    attributes.str(attribute::SYNSPAN_DESTINATION, &named(usage.destination));
    attributes.int(attribute::SERVER_PORT, usage.destination.port);
    attributes.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identify::fixtures;
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;

    fn survey(insert_failed: u64) -> Survey {
        Survey {
            pending: [1, 2, 0, 0],
            snat: vec![SnatUse {
                egress: fixtures::endpoint("192.168.50.10:0").addr,
                destination: fixtures::endpoint("192.0.2.1:443"),
                used: 7,
                range: None,
            }],
            conntrack: Some(ConntrackState { entries: 5, limit: 100, insert_failed, ..ConntrackState::default() }),
            ledger_reaches: Duration::ZERO,
        }
    }

    #[test]
    fn the_kernels_totals_count_from_the_agents_start_and_an_unknown_limit_is_missing() {
        let network = fixtures::identity(&[("service.name", "node-network")]);
        let mut meter = NodeMeter::new(&network, "node-1", 10, false);
        assert!(meter.collect(20, |end| end.to_string().into()).is_none());
        meter.survey(survey(1_000));
        meter.survey(survey(1_003));
        let all = meter.collect(30, |end| end.addr.to_string().into()).expect("metrics");
        let metrics = &all.scope_metrics[0].metrics;
        assert!(!metrics.iter().any(|metric| metric.name == "synspan.snat.port.limit"));
        let failures = metrics.iter().find(|metric| metric.name.ends_with("insert_failures")).expect("there");
        let Some(Data::Sum(sum)) = &failures.data else { panic!("no sum") };
        let last = sum.data_points.last().expect("a point");
        assert_eq!(last.value, point(&[], 0, 0, 3, Vec::new()).value);
    }
}
