//! What is wrong with a configuration, where, and what would be right.

use std::fmt;
use std::sync::Arc;

/// One thing that is wrong or doubtful. Shown as `FILE:LINE: KEY.PATH: what; what would be right`,
/// with the parts left out that there are none of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The file as it was named, or `environment`.
    pub source: Arc<str>,
    /// The line, from 1; none for the environment and for what concerns the file as a whole.
    pub line: Option<usize>,
    /// The keys from the top, joined by dots, list items by their index from 0 (`identity.static[0].cgroups`),
    /// or the name of an environment variable. Empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What would be right; empty if that is plain from what is wrong.
    pub instead: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.what)?;
        if !self.instead.is_empty() {
            write!(f, "; {}", self.instead)?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a configuration, in the order of the file's lines; a line each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
