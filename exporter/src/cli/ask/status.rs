//! `synspan status`.

use super::{Error, Output, Which};
use crate::answer::client::{AskError, ask};
use crate::answer::line::Said;
use crate::answer::request::Request;
use crate::config::Config;
use crate::health::page::page;
use crate::health::status::Status;

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  synspan status           is it well, what is seen and what is lost, since when an export fails
  synspan status --json    the same as one JSON object

It says the same as /status and /status.json at `agent.health.endpoint`, and needs no endpoint.
Needs root. Works while exports fail and while the API server is away. Exit status 1 where the agent is not live or not \
ready.";

/// The command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "its fields say it")]
    pub which: Which,
}

/// Asks, and prints the answer. Returns whether the agent lives and is ready.
///
/// # Errors
/// Where there is no answer, or it cannot be written.
pub fn run(args: &Args, config: &Config, to: &mut Output<'_>) -> Result<bool, Error> {
    let mut answer = ask(args.which.socket(config)?, &Request::Status {})?;
    loop {
        match answer.say()? {
            Some(Said::Status(status)) => {
                to.out.write_all(said(args.json, &status).as_bytes())?;
                return Ok(status.live.ok && status.ready.ok);
            }
            Some(_) => {}
            None => return Err(AskError::Cut.into()),
        }
    }
}

/// The status as it was asked for.
pub(super) fn said(json: bool, status: &Status) -> String {
    if json { serde_json::to_string(status).unwrap_or_default() + "\n" } else { page(status) }
}
