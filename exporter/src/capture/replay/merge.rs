//! Several files of one moment, merged by time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::FileError;
use super::point::PointRule;
use super::source::{Identity, Source, Tally, known_flow};
use crate::capture::observation::{Lost, Mono, Observation, What};
use crate::capture::question::Question;

/// Connections kept in mind over all files.
const FLOWS: usize = 131_072;
/// The least for each.
const LEAST_FLOWS: usize = 8_192;
/// The name that stands for the standard input.
const STANDARD_INPUT: &str = "-";

/// A file that cannot be replayed at all.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {why}")]
pub struct StartError {
    /// Which.
    pub file: String,
    /// Why.
    pub why: FileError,
}

/// How the reading of a file ended.
#[derive(Debug)]
pub struct Ended<'a> {
    /// Its name.
    pub file: &'a str,
    /// What was read.
    pub tally: Tally,
    /// Why it ended before its end.
    pub failure: Option<&'a FileError>,
}

/// A file that begins this much later than the first, or ends this much before the others, does not cover
/// the moment: what is absent from it proves nothing. Shorter gaps may be quiet interfaces.
const UNCOVERED_BEFORE: Duration = Duration::from_secs(1);
const UNCOVERED_AFTER: Duration = Duration::from_secs(30);

/// A file that is open.
pub struct OpenFile {
    /// What errors call it.
    pub name: String,
    /// What its points are called where nothing names them.
    pub stem: String,
    /// What the command line says of its points.
    pub rules: Vec<PointRule>,
    /// Its bytes.
    pub file: Box<dyn Read + Send>,
}

struct Member {
    /// Whether its first packet's time has come.
    begun: bool,
    /// Whether it was told that the file does not cover the time since its end.
    gone: bool,
    file: String,
    source: Source<Box<dyn Read + Send>>,
    next: Option<Observation>,
}

/// The observations of all files, in the order of their times.
pub struct Replay {
    members: Vec<Member>,
    order: BinaryHeap<Reverse<(Mono, usize)>>,
}

impl Replay {
    /// Opens files, each with what the command line says of its points. `-` is the standard input.
    ///
    /// # Errors
    /// A file cannot be opened, or is no capture.
    pub fn open(files: &[(PathBuf, Vec<PointRule>)]) -> Result<Self, StartError> {
        let mut opened = Vec::new();
        for (path, rules) in files {
            let name = path.display().to_string();
            let file: Box<dyn Read + Send> = if path == Path::new(STANDARD_INPUT) {
                Box::new(io::stdin())
            } else {
                let open = |path: &Path| {
                    if path.is_dir() { Err(io::Error::other("it is a directory")) } else { File::open(path) }
                };
                Box::new(open(path).map_err(|why| StartError { file: name.clone(), why: why.into() })?)
            };
            let stem = path.file_stem().map_or_else(|| name.clone(), |stem| stem.to_string_lossy().into_owned());
            opened.push(OpenFile { name, stem, rules: rules.clone(), file });
        }
        Self::new(opened)
    }

    /// Replays files that are open.
    ///
    /// # Errors
    /// A file is no capture.
    pub fn new(files: Vec<OpenFile>) -> Result<Self, StartError> {
        let flows = (FLOWS / files.len().max(1)).max(LEAST_FLOWS);
        let mut replay = Self { members: Vec::new(), order: BinaryHeap::new() };
        for (number, OpenFile { name, stem, rules, file }) in files.into_iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let identity = Identity { number, stem, rules, flows, seed: rand::random() };
            let source = Source::new(file, identity).map_err(|why| StartError { file: name.clone(), why })?;
            replay.members.push(Member { begun: false, gone: false, file: name, source, next: None });
        }
        for at in 0..replay.members.len() {
            replay.pull(at);
        }
        Ok(replay)
    }

    fn pull(&mut self, at: usize) {
        let member = &mut self.members[at];
        member.next = member.source.next();
        if let Some(next) = &member.next {
            self.order.push(Reverse((next.time, at)));
        }
    }

    /// The next observation of all files.
    pub fn next_observation(&mut self) -> Option<Observation> {
        let &Reverse((now, at)) = self.order.peek()?;
        if let Some(lost) = self.uncovered(now) {
            return Some(lost);
        }
        self.order.pop();
        let observation = self.members[at].next.take();
        self.pull(at);
        observation
    }

    /// That a file began only now, or has ended long before the others.
    fn uncovered(&mut self, now: Mono) -> Option<Observation> {
        let start = self.start().unwrap_or(now);
        let lost = Observation { time: now, what: What::Lost(Lost { count: 1, inbound: false }) };
        for member in &mut self.members {
            let (from, to) = member.source.read().span.unwrap_or((start, start));
            if !member.begun && now >= from {
                member.begun = true;
                if from.since(start) > UNCOVERED_BEFORE {
                    return Some(lost);
                }
            }
            if !member.gone && member.next.is_none() && now.since(to) > UNCOVERED_AFTER {
                member.gone = true;
                return Some(lost);
            }
        }
        None
    }

    /// The first packet's time over all files that were begun.
    pub fn start(&self) -> Option<Mono> {
        self.members.iter().filter_map(|member| member.source.read().span).map(|(from, _)| from).min()
    }

    /// The latest packet's time over all files.
    pub fn end(&self) -> Option<Mono> {
        self.members.iter().filter_map(|member| member.source.read().span).map(|(_, to)| to).max()
    }

    /// Answers the tracker as far as files can: how far a connection was acknowledged.
    pub fn answer(&self, question: &Question, now: Mono) -> Option<Observation> {
        let Question::Numbers { tuple, .. } = *question else { return None };
        let numbers = self.members.iter().find_map(|member| member.source.numbers(tuple))?;
        Some(Observation { time: now, what: What::Flow(known_flow(tuple, numbers)) })
    }

    /// How the reading of each file ended.
    pub fn ended(&self) -> impl Iterator<Item = Ended<'_>> {
        self.members.iter().map(|member| Ended {
            file: &member.file,
            tally: member.source.read(),
            failure: member.source.failure(),
        })
    }
}
