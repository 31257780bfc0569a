//! Reading what becomes of the signals: `metrics`, `logs`, `flows`, `sampling`, `privacy` and `quiet`.

use std::collections::HashMap;
use std::time::Duration;

use ipnet::IpNet;

use super::file::Given;
use super::model::{
    AddressPrivacy, Budget, Config, ConnectLogs, HistogramKind, Metrics, NamedDestination, OwnerPrivacy, Sampling,
    Temporality,
};
use super::reader::{Field, MapReader, Reading};
use super::values::{Wrong, boolean, choice, duration, number, prefix, real, shown};

/// The shortest of all intervals.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);

/// Reads the blocks.
pub(super) fn signals(map: &mut MapReader<'_>, reading: &mut Reading<'_>, config: &mut Config, given: &mut Given) {
    metrics(map, reading, &mut config.metrics, given);

    let mut logs = map.map(reading, "logs");
    logs.set(reading, "connect", &mut config.logs.connect, |text| {
        choice(text, &[("all", ConnectLogs::All), ("failures", ConnectLogs::Failures), ("none", ConnectLogs::None)])
    });
    logs.set(reading, "stalled", &mut config.logs.stalled, boolean);
    logs.set(reading, "flows", &mut config.logs.flows, boolean);
    logs.finish(reading);

    let mut flows = map.map(reading, "flows");
    flows.set(reading, "interval", &mut config.flows.interval, |text| match duration(text)? {
        Duration::ZERO => Ok(Duration::ZERO),
        time if time < SHORTEST => {
            Err(Wrong::new(format!("{} is too short", shown(text)), "write at least 1s, or 0 for none before the end"))
        }
        time => Ok(time),
    });
    flows.finish(reading);

    sampling(map, reading, &mut config.sampling);

    let mut privacy = map.map(reading, "privacy");
    privacy.set(reading, "addresses", &mut config.privacy.addresses, |text| {
        let choices = [
            ("keep", AddressPrivacy::Keep),
            ("prefix", AddressPrivacy::Prefix),
            ("hash", AddressPrivacy::Hash),
            ("drop", AddressPrivacy::Drop),
        ];
        choice(text, &choices)
    });
    privacy.set(reading, "previous_owner", &mut config.privacy.previous_owner, |text| {
        let choices = [
            ("full", OwnerPrivacy::Full),
            ("namespace", OwnerPrivacy::Namespace),
            ("redacted", OwnerPrivacy::Redacted),
        ];
        choice(text, &choices)
    });
    privacy.finish(reading);

    let mut quiet = map.map(reading, "quiet");
    quiet.set(reading, "loopback", &mut config.quiet.loopback, boolean);
    quiet.set(reading, "health_checks", &mut config.quiet.health_checks, boolean);
    quiet.set(reading, "sidecar", &mut config.quiet.sidecar, boolean);
    quiet.set(reading, "own_exports", &mut config.quiet.own_exports, boolean);
    quiet.finish(reading);
}

/// A duration of at least a second.
pub(super) fn interval(text: &str) -> Result<Duration, Wrong> {
    match duration(text)? {
        time if time < SHORTEST => Err(Wrong::new(format!("{} is too short", shown(text)), "write at least 1s")),
        time => Ok(time),
    }
}

/// A whole number of at least `least` that has 32 bits.
fn count(text: &str, least: usize) -> Result<u32, Wrong> {
    let value = number(text, least)?;
    u32::try_from(value)
        .map_err(|_| Wrong::new(format!("{} is too large", shown(text)), format!("write at most {}", u32::MAX)))
}

