//! What live said of a run whose captures were kept, and whether replay of the captures says the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Context, Error, Result, lab};
use crate::scenario::catalog;
use crate::scenario::model::{Replay, Scenario};

/// The file beside a run's captures.
const LIVE: &str = "live.json";
/// The outcome of what is open at a file's end.
const PENDING: &str = "pending";
/// The span of the client's side.
const CONNECT: &str = "tcp connect";

/// What a node's agent said of an attempt that left packets at its interfaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Live {
    /// Whose agent.
    pub node: String,
    /// The span: `tcp connect`, or of the server's side `tcp accept`, `tcp forward`.
    pub span: String,
    /// The scenario's name of the connect, where it has one.
    pub connect: Option<String>,
    /// Trace id.
    pub trace_id: String,
    /// `synspan.outcome`.
    pub outcome: String,
    /// `synspan.cause`.
    pub cause: Option<String>,
    /// `synspan.responsible`.
    pub responsible: Option<String>,
}

impl Live {
    /// What replay must say of it in place of this, where its scenario says why.
    fn allowed<'a>(&self, scenario: Option<&'a Scenario>) -> Option<&'a Replay> {
        let of = |node: Option<&str>| node.map_or(self.span == CONNECT, |node| node == self.node);
        let mut expects = scenario?.expect.iter().filter(|expect| self.connect.as_ref() == Some(&expect.connect));
        expects.find(|expect| of(expect.at.as_deref()))?.replay.as_ref()
    }
}

/// Writes down what live said.
pub fn write(dir: &Path, live: &[Live]) -> Result<()> {
    let mut text = serde_json::to_string_pretty(live).map_err(std::io::Error::from).context("write what live said")?;
    text.push('\n');
    std::fs::write(dir.join(LIVE), text).context(format_args!("write {}", dir.join(LIVE).display()))
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Compared {
    /// How many attempts were compared.
    pub attempts: usize,
    /// How many of them replay says less of than live, as the scenario allows.
    pub less: usize,
    /// Where replay differs.
    pub wrong: Vec<String>,
}

/// The runs below a directory: each directory that has a `live.json`.
pub fn runs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut runs = Vec::new();
    if dir.join(LIVE).is_file() {
        runs.push(dir.to_owned());
    }
    for entry in std::fs::read_dir(dir).context(format_args!("read {}", dir.display()))? {
        let path = entry.context(format_args!("read {}", dir.display()))?.path();
        if path.is_dir() && path.join(LIVE).is_file() {
            runs.push(path);
        }
    }
    runs.sort();
    if runs.is_empty() { lab(format!("no run was kept in {}: nothing has a {LIVE}", dir.display())) } else { Ok(runs) }
}

/// Whether it is what a run's directory has behind the name of its scenario: the family, and which run it was.
fn is_of_a_run(rest: &str) -> bool {
    let rest = rest.strip_prefix("-ipv4").or_else(|| rest.strip_prefix("-ipv6")).unwrap_or(rest);
    rest.is_empty() || rest.strip_prefix('-').is_some_and(|run| run.parse::<u32>().is_ok())
}

