//! `synspan attempts` and `synspan who`, asked of an agent that watches a real fault. Needs root, network
//! namespaces and BPF.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the reason")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use synspan_lab::agent;
use synspan_lab::scenario::agents::Watch;
use synspan_lab::scenario::catalog;
use synspan_lab::scenario::run::Run;
use synspan_lab::topology::Family;

const NODE: &str = "node-a";

/// A process has one lab at a time.
static LAB: Mutex<()> = Mutex::new(());

/// The agent's program: `SYNSPAN_AGENT`, or the one beside the lab's own program.
fn program() -> PathBuf {
    assert!(nix::unistd::geteuid().is_root(), "these tests need root: they make network namespaces and cgroups");
    let beside = PathBuf::from(env!("CARGO_BIN_EXE_lab")).with_file_name("synspan");
    let agent = std::env::var_os("SYNSPAN_AGENT").map_or(beside, PathBuf::from);
    assert!(agent.is_file(), "no agent at {}: `cargo build -p synspan` first, or set SYNSPAN_AGENT", agent.display());
    agent
}

/// Asks until the answer has so many lines of JSON: an attempt is told some 100 ms after its end.
fn rows(run: &Run<'_>, agent: &Path, args: &[&str], wanted: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let text = agent::ask(run.world(), NODE, agent, args).unwrap();
        let rows: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if rows.len() == wanted {
            return rows;
        }
        assert!(Instant::now() < deadline, "{args:?}: {wanted} rows expected:\n{text}\n{}", run.agents().logs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The case of the design, with its agent's exports going to `forward`, or to the lab's receiver.
fn asked_after_the_case(family: Family, forward: Option<SocketAddr>) {
    let agent = program();
    let _one = LAB.lock().unwrap_or_else(PoisonError::into_inner);
    let scenarios = catalog::all().unwrap();
    let scenario = scenarios.iter().find(|scenario| scenario.name == "reuse-never-closed").unwrap();
    let watch = Watch { agent: Some(agent.clone()), forward, console: false, captures: None };
    let mut run = Run::start(scenario, family, Path::new(env!("CARGO_BIN_EXE_lab")), watch).unwrap();
    run.steps().unwrap();

    let failed = rows(&run, &agent, &["attempts", "--failed", "--json"], 1);
    let late = &failed[0];
    assert_eq!(late["client"]["name"], "shop/vehicle-control", "{late}");
    assert_eq!(late["cause"], "source_port_reuse");
    assert_eq!(late["evidence"], "exact");
    assert_eq!(late["responsible"], "node");
    assert_eq!(late["previous_owner"]["client"]["name"], "shop/cart");
    assert!(late["wire"]["client"].as_str().is_some_and(|client| client.ends_with(":46994")), "{late}");
    // The case, the connection before it, and the control.
    let all = rows(&run, &agent, &["attempts", "--json", "--since", "10m"], 3);
    assert!(all.contains(late));

    // Both tenants towards the server, and the control, which left by the same port to another one.
    let holders = rows(&run, &agent, &["who", "46994", "--json"], 3);
    let server = late["tuple"]["server"].as_str().unwrap();
    let tenants: Vec<_> = holders.iter().filter(|holder| holder["tuple"]["server"] == server).collect();
    let of = |key: &str| tenants.iter().map(|holder| holder[key].as_str()).collect::<Vec<_>>();
    let names: Vec<_> = tenants.iter().map(|holder| holder["client"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["shop/vehicle-control", "shop/cart"], "newest first");
    assert_eq!(of("state"), [Some("open"), Some("closed")]);
    assert_eq!(of("closed_by"), [None, Some("client")]);
    assert_eq!(of("server_state"), [None, Some("never_closed")]);
    assert_eq!(of("trace_id")[0], late["trace_id"].as_str());
    assert_eq!(of("trace_id")[1], late["previous_owner"]["trace_id"].as_str());

    let ask = |args: &[&str]| agent::ask(run.world(), NODE, &agent, args).unwrap();
    let table = ask(&["who", "46994"]);
    assert!(table.contains("shop/cart") && table.contains("3 had port 46994, newest first"), "{table}");
    assert!(table.contains("(the agent's start)"), "{table}");
    assert!(ask(&["who", "1"]).starts_with("nobody had port 1; the ledger reaches back to "), "{}", ask(&["who", "1"]));
    let table = ask(&["attempts", "--failed"]);
    assert!(table.contains("source_port_reuse (exact), look at: node"), "{table}");
    if forward.is_some() {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !run.agents().logs().contains("traces cannot be delivered") {
            assert!(Instant::now() < deadline, "exports were to fail:\n{}", run.agents().logs());
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(rows(&run, &agent, &["attempts", "--failed", "--json"], 1), failed);
    } else {
        assert_eq!(run.verdict().unwrap().wrong, Vec::<String>::new());
    }
}

#[test]
fn the_case_and_both_tenants_of_its_port_are_told() {
    asked_after_the_case(Family::V4, None);
}

#[test]
fn the_same_while_nothing_can_be_exported() {
    // Port 1: nobody listens there.
    asked_after_the_case(Family::V6, Some(SocketAddr::from(([127, 0, 0, 1], 1))));
}

#[test]
fn who_cannot_be_answered_is_told_what_to_do() {
    let agent = program();
    let run = |args: &[&str]| {
        let output = Command::new(&agent).args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let directory = std::env::temp_dir().join(format!("synspan-asking-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let absent = directory.join("none.sock").display().to_string();
    let (code, text) = run(&["attempts", "--socket", &absent]);
    assert!(code == Some(1) && text.contains("no agent runs here"), "{code:?} {text}");
    let dead = directory.join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let (code, text) = run(&["who", "46994", "--socket", &dead.display().to_string()]);
    assert!(code == Some(1) && text.contains("is gone"), "{code:?} {text}");
    for wrong in
        [&["who", "0"][..], &["who", "70000"], &["attempts", "--since", "soon"], &["attempts", "--limit", "10001"]]
    {
        let (code, text) = run(wrong);
        assert!(code == Some(2) && text.contains("error"), "{wrong:?}: {code:?} {text}");
    }
    let _ = std::fs::remove_dir_all(&directory);
}
