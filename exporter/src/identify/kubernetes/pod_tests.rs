//! Pods as the API tells of them, and as they are named.

use serde_json::{Value, json};

use super::*;
use crate::identify::Identity;

const RULES: Rules = Rules { pod_env: true, label_names: false };

fn object() -> Value {
    json!({
        "metadata": {
            "name": "cart-7c9d8b6f5-k4p2m", "namespace": "shop", "uid": "u-1", "resourceVersion": "77",
            "labels": {"pod-template-hash": "7c9d8b6f5", "app.kubernetes.io/name": "cart-app"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-7c9d8b6f5", "uid": "r", "controller": true}],
            "managedFields": [{"manager": "kubelet"}],
        },
        "spec": {"nodeName": "node-a", "containers": [{"name": "app", "image": "x", "env": [{"name": "SECRET", "value": "s"}]}, {"name": "proxy"}]},
        "status": {"phase": "Running", "podIP": "10.244.1.11", "podIPs": [{"ip": "10.244.1.11"}, {"ip": "fd00::11"}],
            "startTime": "2026-11-24T12:00:00Z",
            "containerStatuses": [{"name": "app", "containerID": "containerd://aa"}, {"name": "proxy", "containerID": "containerd://bb"}]},
    })
}

fn pod(object: Value, rules: Rules) -> Pod {
    Pod::new(&serde_json::from_value(object).expect("pod"), rules).expect("has a uid")
}

fn identity(pod: &Pod, id: Option<&str>) -> Identity {
    Identity::new(pod.attributes(id))
}

#[test]
fn a_pod_is_named_by_its_workload_and_a_container_by_its_id() {
    let pod = pod(object(), RULES);
    assert_eq!(pod.addresses.len(), 2);
    assert_eq!((pod.version, pod.started), (77, Some(1_795_521_600)));
    let found = identity(&pod, Some("bb"));
    for (name, value) in [
        ("service.name", "cart"),
        ("service.namespace", "shop"),
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.uid", "u-1"),
        ("k8s.pod.name", "cart-7c9d8b6f5-k4p2m"),
        ("k8s.deployment.name", "cart"),
        ("k8s.replicaset.name", "cart-7c9d8b6f5"),
        ("k8s.container.name", "proxy"),
        ("container.id", "bb"),
    ] {
        assert_eq!(found.get(name), Some(value), "{name}");
    }
    assert_eq!(identity(&pod, None).get("k8s.container.name"), None);
    let unknown = identity(&pod, Some("cc"));
    assert_eq!((unknown.get("container.id"), unknown.get("k8s.container.name")), (Some("cc"), None));
}

#[test]
fn the_order_of_names_is_environment_annotation_label_owner() {
    let mut object = object();
    let labels = Rules { pod_env: true, label_names: true };
    assert_eq!(identity(&pod(object.clone(), labels), None).get("service.name"), Some("cart-app"));
    object["metadata"]["annotations"] = json!({"resource.opentelemetry.io/service.name": "annotated",
        "resource.opentelemetry.io/service.namespace": "elsewhere", "resource.opentelemetry.io/k8s.pod.name": "forged",
        "resource.opentelemetry.io/service.instance.id": "mine", "resource.opentelemetry.io/team": "blue"});
    let annotated = identity(&pod(object.clone(), labels), None);
    assert_eq!(
        (annotated.get("service.name"), annotated.get("service.namespace")),
        (Some("annotated"), Some("elsewhere"))
    );
    assert_eq!((annotated.get("k8s.pod.name"), annotated.get("team")), (Some("cart-7c9d8b6f5-k4p2m"), Some("blue")));
    assert_eq!(annotated.get("service.instance.id"), None);
    object["spec"]["containers"][0]["env"] = json!([{"name": "OTEL_SERVICE_NAME", "value": "literal"}]);
    let declared = pod(object.clone(), labels);
    assert_eq!(identity(&declared, Some("aa")).get("service.name"), Some("literal"));
    assert_eq!(identity(&declared, Some("bb")).get("service.name"), Some("annotated"));
    // Which container it was is not known, and they differ.
    assert_eq!(identity(&declared, None).get("service.name"), Some("annotated"));
    let off = Rules { pod_env: false, label_names: false };
    assert_eq!(identity(&pod(object, off), Some("aa")).get("service.name"), Some("annotated"));
}

#[test]
fn a_pod_surely_has_its_address_a_second_after_what_the_first_container_says() {
    let mut object = object();
    assert_eq!(pod(object.clone(), RULES).networked, None);
    object["status"]["containerStatuses"][0]["state"] = json!({"running": {"startedAt": "2026-11-24T12:00:09Z"}});
    object["status"]["containerStatuses"][1]["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    assert_eq!(pod(object.clone(), RULES).networked, Some(1_795_521_610));
    object["status"]["conditions"] = json!([
        {"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": "2026-11-24T12:00:05Z"},
        {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-24T12:00:01Z"},
    ]);
    assert_eq!(pod(object.clone(), RULES).networked, Some(1_795_521_606));
    object["status"]["initContainerStatuses"] =
        json!([{"name": "i", "state": {"terminated": {"startedAt": "2026-11-24T12:00:04Z"}}}]);
    assert_eq!(pod(object, RULES).networked, Some(1_795_521_605));
}

#[test]
fn the_deletion_was_asked_for_a_grace_period_before_it_is_complete() {
    let mut object = object();
    assert_eq!(pod(object.clone(), RULES).terminating, None);
    object["metadata"]["deletionTimestamp"] = json!("2026-11-24T12:00:40Z");
    assert_eq!(pod(object.clone(), RULES).terminating, Some(1_795_521_640));
    object["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    assert_eq!(pod(object, RULES).terminating, Some(1_795_521_610));
}

#[test]
fn an_owner_that_was_asked_for_gives_the_name() {
    let mut object = object();
    object["metadata"]["labels"] = Value::Null;
    let mut pod = pod(object, RULES);
    assert_eq!(pod.asks_for(), Some("cart-7c9d8b6f5"));
    assert_eq!(identity(&pod, None).get("service.name"), Some("cart-7c9d8b6f5"));
    pod.owned_by(Some("cart"));
    assert_eq!(pod.asks_for(), None);
    assert_eq!(identity(&pod, None).get("service.name"), Some("cart"));
}

#[test]
fn host_network_static_and_finished_pods_hold_no_address_of_their_own() {
    let mut object = object();
    object["spec"]["hostNetwork"] = json!(true);
    object["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "0123"});
    object["status"]["phase"] = json!("Failed");
    let pod = pod(object, RULES);
    assert!(pod.addresses.is_empty() && pod.host_network && pod.finished);
    assert_eq!(pod.cgroup_uid.as_deref(), Some("0123"));
}

#[test]
fn an_init_container_of_a_regular_ones_name_does_not_take_its_place() {
    let mut object = object();
    object["spec"]["initContainers"] =
        json!([{"name": "app", "env": [{"name": "OTEL_SERVICE_NAME", "value": "init"}]}, {"name": "mesh"}]);
    object["status"]["initContainerStatuses"] =
        json!([{"name": "app", "containerID": "containerd://dd"}, {"name": "mesh", "containerID": "containerd://ee"}]);
    let pod = pod(object, RULES);
    assert_eq!(identity(&pod, Some("aa")).get("service.name"), Some("cart"));
    assert_eq!(identity(&pod, Some("dd")).get("k8s.container.name"), Some("app"));
    assert_eq!(identity(&pod, Some("ee")).get("k8s.container.name"), Some("mesh"));
}

#[test]
fn nulls_missing_parts_and_nonsense_are_borne() {
    let bare = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": null}, "status": {"podIPs": null, "podIP": "nonsense", "containerStatuses": null}});
    let pod = pod(bare, RULES);
    assert!(pod.addresses.is_empty());
    assert_eq!(identity(&pod, None).get("service.name"), Some("p"));
    let nameless: api::Pod = serde_json::from_value(json!({"metadata": {}})).expect("parsed");
    assert!(Pod::new(&nameless, RULES).is_none());
}
