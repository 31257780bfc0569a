//! What a scheduler and a kubelet write of one pod: the lab plays them, an event at a time.

use http::{Method, Request};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::error::{Context, Error, Result};

/// The environment variable that names a kubeconfig with an admin's rights.
const ADMIN: &str = "SYNSPAN_KUBE_ADMIN_KUBECONFIG";
const NAMESPACE: &str = "shop";

/// The API server, asked as admin.
pub struct Api {
    runtime: Runtime,
    client: Client,
}

/// A pod's object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// The uid that the API server gave it.
    pub uid: String,
    /// The id of its container.
    pub container: String,
}

impl Object {
    /// Its container's cgroup, as the kubelet and containerd name it by the cgroupfs driver.
    pub fn cgroup(&self) -> String {
        format!("kubepods/besteffort/pod{}/{}", self.uid, self.container)
    }
}

fn lab_error(error: impl std::fmt::Display) -> Error {
    Error::Lab(format!("the API server: {error}"))
}

impl Api {
    /// By the kubeconfig of `with-kubernetes.sh`.
    pub fn connect() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("start a runtime")?;
        let file = std::env::var(ADMIN)
            .map_err(|_| Error::Lab(format!("{ADMIN} is not set: run this by scripts/lab-kubernetes.sh")))?;
        let client = runtime.block_on(async {
            let kubeconfig = Kubeconfig::read_from(&file).map_err(lab_error)?;
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            Client::try_from(config.map_err(lab_error)?).map_err(lab_error)
        })?;
        Ok(Self { runtime, client })
    }

    fn ask(&self, method: Method, path: &str, kind: &str, body: &Value) -> Result<Value> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods{path}");
        let body = serde_json::to_vec(body).map_err(lab_error)?;
        let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, kind).body(body);
        let request = request.map_err(lab_error)?;
        self.runtime.block_on(self.client.request(request)).map_err(lab_error)
    }

    /// The scheduler has given a pod to a node.
    pub fn create(&self, node: &str, number: usize) -> Result<Object> {
        let hash = "6f5d8c7b94";
        let name = format!("handed-{hash}-{number:05}");
        let answer = self.ask(
            Method::POST,
            "",
            "application/json",
            &json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": name, "labels": {"pod-template-hash": hash},
                    "ownerReferences": [{
                        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("handed-{hash}"),
                        "uid": "6d0e1c1e-0000-4000-8000-000000000001", "controller": true,
                    }],
                },
                "spec": {"nodeName": node, "containers": [{"name": "app", "image": "example/handed:1"}]},
            }),
        )?;
        let uid = answer["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let container = format!("{number:064x}");
        Ok(Object { name, uid, container })
    }

    /// The kubelet has taken it.
    pub fn take(&self, object: &Object) -> Result<()> {
        self.status(object, &json!({"phase": "Pending", "startTime": now()}))
    }

    /// The kubelet tells its address, and that its container runs.
    pub fn running(&self, object: &Object, addresses: &[String]) -> Result<()> {
        let ips: Vec<_> = addresses.iter().map(|address| json!({"ip": address})).collect();
        self.status(
            object,
            &json!({
                "phase": "Running", "podIP": addresses.first(), "podIPs": ips,
                "containerStatuses": [{
                    "name": "app", "image": "example/handed:1", "imageID": "", "ready": true, "restartCount": 0,
                    "containerID": format!("containerd://{}", object.container), "state": {"running": {"startedAt": now()}},
                }],
            }),
        )
    }

    fn status(&self, object: &Object, status: &Value) -> Result<()> {
        let path = format!("/{}/status", object.name);
        let body = json!({"status": status});
        self.ask(Method::PATCH, &path, "application/merge-patch+json", &body).map(drop)
    }

    /// Its deletion is asked for, with seconds of grace; with none it is gone at once.
    pub fn delete(&self, name: &str, grace: u32) -> Result<()> {
        self.ask(Method::DELETE, &format!("/{name}"), "application/json", &json!({"gracePeriodSeconds": grace}))
            .map(drop)
    }

    /// The names of the pods that the API server has by now.
    pub fn names(&self) -> Result<Vec<String>> {
        let all = self.ask(Method::GET, "", "application/json", &Value::Null)?;
        let names = all["items"].as_array().into_iter().flatten().filter_map(|item| item["metadata"]["name"].as_str());
        Ok(names.map(str::to_owned).collect())
    }
}

/// The time as the API has it: to the second.
fn now() -> Value {
    json!(Time(k8s_openapi::jiff::Timestamp::now()))
}
