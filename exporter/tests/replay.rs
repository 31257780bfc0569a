//! `synspan replay` as people run it, with captures of the lab.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn capture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/captures").join(name)
}

fn replay(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_synspan")).arg("replay").args(args).env("NO_COLOR", "1").output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn objects(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

/// What the lab's agent said live of these packets.
#[track_caller]
fn check_case(attempts: &[Value]) {
    assert_eq!(attempts.len(), 3, "{attempts:#?}");
    let late: Vec<&Value> = attempts.iter().filter(|attempt| !attempt["cause"].is_null()).collect();
    let [late] = late[..] else { panic!("{attempts:#?}") };
    assert_eq!(late["outcome"], "established");
    assert_eq!((&late["cause"], &late["evidence"]), (&"source_port_reuse".into(), &"exact".into()));
    assert_eq!((&late["responsible"], &late["syns"]), (&"node".into(), &2.into()));
    assert_eq!(late["trace_id"], "ae42ca77bffebe06d453c1f0b335b075");
    let tuples: Vec<&Value> = late["points"].as_array().expect("points").iter().map(|point| &point["tuple"]).collect();
    assert_eq!(tuples, ["10.244.1.12:34578 > 192.168.60.20:8443", "192.168.50.10:46994 > 192.168.60.20:8443"]);
    assert_eq!(late["previous_owner"]["tuple"], "10.244.1.11:44616 > 192.168.60.20:8443");
    assert_eq!(late["previous_owner"]["server_state"], "never_closed");
    let before = attempts.iter().find(|attempt| attempt["source"] == "10.244.1.11:44616").expect("the owner");
    assert_eq!(before["trace_id"], late["previous_owner"]["trace_id"]);
    for key in ["started_unix_nano", "duration_s", "error", "client", "destination"] {
        assert!(late.get(key).is_some(), "{key} is always there");
    }
}

#[test]
fn one_file_of_all_interfaces() {
    let output = replay(&["--json", capture("reuse-never-closed.pcapng").to_str().expect("path")]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let attempts = objects(&output);
    check_case(&attempts);
    let names: Vec<&Value> = attempts[1]["points"].as_array().expect("points").iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["veth-vehicle-co", "eth0"]);
}

#[test]
fn two_files_with_their_points_named() {
    let pods = format!("pod_nic={}", capture("reuse-pods.pcap").display());
    let node = format!("node_nic:eth0={}", capture("reuse-node.pcap").display());
    let output = replay(&["--json", "--point", &pods, "--point", &node]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    check_case(&objects(&output));
}

#[test]
fn the_nodes_side_alone_proves_it_too() {
    let output = replay(&["--json", capture("reuse-node.pcap").to_str().expect("path")]);
    let late = &objects(&output)[1];
    assert_eq!((&late["cause"], &late["evidence"]), (&"source_port_reuse".into(), &"exact".into()));
    assert_eq!(late["trace_id"], "ae42ca77bffebe06d453c1f0b335b075");
}

/// Captures with what the lab's agents said live of the same packets, `live.json` beside a directory for each node.
const RUNS: &[(&str, &[&str])] = &[
    ("handshake-reset-scan-ipv4", &["connection_refused", "handshake_reset", "handshake_reset"]),
    ("icmp-host-ipv6", &["unreachable", "unreachable"]),
    ("only-forwards-drop-ipv4", &["dropped_in_node", "no_response"]),
    ("reuse-suspected-ipv4", &["source_port_reuse_suspected"]),
    ("reuse-two-nodes-ipv4", &["source_port_reuse", "source_port_reuse"]),
    ("syn-ack-unanswered-ipv4", &["no_response", "syn_ack_unanswered", "syn_ack_unanswered"]),
    (
        "syn-unanswered-ipv4",
        &["no_response", "syn_unanswered_by_server", "syn_unanswered_by_server", "syn_unanswered_by_server"],
    ),
    ("unexpected-ack-ipv4", &["unexpected_ack"]),
];

/// The files of a node with their points named: `KIND.INTERFACE.pcap`.
fn points(node: &Path) -> Vec<String> {
    let mut points = Vec::new();
    for file in std::fs::read_dir(node).expect("a directory") {
        let path = file.expect("an entry").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let (kind, interface) = stem.split_once('.').expect("a kind and an interface");
        points.extend(["--point".to_owned(), format!("{kind}:{interface}={}", path.display())]);
    }
    points
}

#[test]
fn replay_says_what_live_said() {
    for (run, causes) in RUNS {
        let dir = capture(run);
        let live = std::fs::read_to_string(dir.join("live.json")).expect("what live said");
        let live: Vec<Value> = serde_json::from_str(&live).expect("JSON");
        let mut seen: Vec<&str> = live.iter().filter_map(|one| one["cause"].as_str()).collect();
        seen.sort_unstable();
        assert_eq!(&seen, causes, "{run}");
        for one in &live {
            let points = points(&dir.join(one["node"].as_str().expect("a node")));
            let mut args = vec!["--json"];
            args.extend(points.iter().map(String::as_str));
            let output = replay(&args);
            assert_eq!(output.status.code(), Some(0), "{run}: {}", text(&output.stderr));
            let said = objects(&output);
            let same: Vec<&Value> = said.iter().filter(|line| line["trace_id"] == one["trace_id"]).collect();
            assert!(!same.is_empty(), "{run}: {one:#} is not in {said:#?}");
            for line in same {
                assert_ne!(line["outcome"], "pending", "{run}: {line:#}");
                for key in ["cause", "responsible"] {
                    assert_eq!(line[key], one[key], "{run}: {line:#}");
                }
            }
        }
    }
}

#[test]
fn a_vlan_parent_and_its_child_are_two_points_of_each_attempt() {
    let output = replay(&["--json", capture("vlan-parent-and-child.pcapng").to_str().expect("path")]);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let attempts = objects(&output);
    let told: Vec<_> =
        attempts.iter().map(|a| (a["cause"].as_str(), a["outcome"].as_str(), a["syns"].as_u64())).collect();
    assert_eq!(told, [(Some("syn_lost"), Some("established"), Some(2)), (None, Some("established"), Some(1))]);
    for attempt in &attempts {
        let names: Vec<&Value> = attempt["points"].as_array().expect("points").iter().map(|p| &p["name"]).collect();
        assert_eq!(names, ["eth0.100", "eth0"], "{attempt:#}");
    }
}

#[test]
fn people_see_a_tree_of_what_went_wrong_and_with_all_the_rest_too() {
    let file = capture("reuse-never-closed.pcapng");
    let file = file.to_str().expect("path");
    let tree = text(&replay(&[file]).stdout);
    assert_eq!(tree.matches("tcp connect").count(), 1);
    assert!(tree.contains("source_port_reuse (exact)") && tree.contains("SNAT 10.244.1.12:34578"), "{tree}");
    assert!(tree.ends_with("3 attempts, 3 established (mean 4.1 ms, longest 12.1 ms), 0 failed, 1 shown\n"), "{tree}");
    assert_eq!(text(&replay(&["--all", file]).stdout).matches("tcp connect").count(), 3);
}

#[test]
fn a_file_that_is_cut_tells_what_is_good_and_names_the_byte() {
    let whole = std::fs::read(capture("reuse-node.pcap")).expect("capture");
    let cut = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(cut.path(), &whole[..whole.len() - 7]).expect("written");
    let output = replay(&["--json", cut.path().to_str().expect("path")]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(objects(&output).len(), 3);
    let errors = text(&output.stderr);
    assert!(errors.contains(&cut.path().display().to_string()), "{errors}");
    assert!(errors.contains("ends in the middle of a packet that starts at byte "), "{errors}");

    std::fs::write(cut.path(), [&whole[..], &[0xff; 99]].concat()).expect("written");
    let output = replay(&["--json", cut.path().to_str().expect("path")]);
    assert_eq!((output.status.code(), objects(&output).len()), (Some(2), 3));
    let errors = text(&output.stderr);
    assert!(errors.contains(&format!("garbage at byte {}", whole.len())), "{errors}");
}

#[test]
fn what_cannot_be_replayed_says_why() {
    let failed = |args: &[&str]| {
        let output = replay(args);
        (output.status.code(), text(&output.stderr))
    };
    let (code, errors) = failed(&["/nonexistent.pcap"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("/nonexistent.pcap: cannot be read: No such file"), "{errors}");
    let file = tempfile::NamedTempFile::new().expect("file");
    let path = file.path().to_str().expect("path");
    let (code, errors) = failed(&[path]);
    assert!(code == Some(2) && errors.contains("is empty"), "{errors}");
    std::fs::write(path, "no capture at all, but text").expect("written");
    let (code, errors) = failed(&[path]);
    assert!(code == Some(2) && errors.contains("is no capture file"), "{errors}");
    assert_eq!(failed(&[]).0, Some(2));
    let (code, errors) = failed(&["--point", "pod=x"]);
    assert!(code == Some(2) && errors.contains("no kind of point"), "{errors}");
    let (code, errors) = failed(&["--config", "/nonexistent.yaml", path]);
    assert!(code == Some(2) && errors.contains("nonexistent.yaml"), "{errors}");
}
