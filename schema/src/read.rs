//! From the files to plain values.

use std::collections::BTreeMap;
use std::fmt;

use crate::model::{Attribute, Event, Instrument, Level, Member, Metric, Registry, Resource, Span, Theme, Type, Use};
use crate::source::{self, Group, GroupType};
use crate::{MANIFEST, SOURCES, STANDARD, validate};

/// What is wrong with the registry: one line for each problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(pub Vec<String>);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Error {}

impl Registry {
    /// The registry that this program was built with.
    pub fn embedded() -> Result<Self, Error> {
        let files: Vec<(&str, &str)> = SOURCES.iter().map(|source| (source.name, source.text)).collect();
        Self::read(MANIFEST.text, &files)
    }

    /// Reads a registry from its manifest and its files, each with its name.
    pub fn read(manifest: &str, files: &[(&str, &str)]) -> Result<Self, Error> {
        let manifest: source::Manifest = parse(MANIFEST.name, manifest)?;
        let mut groups = Vec::new();
        for (name, text) in files {
            let file: source::File = parse(name, text)?;
            groups.extend(file.groups.into_iter().map(|group| (*name == STANDARD, group)));
        }
        Reading::new(&groups)?.registry(manifest)
    }
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, text: &str) -> Result<T, Error> {
    serde_yaml::from_str(text).map_err(|error| Error(vec![format!("{name}: {error}")]))
}

struct Reading<'a> {
    groups: &'a [(bool, Group)],
    by_id: BTreeMap<&'a str, &'a Group>,
    problems: Vec<String>,
}

impl<'a> Reading<'a> {
    fn new(groups: &'a [(bool, Group)]) -> Result<Self, Error> {
        let mut by_id = BTreeMap::new();
        let mut problems = Vec::new();
        for (_, group) in groups {
            if by_id.insert(group.id.as_str(), group).is_some() {
                problems.push(format!("group {}: twice", group.id));
            }
        }
        Ok(Self { groups, by_id, problems })
    }