/// Replays the captures of one run, node by node, and compares.
pub fn compare(agent: &Path, dir: &Path) -> Result<Compared> {
    let text = std::fs::read_to_string(dir.join(LIVE)).context(format_args!("read {}", dir.join(LIVE).display()))?;
    let all: Vec<Live> = serde_json::from_str(&text).map_err(std::io::Error::from).context("parse what live said")?;
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let scenarios = catalog::all()?;
    let scenario = scenarios.iter().find(|scenario| name.strip_prefix(&scenario.name).is_some_and(is_of_a_run));
    let mut compared = Compared::default();
    let mut nodes: Vec<PathBuf> = std::fs::read_dir(dir)
        .context(format_args!("read {}", dir.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    nodes.sort();
    for path in nodes {
        let node = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let said = replay(agent, &path)?;
        let live: Vec<&Live> = all.iter().filter(|live| live.node == node).collect();
        compared.attempts += live.len();
        let found = differences(&live, &said, scenario);
        compared.less += found.less;
        compared.wrong.extend(found.wrong.into_iter().map(|text| format!("{node}: {text}")));
    }
    Ok(compared)
}

/// Runs `synspan replay` over a node's files and gives its lines.
fn replay(agent: &Path, dir: &Path) -> Result<Vec<Value>> {
    let mut command = Command::new(agent);
    command.args(["replay", "--json"]);
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .context(format_args!("read {}", dir.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "pcap"))
        .collect();
    files.sort();
    for file in files {
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let Some((kind, name)) = stem.split_once('.') else { continue };
        command.arg("--point").arg(format!("{kind}:{name}={}", file.display()));
    }
    let output = command.output().context(format_args!("run {} replay", agent.display()))?;
    if !output.status.success() {
        return lab(format!("replay of {}: {}", dir.display(), String::from_utf8_lossy(&output.stderr).trim()));
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let parse = |line: &str| {
        serde_json::from_str(line).map_err(|error| Error::Lab(format!("replay said no JSON ({error}): {line}")))
    };
    lines.lines().filter(|line| !line.trim().is_empty()).map(parse).collect()
}

/// What differs between live and replay of one node.
#[derive(Debug, Default)]
struct Found {
    less: usize,
    wrong: Vec<String>,
}

fn differences(live: &[&Live], said: &[Value], scenario: Option<&Scenario>) -> Found {
    let mut found = Found::default();
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let shown = |word: &Option<String>| word.clone().unwrap_or_else(|| "none".into());
    // Of strangers' attempts the first few are told, and the rest summed up: which, nobody promises.
    let strangers = scenario.is_some_and(|scenario| scenario.agents.strangers);
    for one in live {
        if strangers && one.connect.is_none() {
            continue;
        }
        let name = format!("{} `{}` {}", one.connect.as_deref().unwrap_or("somebody"), one.span, one.trace_id);
        let Some(line) = said.iter().find(|line| text(line, "trace_id").as_deref() == Some(one.trace_id.as_str()))
        else {
            found.wrong.push(format!("{name}: live said {}, and replay has no such trace", shown(&one.cause)));
            continue;
        };
        let (cause, side) = (text(line, "cause"), text(line, "responsible"));
        let pending = text(line, "outcome").as_deref() == Some(PENDING) && one.outcome != PENDING;
        if cause == one.cause && side == one.responsible && !pending {
            continue;
        }
        let allowed = one.allowed(scenario).is_some_and(|want| {
            let same_side = match &want.responsible {
                Some(want) => want.met(side.as_deref()),
                None => side.is_none() || side == one.responsible,
            };
            want.cause.met(cause.as_deref()) && same_side && (want.pending || !pending)
        });
        if allowed {
            found.less += 1;
            continue;
        }
        found.wrong.push(format!(
            "{name}: live said {} ({}), replay {} ({}){}",
            shown(&one.cause),
            shown(&one.responsible),
            shown(&cause),
            shown(&side),
            if pending { ", open still" } else { "" },
        ));
    }
    for line in said {
        let (trace, cause) = (text(line, "trace_id"), text(line, "cause"));
        let known = live.iter().any(|one| Some(one.trace_id.as_str()) == trace.as_deref());
        if let (false, false, Some(cause)) = (known, strangers, cause) {
            found.wrong.push(format!("replay said {cause} of {}, of which live said nothing", shown(&trace)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(trace: &str, cause: Option<&str>) -> Live {
        Live {
            node: "node-a".into(),
            span: CONNECT.into(),
            connect: Some("late".into()),
            trace_id: trace.into(),
            outcome: "established".into(),
            cause: cause.map(Into::into),
            responsible: cause.map(|_| "node".into()),
        }
    }

    #[test]
    fn what_is_the_same_is_no_difference() {
        let (a, b) = (live("a", Some("source_port_reuse")), live("b", None));
        let said = [
            json!({"trace_id": "a", "cause": "source_port_reuse", "responsible": "node"}),
            json!({"trace_id": "b", "cause": null, "responsible": null}),
            json!({"trace_id": null, "cause": null}),
        ];
        assert_eq!(differences(&[&a, &b], &said, None).wrong, Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_told() {
        let told = |one: Live, line: Value| differences(&[&one], &[line], None).wrong.join("; ");
        let case = || live("a", Some("source_port_reuse"));
        assert!(told(case(), json!({"trace_id": "b"})).contains("no such trace"));
        let other = json!({"trace_id": "a", "cause": "unexpected_ack", "responsible": "node"});
        assert!(told(case(), other).contains("replay unexpected_ack (node)"));
        let reuse = |side: &str, outcome: &str| json!({"trace_id": "a", "cause": "source_port_reuse", "responsible": side, "outcome": outcome});
        assert!(told(case(), reuse("client", "established")).contains("(client)"));
        assert!(told(case(), reuse("node", "pending")).contains("open still"));
        assert_eq!(told(case(), reuse("node", "established")), "");
        assert!(told(live("a", None), json!({"trace_id": "a", "cause": "syn_lost"})).contains("live said none"));
        let stray = differences(&[], &[json!({"trace_id": "z", "cause": "syn_lost"})], None);
        assert!(stray.wrong[0].contains("live said nothing"));
    }

    #[test]
    fn a_scenario_may_say_why_replay_says_less() {
        let text = "
about: x
topology: {nodes: [{name: node-a, pods: [a]}]}
steps:
  - connect: {as: late, from: a, port: 1}
  - connect: {as: control, from: a, port: 1}
expect:
  - {connect: late, replay: {cause: [dropped_in_node, none], because: the kernel says more}}
";
        let scenario = catalog::read("x", text).unwrap();
        let told = |one: Live, line: Value| {
            let found = differences(&[&one], &[line], Some(&scenario));
            (found.less, found.wrong.len())
        };
        let line = |cause: Option<&str>, side: Option<&str>, outcome: &str| json!({"trace_id": "a", "cause": cause, "responsible": side, "outcome": outcome});
        let case = || live("a", Some("conntrack_table_full"));
        assert_eq!(told(case(), line(Some("dropped_in_node"), Some("node"), "failed")), (1, 0));
        assert_eq!(told(case(), line(None, None, "failed")), (1, 0));
        assert_eq!(told(case(), line(Some("dropped_in_node"), Some("client"), "failed")), (0, 1));
        assert_eq!(told(case(), line(None, None, "pending")), (0, 1));
        assert_eq!(told(case(), line(Some("syn_lost"), None, "failed")), (0, 1));
        assert_eq!(told(Live { span: "tcp accept".into(), ..case() }, line(None, None, "failed")), (0, 1));
    }
}
