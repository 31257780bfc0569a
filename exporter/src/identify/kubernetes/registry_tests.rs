//! Pods that come, go, share and hand on.

use serde_json::{Value, json};

use super::super::cgroup_path;
use super::super::pod::Rules;
use super::*;

const RULES: Rules = Rules { pod_env: true, label_names: false };
const A: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const B: &str = "bbbbbbbb-0000-4000-8000-000000000002";

fn registry() -> Registry {
    Registry::new(Node::new("node-a", true, &[]), 1)
}

fn at(seconds: u64) -> Mono {
    Mono(seconds * 1_000_000_000)
}

fn object(uid: &str, version: u64, address: &str) -> Value {
    json!({
        "metadata": {"name": format!("pod-{}", &uid[..1]), "namespace": "shop", "uid": uid, "resourceVersion": version.to_string()},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address}], "containerStatuses": [{"name": "app", "containerID": "containerd://c1"}]},
    })
}

fn read(object: Value) -> Pod {
    Pod::new(&serde_json::from_value(object).expect("pod"), RULES).expect("uid")
}

fn put(registry: &mut Registry, uid: &str, version: u64, address: &str, seconds: u64) {
    let times = Times { started: Some(at(seconds)), ..Times::default() };
    registry.apply(read(object(uid, version, address)), times, at(seconds));
}

fn by_address(address: &str) -> Place {
    Place { address: Some(address.parse().expect("address")), ..Place::default() }
}

fn uid(answer: Answer) -> Option<String> {
    answer.now().and_then(|identity| identity.get(K8S_POD_UID).map(str::to_owned))
}

fn path(uid: &str, container: &str) -> PodPath {
    cgroup_path::read(&format!("/kubepods/burstable/pod{uid}/{}", container.repeat(64))).expect("path")
}

#[test]
fn the_cgroup_is_stronger_than_the_address() {
    let mut registry = registry();
    put(&mut registry, A, 1, "10.0.0.1", 10);
    put(&mut registry, B, 2, "10.0.0.2", 10);
    let answer = registry.by_cgroup(&path(A, "f"), by_address("10.0.0.2"));
    assert_eq!(uid(answer).as_deref(), Some(A));
    assert_eq!(uid(registry.at(by_address("10.0.0.2"), at(20))).as_deref(), Some(B));
}

#[test]
fn a_pod_that_the_api_has_not_told_of_is_waited_for_by_its_own_uid() {
    let mut registry = registry();
    let answer = registry.by_cgroup(&path(B, "f"), Place::default());
    assert!(matches!(&answer, Answer::Later(Some(_))), "{answer:?}");
    assert_eq!(uid(answer).as_deref(), Some(B));
}

#[test]
fn an_address_goes_from_pod_to_pod_with_its_time() {
    let mut registry = registry();
    put(&mut registry, A, 1, "10.0.0.1", 10);
    registry.delete(A, at(20), at(22));
    put(&mut registry, B, 3, "10.0.0.1", 30);
    assert_eq!(uid(registry.at(by_address("10.0.0.1"), at(15))).as_deref(), Some(A));
    assert_eq!(registry.at(by_address("10.0.0.1"), at(21)), Answer::Later(None), "in doubt");
    assert_eq!(registry.at(by_address("10.0.0.1"), at(25)), Answer::Unknown, "nobody's");
    assert_eq!(uid(registry.at(by_address("10.0.0.1"), at(35))).as_deref(), Some(B));
    assert_eq!(registry.counts().doubtful, 1);
}

#[test]
fn finished_and_host_network_pods_hold_no_address() {
    let mut registry = registry();
    let mut done = object(A, 1, "10.0.0.1");
    done["status"]["phase"] = json!("Succeeded");
    registry.apply(read(done), Times::default(), at(10));
    let mut host = object(B, 2, "192.168.50.10");
    host["spec"]["hostNetwork"] = json!(true);
    registry.apply(read(host), Times::default(), at(10));
    assert_eq!(registry.at(by_address("10.0.0.1"), at(11)), Answer::Unknown);
    assert_eq!(registry.at(by_address("192.168.50.10"), at(11)), Answer::Unknown);
    let place = Place { netns: 1, ..by_address("192.168.50.10") };
    assert_eq!(uid(registry.by_cgroup(&path(B, "f"), place)).as_deref(), Some(B));
    // Nothing else on the node becomes that pod by it.
    assert_eq!(registry.at(place, at(12)), Answer::Unknown);
}

#[test]
fn two_that_claim_an_address_at_once_are_counted_and_the_later_has_it() {
    let mut registry = registry();
    put(&mut registry, A, 1, "10.0.0.1", 10);
    put(&mut registry, B, 2, "10.0.0.1", 20);
    assert_eq!(registry.counts().conflicts, 1);
    assert_eq!(uid(registry.at(by_address("10.0.0.1"), at(19))).as_deref(), Some(A));
    assert_eq!(uid(registry.at(by_address("10.0.0.1"), at(21))).as_deref(), Some(B));
}

#[test]
fn an_event_out_of_order_changes_nothing_and_is_counted() {
    let mut registry = registry();
    put(&mut registry, A, 7, "10.0.0.1", 10);
    put(&mut registry, A, 6, "10.0.0.9", 11);
    assert_eq!(registry.counts().out_of_order, 1);
    assert_eq!(uid(registry.at(by_address("10.0.0.1"), at(12))).as_deref(), Some(A));
}

