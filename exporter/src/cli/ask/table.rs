//! Answers for people: aligned, within 100 columns, times in UTC.

use std::time::Duration;

use crate::answer::line::{AttemptRow, End, Ends, HolderRow, HolderState};
use crate::deliver::console::text::{Paint, clean, duration};

/// Columns.
const WIDTH: usize = 100;
/// `2026-11-23 UTC` and two spaces, a time below it: under that stands what belongs to the line above.
const INDENT: usize = 16;
/// Most characters of a name in the line of an attempt.
const NAME: usize = 30;

/// Attempts, one after the other.
pub struct Attempts {
    paint: Paint,
    day: String,
}

impl Attempts {
    /// A table that has shown nothing yet.
    pub fn new(paint: Paint) -> Self {
        Self { paint, day: String::new() }
    }

    /// Text that is not the matter itself.
    pub fn dim(&self, text: &str) -> String {
        self.paint.dim(text)
    }

    /// An attempt in lines; the day goes before the first of it.
    pub fn row(&mut self, row: &AttemptRow) -> String {
        let mut text = String::new();
        let (day, time) = day_and_time(&row.time);
        if day != self.day {
            let heading =
                format!("{:<14}  {:<11}  {:>8}  CLIENT -> DESTINATION", format!("{day} UTC"), "OUTCOME", "AFTER");
            text.push_str(&self.paint.dim(&heading));
            text.push('\n');
            self.day = day;
        }
        let outcome = format!("{:<11}", clean(&row.outcome));
        let outcome = match (row.failed, row.late) {
            (true, _) => self.paint.red(&outcome),
            (false, true) => self.paint.yellow(&outcome),
            _ => self.paint.green(&outcome),
        };
        // A number from the socket: whatever it is, it must not end the program.
        let took = Duration::try_from_secs_f64(row.duration_s).unwrap_or_default();
        let ends = format!("{} -> {}", who(&row.client), far(&row.server));
        text.push_str(&format!("{time:<14}  {outcome}  {:>8}  {}\n", duration(took), self.paint.bold(&ends)));
        let mut details = vec![path(row.tuple.as_ref(), row.wire.as_ref())];
        if row.syns > 1 {
            details.push(format!("{} SYNs", row.syns));
        }
        if let Some(cause) = &row.cause {
            let side = row.responsible.as_deref().map(|side| format!(", look at: {}", clean(side)));
            let evidence = if row.evidence == "none" { String::new() } else { format!(" ({})", clean(&row.evidence)) };
            details.push(format!("{}{evidence}{}", clean(cause), side.unwrap_or_default()));
        } else if row.failed {
            details.push("no cause found".to_owned());
        }
        details.push(format!("trace {}", clean(&row.trace_id)));
        if let Some(owner) = &row.previous_owner {
            let end = match owner.gap_s {
                Some(gap) => format!("closed {gap:.3} s before{}", by(&owner.closed_by)),
                None => "open still".to_owned(),
            };
            details.push(format!(
                "port had before: {}, {end}, trace {}",
                owner_name(&owner.client),
                clean(&owner.trace_id)
            ));
        } else if row.reused {
            details.push("the port had another tenant before".to_owned());
        }
        push_details(&mut text, &details);
        text
    }
}

/// Who had a port, newest first.
pub fn holders(rows: &[HolderRow], paint: Paint) -> String {
    let mut text = String::new();
    let mut day = String::new();
    for row in rows {
        let (opened_on, opened) = day_and_time(&row.opened);
        if opened_on != day {
            let heading = format!("{:<14}  {:<14}  {:<18}  WHO", format!("{opened_on} UTC"), "UNTIL", "HOW IT ENDED");
            text.push_str(&paint.dim(&heading));
            text.push('\n');
            day = opened_on;
        }
        let until = match row.closed.as_deref().map(day_and_time) {
            Some((closed_on, closed)) if closed_on == day => closed,
            Some((closed_on, closed)) => format!("{} {closed:.8}", closed_on.get(5..).unwrap_or_default()),
            None => "now".to_owned(),
        };
        let how = match row.state {
            HolderState::Open => "open".to_owned(),
            HolderState::Connecting => "connecting".to_owned(),
            HolderState::Closed => match row.closed_by.as_deref() {
                Some("reset") => "reset".to_owned(),
                Some(side) => format!("closed by {}", clean(side)),
                None => "closed".to_owned(),
            },
            HolderState::Failed => row.outcome.as_deref().map(clean).unwrap_or_else(|| "failed".to_owned()),
        };
        let name = paint.bold(&who(&row.client));
        text.push_str(&format!("{opened:<14}  {until:<14}  {how:<18}  {name}\n"));
        let mut details = vec![path(Some(&row.tuple), row.wire.as_ref())];
        details.extend(row.client.pod.as_deref().map(|pod| format!("pod {}", clean(pod))));
        details.extend(row.cause.as_deref().map(clean));
        details.extend(row.server_state.as_deref().and_then(held));
        details.push(format!("trace {}", clean(&row.trace_id)));
        push_details(&mut text, &details);
    }
    text
}

