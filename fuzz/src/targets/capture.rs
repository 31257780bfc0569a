//! Capture files, and the verdicts that come of them.

use std::io::Cursor;

use synspan::capture::observation::{Mono, Observation};
use synspan::capture::replay::{OpenFile, Replay};
use synspan::track::{Options, Tracker};

/// Replays the bytes as a file, through the tracker.
pub fn run(data: &[u8]) {
    let Some(found) = read(data) else { return };
    assert!(found.len() <= data.len() * 4 + 16, "more observations than a file of that size holds");
    assert_eq!(Some(&found), read(data).as_ref(), "the same file, another answer");
    let mut tracker = Tracker::new(Options { wire_only: true, max_attempts: 64, ..Options::default() }, Mono(0));
    for observation in &found {
        tracker.observe(observation);
        tracker.advance(observation.time);
    }
    tracker.finish_all();
    while let Some(finding) = tracker.next_finding() {
        let _ = format!("{finding:?}");
    }
}

fn read(data: &[u8]) -> Option<Vec<Observation>> {
    let file = OpenFile {
        name: "f.pcapng".into(),
        stem: "f".into(),
        rules: vec![],
        file: Box::new(Cursor::new(data.to_vec())),
    };
    let mut replay = match Replay::new(vec![file]) {
        Ok(replay) => replay,
        Err(error) => {
            assert!(!error.why.to_string().is_empty());
            return None;
        }
    };
    let mut found = Vec::new();
    while let Some(observation) = replay.next_observation() {
        found.push(observation);
    }
    for ended in replay.ended() {
        if let Some(failure) = ended.failure {
            assert!(!failure.to_string().is_empty(), "it ended for no reason");
        }
    }
    Some(found)
}