fn metrics(map: &mut MapReader<'_>, reading: &mut Reading<'_>, metrics: &mut Metrics, given: &mut Given) {
    let mut map = map.map(reading, "metrics");
    if let Some(interval) = map.get(reading, "interval", interval) {
        (metrics.interval, given.interval) = (interval, true);
    }
    let temporality = map.get(reading, "temporality", |text| {
        let choices = [
            ("cumulative", Temporality::Cumulative),
            ("delta", Temporality::Delta),
            ("low_memory", Temporality::LowMemory),
        ];
        choice(text, &choices)
    });
    if let Some(temporality) = temporality {
        (metrics.temporality, given.temporality) = (temporality, true);
    }
    let histogram = map.get(reading, "histogram", |text| {
        choice(text, &[("explicit", HistogramKind::Explicit), ("exponential", HistogramKind::Exponential)])
    });
    if let Some(histogram) = histogram {
        (metrics.histogram, given.histogram) = (histogram, true);
    }
    map.set(reading, "max_series", &mut metrics.max_series, |text| number(text, 1));
    map.set(reading, "max_destinations", &mut metrics.max_destinations, |text| number(text, 1));
    map.set(reading, "max_addresses", &mut metrics.max_addresses, |text| number(text, 0));
    if let Some(field) = map.field("expire_after") {
        metrics.expire_after = field.parse(reading, interval).unwrap_or(metrics.expire_after);
        if metrics.expire_after < metrics.interval {
            let right = "write a time that several intervals fit in";
            reading.warning(field.line, &field.path, "shorter than metrics.interval: series end at each export", right);
        }
    }
    map.set(reading, "exemplars", &mut metrics.exemplars, boolean);
    if let Some(field) = map.field("destinations") {
        metrics.destinations = destinations(&field, reading);
    }
    map.finish(reading);
}

fn destinations(field: &Field<'_>, reading: &mut Reading<'_>) -> Vec<NamedDestination> {
    let mut destinations: Vec<NamedDestination> = Vec::new();
    // Each prefix with the index of its destination, and the place where it stands.
    let mut places: Vec<(IpNet, usize, Field<'_>)> = Vec::new();
    for item in field.items(reading).unwrap_or_default() {
        let mut map = item.map(reading);
        let name = map.field("name");
        let addresses = map.field("addresses");
        map.finish(reading);
        let mut destination = NamedDestination { name: String::new(), prefixes: Vec::new() };
        match name.as_ref().and_then(|name| Some((name, name.text(reading)?.trim()))) {
            Some((name, text)) if destinations.iter().any(|other| other.name == text && !text.is_empty()) => {
                let what = format!("{} is the name of two destinations", shown(text));
                reading.problem(name.line, &name.path, what, "put all its addresses in one of them");
            }
            Some((_, text)) if !text.is_empty() => destination.name = text.to_owned(),
            _ => reading.problem(item.line, &item.path, "the destination has no name", "add name: ..."),
        }
        let items = addresses.and_then(|field| field.items(reading)).unwrap_or_default();
        if items.is_empty() {
            reading.problem(item.line, &item.path, "the destination has no addresses", "add addresses: [...]");
        }
        for address in items {
            if address.is_null() {
                reading.problem(address.line, &address.path, "the list item is empty", "write a value, or remove it");
            } else if let Some(prefix) = address.parse(reading, prefix) {
                destination.prefixes.push(prefix);
                places.push((prefix, destinations.len(), address));
            }
        }
        destinations.push(destination);
    }
    overlaps(&places, &destinations, reading);
    destinations
}

/// Warns of prefixes that lie in one of another destination.
fn overlaps(places: &[(IpNet, usize, Field<'_>)], destinations: &[NamedDestination], reading: &mut Reading<'_>) {
    let mut first: HashMap<IpNet, usize> = HashMap::new();
    for (prefix, at, _) in places {
        first.entry(*prefix).or_insert(*at);
    }
    for (prefix, at, place) in places {
        let mut wider = std::iter::successors(Some(*prefix), IpNet::supernet);
        let other = wider.find_map(|net| first.get(&net).filter(|other| *other != at).map(|other| (net, *other)));
        let Some((net, other)) = other else { continue };
        let name = destinations.get(other).map(|other| other.name.as_str()).unwrap_or_default();
        let what = format!("{prefix} overlaps {net} of {}", shown(name));
        let right = "that is right if it is meant: the longest prefix holds, and of equal ones the first";
        reading.warning(place.line, &place.path, what, right);
    }
}

fn sampling(map: &mut MapReader<'_>, reading: &mut Reading<'_>, sampling: &mut Sampling) {
    let mut map = map.map(reading, "sampling");
    map.set(reading, "ratio", &mut sampling.ratio, |text| real(text, 0.0, 1.0));
    map.set(reading, "ceiling", &mut sampling.ceiling, |text| count(text, 0));
    let mut budget = map.map(reading, "budget");
    let Budget { rate, burst } = &mut sampling.budget;
    budget.set(reading, "rate", rate, |text| count(text, 0));
    budget.set(reading, "burst", burst, |text| count(text, 1));
    budget.finish(reading);
    map.finish(reading);
}