/// `2026-11-23 21:08:33.478 UTC` of a time as RFC 3339 has it.
pub fn moment(rfc3339: &str) -> String {
    let (day, time) = day_and_time(rfc3339);
    format!("{day} {time} UTC")
}

/// Day and time to the millisecond.
fn day_and_time(rfc3339: &str) -> (String, String) {
    match rfc3339.split_once('T') {
        Some((day, time)) => {
            (clean(day).chars().take(10).collect(), clean(time).trim_end_matches('Z').chars().take(12).collect())
        }
        None => (String::new(), clean(rfc3339).chars().take(12).collect()),
    }
}

/// Details under their line: as many beside each other as there is room for; a long one goes on in the
/// next line.
fn push_details(text: &mut String, details: &[String]) {
    let indent = " ".repeat(INDENT);
    let mut column = 0;
    for detail in details.iter().filter(|detail| !detail.is_empty()) {
        let width = detail.chars().count();
        if column > 0 && column + 2 + width <= WIDTH {
            text.push_str("; ");
            column += 2;
        } else {
            text.push_str(if column > 0 { "\n" } else { "" });
            text.push_str(&indent);
            column = INDENT;
        }
        for (at, word) in detail.split(' ').enumerate() {
            let width = word.chars().count();
            if at > 0 && column + 1 + width > WIDTH {
                text.push('\n');
                text.push_str(&indent);
                text.push_str("  ");
                column = INDENT + 2;
            } else if at > 0 {
                text.push(' ');
                column += 1;
            }
            text.push_str(word);
            column += width;
        }
    }
    text.push('\n');
}

/// A client: its name, else its executable, else its address.
fn who(end: &End) -> String {
    let name = end.name.as_deref().or(end.executable.as_deref()).or(end.address.as_deref());
    cut(&clean(name.unwrap_or("?")))
}

/// A destination: its name and port, else its address.
fn far(end: &End) -> String {
    let address = end.address.as_deref().unwrap_or("?");
    match (&end.name, address.rsplit_once(':')) {
        (Some(name), Some((_, port))) => format!("{}:{}", cut(&clean(name)), clean(port)),
        (Some(name), None) => cut(&clean(name)),
        (None, _) => clean(address),
    }
}

/// A previous owner: its name and its address.
fn owner_name(end: &End) -> String {
    match (&end.name, &end.address) {
        (Some(name), Some(address)) => format!("{} {}", cut(&clean(name)), clean(address)),
        (Some(name), None) => cut(&clean(name)),
        (None, address) => clean(address.as_deref().unwrap_or("?")),
    }
}

fn cut(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 3).chain("...".chars()).collect()
}

/// The way from the client to the server, with what NAT made of it.
fn path(tuple: Option<&Ends>, wire: Option<&Ends>) -> String {
    let Some(tuple) = tuple.or(wire) else { return String::new() };
    let (client, server) = (clean(&tuple.client), clean(&tuple.server));
    match wire {
        Some(wire) => {
            let source =
                if wire.client == tuple.client { String::new() } else { format!(" as {}", clean(&wire.client)) };
            let target =
                if wire.server == tuple.server { String::new() } else { format!(" as {}", clean(&wire.server)) };
            format!("{client}{source} > {server}{target}")
        }
        None => format!("{client} > {server}"),
    }
}

fn by(closed_by: &str) -> String {
    match closed_by {
        "unknown" => String::new(),
        "reset" => " by a reset".to_owned(),
        side => format!(" by the {}", clean(side)),
    }
}

/// In which state the server holds a connection.
fn held(state: &str) -> Option<String> {
    use crate::track::verdict::ServerState::{CutOff, NeverClosed, Remembered};
    [NeverClosed, CutOff, Remembered]
        .into_iter()
        .find(|known| known.as_str() == state)
        .map(|known| known.sentence().to_owned())
}
