//! `synspan who PORT`.

use super::{Error, Output, Which, table};
use crate::answer::client::{AskError, ask};
use crate::answer::line::{Held, Said};
use crate::answer::request::Request;
use crate::config::Config;

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  synspan who 46994           who had this source port, before or after NAT, newest first
  synspan who 46994 --json    the same, one JSON object a line

It tells from the agent's ledger: connections that are open, and past ones for as long as the reuse window \
(`tracking.reuse_window`, 10 minutes) and memory last; and attempts under way, and failed ones of late.
Needs root. Works while exports fail.";

/// The command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The source port, before or after NAT
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its fields say it")]
    pub which: Which,
}

/// Asks, and prints the answer.
///
/// # Errors
/// Where there is no answer, or it cannot be written.
pub fn run(args: &Args, config: &Config, to: &mut Output<'_>) -> Result<(), Error> {
    let mut answer = ask(args.which.socket(config)?, &Request::Who { port: args.port })?;
    let mut rows = Vec::new();
    loop {
        match answer.say()? {
            Some(Said::Holder(row)) => rows.push(*row),
            Some(Said::Held(held)) => {
                if args.json {
                    for row in &rows {
                        writeln!(to.out, "{}", serde_json::to_string(row).unwrap_or_default())?;
                    }
                } else {
                    to.out.write_all(table::holders(&rows, to.paint()).as_bytes())?;
                }
                let remarks = if args.json { &mut *to.remarks } else { &mut *to.out };
                writeln!(remarks, "{}", to_dim(to.colour, &remark(rows.len(), &held)))?;
                return Ok(());
            }
            Some(_) => {}
            None => return Err(AskError::Cut.into()),
        }
    }
}

fn to_dim(colour: bool, text: &str) -> String {
    crate::deliver::console::text::Paint::new(colour).dim(text)
}

/// How many, and how far back the ledger reaches.
fn remark(count: usize, held: &Held) -> String {
    let what = match count {
        0 => format!("nobody had port {}", held.port),
        1 => format!("1 had port {}", held.port),
        count => format!("{count} had port {}, newest first", held.port),
    };
    let more = if held.more > 0 { format!(", and {} before them", held.more) } else { String::new() };
    let why = match held.because.as_str() {
        "agent_start" => "the agent's start",
        "window" => "its reuse window, tracking.reuse_window",
        "memory" => "what memory holds, tracking.max_tenancies",
        other => other,
    };
    format!("{what}{more}; the ledger reaches back to {} ({why})", table::moment(&held.remembers_since))
}
