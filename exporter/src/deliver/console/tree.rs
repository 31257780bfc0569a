//! One attempt as a tree.

use super::story;
use super::text::{Paint, clean, duration, wall_time};
use crate::capture::observation::Direction;
use crate::capture::tuple::Tuple;
use crate::identify::Identity;
use crate::identify::describe::Described;
use crate::track::attempt::{Attempt, PreviousOwner, Role, Sighting};
use crate::track::verdict::{Cause, Evidence, Outcome, ServerState};

/// An attempt's tree, with a newline at the end of each line and an empty line behind.
pub fn render(described: &Described, paint: Paint) -> String {
    let mut tree = Tree { described, attempt: &described.attempt, paint, text: String::new() };
    tree.heading();
    tree.verdict();
    tree.path();
    tree.owner();
    tree.notes();
    tree.advice();
    tree.text.push('\n');
    tree.text
}

struct Tree<'a> {
    described: &'a Described,
    attempt: &'a Attempt,
    paint: Paint,
    text: String,
}

impl Tree<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn field(&mut self, label: &str, value: &str) {
        let label = self.paint.dim(&format!("{label}:"));
        self.line(&format!("  {label} {value}"));
    }

    fn heading(&mut self) {
        let attempt = self.attempt;
        let label = match attempt.role {
            Role::Client => "tcp connect",
            Role::Server => "tcp accept",
            Role::Transit => "tcp forward",
        };
        let client = name(self.described.client.as_deref())
            .or_else(|| attempt.client_tuple().map(|tuple| tuple.src.to_string()))
            .unwrap_or_else(|| "?".to_owned());
        let destination = attempt.destination().map(|end| end.to_string()).unwrap_or_else(|| "?".to_owned());
        let far = self.described.server.as_deref().or(self.described.peer.as_deref());
        let server = match name(far) {
            Some(name) => format!("{name} ({destination})"),
            None => destination,
        };
        let ends = self.paint.bold(&format!("{client} -> {server}"));
        let outcome = self.outcome();
        let cause = match attempt.verdict.cause {
            Some(cause) if attempt.verdict.evidence == Evidence::None => format!("   {}", cause.as_str()),
            Some(cause) => format!("   {} ({})", cause.as_str(), attempt.verdict.evidence.as_str()),
            None if attempt.failed() => "   no cause found".to_owned(),
            None => String::new(),
        };
        self.line(&format!("{label}  {ends}   {outcome}{}", self.paint.bold(&cause)));
    }

    fn outcome(&self) -> String {
        let attempt = self.attempt;
        let word = match attempt.verdict.outcome {
            Outcome::TimedOut => "timed out",
            Outcome::Aborted => "given up by the application",
            other => other.as_str(),
        };
        let text = format!("{word} after {}", duration(attempt.duration()));
        if attempt.failed() {
            self.paint.red(&text)
        } else if attempt.slow() {
            self.paint.yellow(&text)
        } else {
            self.paint.green(&text)
        }
    }

    fn verdict(&mut self) {
        if let Some(sentence) = self.attempt.verdict.cause.map(|cause| cause.entry().sentence) {
            self.field("why", sentence);
        }
        if let Some(side) = self.attempt.verdict.responsible {
            let who = match side.as_str() {
                "client" => "the client's side",
                "server" => "the server's side",
                "network" => "the network between the nodes",
                "node" => "this node's own network",
                _ => "beyond this node; nobody over there could be asked",
            };
            self.field("where to look", who);
        }
    }

    /// Where the SYN was seen, and what happened there after it.
    fn path(&mut self) {
        let attempt = self.attempt;
        let width = attempt.sightings.iter().map(|sighting| clean(&sighting.interface).chars().count()).max();
        let width = width.unwrap_or(0);
        let mut before: Option<Tuple> = None;
        if let Some(socket) = &attempt.client {
            let asked = socket.asked.filter(|&asked| asked != socket.tuple.dst);
            if attempt.sightings.is_empty() || asked.is_some() {
                let asked = asked.map(|asked| format!("   asked for {asked}")).unwrap_or_default();
                self.line(&format!("  {:<9} {:width$} SYN {}{asked}", "socket", "", socket.tuple));
            }
            before = Some(socket.tuple);
        }
        for sighting in &attempt.sightings {
            let changed = before.map(|before| nat(before, sighting.tuple)).unwrap_or_default();
            let changed = self.paint.yellow(&changed);
            let interface = clean(&sighting.interface);
            let kind = sighting.kind.as_str();
            self.line(&format!("  {kind:<9} {interface:<width$} SYN {}{changed}", self.sighted(sighting)));
            before = Some(sighting.tuple);
        }
        if attempt.verdict.cause == Some(Cause::DroppedInNode)
            && attempt.sightings.iter().all(|sighting| sighting.direction == Direction::Ingress)
        {
            let lost = self.paint.red("never seen leaving the node");
            self.line(&format!("  {:<9} {:width$} {lost}", "", ""));
        }
        let owner = attempt.previous_owner.as_ref().map(|owner| self.owner_name(owner));
        for line in story::lines(attempt, owner.as_deref()) {
            self.line(&format!("  {:<9} {:width$} {line}", "", ""));
        }
    }

    fn sighted(&self, sighting: &Sighting) -> String {
        match sighting.syns {
            0 | 1 => sighting.tuple.to_string(),
            syns => format!("{} ({syns} times)", sighting.tuple),
        }
    }

    fn owner_name(&self, owner: &PreviousOwner) -> String {
        name(self.described.previous_owner.as_deref()).unwrap_or_else(|| owner.tuple.src.to_string())
    }

    fn owner(&mut self) {
        let Some(owner) = &self.attempt.previous_owner else { return };
        let mut facts = vec![self.owner_name(owner)];
        let pod = self.described.previous_owner.as_deref().and_then(|identity| identity.get("k8s.pod.name"));
        facts.extend(pod.map(|pod| format!("pod {}", clean(pod))));
        let wire = owner.wire.filter(|wire| wire.src != owner.tuple.src);
        facts.push(match wire {
            Some(wire) => format!("{} as {}", owner.tuple.src, wire.src),
            None => owner.tuple.src.to_string(),
        });
        match (owner.closed, owner.gap) {
            (Some(closed), gap) => {
                let by = match owner.closed_by.as_str() {
                    "unknown" => String::new(),
                    "reset" => " by a reset".to_owned(),
                    side => format!(" by the {side}"),
                };
                let gap = gap.map(|gap| format!(" {:.3} s before", gap.as_secs_f64())).unwrap_or_default();
                facts.push(format!("open for {}", duration(closed.since(owner.opened))));
                facts.push(format!("closed{gap}{by}"));
            }
            (None, _) => facts.push("open still".to_owned()),
        }
        facts.push(format!("trace {}", owner.trace));
        let label = self.paint.dim("previous owner:");
        self.line(&format!("  {label} {}", facts.join(", ")));
        if owner.server_state != ServerState::Unknown {
            self.field("its old connection", owner.server_state.sentence());
        }
    }

    fn notes(&mut self) {
        let attempt = self.attempt;
        let also: Vec<&str> = attempt.verdict.also.iter().map(|cause| cause.as_str()).collect();
        if !also.is_empty() {
            self.field("also", &also.join(", "));
        }
        let notes = [
            (attempt.reuse_possible, "the port had another tenant before, which may explain it as well"),
            (attempt.reused && attempt.previous_owner.is_none(), "the port had another tenant before"),
            (
                attempt.ledger_partial,
                "past owners from before the agent's start, or that it had to forget, are not known",
            ),
            (attempt.lossy, "some observations were lost while it was open"),
        ];
        for (_, note) in notes.into_iter().filter(|(holds, _)| *holds) {
            self.field("note", note);
        }
        let started = wall_time(self.described.clock.unix_nanos(attempt.started));
        self.field("trace", &format!("{}, started {started}", attempt.trace));
    }

    fn advice(&mut self) {
        // What came up in time did no harm, and a fault is what advice is for.
        let entry = self.attempt.verdict.cause.map(|cause| cause.entry());
        if let Some(entry) = entry.filter(|entry| entry.fault) {
            self.field("what to do", entry.advice);
        }
    }
}

fn name(identity: Option<&Identity>) -> Option<String> {
    Some(clean(&identity?.display_name()?))
}

/// What was rewritten between two points.
fn nat(before: Tuple, after: Tuple) -> String {
    let mut text = String::new();
    if before.src != after.src {
        text.push_str(&format!("   SNAT {} -> {}", before.src, after.src));
    }
    if before.dst != after.dst {
        text.push_str(&format!("   DNAT {} -> {}", before.dst, after.dst));
    }
    text
}
