//! `synspan replay`: capture files through the tracker, and what comes out to the console, as JSON, or to the
//! exporters.

mod json;
mod points;
mod tell;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{FAILED, OK, WRONG, stages};
use crate::capture::replay::{Ended, Replay, StartError};
use crate::config::{Config, ProcessEnv};
use crate::deliver::StartError as DeliveryError;
use crate::track::attempt::Finding;
use crate::track::{Options as TrackOptions, Tracker};

use points::PointArg;
use tell::Teller;

/// How often the tracker is told the time, as in live capture.
const TICK: Duration = Duration::from_millis(10);

/// What stands below the list of options.
pub const HELP: &str = "\
Examples:
  synspan replay eth0.pcap
  synspan replay --point pod_nic=pod.pcap --point node_nic=node.pcap
  synspan replay --point pod_nic:veth-b=a.pcap --json node.pcapng
  ssh node tcpdump -i any -w - 'tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0' | synspan replay -

Files of one moment are joined: a SYN at the pod's interface and at the node's is one attempt. All of them are
one node's; their clocks must agree. KIND is pod_nic, node_nic or overlay; without --point it follows from the
interface's name in the file, or the file's own (veth*, cali*, lxc*: pod_nic; vxlan*, flannel*: overlay).
The previous owner of a port is known if its connection is in the capture. Capture whole headers (-s 128).

Exit status: 0 all was read; 1 it could not be done; 2 the command line or the configuration is wrong, or a file
ends in the middle or holds garbage (what comes before is told all the same).";

/// The command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Capture files (pcap, pcapng), all of one moment; - is the standard input
    #[arg(value_name = "FILE", required_unless_present = "point")]
    pub files: Vec<PathBuf>,
    /// A file and what its interface is: pod_nic, node_nic or overlay, perhaps with its name
    #[arg(long = "point", value_name = "KIND[:NAME]=FILE", value_parser = points::parse)]
    pub point: Vec<PointArg>,
    /// Print every attempt as one JSON object a line, and no tree
    #[arg(long)]
    pub json: bool,
    /// Show every attempt on the console, not only those that failed, came late or reused a port
    #[arg(long, conflicts_with = "json")]
    pub all: bool,
    /// Send what is found to the exporters of this configuration too, with the capture's own times
    #[arg(long, short, value_name = "CONFIG")]
    pub config: Option<PathBuf>,
}

/// Why it cannot be done. Each is one line for people.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    File(#[from] StartError),
    #[error("{0}")]
    Delivery(#[from] DeliveryError),
    #[error("cannot write what was found: {0}")]
    Write(io::Error),
    #[error("cannot start: {0}")]
    System(io::Error),
    #[error("{0} spans were not sent; the exporters' log above says why")]
    Unsent(u64),
}

/// Replays files; the result is the exit status.
pub fn main(args: &Args) -> u8 {
    let config = match &args.config {
        None => Config::default(),
        Some(path) => match Config::load(Some(path), &ProcessEnv) {
            Ok(loaded) => {
                loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
                loaded.config
            }
            Err(error) => {
                eprintln!("{error}");
                return WRONG;
            }
        },
    };
    let _ = super::log(config.log_level);
    match replay(args, &config) {
        Ok(Ending::Whole) => OK,
        Ok(Ending::Damaged) => WRONG,
        Ok(Ending::Unreadable) => FAILED,
        Err(error) => {
            eprintln!("synspan replay: {error}");
            match error {
                Error::File(StartError { why, .. }) if why.is_damage() => WRONG,
                _ => FAILED,
            }
        }
    }
}

/// How reading ended.
enum Ending {
    /// Every file to its end.
    Whole,
    /// A file is cut or holds garbage.
    Damaged,
    /// A file could not be read on, or is of a kind that says nothing.
    Unreadable,
}

/// Replays files and says what was wrong with them.
fn replay(args: &Args, config: &Config) -> Result<Ending, Error> {
    let mut replay = Replay::open(&points::files(&args.files, &args.point))?;
    let mut teller = Teller::new(config, args)?;
    let start = replay.start().unwrap_or_default();
    let options = TrackOptions { wire_only: true, hash_seed: rand::random(), ..stages::track(config) };
    let mut tracker = Tracker::new(options, start);
    drive(&mut replay, &mut tracker, |finding| {
        teller.tell(finding)?;
        Ok::<_, Error>(!teller.is_closed())
    })?;
    teller.finish(replay.end().unwrap_or(start).since(start))?;
    report(&replay, &tracker);
    let unsent = teller.unsent();
    if unsent > 0 {
        return Err(Error::Unsent(unsent));
    }
    match replay.ended().find_map(|ended| ended.failure.map(|failure| failure.is_damage())) {
        None => Ok(Ending::Whole),
        Some(true) => Ok(Ending::Damaged),
        Some(false) => Ok(Ending::Unreadable),
    }
}

/// Says on standard error what was wrong with files, and what could not be told of them.
fn report(replay: &Replay, tracker: &Tracker) {
    for Ended { file, tally, failure } in replay.ended() {
        if let Some(failure) = failure {
            eprintln!("synspan replay: {file}: {failure}");
        }
        for (count, what) in [
            (tally.cut, "TCP segments whose header the capture has cut: capture more of each packet (tcpdump -s 128)"),
            (tally.timeless, "packets without a time (pcapng simple packet blocks)"),
            (tally.forgotten, "connections were too many at once; answers to their SYNs may be missing"),
            (tally.unknown_link, "packets of a link type in which synspan finds no TCP"),
        ] {
            if count > 0 {
                eprintln!("note: {file}: {count} {what}");
            }
        }
        if failure.is_none() && tally.segments == 0 {
            eprintln!("note: {file}: no TCP in {} packets", tally.frames);
        }
    }
    let counts = tracker.counts();
    for (count, what) in [
        (counts.evicted_attempts, "attempts were open at once beyond tracking.max_attempts, and are told as pending"),
        (counts.evicted_tenancies, "past connections were forgotten early (tracking.max_tenancies)"),
    ] {
        if count > 0 {
            eprintln!("note: {count} {what}");
        }
    }
}

/// Drives the tracker by the files to their end; `tell` takes each finding, and says whether to go on.
fn drive<E>(
    replay: &mut Replay,
    tracker: &mut Tracker,
    mut tell: impl FnMut(Finding) -> Result<bool, E>,
) -> Result<(), E> {
    let mut ticked = replay.start().unwrap_or_default();
    while let Some(observation) = replay.next_observation() {
        if observation.time.since(ticked) >= TICK {
            ticked = observation.time;
            tracker.advance(ticked);
            while let Some(finding) = tracker.next_finding() {
                if !tell(finding)? {
                    return Ok(());
                }
            }
        }
        tracker.observe(&observation);
        while let Some(question) = tracker.next_question() {
            if let Some(answer) = replay.answer(&question, observation.time) {
                tracker.observe(&answer);
            }
        }
    }
    tracker.advance(replay.end().unwrap_or(ticked));
    tracker.finish_all();
    while let Some(finding) = tracker.next_finding() {
        if !tell(finding)? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
