//! The agent under test: its configuration, its start on a node, its readiness, its end.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Context, Error, Result, lab};
use crate::net::process::Process;
use crate::receiver::ENDPOINT;
use crate::topology::{Family, NODE_NETWORKS, POD_NETWORKS};
use crate::world::World;

/// What the agent says on standard error once all interfaces present at its start are attached.
pub const READY: &str = "capture ready";

/// The environment variable that names the capabilities that agents are started with, as setpriv(1) names them
/// (`bpf,perfmon,net_admin`); empty for none. Without it they have all of the lab's.
pub const CAPABILITIES: &str = "SYNSPAN_LAB_CAPABILITIES";

/// The environment variable that adds to every agent's configuration: a JSON object whose keys take the place of those
/// that the lab would write.
pub const SETTINGS: &str = "SYNSPAN_LAB_CONFIG";

const START_PATIENCE: Duration = Duration::from_secs(30);
const END_PATIENCE: Duration = Duration::from_secs(15);

/// A node's agent, ended on drop.
#[derive(Debug)]
pub struct Agent {
    node: String,
    process: Process,
    stderr: Arc<Mutex<String>>,
}

/// Where an agent's telemetry goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sink {
    /// To the lab's receiver.
    Receiver,
    /// To its own standard output, which is the lab's: the console tree.
    Console,
}

/// Where a node's agent answers: each has a place of its own.
fn socket(world: &World, node: &str) -> PathBuf {
    world.dir().join(format!("{node}.sock"))
}

/// Asks a node's agent by its own program: `args` is the command, as `["who", "46994"]`. Gives the output,
/// standard error behind standard output.
pub fn ask(world: &World, node: &str, program: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).arg("--socket").arg(socket(world, node)).stdin(Stdio::null());
    let output = command.output().context(format_args!("ask the agent of {node}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text) } else { lab(format!("{args:?} ended with {}: {text}", output.status)) }
}

/// The configuration of a node's agent.
pub fn config(world: &World, node: &str, sink: Sink) -> Result<Value> {
    let mut people = Vec::new();
    let topology = world.topology();
    let addresses = |name: &str| -> Vec<String> {
        [Family::V4, Family::V6]
            .iter()
            .filter_map(|&family| topology.address(name, family))
            .map(|a| a.to_string())
            .collect()
    };
    // In a cluster the API says who they are, and nothing else does.
    if let Some((_, node)) = topology.node_of(node).filter(|_| world.cluster().is_none()) {
        for pod in node.all_pods() {
            people.push(json!({
                "addresses": addresses(pod),
                "cgroups": [world.cgroup_name(pod)?],
                "attributes": {
                    "service.name": pod, "service.namespace": "shop",
                    "k8s.namespace.name": "shop", "k8s.pod.name": format!("{pod}-7d"),
                },
            }));
        }
    }
    let named = world.cluster().is_none_or(|cluster| !cluster.names_all);
    for server in topology.servers.iter().filter(|_| named) {
        people.push(json!({"addresses": addresses(server), "attributes": {"service.name": server}}));
    }
    // A cluster tells which addresses other agents cover.
    let networks = POD_NETWORKS.iter().chain(&NODE_NETWORKS).filter(|_| world.cluster().is_none());
    let covered: Vec<_> = networks.collect();
    let exporters = match sink {
        Sink::Receiver => json!({
            "otlp": {
                "endpoint": format!("http://{ENDPOINT}"),
                "tls": {"insecure": true},
                "compression": "none",
                "sending_queue": {"batch": {"flush_timeout": "50ms"}},
            },
            "debug": {},
        }),
        Sink::Console => json!({"debug": {}}),
    };
    let names: Vec<_> = exporters.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect();
    let all: Vec<_> = names.iter().filter(|name| *name != "debug").collect();
    let pipelines = if all.is_empty() {
        json!({"traces": {"exporters": names}})
    } else {
        json!({"traces": {"exporters": names}, "logs": {"exporters": all}, "metrics": {"exporters": all}})
    };
    let mut config = json!({
        "exporters": exporters,
        "service": {
            "pipelines": pipelines,
            "telemetry": {"logs": {"exporters": all}, "metrics": {"exporters": all}},
        },
        "capture": {"cgroup": world.node_cgroup(node)?},
        "tracking": {"covered": covered, "settle": "100ms"},
        // Whatever is attempted is to be seen.
        "sampling": {"ceiling": 0, "budget": {"rate": 0}},
        "quiet": {"sidecar": false, "health_checks": false},
        "identity": {"node_name": node, "static": people},
        "kubernetes": match world.cluster() {
            Some(cluster) => {
                let mut block = cluster.settings.clone();
                block.extend([("enabled".to_owned(), true.into()), ("kubeconfig".to_owned(), json!(cluster.kubeconfig))]);
                Value::Object(block)
            }
            None => json!({"enabled": false}),
        },
        "agent": {"socket": socket(world, node)},
    });
    if let Ok(text) = std::env::var(SETTINGS) {
        let added: serde_json::Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| Error::Lab(format!("{SETTINGS} is no JSON object: {error}")))?;
        if let Some(config) = config.as_object_mut() {
            config.extend(added);
        }
    }
    Ok(config)
}

