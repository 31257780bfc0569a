//! The diagnosis as lines and as JSON.

use std::io::{self, Write};

use super::checks::{Diagnosis, Status};

/// Lines for people: a line for each check, and below those that are not ok what is lost and what helps.
pub fn text(diagnosis: &Diagnosis, out: &mut dyn Write) -> io::Result<()> {
    let mut group = None;
    for check in &diagnosis.checks {
        if group != Some(check.group) {
            if group.is_some() {
                writeln!(out)?;
            }
            writeln!(out, "{}", check.group.title())?;
            group = Some(check.group);
        }
        writeln!(out, "  {:<8}{}: {}", check.status.as_str(), check.name, check.found)?;
        if check.status != Status::Ok {
            if let Some(lost) = &check.lost {
                writeln!(out, "          without it: {lost}")?;
            }
            if let Some(fix) = &check.fix {
                writeln!(out, "          to get it: {fix}")?;
            }
        }
    }
    writeln!(out)?;
    writeln!(out, "{}", diagnosis.summary)
}

/// The same as one JSON object: `works`, `summary`, `lowered` and `checks`.
pub fn json(diagnosis: &Diagnosis, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, diagnosis)?;
    writeln!(out)
}
