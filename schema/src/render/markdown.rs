//! docs/telemetry.md: the registry for people.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::model::{Attribute, Event, Level, Registry, Type, Use};

const HEAD: &str = "\
# Telemetry

<!-- Made from config/schema/ by `make schema`. Change it there. -->

Everything that synspan tells, by name. Names of our own are under `synspan.`; all others are OpenTelemetry's. Nothing of
it is stable yet, but for what OpenTelemetry has declared so. `synspan schema` prints the same as YAML, JSON or Markdown.
[causes.md](causes.md) explains what verdicts mean.

";

const USES: &str = "| when | attributes |\n| --- | --- |\n";

/// The page.
pub fn render(registry: &Registry) -> String {
    let mut page = Page(HEAD.to_owned());
    page.put(&format!(
        "The instrumentation scope is `{}`, the schema URL `{}`.\n",
        registry.name, registry.conventions_url
    ));
    page.resources(registry);
    page.spans(registry);
    page.put("\n## Span events\n");
    page.events(&registry.span_events);
    page.put("\n## Links\n\n");
    page.uses(&registry.links);
    page.put(
        "\n## Log records\n\nThe name is the record's field EventName and its attribute `event.name`; the body is one \
         line for people.\n",
    );
    page.events(&registry.events);
    page.metrics(registry);
    page.attributes(registry);
    page.0.replace("|  |", "| |")
}

struct Page(String);

impl Page {
    fn put(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn about(&mut self, title: &str, brief: &str, note: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "\n### {title}\n\n{brief}");
        if !note.is_empty() {
            let _ = write!(self.0, " {note}");
        }
        self.put("\n\n");
    }

    /// Attributes by when they are there.
    fn uses(&mut self, uses: &[Use]) {
        if uses.is_empty() {
            self.put("No attributes.\n");
            return;
        }
        let mut levels: Vec<&Level> = Vec::new();
        for used in uses {
            if !levels.contains(&&used.level) {
                levels.push(&used.level);
            }
        }
        levels.sort_by_key(|level| match level {
            Level::Required => 0,
            Level::ConditionallyRequired(_) => 1,
            Level::Recommended => 2,
            Level::OptIn => 3,
        });
        self.put(USES);
        for level in levels {
            let names: Vec<String> =
                uses.iter().filter(|used| used.level == *level).map(|used| format!("`{}`", used.attribute)).collect();
            let _ = writeln!(self.0, "| {} | {} |", when(level), names.join(", "));
        }
    }

    fn resources(&mut self, registry: &Registry) {
        self.put(
            "\n## Resources\n\nTelemetry belongs to the workload that it is about. A resource may carry more \
             attributes that the user gave.\n",
        );
        for kind in &registry.resources {
            self.about(&kind.name, &kind.brief, &kind.note);
            if let Some(name) = &kind.service_name {
                let _ = write!(self.0, "`service.name` is `{name}`.\n\n");
            }
            self.uses(&kind.attributes);
        }
    }

    fn spans(&mut self, registry: &Registry) {
        self.put("\n## Spans\n");
        for span in &registry.spans {
            self.about(&span.name, &span.brief, &span.note);
            let _ = write!(self.0, "Kind {}. ", span.kind.to_uppercase());
            if !span.events.is_empty() {
                let names: Vec<String> = span.events.iter().map(|name| format!("`{name}`")).collect();
                let _ = write!(self.0, "Events: {}.", names.join(", "));
            }
            self.0.truncate(self.0.trim_end().len());
            self.put("\n\n");
            self.uses(&span.attributes);
        }
    }

    fn events(&mut self, events: &[Event]) {
        for event in events {
            self.about(&event.name, &event.brief, &event.note);
            self.uses(&event.attributes);
        }
    }

    fn metrics(&mut self, registry: &Registry) {
        self.put(
            "\n## Metrics\n\nBeyond the limit of series all goes to one series with `otel.metric.overflow` alone.\n\n\
             | metric | instrument | unit | what | attributes |\n| --- | --- | --- | --- | --- |\n",
        );
        for metric in &registry.metrics {
            let what =
                if metric.note.is_empty() { metric.brief.clone() } else { format!("{} {}", metric.brief, metric.note) };
            let names: Vec<String> = metric
                .attributes
                .iter()
                .filter(|used| used.attribute != "otel.metric.overflow")
                .map(|used| match &used.level {
                    Level::ConditionallyRequired(when) => format!("`{}` ({when})", used.attribute),
                    _ => format!("`{}`", used.attribute),
                })
                .collect();
            let (name, instrument, unit) = (&metric.name, metric.instrument.as_str(), &metric.unit);
            let _ = writeln!(self.0, "| `{name}` | {instrument} | {unit} | {what} | {} |", names.join(", "));
        }
    }

    fn attributes(&mut self, registry: &Registry) {
        self.put("\n## Attributes\n");
        for theme in &registry.themes {
            self.about(&theme.title, &theme.brief, if theme.standard { "OpenTelemetry's own." } else { "" });
            self.put("| attribute | type | meaning | examples |\n| --- | --- | --- | --- |\n");
            for attribute in &theme.attributes {
                self.attribute(attribute);
            }
            for attribute in &theme.attributes {
                let Type::Enum(members) = &attribute.kind else { continue };
                let _ = write!(self.0, "\n| `{}` | meaning |\n| --- | --- |\n", attribute.name);
                for member in members {
                    let _ = writeln!(self.0, "| `{}` | {} |", member.value, member.brief);
                }
            }
        }
    }

    fn attribute(&mut self, attribute: &Attribute) {
        let mut meaning = attribute.brief.clone();
        for more in [Some(&attribute.note), attribute.deprecated.as_ref()].into_iter().flatten() {
            if !more.is_empty() {
                let _ = write!(meaning, " {more}");
            }
        }
        let examples: Vec<String> = attribute.examples.iter().map(|value| format!("`{}`", example(value))).collect();
        let kind = match &attribute.unit {
            Some(unit) => format!("{}, {unit}", attribute.kind.as_str()),
            None => attribute.kind.as_str().to_owned(),
        };
        let _ = writeln!(self.0, "| `{}` | {kind} | {meaning} | {} |", attribute.name, examples.join(", "));
    }
}

fn when(level: &Level) -> &str {
    match level {
        Level::Required => "always",
        Level::ConditionallyRequired(condition) => condition,
        Level::Recommended => "where it is known",
        Level::OptIn => "if asked for",
    }
}

fn example(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_everything() {
        let registry = Registry::embedded().expect("the registry");
        let page = render(&registry);
        let events = registry.span_events.iter().chain(&registry.events).map(|event| &event.name);
        let names = registry.metrics.iter().map(|metric| &metric.name).chain(events);
        for name in names.chain(registry.attributes().map(|attribute| &attribute.name)) {
            assert!(page.contains(name.as_str()), "{name}");
        }
        assert!(!page.contains("|  |"), "an empty cell is one blank");
    }

    #[test]
    fn every_row_of_a_table_has_as_many_cells_as_its_head() {
        let page = render(&Registry::embedded().expect("the registry"));
        let mut cells = None;
        for line in page.lines() {
            cells = line.starts_with('|').then(|| {
                let here = line.matches('|').count();
                assert!(cells.is_none_or(|before| before == here), "{line}");
                here
            });
        }
    }
}
