//! `synspan attempts`.

use std::time::Duration;

use super::{Error, Output, Which, table};
use crate::answer::client::{AskError, ask};
use crate::answer::line::{Kept, Said};
use crate::answer::request::{DEFAULT_LIMIT, MAX_LIMIT, Request};
use crate::config::{Config, parse_duration};

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  synspan attempts --failed                the last 100 that went wrong or late, newest last
  synspan attempts --failed --since 10m    those of the last ten minutes
  synspan attempts --failed --follow       and then each as it ends, until Ctrl-C
  synspan attempts --json --limit 10000    all that is in memory, one JSON object a line

--failed shows what went wrong for the application, what took half a second or a second SYN, and what \
met a fault that cost it less (a stale ACK, say). A port that was reused and did no harm is not among them.
An attempt is told when it is over: one that is answered by nothing is told when connect() gives up.
The agent keeps 10,000 attempts at most; what went wrong stays longest, and what was overwritten is counted.
Needs root. Works while exports fail.";

/// The command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only what failed, came late, or met a fault
    #[arg(long)]
    pub failed: bool,
    /// Only what ended within this time, as 90s, 10m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub since: Option<Duration>,
    /// Go on with each attempt as it ends
    #[arg(long, short)]
    pub follow: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
    /// At most so many, the newest
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT, value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_LIMIT)))]
    pub limit: u32,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its fields say it")]
    pub which: Which,
}

/// Asks, and prints until the answer ends.
///
/// # Errors
/// Where there is no answer, or it cannot be written.
pub fn run(args: &Args, config: &Config, to: &mut Output<'_>) -> Result<(), Error> {
    let request = Request::Attempts {
        failed: args.failed,
        since_ms: args.since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        limit: args.limit,
        follow: args.follow,
    };
    let mut answer = ask(args.which.socket(config)?, &request)?;
    let mut table = table::Attempts::new(to.paint());
    let mut told = 0;
    loop {
        match answer.say()? {
            Some(Said::Attempt(row)) => {
                told += 1;
                let text = if args.json { json(&row) } else { table.row(&row) };
                to.out.write_all(text.as_bytes())?;
                if args.follow {
                    to.out.flush()?;
                }
            }
            Some(Said::Kept(kept)) => {
                // In JSON each line of the output is an attempt.
                let remarks = if args.json { &mut *to.remarks } else { &mut *to.out };
                let remark = remark(args, told, &kept);
                if !remark.is_empty() {
                    writeln!(remarks, "{}", table.dim(&remark))?;
                }
                if !args.follow {
                    return Ok(());
                }
                to.out.flush()?;
                answer.wait_for_ever()?;
            }
            Some(Said::Missed(count)) => {
                let remark = format!("{count} attempts went by faster than they could be told");
                writeln!(to.remarks, "{}", table.dim(&remark))?;
            }
            Some(Said::Holder(_) | Said::Held(_) | Said::Status(_) | Said::Error(_)) => {}
            None => return Err(AskError::Cut.into()),
        }
    }
}

fn json(row: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string(row).unwrap_or_default();
    text.push('\n');
    text
}

/// What the answer does not hold, in a line or two; empty if it holds all.
fn remark(args: &Args, told: u64, kept: &Kept) -> String {
    let mut remarks = Vec::new();
    if told == 0 && args.limit > 0 {
        let what = if args.failed { "nothing failed, came late or met a fault" } else { "no attempt ended" };
        let when = if args.since.is_some() { " in that time" } else { "" };
        remarks.push(format!("{what}{when}, as far as the agent remembers (attempts in its memory: {})", kept.kept));
    }
    if kept.more > 0 && args.limit > 0 {
        remarks.push(format!("{} more, all before these: --limit shows up to {MAX_LIMIT}", kept.more));
    }
    let overwritten = kept.overwritten_failed + if args.failed { 0 } else { kept.overwritten_clean };
    if overwritten > 0 {
        let what = if args.failed { "of this kind " } else { "" };
        remarks.push(format!("{overwritten} older ones {what}were overwritten in memory since the agent's start"));
    }
    remarks.join("\n")
}
