//! The loads as commands: done, judged and told.

use std::path::Path;

use super::{Mix, judge, pair, storm};
use crate::error::{Result, lab};
use crate::receiver::Kept;
use crate::scenario::agents::{Agents, Watch};
use crate::scenario::records;

/// Makes a mix of attempts, and says whether all is right. With no `sampled` every attempt must have a span and a
/// record, else that part of the successes.
///
/// # Errors
/// Where the lab could not do its part; so it is with all of these.
pub fn mix(mix: Mix, program: &Path, watch: Watch, written: Option<&Path>, sampled: Option<f64>) -> Result<bool> {
    let (truth, agents) = super::run(mix, program, watch)?;
    let kept = received(&agents, written)?;
    let said = judge::of_kept(&kept);
    println!("done\n{}{said}", truth.tally());
    told(&said.faults(truth.tally(), sampled), &kept, &agents)
}

/// Two nodes with an agent each: whether they keep the same traces.
pub fn pair(connects: pair::Connects, program: &Path, watch: Watch, written: Option<&Path>) -> Result<bool> {
    let (outcome, agents) = pair::run(connects, program, watch)?;
    let kept = received(&agents, written)?;
    let agreement = pair::judge(&outcome, &kept, &judge::of_kept(&kept));
    println!("done\n{}{agreement}", outcome.truth.tally());
    told(&agreement.faults, &kept, &agents)
}

/// A retry storm: whether what is told of it stays within the budgets, and adds up.
pub fn storm(size: storm::Size, program: &Path, watch: Watch, written: Option<&Path>) -> Result<bool> {
    let (outcome, agents) = storm::run(size, program, watch)?;
    let kept = received(&agents, written)?;
    let said = judge::of_kept(&kept);
    println!("{outcome}{said}");
    told(&outcome.faults(&said), &kept, &agents)
}

/// What the agents sent: to the lab, or to a Collector that wrote it down.
fn received(agents: &Agents, written: Option<&Path>) -> Result<Kept> {
    match written {
        Some(dir) => agents.written(dir),
        None if !agents.checked() => lab("what is handed on by --forward is judged only with --written"),
        None => Ok(std::mem::take(&mut *agents.kept())),
    }
}

/// Says what is wrong, with the agents' own words; true if nothing is.
fn told(faults: &[String], kept: &Kept, agents: &Agents) -> Result<bool> {
    let faults = [faults, &records::wrong(kept)?].concat();
    println!("{}", agents.logs());
    faults.iter().take(50).for_each(|fault| println!("WRONG  {fault}"));
    Ok(faults.is_empty())
}
