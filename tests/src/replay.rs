//! What live said of a run whose captures were kept, and whether replay of the captures says the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Context, Error, Result, lab};
use crate::scenario::model::Want;

/// The file beside a run's captures.
const LIVE: &str = "live.json";

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
    /// The cause that replay must give where packets alone do not show live's.
    #[serde(default)]
    pub replay: Option<Want>,
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
    /// How many of them replay leaves open, since nothing on the wire ends them before the file does.
    pub open: usize,
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

/// Replays the captures of one run, node by node, and compares.
pub fn compare(agent: &Path, dir: &Path) -> Result<Compared> {
    let text = std::fs::read_to_string(dir.join(LIVE)).context(format_args!("read {}", dir.join(LIVE).display()))?;
    let all: Vec<Live> = serde_json::from_str(&text).map_err(std::io::Error::from).context("parse what live said")?;
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
        compared.open += live.iter().filter(|live| open(live, &said)).count();
        compared.wrong.extend(differences(&live, &said).into_iter().map(|text| format!("{node}: {text}")));
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

/// Whether live saw an attempt's end by its socket alone, and replay has it open with no verdict: the kernel, or the
/// application, gives up in silence.
fn open(live: &Live, said: &[Value]) -> bool {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let found = said.iter().find(|line| text(line, "trace_id").as_deref() == Some(live.trace_id.as_str()));
    let silent = matches!(live.outcome.as_str(), "timed_out" | "aborted");
    silent && found.is_some_and(|line| text(line, "outcome").as_deref() == Some("pending") && line["cause"].is_null())
}

fn differences(live: &[&Live], said: &[Value]) -> Vec<String> {
    let mut wrong = Vec::new();
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let shown = |word: &Option<String>| word.clone().unwrap_or_else(|| "none".into());
    for one in live {
        let name = format!("{} `{}` {}", one.connect.as_deref().unwrap_or("somebody"), one.span, one.trace_id);
        let found = said.iter().find(|line| text(line, "trace_id").as_deref() == Some(one.trace_id.as_str()));
        let Some(found) = found else {
            wrong.push(format!("{name}: live said {}, and replay has no such trace", shown(&one.cause)));
            continue;
        };
        let (cause, side) = (text(found, "cause"), text(found, "responsible"));
        if open(one, said) {
            continue;
        }
        let same = match &one.replay {
            Some(want) => want.met(cause.as_deref()),
            None => cause == one.cause && side == one.responsible,
        };
        if !same {
            wrong.push(format!(
                "{name}: live said {} ({}), replay {} ({})",
                shown(&one.cause),
                shown(&one.responsible),
                shown(&cause),
                shown(&side),
            ));
        }
    }
    for line in said {
        let (trace, cause) = (text(line, "trace_id"), text(line, "cause"));
        let known = live.iter().any(|one| Some(one.trace_id.as_str()) == trace.as_deref());
        if let (false, Some(cause)) = (known, cause) {
            wrong.push(format!("replay said {cause} of {}, of which live said nothing", shown(&trace)));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(trace: &str, cause: Option<&str>) -> Live {
        Live {
            node: "node-a".into(),
            span: "tcp connect".into(),
            connect: Some("late".into()),
            trace_id: trace.into(),
            outcome: "established".into(),
            cause: cause.map(Into::into),
            responsible: cause.map(|_| "node".into()),
            replay: None,
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
        assert_eq!(differences(&[&a, &b], &said), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_told() {
        let told = |one: Live, line: Value| differences(&[&one], &[line]).join("; ");
        let case = || live("a", Some("source_port_reuse"));
        assert!(told(case(), json!({"trace_id": "b"})).contains("no such trace"));
        let other = json!({"trace_id": "a", "cause": "unexpected_ack", "responsible": "node"});
        assert!(told(case(), other.clone()).contains("replay unexpected_ack (node)"));
        assert!(
            told(case(), json!({"trace_id": "a", "cause": "source_port_reuse", "responsible": "client"}))
                .contains("(client)")
        );
        let allowed = Live { replay: Some(Want::Is("unexpected_ack".into())), ..case() };
        assert_eq!(told(allowed, other), "");
        assert!(told(live("a", None), json!({"trace_id": "a", "cause": "syn_lost"})).contains("live said none"));
        let gone = Live { outcome: "timed_out".into(), ..live("a", Some("no_response")) };
        let pending = json!({"trace_id": "a", "cause": null, "outcome": "pending"});
        assert!(open(&gone, std::slice::from_ref(&pending)));
        assert_eq!(told(gone, pending.clone()), "");
        assert!(told(live("a", Some("no_response")), pending).contains("replay none"));
        assert!(differences(&[], &[json!({"trace_id": "z", "cause": "syn_lost"})])[0].contains("live said nothing"));
    }
}
