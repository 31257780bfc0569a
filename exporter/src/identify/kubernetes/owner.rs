//! Which workload a pod belongs to, from its owner references and, where the name's form tells, without a question.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::api::map;

/// The workload above a pod: kind and name from the nearest owner upwards.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Owner {
    /// `replicaset`, `deployment`, `statefulset`, `daemonset`, `job`, `cronjob`, and each one's name.
    pub chain: Vec<(&'static str, String)>,
    /// The ReplicaSet that has to be asked for its own owner, as its name: the form of its name does not tell.
    pub ask: Option<String>,
}

/// Label that the Deployment's controller gives the pods of a ReplicaSet it made: the end of the ReplicaSet's name
/// (`pkg/controller/deployment/sync.go`, `getNewReplicaSet`).
const TEMPLATE_HASH: &str = "pod-template-hash";
/// A CronJob's Job is named by the minute it was due (`pkg/controller/cronjob/cronjob_controllerv2.go`,
/// `getJobName`); it is taken for one if that minute is at most this far from the pod's making: a week, since a
/// suspended Job may start late.
const JOB_MINUTES: i64 = 7 * 24 * 60;

/// The owner of a pod by its metadata.
pub fn of(pod: &ObjectMeta) -> Owner {
    let references = pod.owner_references.as_deref().unwrap_or_default();
    let Some(reference) = references.iter().find(|owner| owner.controller == Some(true)) else {
        return Owner::default();
    };
    let name = reference.name.clone();
    let one = |kind| Owner { chain: vec![(kind, name.clone())], ask: None };
    match (group(&reference.api_version), &*reference.kind) {
        ("apps", "StatefulSet") => one("statefulset"),
        ("apps", "DaemonSet") => one("daemonset"),
        ("apps", "ReplicaSet") => {
            let hash = map(pod.labels.as_ref()).get(TEMPLATE_HASH);
            let deployment = hash.and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-'));
            match deployment.filter(|deployment| !deployment.is_empty()) {
                Some(deployment) => {
                    let above = ("deployment", deployment.to_owned());
                    Owner { chain: vec![("replicaset", name.clone()), above], ask: None }
                }
                None => Owner { ask: Some(name.clone()), ..one("replicaset") },
            }
        }
        ("batch", "Job") => {
            let made = pod.creation_timestamp.as_ref().map(|time| time.0.as_second() / 60);
            let cron = name.rsplit_once('-').filter(|(above, minute)| {
                let minute = minute.parse::<i64>().ok().filter(|_| minute.bytes().all(|byte| byte.is_ascii_digit()));
                !above.is_empty() && minute.zip(made).is_some_and(|(minute, made)| (made - minute).abs() <= JOB_MINUTES)
            });
            let mut owner = one("job");
            owner.chain.extend(cron.map(|(above, _)| ("cronjob", above.to_owned())));
            owner
        }
        // The mirror of a static pod is owned by its node, and other controllers have no attribute of their own.
        _ => Owner::default(),
    }
}

/// The Deployment above a ReplicaSet, by the ReplicaSet's own metadata.
pub fn deployment(replica_set: &ObjectMeta) -> Option<String> {
    let references = replica_set.owner_references.as_deref().unwrap_or_default();
    references
        .iter()
        .find(|owner| {
            owner.controller == Some(true) && owner.kind == "Deployment" && group(&owner.api_version) == "apps"
        })
        .map(|owner| owner.name.clone())
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meta(kind: &str, api: &str, name: &str, label: Option<&str>) -> ObjectMeta {
        serde_json::from_value(json!({
            "name": "p", "creationTimestamp": "2026-11-24T12:00:30Z",
            "labels": label.map(|hash| json!({"pod-template-hash": hash})),
            "ownerReferences": [
                {"apiVersion": "x/v1", "kind": "Other", "name": "bystander", "uid": "0"},
                {"apiVersion": api, "kind": kind, "name": name, "uid": "1", "controller": true},
            ],
        }))
        .expect("metadata")
    }

    fn chain(meta: &ObjectMeta) -> Vec<String> {
        of(meta).chain.iter().map(|(kind, name)| format!("{kind}/{name}")).collect()
    }

    #[test]
    fn a_deployment_is_told_by_the_hash_in_the_name() {
        let owner = meta("ReplicaSet", "apps/v1", "vehicle-control-5d8c7b9f6d", Some("5d8c7b9f6d"));
        assert_eq!(chain(&owner), ["replicaset/vehicle-control-5d8c7b9f6d", "deployment/vehicle-control"]);
        assert_eq!(of(&owner).ask, None);
    }

    #[test]
    fn a_replica_set_whose_name_does_not_tell_is_asked() {
        for label in [None, Some("other")] {
            let owner = meta("ReplicaSet", "apps/v1", "solo-x", label);
            assert_eq!(chain(&owner), ["replicaset/solo-x"]);
            assert_eq!(of(&owner).ask.as_deref(), Some("solo-x"));
        }
        assert_eq!(of(&meta("ReplicaSet", "apps/v1", "-abc", Some("abc"))).ask.as_deref(), Some("-abc"));
        assert_eq!(deployment(&meta("Deployment", "apps/v1", "web", None)).as_deref(), Some("web"));
        assert_eq!(deployment(&meta("Rollout", "argoproj.io/v1alpha1", "web", None)), None);
    }

    #[test]
    fn a_cron_job_is_told_by_the_minute_it_was_due() {
        // 2026-11-24T12:00Z is minute 29,925,840 of the epoch.
        let minute = 1_795_521_600 / 60;
        assert_eq!(
            chain(&meta("Job", "batch/v1", &format!("nightly-{minute}"), None)),
            [format!("job/nightly-{minute}"), "cronjob/nightly".into()]
        );
        for name in ["import-20261124", "import", "import-7", "a-+29925360", &format!("-{minute}")] {
            assert_eq!(chain(&meta("Job", "batch/v1", name, None)), [format!("job/{name}")]);
        }
    }

    #[test]
    fn other_owners_say_nothing() {
        assert_eq!(chain(&meta("StatefulSet", "apps/v1", "db", None)), ["statefulset/db"]);
        assert_eq!(chain(&meta("DaemonSet", "apps/v1", "net", None)), ["daemonset/net"]);
        assert_eq!(of(&meta("Node", "v1", "node-1", None)), Owner::default());
        assert_eq!(of(&meta("StatefulSet", "example.org/v1", "db", None)), Owner::default());
        assert_eq!(of(&ObjectMeta::default()), Owner::default());
    }
}
