//! A YAML document as a tree whose nodes know their lines.
//!
//! Made from the events of a YAML 1.2 parser rather than by serde, since serde tells the position of
//! the first error only and that of a missing or unknown key not at all (decision 0002). Aliases and
//! the merge key `<<` are resolved here, within bounds.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};

/// Deepest nesting.
const MAX_DEPTH: usize = 64;
/// Most nodes after aliases are resolved, so that a small file cannot unfold to a huge one.
const MAX_NODES: usize = 100_000;

/// A value and the line where it begins, from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    pub line: usize,
    pub value: Value,
}

/// What a node is. Scalars stay text: what type they should have is known only to who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A scalar; `plain` if it was written without quotes and is no block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Scalar {
    pub text: String,
    pub plain: bool,
}

/// A key, its line, and its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub key: String,
    pub line: usize,
    pub value: Node,
}

/// Why a text is not a document: line, path, what, what instead.
#[derive(Debug)]
pub(super) struct Broken {
    pub line: usize,
    pub path: String,
    pub what: String,
    pub instead: &'static str,
}

impl Node {
    /// The word for what it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a value",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// Whether a plain scalar means null (YAML 1.2 core schema).
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// Parses one document. The second part is what is wrong though it could be read: keys given twice.
///
/// # Errors
/// Where the text is no YAML, and why.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Broken>), Broken> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)),
        anchors: HashMap::new(),
        nodes: 0,
        path: Vec::new(),
        duplicates: Vec::new(),
    };
    let node = builder.document()?;
    Ok((node, builder.duplicates))
}

struct Builder<'i> {
    parser: Parser<'i, StrInput<'i>>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    path: Vec<String>,
    duplicates: Vec<Broken>,
}

