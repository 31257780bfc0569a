//! Reading a map of the tree key by key, gathering every problem instead of stopping at the first.

use std::sync::Arc;

use super::environment::Env;
use super::error::Problem;
use super::expand::expand;
use super::tree::{Broken, Entry, Node, Scalar, Value, is_null};
use super::values::{Wrong, nearest, shown};

/// What all readers share: the file's name and what was found wrong so far.
pub(super) struct Reading<'e> {
    pub source: Arc<str>,
    pub env: &'e dyn Env,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl<'e> Reading<'e> {
    pub fn new(source: &str, env: &'e dyn Env) -> Self {
        Self { source: source.into(), env, problems: Vec::new(), warnings: Vec::new() }
    }

    pub fn problem(&mut self, line: usize, path: &str, what: impl Into<String>, instead: impl Into<String>) {
        // A value that could not be expanded is gone afterwards; that is not a second problem.
        if self.problems.iter().any(|known| known.line == Some(line) && known.path == path) {
            return;
        }
        let problem = self.make(line, path, what.into(), instead.into());
        self.problems.push(problem);
    }

    pub fn warning(&mut self, line: usize, path: &str, what: impl Into<String>, instead: impl Into<String>) {
        let warning = self.make(line, path, what.into(), instead.into());
        self.warnings.push(warning);
    }

    pub fn broken(&mut self, broken: Broken) {
        self.problem(broken.line, &broken.path, broken.what, broken.instead);
    }

    fn make(&self, line: usize, path: &str, what: String, instead: String) -> Problem {
        Problem { source: self.source.clone(), line: Some(line), path: path.to_owned(), what, instead }
    }

    /// Whether something is wrong with the value at a path already.
    pub fn is_wrong(&self, path: &str) -> bool {
        self.problems.iter().any(|known| known.path == path)
    }

    /// Replaces references to the environment in every value below a node. What cannot be replaced
    /// becomes null, so that it is reported once.
    pub fn expand(&mut self, node: &mut Node, path: &str) {
        match &mut node.value {
            Value::Null => {}
            Value::Scalar(Scalar { text, plain }) => {
                if !text.contains('$') {
                    return;
                }
                match expand(text, self.env) {
                    Ok(expanded) if *plain && is_null(&expanded) => node.value = Value::Null,
                    Ok(expanded) => *text = expanded,
                    Err(wrong) => {
                        self.problem(node.line, path, wrong.what, wrong.instead);
                        node.value = Value::Null;
                    }
                }
            }
            Value::List(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    self.expand(item, &format!("{path}[{at}]"));
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    let path = join(path, &entry.key);
                    self.expand(&mut entry.value, &path);
                }
            }
        }
    }
}

/// A path and a key below it.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A value with its place: the line of its key, and its path.
#[derive(Clone)]
pub(super) struct Field<'n> {
    pub node: &'n Node,
    pub line: usize,
    pub path: String,
}

