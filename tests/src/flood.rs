//! The scenario `flood`, made bigger: so many SYNs, and the node's own attempts again and again meanwhile.

use crate::error::{Result, lab};
use crate::scenario::model::{Scenario, Step};

/// How many SYNs one round of the node's own attempts goes with.
const ROUND: u32 = 100_000;

/// The scenario with so many SYNs, at most so many a second.
pub fn scaled(mut scenario: Scenario, wanted: u32, wanted_rate: u32) -> Result<Scenario> {
    let start = scenario.steps.iter().position(|step| matches!(step, Step::Flood { .. }));
    let Some(start) = start else { return lab(format!("scenario {} has no flood", scenario.name)) };
    let Step::Flood { name, syns, rate, .. } = &mut scenario.steps[start] else { return lab("a flood") };
    (*syns, *rate) = (wanted, wanted_rate);
    let over = name.clone();
    let end = scenario.steps.iter().position(|step| matches!(step, Step::Wait(name) if *name == over));
    let Some(end) = end.filter(|&end| end > start) else { return lab(format!("nobody waits for {over}")) };
    let round: Vec<Step> = scenario.steps[start + 1..end].to_vec();
    let expect = scenario.expect.clone();
    let mut more = Vec::new();
    for number in 2..=wanted / ROUND {
        more.extend(round.iter().cloned().map(|step| match step {
            Step::Connect(mut connect) => {
                connect.name = format!("{}-{number}", connect.name);
                Step::Connect(connect)
            }
            Step::Wait(name) => Step::Wait(format!("{name}-{number}")),
            other => other,
        }));
        scenario.expect.extend(expect.iter().cloned().map(|mut expect| {
            expect.connect = format!("{}-{number}", expect.connect);
            expect
        }));
    }
    scenario.steps.splice(end..end, more);
    scenario.agents.summed_syns = Some(u64::from(wanted) / 10 * 9);
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::catalog;

    #[test]
    fn a_bigger_flood_has_more_of_the_nodes_own_attempts() {
        let flood = catalog::all().unwrap().into_iter().find(|scenario| scenario.name == "flood").unwrap();
        let connects =
            |scenario: &Scenario| scenario.steps.iter().filter(|step| matches!(step, Step::Connect(_))).count();
        let (once, expected) = (connects(&flood), flood.expect.len());
        let flood = scaled(flood, 3 * ROUND, 1000).unwrap();
        // One of them comes after the flood.
        assert_eq!((connects(&flood), flood.expect.len()), (3 * (once - 1) + 1, 3 * expected));
        assert!(flood.steps.iter().any(|step| matches!(step, Step::Flood { syns: 300_000, rate: 1000, .. })));
        assert!(matches!(flood.steps.last(), Some(Step::Connect(connect)) if connect.name == "outside-call"));
    }
}
