//! The confusion table of many runs: cause expected by cause reported.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use crate::error::{Context, Result};
use crate::suite::{Job, Report};

/// What `target/matrix.json` holds.
#[derive(Debug, Serialize)]
pub struct Matrix {
    /// How often each scenario ran with each family.
    pub runs: usize,
    /// Connects judged, by scenario and cause.
    pub cells: Vec<Cell>,
    /// Connects that were not judged as their scenario wants it, and runs in which something else was wrong.
    pub wrong: usize,
}

/// Connects of one scenario that had to get one cause and got one.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Which scenario, both families.
    pub scenario: String,
    /// The cause it had to get, `none` for controls.
    pub expected: String,
    /// The cause it got: `none` without one, `missing` where nobody told of it.
    pub reported: String,
    /// How many connects.
    pub count: usize,
}

impl Matrix {
    /// Sums up.
    pub fn new(runs: usize, results: &[(Job, Report)]) -> Self {
        let mut cells: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
        let mut wrong = 0;
        for (job, report) in results {
            for judged in &report.judged {
                *cells.entry((&job.scenario, &judged.expected, &judged.reported)).or_default() += 1;
            }
            let connects = report.judged.iter().filter(|judged| !judged.right).count();
            // What is wrong with no connect of its own makes the run wrong: a lab that failed, a stray span.
            wrong += if report.wrong.is_empty() { connects } else { connects.max(1) };
        }
        let cells = cells.into_iter().map(|((scenario, expected, reported), count)| Cell {
            scenario: scenario.to_owned(),
            expected: expected.to_owned(),
            reported: reported.to_owned(),
            count,
        });
        Self { runs, cells: cells.collect(), wrong }
    }

    /// Writes the table as JSON, in a directory that is made if it is not there.
    pub fn write(&self, to: &Path) -> Result<()> {
        if let Some(dir) = to.parent() {
            std::fs::create_dir_all(dir).context(format_args!("make {}", dir.display()))?;
        }
        let mut text = serde_json::to_string_pretty(self).map_err(std::io::Error::from).context("write the matrix")?;
        text.push('\n');
        std::fs::write(to, text).context(format_args!("write {}", to.display()))
    }

    /// For people: a row for each cause expected, a column for each reported.
    pub fn table(&self) -> String {
        let reported: BTreeSet<&str> = self.cells.iter().map(|cell| cell.reported.as_str()).collect();
        let expected: BTreeSet<&str> = self.cells.iter().map(|cell| cell.expected.as_str()).collect();
        let mut text = String::new();
        for (number, name) in (1..).zip(&reported) {
            let _ = writeln!(text, "  ({number}) {name}");
        }
        let width = expected.iter().map(|name| name.len()).max().unwrap_or(0).max(8);
        let _ = write!(text, "\n{:width$}", "expected");
        for (number, _) in (1..).zip(&reported) {
            let _ = write!(text, " {:>6}", format!("({number})"));
        }
        text.push('\n');
        for row in &expected {
            let _ = write!(text, "{row:width$}");
            for column in &reported {
                let fits = |cell: &&Cell| cell.expected == *row && cell.reported == *column;
                match self.cells.iter().filter(fits).map(|cell| cell.count).sum::<usize>() {
                    0 => text.push_str("      ."),
                    count => drop(write!(text, " {count:>6}")),
                }
            }
            text.push('\n');
        }
        let scenarios: BTreeSet<&str> = self.cells.iter().map(|cell| cell.scenario.as_str()).collect();
        let _ = writeln!(text, "\n{} scenarios, {} runs each, {} wrong", scenarios.len(), self.runs, self.wrong);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::judged::Judged;
    use crate::topology::Family;

    fn judged(expected: &str, reported: &str) -> Judged {
        let right = expected == reported;
        Judged { connect: "c".into(), expected: expected.into(), reported: reported.into(), right }
    }

    fn result(scenario: &str, wrong: &[&str], judged: Vec<Judged>) -> (Job, Report) {
        let job = Job { scenario: scenario.into(), family: Family::V4, alone: false };
        (job, Report { wrong: wrong.iter().map(|&text| text.into()).collect(), judged })
    }

    #[test]
    fn cells_are_summed_over_runs_and_wrong_counts_connects_and_broken_runs() {
        let right = || vec![judged("no_response", "no_response"), judged("none", "none")];
        let results = [
            result("black-hole", &[], right()),
            result("black-hole", &[], right()),
            result("refused", &["a", "b"], vec![judged("none", "no_response"), judged("none", "missing")]),
            result("refused", &["the lab: no"], Vec::new()),
            result("refused", &["a stray"], right()),
        ];
        let matrix = Matrix::new(2, &results);
        assert_eq!(matrix.wrong, 2 + 1 + 1);
        let cell = |scenario: &str, expected: &str, reported: &str, count| Cell {
            scenario: scenario.into(),
            expected: expected.into(),
            reported: reported.into(),
            count,
        };
        assert_eq!(matrix.cells[0], cell("black-hole", "no_response", "no_response", 2));
        assert!(matrix.cells.contains(&cell("refused", "none", "missing", 1)), "{:?}", matrix.cells);
        let text = matrix.table();
        assert!(text.contains("no_response      .      3      ."), "{text}");
        assert!(text.contains("2 scenarios, 2 runs each, 4 wrong"), "{text}");
    }
}