impl<'n> Field<'n> {
    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    /// The scalar's text; a problem and none if it is no scalar. Null is none without a problem.
    pub fn text(&self, reading: &mut Reading<'_>) -> Option<&'n str> {
        match &self.node.value {
            Value::Null => None,
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => {
                let what = format!("{} where a single value belongs", self.node.kind());
                reading.problem(self.node.line, &self.path, what, "write one value");
                None
            }
        }
    }

    /// The value that a function makes of the text; a problem and none if it makes none.
    pub fn parse<T>(&self, reading: &mut Reading<'_>, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let text = self.text(reading)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                reading.problem(self.node.line, &self.path, wrong.what, wrong.instead);
                None
            }
        }
    }

    /// The items of a list; a problem and none if it is no list.
    pub fn items(&self, reading: &mut Reading<'_>) -> Option<Vec<Field<'n>>> {
        match &self.node.value {
            Value::Null => Some(Vec::new()),
            Value::List(items) => Some(
                items
                    .iter()
                    .enumerate()
                    .map(|(at, node)| Field { node, line: node.line, path: format!("{}[{at}]", self.path) })
                    .collect(),
            ),
            _ => {
                let what = format!("{} where a list belongs", self.node.kind());
                reading.problem(self.node.line, &self.path, what, "write [one, two], or one `- item` a line");
                None
            }
        }
    }

    /// A list of values, those left out that are none.
    pub fn list<T>(
        &self,
        reading: &mut Reading<'_>,
        mut parse: impl FnMut(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let items = self.items(reading)?;
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            if item.is_null() {
                reading.problem(item.line, &item.path, "the list item is empty", "write a value, or remove it");
            } else if let Some(value) = item.parse(reading, &mut parse) {
                values.push(value);
            }
        }
        Some(values)
    }

    /// The entries of a map; a problem and none if it is no map. Nothing is an empty map.
    pub fn entries(&self, reading: &mut Reading<'_>) -> Option<&'n [Entry]> {
        match &self.node.value {
            Value::Null => Some(&[]),
            Value::Map(entries) => Some(entries),
            _ => {
                let what = format!("{} where a map belongs", self.node.kind());
                reading.problem(self.node.line, &self.path, what, "write `key: value` lines, indented below it");
                None
            }
        }
    }

    /// A reader of the map; an empty one and a problem if it is no map.
    pub fn map(&self, reading: &mut Reading<'_>) -> MapReader<'n> {
        let entries = self.entries(reading).unwrap_or_default();
        MapReader { entries, path: self.path.clone(), line: self.line, known: Vec::new() }
    }
}

/// A map whose keys are asked for by name; [`MapReader::finish`] reports those that nobody asked for.
pub(super) struct MapReader<'n> {
    entries: &'n [Entry],
    pub path: String,
    pub line: usize,
    known: Vec<&'static str>,
}

impl<'n> MapReader<'n> {
    /// The field, if it is there with a value.
    pub fn field(&mut self, key: &'static str) -> Option<Field<'n>> {
        self.known.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let field = Field { node: &entry.value, line: entry.line, path: join(&self.path, key) };
        (!field.is_null()).then_some(field)
    }

    /// Whether the key is there, with or without a value.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// A reader of the map below a key, whether it is there or not.
    pub fn map(&mut self, reading: &mut Reading<'_>, key: &'static str) -> MapReader<'n> {
        match self.field(key) {
            Some(field) => field.map(reading),
            None => MapReader { entries: &[], path: join(&self.path, key), line: self.line, known: Vec::new() },
        }
    }

    /// Sets a value from a field, if it is there and right.
    pub fn set<T>(
        &mut self,
        reading: &mut Reading<'_>,
        key: &'static str,
        target: &mut T,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) {
        if let Some(value) = self.get(reading, key, parse) {
            *target = value;
        }
    }

    /// A value from a field, if it is there and right.
    pub fn get<T>(
        &mut self,
        reading: &mut Reading<'_>,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.field(key)?.parse(reading, parse)
    }

    /// A text, as it is.
    pub fn text(&mut self, reading: &mut Reading<'_>, key: &'static str) -> Option<String> {
        self.field(key)?.text(reading).map(str::to_owned)
    }

    /// Sets a list from a field, if it is there.
    pub fn set_list<T>(
        &mut self,
        reading: &mut Reading<'_>,
        key: &'static str,
        target: &mut Vec<T>,
        parse: impl FnMut(&str) -> Result<T, Wrong>,
    ) {
        if let Some(values) = self.field(key).and_then(|field| field.list(reading, parse)) {
            *target = values;
        }
    }

    /// A key that cannot be honoured: a problem unless it is absent, empty, or has a value that says
    /// what is done anyway.
    pub fn unsupported(&mut self, reading: &mut Reading<'_>, key: &'static str, harmless: &[&str], instead: &str) {
        let Some(field) = self.field(key) else { return };
        match &field.node.value {
            Value::Scalar(scalar) if harmless.contains(&scalar.text.as_str()) => {}
            Value::List(items) if items.is_empty() => {}
            Value::Map(entries) if entries.is_empty() => {}
            Value::Scalar(scalar) => {
                let what = format!("{} is not supported by synspan", shown(&scalar.text));
                reading.problem(field.line, &field.path, what, instead);
            }
            _ => reading.problem(field.line, &field.path, "not supported by synspan", instead),
        }
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self, reading: &mut Reading<'_>) {
        for entry in self.entries {
            if self.known.contains(&entry.key.as_str()) {
                continue;
            }
            let instead = match nearest(&entry.key, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", self.known.join(", ")),
            };
            reading.problem(entry.line, &join(&self.path, &entry.key), "unknown key", instead);
        }
    }
}
