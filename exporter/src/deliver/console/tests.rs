//! What people read.

use std::sync::Arc;

use super::*;
use crate::identify::fixtures;
use crate::track::attempt::StoryStep;
use crate::track::verdict::{Cause, Evidence};

fn shown(described: &Described) -> String {
    let mut console = Console::new(Vec::new(), Options::default());
    console.attempt(described).expect("a vector takes all");
    String::from_utf8(console.out).expect("text")
}

#[test]
fn the_case() {
    insta::assert_snapshot!(shown(&fixtures::case()));
}

#[test]
fn refused() {
    insta::assert_snapshot!(shown(&fixtures::refused()));
}

#[test]
fn no_response() {
    insta::assert_snapshot!(shown(&fixtures::no_response()));
}

#[test]
fn dropped_in_node() {
    insta::assert_snapshot!(shown(&fixtures::dropped_in_node()));
}

#[test]
fn aborted() {
    insta::assert_snapshot!(shown(&fixtures::aborted()));
}

#[test]
fn suspected() {
    insta::assert_snapshot!(shown(&fixtures::suspected()));
}

#[test]
fn all_shows_the_clean_ones_too() {
    let mut console = Console::new(Vec::new(), Options { all: true, colour: false });
    for described in [fixtures::clean(), fixtures::server_side(), fixtures::ipv6()] {
        console.attempt(&described).expect("written");
    }
    insta::assert_snapshot!(String::from_utf8(console.out).expect("text"));
}

#[test]
fn a_clean_attempt_is_summed_up_and_not_shown() {
    let mut console = Console::new(Vec::new(), Options::default());
    console.tick(Mono(0)).expect("written");
    console.attempt(&fixtures::clean()).expect("written");
    console.attempt(&fixtures::clean()).expect("written");
    console.tick(Mono(9_000_000_000)).expect("written");
    assert!(console.out.is_empty());
    console.tick(Mono(10_000_000_000)).expect("written");
    let line = "last 10 s: 2 attempts, 2 established (mean 0.4 ms, longest 0.4 ms), 0 failed, 0 shown\n";
    assert_eq!(String::from_utf8_lossy(&console.out), line);
    console.tick(Mono(20_000_000_000)).expect("written");
    console.finish().expect("written");
    assert_eq!(console.out.len(), line.len(), "nothing came, nothing is said");
}

#[test]
fn the_rest_is_summed_up_at_the_end() {
    let mut console = Console::new(Vec::new(), Options::default());
    console.attempt(&fixtures::refused()).expect("written");
    console.out.clear();
    console.finish().expect("written");
    assert_eq!(String::from_utf8_lossy(&console.out), "since then: 1 attempt, 0 established, 1 failed, 1 shown\n");
}

#[test]
fn a_changed_port_and_weaker_evidence_are_told() {
    let mut described = fixtures::case();
    let attempt = &mut *described.attempt;
    attempt.verdict.evidence = Evidence::Window;
    let moved = fixtures::tuple("192.168.50.10:47001", "192.168.50.20:8443");
    attempt.steps[7].step = StoryStep::Syn { retry: 1, tuple: moved };
    let text = shown(&described);
    assert!(text.contains("inside the range of shop/cart's connection"), "{text}");
    assert!(text.contains("SYN again after 1.002 s, now from 192.168.50.10:47001, SYN-ACK"), "{text}");
}

#[test]
fn an_unknown_owner_and_an_open_one_are_told() {
    let mut described = fixtures::case();
    described.attempt.previous_owner = None;
    described.attempt.verdict.cause = Some(Cause::UnexpectedAck);
    described.attempt.verdict.evidence = Evidence::None;
    assert!(shown(&described).contains("of a connection that nobody here is known to have had"));

    let mut described = fixtures::case();
    let owner = described.attempt.previous_owner.as_mut().expect("owner");
    (owner.closed, owner.gap) = (None, None);
    let text = shown(&described);
    assert!(text.contains("open still"), "{text}");
    assert!(!text.contains(&fixtures::STALE.1.to_string()), "numbers of an open connection: {text}");
}

#[test]
fn names_from_outside_are_made_harmless() {
    let mut described = fixtures::case();
    let evil = "evil\x1b[31m\nname";
    described.client = Some(fixtures::pod(evil, evil, evil));
    described.peer = described.client.clone();
    described.previous_owner = described.client.clone();
    described.attempt.sightings[0].interface = Arc::from(evil);
    let text = shown(&described);
    assert!(text.contains("evil\\u{1b}[31m\\u{a}name"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
}

#[test]
fn colours_only_where_they_are_wanted() {
    assert!(!shown(&fixtures::case()).contains('\x1b'));
    let mut console = Console::new(Vec::new(), Options { all: false, colour: true });
    console.attempt(&fixtures::refused()).expect("written");
    let text = String::from_utf8(console.out).expect("text");
    assert!(text.contains("\x1b[31mrefused after 0.4 ms\x1b[0m"), "{text}");
}

struct Gone(ErrorKind);

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_went_away_ends_it_quietly() {
    let mut console = Console::new(Gone(ErrorKind::BrokenPipe), Options::default());
    assert!(console.attempt(&fixtures::refused()).is_ok());
    assert!(console.is_closed());
    assert!(console.attempt(&fixtures::refused()).is_ok());
    let mut full = Console::new(Gone(ErrorKind::StorageFull), Options::default());
    assert!(full.attempt(&fixtures::refused()).is_err());
}

proptest::proptest! {
    #[test]
    fn any_attempt_can_be_shown(described in crate::encode::any_described()) {
        let text = tree::render(&described, Paint::new(false));
        proptest::prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