impl Agent {
    /// Starts an agent in its node's namespace and waits until it captures.
    pub fn start(world: &World, node: &str, program: &Path, sink: Sink) -> Result<Self> {
        let file = world.dir().join(format!("{node}.yaml"));
        let text = serde_yaml::to_string(&config(world, node, sink)?).map_err(|error| Error::Lab(error.to_string()))?;
        std::fs::write(&file, text).context(format_args!("write {}", file.display()))?;
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", world.netns(node)?.path().display()));
        if let Ok(capabilities) = std::env::var(CAPABILITIES) {
            command.args(only(&capabilities)?);
        }
        command.arg(program).arg("run").arg("--config").arg(&file);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        if sink == Sink::Receiver {
            let log = world.dir().join(format!("{node}.out"));
            command.stdout(std::fs::File::create(&log).context("make the agent's output file")?);
        }
        let mut process = Process::spawn(command, &format!("the agent of {node}"))?;
        let Some(stderr) = process.child().stderr.take() else { return lab("an agent without standard error") };
        let (ready, when_ready) = std::sync::mpsc::channel();
        let text = Arc::new(Mutex::new(String::new()));
        let sink = text.clone();
        std::thread::Builder::new()
            .name(format!("log of {node}"))
            .spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(std::result::Result::ok) {
                    if line.contains(READY) {
                        let _ = ready.send(());
                    }
                    let mut text = sink.lock().unwrap_or_else(PoisonError::into_inner);
                    text.push_str(&line);
                    text.push('\n');
                }
            })
            .context("start a thread")?;
        let mut agent = Self { node: node.to_owned(), process, stderr: text };
        match when_ready.recv_timeout(START_PATIENCE) {
            Ok(()) => Ok(agent),
            Err(RecvTimeoutError::Timeout) => lab(format!(
                "the agent of {node} did not say `{READY}` within {START_PATIENCE:?}; its standard error:\n{}",
                agent.stderr()
            )),
            Err(RecvTimeoutError::Disconnected) => {
                // Its standard error has ended, and so has it, or will at once.
                let status = agent.process.terminate(END_PATIENCE)?;
                lab(format!("the agent of {node} ended with {status}; its standard error:\n{}", agent.stderr()))
            }
        }
    }

    /// Its node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it said on standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it by SIGTERM; it sends what it still has.
    pub fn stop(&mut self) -> Result<()> {
        let start = Instant::now();
        let status = self.process.terminate(END_PATIENCE)?;
        if status.success() {
            return Ok(());
        }
        lab(format!("the agent of {} ended with {status} after {:?}:\n{}", self.node, start.elapsed(), self.stderr()))
    }
}

/// The command that starts another with these capabilities and no way to more: what a container runtime makes of a list
/// of them, `drop: [ALL]` and `allowPrivilegeEscalation: false`.
fn only(capabilities: &str) -> Result<Vec<String>> {
    let mut bounding = "--bounding-set=-all".to_owned();
    for name in capabilities.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return lab(format!("{CAPABILITIES}: `{name}` is no capability's name; write them as bpf,net_admin"));
        }
        bounding.push_str(",+");
        bounding.push_str(name);
    }
    let others = ["--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"];
    Ok(["setpriv", &bounding].into_iter().chain(others).map(str::to_owned).collect())
}

/// The agent's program: the given one, else `synspan` beside the lab's own program.
pub fn program(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().context(format_args!("find the agent {}", path.display()));
    }
    let own = std::env::current_exe().context("find the lab's own program")?;
    let beside = own.with_file_name("synspan");
    if beside.is_file() {
        Ok(beside)
    } else {
        lab(format!("no agent at {}: build it, or name one by --agent", beside.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_capabilities_is_all_there_is() {
        let command = only("bpf, net_admin").expect("names");
        let expected = [
            "setpriv",
            "--bounding-set=-all,+bpf,+net_admin",
            "--inh-caps=-all",
            "--ambient-caps=-all",
            "--no-new-privs",
        ];
        assert_eq!(command, expected);
        assert_eq!(only("").expect("none")[1], "--bounding-set=-all");
        assert!(only("CAP_BPF;x").is_err());
    }
}
