//! What must hold for a registry.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use crate::model::{Attribute, Registry, Type, Use};

/// All that does not hold, one line each.
pub fn problems(registry: &Registry) -> Vec<String> {
    let mut problems = Vec::new();
    twice(&mut problems, "attribute", registry.attributes().map(|attribute| attribute.name.as_str()));
    twice(&mut problems, "constant", registry.attributes().map(|attribute| attribute.constant.as_str()));
    twice(&mut problems, "span", registry.spans.iter().map(|span| span.name.as_str()));
    twice(&mut problems, "span event", registry.span_events.iter().map(|event| event.name.as_str()));
    twice(&mut problems, "event", registry.events.iter().map(|event| event.name.as_str()));
    twice(&mut problems, "metric", registry.metrics.iter().map(|metric| metric.name.as_str()));
    twice(&mut problems, "resource", registry.resources.iter().map(|resource| resource.name.as_str()));
    for theme in &registry.themes {
        for attribute in &theme.attributes {
            ours(&mut problems, "attribute", &attribute.name, theme.standard);
            of_attribute(registry, attribute, &mut problems);
        }
    }
    for (of, uses) in uses(registry) {
        for used in uses {
            if registry.attribute(&used.attribute).is_none() {
                problems.push(format!("{of}: attribute {} is defined nowhere", used.attribute));
            }
        }
    }
    for event in registry.span_events.iter().chain(&registry.events) {
        ours(&mut problems, "event", &event.name, false);
    }
    for metric in &registry.metrics {
        if metric.unit.is_empty() {
            problems.push(format!("metric {}: no unit", metric.name));
        }
        for resource in &metric.resources {
            if !registry.resources.iter().any(|known| known.name == *resource) {
                problems.push(format!("metric {}: resource {resource} is not there", metric.name));
            }
        }
        // OpenTelemetry's own are those of processes.
        ours(&mut problems, "metric", &metric.name, metric.name.starts_with("process."));
    }
    problems
}

/// Everything that has attributes, and how it is called.
fn uses(registry: &Registry) -> impl Iterator<Item = (String, &[Use])> {
    let spans = registry.spans.iter().map(|span| (format!("span {}", span.name), &*span.attributes));
    let events = registry.span_events.iter().chain(&registry.events);
    let events = events.map(|event| (format!("event {}", event.name), &*event.attributes));
    let metrics = registry.metrics.iter().map(|metric| (format!("metric {}", metric.name), &*metric.attributes));
    let resources = registry.resources.iter().map(|of| (format!("resource {}", of.name), &*of.attributes));
    spans.chain(events).chain(metrics).chain(resources).chain([("link".to_owned(), &*registry.links)])
}

fn twice<'a>(problems: &mut Vec<String>, what: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    problems.extend(names.filter(|name| !seen.insert(*name)).map(|name| format!("{what} {name}: twice")));
}

fn ours(problems: &mut Vec<String>, what: &str, name: &str, standard: bool) {
    if name.starts_with("synspan.") == standard {
        problems.push(format!("{what} {name}: ours are under synspan., and OpenTelemetry's in standard.yaml"));
    }
}

fn of_attribute(registry: &Registry, attribute: &Attribute, problems: &mut Vec<String>) {
    let mut problem = |what: &str| problems.push(format!("attribute {}: {what}", attribute.name));
    if attribute.brief.is_empty() {
        problem("no brief");
    }
    if attribute.stability.is_empty() {
        problem("no stability");
    }
    let fits = |example: &Json| match attribute.kind {
        Type::Int => example.is_i64(),
        Type::Double => example.is_f64(),
        Type::Boolean => example.is_boolean(),
        Type::Strings => example.as_array().is_some_and(|texts| texts.iter().all(Json::is_string)),
        Type::String | Type::Enum(_) => example.is_string(),
    };
    if !attribute.examples.iter().all(fits) {
        problem("an example of another type");
    }
    match &attribute.kind {
        Type::Enum(members) => {
            for (at, member) in members.iter().enumerate() {
                if members[..at].iter().any(|before| before.id == member.id || before.value == member.value) {
                    problem(&format!("value {} twice", member.value));
                }
            }
        }
        Type::Boolean => {}
        _ if attribute.examples.is_empty() => problem("no example"),
        _ => {}
    }
    if attribute.values_of.as_deref().is_some_and(|of| registry.members(of).is_none()) {
        problem("values_of names no closed list");
    }
}