    fn of(&self, kind: GroupType) -> impl Iterator<Item = (bool, &'a Group)> + use<'a> {
        self.groups.iter().filter(move |(_, group)| group.kind == kind).map(|(standard, group)| (*standard, group))
    }

    fn registry(mut self, manifest: source::Manifest) -> Result<Registry, Error> {
        let themes = self.themes();
        let on_spans: Vec<&str> =
            self.of(GroupType::Span).flat_map(|(_, span)| &span.events).map(String::as_str).collect();
        let (mut span_events, mut events) = (Vec::new(), Vec::new());
        for (_, group) in self.of(GroupType::Event) {
            let event = self.event(group);
            if on_spans.contains(&group.id.as_str()) { span_events.push(event) } else { events.push(event) }
        }
        let spans = self.of(GroupType::Span).map(|(_, group)| self.span(group)).collect();
        let metrics = self.of(GroupType::Metric).map(|(_, group)| self.metric(group)).collect();
        let resources = self.of(GroupType::Entity).map(|(_, group)| self.resource(group)).collect();
        let link = |(_, group): &(bool, &Group)| group.id.starts_with("link.");
        let links = self.of(GroupType::AttributeGroup).find(link).map(|(_, group)| self.uses(group));
        let registry = Registry {
            name: manifest.name,
            description: manifest.description,
            schema_url: manifest.schema_url,
            conventions_url: manifest.dependencies.first().map(|of| of.schema_url.clone()).unwrap_or_default(),
            resources,
            spans,
            span_events,
            links: links.unwrap_or_default(),
            events,
            metrics,
            themes,
        };
        self.problems.extend(validate::problems(&registry));
        if self.problems.is_empty() { Ok(registry) } else { Err(Error(self.problems)) }
    }

    fn problem(&mut self, group: &Group, what: &str) {
        self.problems.push(format!("group {}: {what}", group.id));
    }

    fn wanted(&mut self, group: &Group, key: &str, value: Option<&String>) -> String {
        if value.is_none() {
            self.problem(group, &format!("no {key}"));
        }
        value.cloned().unwrap_or_default()
    }

    /// The groups that define attributes. Those of OpenTelemetry come last.
    fn themes(&mut self) -> Vec<Theme> {
        let mut themes = Vec::new();
        for (standard, group) in self.of(GroupType::AttributeGroup) {
            let defined: Vec<&source::Attribute> = group.attributes.iter().filter(|a| a.id.is_some()).collect();
            if defined.is_empty() {
                continue;
            }
            if defined.len() != group.attributes.len() {
                self.problem(group, "definitions and references do not go together");
            }
            let title = self.wanted(group, "display_name", group.display_name.as_ref());
            let attributes = defined.into_iter().filter_map(|attribute| self.attribute(attribute)).collect();
            themes.push(Theme { title, brief: group.brief.clone(), standard, attributes });
        }
        themes
    }

    fn attribute(&mut self, attribute: &source::Attribute) -> Option<Attribute> {
        let name = attribute.id.clone()?;
        let kind = match &attribute.kind {
            Some(source::Type::Enum { members }) => {
                if members.iter().any(|member| member.stability.is_empty()) {
                    self.problems.push(format!("attribute {name}: a member without stability"));
                }
                let member =
                    |m: &source::Member| Member { id: m.id.clone(), value: m.value.clone(), brief: m.brief.clone() };
                Some(Type::Enum(members.iter().map(member).collect()))
            }
            Some(source::Type::Word(word)) => simple(word),
            None => None,
        };
        let Some(kind) = kind else {
            self.problems.push(format!("attribute {name}: no type, or one that is not known"));
            return None;
        };
        let constant = attribute.annotations.code_generation.as_ref().map(|code| code.constant.clone());
        let deprecated = attribute.deprecated.as_ref().map(|deprecated| match &deprecated.renamed_to {
            Some(_) => deprecated.note.clone(),
            None => format!("{} ({})", deprecated.note, deprecated.reason),
        });
        Some(Attribute {
            constant: constant.unwrap_or_else(|| crate::render::rust::constant(&name)),
            name,
            kind,
            brief: attribute.brief.clone(),
            note: attribute.note.trim().to_owned(),
            stability: attribute.stability.clone().unwrap_or_default(),
            examples: attribute.examples.clone(),
            unit: attribute.annotations.unit.clone(),
            values_of: attribute.annotations.values_of.clone(),
            deprecated,
        })
    }

    /// What a group has by itself and by what it extends; its own word holds.
    fn uses(&mut self, group: &Group) -> Vec<Use> {
        let mut chain = vec![group];
        let mut next = group.extends.as_deref();
        while let Some(id) = next {
            let Some(&base) = self.by_id.get(id) else {
                self.problem(group, &format!("extends {id}, which there is not"));
                break;
            };
            if chain.iter().any(|known| known.id == base.id) {
                self.problem(group, &format!("extends {id} in a circle"));
                break;
            }
            chain.push(base);
            next = base.extends.as_deref();
        }
        let mut uses: Vec<Use> = Vec::new();
        for part in chain.into_iter().rev() {
            for attribute in &part.attributes {
                let Some(name) = attribute.reference.clone() else {
                    self.problem(part, "an attribute without ref");
                    continue;
                };
                if attribute.role.is_some() != (part.kind == GroupType::Entity) {
                    self.problem(part, &format!("{name}: attributes of entities have a role, and no others"));
                }
                let level = self.level(part, attribute);
                match uses.iter_mut().find(|known| known.attribute == name) {
                    Some(known) => known.level = level,
                    None => uses.push(Use { attribute: name, level }),
                }
            }
        }
        uses
    }

    fn level(&mut self, group: &Group, attribute: &source::Attribute) -> Level {
        match &attribute.requirement_level {
            Some(source::Level::Conditional { conditionally_required }) => {
                Level::ConditionallyRequired(conditionally_required.clone())
            }
            Some(source::Level::Word(word)) if word == "required" => Level::Required,
            Some(source::Level::Word(word)) if word == "opt_in" => Level::OptIn,
            Some(source::Level::Word(word)) if word != "recommended" => {
                self.problem(group, &format!("requirement level {word} is not known"));
                Level::Recommended
            }
            _ => Level::Recommended,
        }
    }

    fn event(&mut self, group: &Group) -> Event {
        Event {
            name: self.wanted(group, "name", group.name.as_ref()),
            brief: group.brief.clone(),
            note: group.note.trim().to_owned(),
            stability: self.wanted(group, "stability", group.stability.as_ref()),
            attributes: self.uses(group),
        }
    }

    fn span(&mut self, group: &Group) -> Span {
        let mut events = Vec::new();
        for id in &group.events {
            match self.by_id.get(id.as_str()).and_then(|event| event.name.clone()) {
                Some(name) => events.push(name),
                None => self.problem(group, &format!("event {id} is not there")),
            }
        }
        Span {
            name: self.wanted(group, "annotations.span_name", group.annotations.span_name.as_ref()),
            kind: self.wanted(group, "span_kind", group.span_kind.as_ref()),
            brief: group.brief.clone(),
            note: group.note.trim().to_owned(),
            stability: self.wanted(group, "stability", group.stability.as_ref()),
            events,
            attributes: self.uses(group),
        }
    }

    fn metric(&mut self, group: &Group) -> Metric {
        let instrument = match group.instrument.as_deref() {
            Some("counter") => Instrument::Counter,
            Some("updowncounter") => Instrument::UpDownCounter,
            Some("histogram") => Instrument::Histogram,
            Some("gauge") => Instrument::Gauge,
            _ => {
                self.problem(group, "no instrument, or one that is not known");
                Instrument::Gauge
            }
        };
        Metric {
            name: self.wanted(group, "metric_name", group.metric_name.as_ref()),
            instrument,
            unit: self.wanted(group, "unit", group.unit.as_ref()),
            brief: group.brief.clone(),
            note: group.note.trim().to_owned(),
            stability: self.wanted(group, "stability", group.stability.as_ref()),
            resources: group.entity_associations.clone(),
            attributes: self.uses(group),
        }
    }

    fn resource(&mut self, group: &Group) -> Resource {
        Resource {
            name: self.wanted(group, "name", group.name.as_ref()),
            service_name: group.annotations.service_name.clone(),
            brief: group.brief.clone(),
            note: group.note.trim().to_owned(),
            stability: self.wanted(group, "stability", group.stability.as_ref()),
            attributes: self.uses(group),
        }
    }
}

fn simple(word: &str) -> Option<Type> {
    Some(match word {
        "string" => Type::String,
        "int" => Type::Int,
        "double" => Type::Double,
        "boolean" => Type::Boolean,
        "string[]" => Type::Strings,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