#[test]
fn a_network_namespace_and_an_interface_stay_the_pods() {
    let mut registry = registry();
    put(&mut registry, A, 1, "10.0.0.1", 10);
    let place = Place { netns: 77, ifindex: Some(5), ..by_address("10.0.0.1") };
    registry.by_cgroup(&path(A, "f"), place);
    registry.delete(A, at(20), at(20));
    put(&mut registry, B, 2, "10.0.0.1", 20);
    assert_eq!(uid(registry.at(Place { netns: 77, ..by_address("10.0.0.1") }, at(25))).as_deref(), Some(A));
    assert_eq!(uid(registry.at(by_address("10.0.0.1"), at(25))).as_deref(), Some(B));
    assert_eq!(uid(registry.at(Place { netns: 78, ..by_address("10.0.0.1") }, at(25))).as_deref(), Some(B));
}

#[test]
fn what_a_new_list_does_not_have_is_gone_and_what_it_has_is_sure_from_now_on() {
    let mut registry = registry();
    put(&mut registry, A, 1, "10.0.0.1", 10);
    put(&mut registry, B, 2, "10.0.0.2", 10);
    let times = Times { started: Some(at(10)), gap: Some(at(40)), ..Times::default() };
    registry.apply(read(object(B, 2, "10.0.0.2")), times, at(50));
    registry.keep_only(&HashSet::from([B.into()]), at(40), at(50));
    assert_eq!(registry.len(), 1);
    assert_eq!(uid(registry.at(by_address("10.0.0.1"), at(39))).as_deref(), Some(A));
    assert_eq!(registry.at(by_address("10.0.0.1"), at(45)), Answer::Later(None));
    assert_eq!(uid(registry.at(by_address("10.0.0.2"), at(45))).as_deref(), Some(B), "it held it all the time");
}

#[test]
fn an_address_of_the_nodes_ranges_that_nobody_has_is_waited_for() {
    let mut registry = registry();
    registry.set_ranges(vec!["10.0.0.0/24".parse().expect("range")]);
    assert_eq!(registry.at(by_address("10.0.0.9"), at(10)), Answer::Later(None));
    assert_eq!(registry.at(by_address("10.0.1.9"), at(10)), Answer::Unknown);
}

#[test]
fn a_pod_that_is_told_to_end_is_doubted_from_when_that_was_asked() {
    let mut registry = registry();
    put(&mut registry, A, 1, "10.0.0.1", 10);
    let times = Times { started: Some(at(10)), terminating: Some(at(20)), ..Times::default() };
    registry.apply(read(object(A, 2, "10.0.0.1")), times, at(22));
    assert_eq!(uid(registry.at(by_address("10.0.0.1"), at(19))).as_deref(), Some(A));
    assert_eq!(registry.at(by_address("10.0.0.1"), at(21)), Answer::Later(None));
}

#[test]
fn a_pod_of_another_node_is_known_by_its_address_as_that_nodes() {
    let mut registry = registry();
    let mut far = object(A, 1, "10.0.1.1");
    far["spec"]["nodeName"] = json!("node-b");
    registry.apply(read(far), Times { started: Some(at(1)), ..Times::default() }, at(10));
    let place = Place { netns: 77, ifindex: Some(5), ..by_address("10.0.1.1") };
    let found = registry.at(place, at(11)).now().expect("known");
    assert_eq!((found.get(K8S_NODE_NAME), found.get("host.name")), (Some("node-b"), None));
    // Nothing of this node becomes that pod's.
    assert_eq!(registry.at(Place { address: None, ..place }, at(12)), Answer::Unknown);
}

#[test]
fn an_interface_that_cannot_be_a_pods_rules_it_out_though_it_has_the_address_still() {
    let mut registry = registry();
    let at_link = |index| Place { ifindex: Some(index), ..by_address("10.0.0.1") };
    // Its address was told when interface 7 was the newest.
    let times = Times { started: Some(at(10)), newest_link: Some(7), ..Times::default() };
    registry.apply(read(object(A, 1, "10.0.0.1")), times, at(10));
    assert_eq!(registry.at(at_link(8), at(20)), Answer::Later(None), "made later: the next holder's");
    assert_eq!(uid(registry.at(at_link(6), at(20))).as_deref(), Some(A));
    assert_eq!(registry.at(at_link(7), at(21)), Answer::Later(None), "it was seen at another");
    // The API tells of the next one, late: its interface was there before.
    let times = Times { started: Some(at(15)), newest_link: Some(8), ..Times::default() };
    registry.apply(read(object(B, 2, "10.0.0.1")), times, at(22));
    assert_eq!(uid(registry.at(at_link(8), at(22))).as_deref(), Some(B));
    assert_eq!(uid(registry.at(at_link(6), at(22))).as_deref(), Some(A));
}

#[test]
fn a_static_pod_is_known_by_the_hash_in_its_cgroup() {
    let mut registry = registry();
    let hash = "0123456789abcdef0123456789abcdef";
    let mut mirror = object(A, 1, "10.0.0.1");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": hash});
    registry.apply(read(mirror), Times::default(), at(10));
    assert_eq!(uid(registry.by_cgroup(&path(hash, "f"), Place::default())).as_deref(), Some(A));
}

#[test]
fn pods_that_went_are_forgotten_in_the_end() {
    let mut registry = registry();
    for n in 0..MAX_GONE + 88 {
        let uid = format!("{n:08}-0000-4000-8000-000000000000");
        put(&mut registry, &uid, 1, "10.0.0.1", 10);
        registry.delete(&uid, at(11), at(11));
    }
    assert_eq!((registry.len(), registry.pods.len()), (0, MAX_GONE));
    assert!(registry.weight() < 4 << 20);
}
