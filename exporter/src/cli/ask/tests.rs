use proptest::prelude::*;

use super::attempts::EXAMPLES;
use super::table::{Attempts, holders};
use crate::answer::line::{AttemptRow, End, Ends, HolderRow, HolderState};
use crate::answer::recent::Recent;
use crate::answer::request::Wanted;
use crate::capture::observation::Mono;
use crate::deliver::console::text::Paint;
use crate::identify::describe::Described;
use crate::identify::fixtures;

fn row(described: &Described) -> AttemptRow {
    let recent = Recent::default();
    recent.push(described);
    let found = recent.newest(&Wanted { failed: false, since: None, limit: 1 }, Mono(0));
    found.attempts[0].row()
}

fn holder(client: &str, opened: &str) -> HolderRow {
    let ends = |client: &str, server: &str| Ends { client: client.to_owned(), server: server.to_owned() };
    HolderRow {
        client: End { name: Some(client.to_owned()), pod: Some(format!("{client}-7d")), ..End::default() },
        tuple: ends("10.244.1.11:40318", "192.168.60.20:8443"),
        wire: Some(ends("192.168.50.10:46994", "192.168.60.20:8443")),
        opened: opened.to_owned(),
        closed: None,
        state: HolderState::Open,
        closed_by: None,
        outcome: None,
        cause: None,
        server_state: None,
        trace_id: "4f".repeat(16),
    }
}

#[test]
fn attempts_for_people() {
    let mut table = Attempts::new(Paint::new(false));
    let shown = [fixtures::clean(), fixtures::case(), fixtures::refused(), fixtures::aborted(), fixtures::ipv6()];
    let text: String = shown.iter().map(|described| table.row(&row(described))).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn holders_for_people() {
    let closed = HolderRow {
        closed: Some("2026-11-23T21:08:33.363999Z".to_owned()),
        state: HolderState::Closed,
        closed_by: Some("client".to_owned()),
        server_state: Some("never_closed".to_owned()),
        ..holder("shop/cart", "2026-11-23T21:08:33.315000Z")
    };
    let failed = HolderRow {
        closed: Some("2026-11-23T00:00:04.000000Z".to_owned()),
        state: HolderState::Failed,
        outcome: Some("timed_out".to_owned()),
        cause: Some("source_port_reuse".to_owned()),
        ..holder("shop/vehicle-control", "2026-11-22T23:59:59.000000Z")
    };
    let rows = [holder("shop/vehicle-control", "2026-11-23T21:08:33.478000Z"), closed, failed];
    insta::assert_snapshot!(holders(&rows, Paint::new(false)));
}

#[test]
fn json_has_the_words_of_the_telemetry() {
    let json = serde_json::to_value(row(&fixtures::case())).expect("a value");
    assert_eq!(json["time"], "2026-11-23T20:31:07.123000Z");
    assert_eq!(json["cause"], "source_port_reuse");
    assert_eq!(json["evidence"], "exact");
    assert_eq!(json["outcome"], "established");
    assert_eq!(json["responsible"], "node");
    assert_eq!(json["also"][0], "syn_lost");
    assert_eq!(json["client"]["name"], "shop/vehicle-control");
    assert_eq!(json["client"]["address"], "10.244.1.12:34732");
    assert_eq!(json["wire"]["client"], "192.168.50.10:46994");
    assert_eq!(json["previous_owner"]["client"]["name"], "shop/cart");
    assert_eq!(json["previous_owner"]["server_state"], "never_closed");
    assert_eq!(json["previous_owner"]["gap_s"], 0.162);
    assert_eq!(json["trace_id"], "4f".repeat(16));
    assert_eq!((&json["failed"], &json["late"], &json["reused"]), (&false.into(), &true.into(), &true.into()));
}

#[test]
fn a_status_is_the_page_or_one_object_that_reads_back() {
    let status = crate::health::testing::status();
    assert_eq!(super::status::said(false, &status), crate::health::page::page(&status));
    let json = super::status::said(true, &status);
    assert_eq!(json.lines().count(), 1);
    insta::assert_snapshot!(serde_json::to_string_pretty(&status).expect("JSON"));
    assert_eq!(serde_json::from_str::<crate::health::status::Status>(&json).expect("a status"), status);
}

#[test]
fn the_examples_stay_in_their_lines() {
    let lines = || {
        EXAMPLES
            .lines()
            .chain(super::who::EXAMPLES.lines())
            .chain(super::status::EXAMPLES.lines())
            .filter(|line| line.starts_with("  synspan"))
    };
    assert!(lines().count() >= 6);
    for line in lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

/// Whatever a socket may say: names from outside, too.
fn any_end() -> impl Strategy<Value = End> {
    let text = || proptest::option::of(".{0,60}");
    (text(), text(), text(), text()).prop_map(|(name, pod, executable, address)| End { name, pod, executable, address })
}

fn any_row() -> impl Strategy<Value = AttemptRow> {
    let ends = || proptest::option::of((".{0,60}", ".{0,60}").prop_map(|(client, server)| Ends { client, server }));
    let texts = (".{0,40}", ".{0,20}", proptest::option::of(".{0,40}"), ".{0,20}", proptest::option::of(".{0,20}"));
    (texts, any_end(), any_end(), any::<(f64, u32, bool, bool, bool)>(), ends(), ends()).prop_map(
        |(
            (time, outcome, cause, evidence, responsible),
            client,
            server,
            (duration_s, syns, failed, late, reused),
            tuple,
            wire,
        )| {
            AttemptRow {
                time,
                outcome,
                cause,
                evidence,
                responsible,
                client,
                server,
                duration_s,
                syns,
                failed,
                late,
                reused,
                tuple,
                wire,
                role: String::new(),
                errno: None,
                also: vec![],
                previous_owner: None,
                trace_id: "ab".repeat(16),
            }
        },
    )
}

proptest! {
    #[test]
    fn nothing_said_steers_the_terminal(row in any_row()) {
        let text = Attempts::new(Paint::new(false)).row(&row);
        prop_assert!(text.lines().count() >= 2);
        prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }

    #[test]
    fn what_hangs_under_a_line_stays_within_100_columns(
        addresses in proptest::collection::vec(any::<std::net::SocketAddrV6>(), 4),
        syns in any::<u32>(),
        failed in any::<bool>(),
    ) {
        let ends = |at: usize| Some(Ends { client: addresses[at].to_string(), server: addresses[at + 1].to_string() });
        let row = AttemptRow { tuple: ends(0), wire: ends(2), syns, failed, ..row(&fixtures::case()) };
        for line in Attempts::new(Paint::new(false)).row(&row).lines() {
            prop_assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
