//! How each connect was judged: a cell of the confusion table.

use serde::{Deserialize, Serialize};

use super::attempted::{Attempted, OUTCOME};
use super::check::Faults;
use super::model::{Expect, Want};
use crate::replay::Live;
use crate::seen::Span;

/// The word for a connect of which nobody told.
const MISSING: &str = "missing";

/// All that came of a run's comparison.
#[derive(Debug, Default)]
pub struct Judgement {
    /// What is wrong; empty if all is as the scenario wants it.
    pub wrong: Vec<String>,
    /// How each connect was judged.
    pub judged: Vec<Judged>,
    /// What was said of each attempt that left packets, for replay to compare with.
    pub live: Vec<Live>,
}

/// What was said of the attempts of a connect that left packets; `expect` is none for those of no connect.
pub(super) fn live(expect: Option<&Expect>, found: &[&Span]) -> Vec<Live> {
    let text = |span: &Span, name: &str| span.get(name).map(str::to_owned);
    let packets = |span: &&&Span| {
        let points = span.get("synspan.points").unwrap_or_default();
        !span.is("tcp connect") || points.contains("_nic:")
    };
    let one = |span: &&Span| Live {
        node: span.node.clone(),
        span: span.name.clone(),
        connect: expect.map(|expect| expect.connect.clone()),
        trace_id: span.trace.clone(),
        outcome: text(span, OUTCOME).unwrap_or_default(),
        cause: text(span, "synspan.cause"),
        responsible: text(span, "synspan.responsible"),
    };
    found.iter().filter(packets).map(one).collect()
}

/// How one connect was judged, by its own node or by another.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Judged {
    /// The connect's name.
    pub connect: String,
    /// The cause it had to get: `none` for controls; several allowed ones are joined by `|`.
    pub expected: String,
    /// The cause it got: `none` without one, `missing` where there is no span.
    pub reported: String,
    /// Whether all that is expected of it is met, not the cause alone.
    pub right: bool,
}

impl Judged {
    /// One for each attempt of a connect; none where the scenario wants no span of it and there is none.
    pub(super) fn of(expect: &Expect, attempt: &Attempted, found: &[&Span], faults: &Faults) -> Vec<Self> {
        let wanted = expect.spans.unwrap_or(attempt.results.len());
        let cell = |at: usize| Self {
            connect: attempt.connect.name.clone(),
            expected: expected(expect),
            reported: match found.get(at) {
                None => MISSING.to_owned(),
                Some(span) => span.get("synspan.cause").unwrap_or("none").to_owned(),
            },
            right: faults.complete && !faults.spans.contains_key(&at),
        };
        // A span too many is judged too: it is wrong.
        (0..wanted.max(found.len())).map(cell).collect()
    }
}

/// The cause that an expectation wants, in one word.
fn expected(expect: &Expect) -> String {
    let word = match &expect.cause {
        Want::Any => "any".to_owned(),
        Want::Is(word) => word.clone(),
        Want::OneOf(words) => words.join("|"),
        Want::Not { not } => format!("not {not}"),
    };
    if expect.some { format!("{word}|none") } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_cause_is_one_word() {
        let with = |cause: Want, some: bool| expected(&Expect { cause, some, ..Expect::default() });
        assert_eq!(with(Want::Is("none".into()), false), "none");
        assert_eq!(with(Want::OneOf(vec!["a".into(), "b".into()]), false), "a|b");
        assert_eq!(with(Want::Is("snat_race".into()), true), "snat_race|none");
        assert_eq!(with(Want::Not { not: "a".into() }, false), "not a");
        assert_eq!(with(Want::Any, false), "any");
    }
}