impl<'i> Builder<'i> {
    fn document(&mut self) -> Result<Node, Broken> {
        let mut root = None;
        loop {
            let (event, line) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                _ if root.is_some() => {
                    return Err(self.broken(line, "a second document begins here", "keep one document in the file"));
                }
                event => root = Some(self.node(event, line, 0)?),
            }
        }
        Ok(root.unwrap_or(Node { line: 1, value: Value::Null }))
    }

    fn next(&mut self) -> Result<(Event<'i>, usize), Broken> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, 1)),
            Some(Ok((event, span))) => Ok((event, span.start.line().max(1))),
            Some(Err(error)) => {
                let line = error.marker().line().max(1);
                let what = format!("this is not YAML: {} (column {})", error.info(), error.marker().col() + 1);
                Err(self.broken(line, what, "check the indentation, quotes and brackets at and above this line"))
            }
        }
    }

    fn broken(&self, line: usize, what: impl Into<String>, instead: &'static str) -> Broken {
        Broken { line, path: self.path.concat(), what: what.into(), instead }
    }

    fn count(&mut self, nodes: usize, line: usize) -> Result<(), Broken> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(self.broken(line, format!("more than {MAX_NODES} values"), "use fewer aliases"));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'i>, line: usize, depth: usize) -> Result<Node, Broken> {
        if depth > MAX_DEPTH {
            return Err(self.broken(line, format!("nested more than {MAX_DEPTH} deep"), ""));
        }
        let before = self.nodes;
        self.count(1, line)?;
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let value = if plain && is_null(&text) {
                    Value::Null
                } else {
                    Value::Scalar(Scalar { text: text.into_owned(), plain })
                };
                (anchor, value)
            }
            Event::SequenceStart(anchor, _) => (anchor, Value::List(self.list(depth)?)),
            Event::MappingStart(anchor, _) => (anchor, Value::Map(self.map(depth)?)),
            Event::Alias(anchor) => {
                let Some((node, nodes)) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.broken(line, "an alias inside of what it stands for", "write the value out"));
                };
                self.count(nodes, line)?;
                return Ok(node);
            }
            _ => return Err(self.broken(line, "this is not YAML: a value is missing", "")),
        };
        let node = Node { line, value };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before));
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Broken> {
        let mut items = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Ok(items);
            }
            self.path.push(format!("[{}]", items.len()));
            items.push(self.node(event, line, depth + 1)?);
            self.path.pop();
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Broken> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        loop {
            let (event, line) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                break;
            }
            let (key, is_merge) = match self.node(event, line, depth + 1)?.value {
                Value::Scalar(Scalar { text, plain }) => (text.clone(), plain && text == "<<"),
                Value::Null => (String::new(), false),
                _ => return Err(self.broken(line, "a list or map as a key", "keys are plain words")),
            };
            self.path.push(if self.path.is_empty() { key.clone() } else { format!(".{key}") });
            let (event, value_line) = self.next()?;
            let value = self.node(event, value_line, depth + 1)?;
            if is_merge {
                self.merge(value, &mut merged)?;
            } else if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                let what = format!("the key is given twice, first on line {}", first.line);
                self.duplicates.push(self.broken(line, what, "keep one of the two"));
            } else {
                entries.push(Entry { key, line, value });
            }
            self.path.pop();
        }
        for entry in merged {
            if !entries.iter().any(|own| own.key == entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn merge(&mut self, value: Node, into: &mut Vec<Entry>) -> Result<(), Broken> {
        match value.value {
            Value::Map(entries) => into.extend(entries),
            Value::List(items) => {
                for item in items {
                    let Value::Map(entries) = item.value else {
                        return Err(self.broken(item.line, "`<<` takes maps", "give it an alias of a map"));
                    };
                    into.extend(entries);
                }
            }
            _ => return Err(self.broken(value.line, "`<<` takes maps", "give it an alias of a map")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'n>(node: &'n Node, key: &str) -> &'n Entry {
        let Value::Map(entries) = &node.value else { panic!("no map") };
        entries.iter().find(|entry| entry.key == key).unwrap()
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let (root, _) = parse("a: 1\n\n# remark\nb:\n  c: [x,\n      y]\n").unwrap();
        assert_eq!(entry(&root, "a").line, 1);
        let b = entry(&root, "b");
        assert_eq!(b.line, 4);
        let c = entry(&b.value, "c");
        assert_eq!(c.line, 5);
        let Value::List(items) = &c.value.value else { panic!("no list") };
        assert_eq!(items.iter().map(|item| item.line).collect::<Vec<_>>(), [5, 6]);
    }

    #[test]
    fn aliases_and_merge_keys() {
        let (root, _) = parse("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\nz: *x\n").unwrap();
        let y = &entry(&root, "y").value;
        assert_eq!(entry(y, "a").value.value, Value::Scalar(Scalar { text: "1".into(), plain: true }));
        assert_eq!(entry(y, "b").value.value, Value::Scalar(Scalar { text: "3".into(), plain: true }));
        assert_eq!(entry(&root, "z").value, entry(&root, "x").value);
    }

    #[test]
    fn unfolding_is_bounded() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for at in 1..10 {
            let alias = vec![format!("*a{}", at - 1); 10].join(", ");
            text += &format!("a{at}: &a{at} [{alias}]\n");
        }
        assert!(parse(&text).unwrap_err().what.contains("more than"));
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert!(parse(&deep).unwrap_err().what.contains("deep"));
    }

    #[test]
    fn nothing_quoted_and_twice() {
        assert_eq!(parse("").unwrap().0.value, Value::Null);
        assert_eq!(parse("# only a remark\n").unwrap().0.value, Value::Null);
        let (root, twice) = parse("a: ''\nb: ~\na: 2\n").unwrap();
        assert_eq!(entry(&root, "a").value.value, Value::Scalar(Scalar { text: String::new(), plain: false }));
        assert_eq!(entry(&root, "b").value.value, Value::Null);
        assert_eq!((twice.len(), twice[0].line, twice[0].path.as_str()), (1, 3, "a"));
        assert!(parse("a: &a [*a]\n").is_err());
        assert!(parse("a: 1\n---\nb: 2\n").unwrap_err().what.contains("second document"));
    }
}
