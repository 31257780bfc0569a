//! `synspan check`: what a configuration means, or what is wrong with it, and with `--send` what each
//! backend answers to one record of each signal.

mod records;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::exporters::{otlp_options, signals};
use crate::config::{Config, Env, Exporter, ExporterKind, Loaded, OtlpExporter};
use crate::deliver::{Answer, GrpcSender, Signal, request};

/// Arguments of `synspan check`.
#[derive(Clone, PartialEq, Eq, Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration file; without it, the defaults and the environment are checked
    pub config: Option<PathBuf>,
    /// Send one record of each signal, marked as a test, to each exporter, and show what each backend answers
    #[arg(long)]
    pub send: bool,
}

/// How a check ended, with the exit code of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checked {
    /// All is well.
    Ok = 0,
    /// A backend did not take a record.
    SendFailed = 1,
    /// The configuration cannot be used.
    Wrong = 2,
}

/// Checks a configuration and writes what it found, in lines for people. Not to be called within a
/// tokio runtime, since it makes one.
///
/// # Errors
/// `out` cannot be written to, or no runtime can be made.
pub fn check(args: &CheckArgs, env: &dyn Env, out: &mut dyn Write) -> io::Result<Checked> {
    let Loaded { config, warnings } = match Config::load(args.config.as_deref(), env) {
        Ok(loaded) => loaded,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(Checked::Wrong);
        }
    };
    for warning in warnings {
        writeln!(out, "warning: {warning}")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Some(senders) = effective(&config, &runtime, out)? else { return Ok(Checked::Wrong) };
    if !args.send {
        return Ok(Checked::Ok);
    }
    let mut checked = Checked::Ok;
    if senders.is_empty() {
        writeln!(out, "send: nothing to send to, only the console is in use")?;
    }
    for (exporter, signal, sender) in senders {
        let (parcel, mark) = records::test(&config, signal);
        write!(out, "send: {exporter}: {}: ", signal.name())?;
        match runtime.block_on(sender.send(signal, request(&parcel))) {
            Answer::Taken { rejected: 0, message } if message.is_empty() => {
                writeln!(out, "ok, the backend took {mark}")?;
            }
            Answer::Taken { rejected: 0, message } => {
                writeln!(out, "ok, the backend took {mark}, and says: {message}")?;
            }
            Answer::Taken { message, .. } => {
                checked = Checked::SendFailed;
                writeln!(out, "the backend rejected it (partial success): {message}")?;
            }
            Answer::Failed(failure) => {
                checked = Checked::SendFailed;
                writeln!(out, "{failure}")?;
            }
        }
    }
    Ok(checked)
}

/// An exporter, a signal of it, and what sends it.
type Sending = (String, Signal, GrpcSender);

/// Writes what is in effect. Gives the exporters to send to; none if one cannot be set up.
fn effective(config: &Config, runtime: &Runtime, out: &mut dyn Write) -> io::Result<Option<Vec<Sending>>> {
    let _guard = runtime.enter();
    let mut senders = Vec::new();
    let mut wrong = false;
    for Exporter { id, kind } in &config.exporters {
        match kind {
            ExporterKind::Debug(debug) => {
                let what = if debug.all { "every attempt" } else { "attempts that failed, came late or reused a port" };
                writeln!(out, "exporter {id}: console, {what}")?;
            }
            ExporterKind::Otlp(otlp) => {
                writeln!(out, "exporter {id}: {}", describe(otlp))?;
                match GrpcSender::new(&otlp_options(id, otlp, signals(config, id)).grpc) {
                    Ok(sender) => {
                        senders.extend(signals(config, id).into_iter().map(|of| (id.clone(), of, sender.clone())));
                    }
                    Err(what) => {
                        wrong = true;
                        writeln!(out, "exporters.{id}: {what}")?;
                    }
                }
            }
        }
    }
    destinations(config, out)?;
    if !config.resource_attributes.is_empty() {
        let names: Vec<&str> = config.resource_attributes.iter().map(|(name, _)| name.as_str()).collect();
        writeln!(out, "on every resource: {}", names.join(", "))?;
    }
    Ok((!wrong).then_some(senders))
}

/// Writes where each signal goes, and where synspan's own does.
fn destinations(config: &Config, out: &mut dyn Write) -> io::Result<()> {
    let pipelines = &config.pipelines;
    let all: Vec<&str> = config.trace_exporters().map(|exporter| exporter.id.as_str()).collect();
    destination(out, "traces", &all, None)?;
    // The console shows an attempt once: with the traces.
    let sent = |ids| -> Vec<&str> {
        let sent = config.named(ids).filter(|exporter| !matches!(exporter.kind, ExporterKind::Debug(_)));
        sent.map(|exporter| exporter.id.as_str()).collect()
    };
    destination(out, "logs", &sent(&pipelines.logs), None)?;
    destination(out, "metrics", &sent(&pipelines.metrics), Some(config.metrics.interval))?;
    let own = &config.own_telemetry;
    let mut logs = vec!["standard error"];
    logs.extend(own.log_exporters.iter().map(String::as_str));
    destination(out, "synspan's own logs", &logs, None)?;
    let metrics: Vec<&str> = own.metric_exporters.iter().map(String::as_str).collect();
    destination(out, "synspan's own metrics", &metrics, Some(own.metric_interval))?;
    Ok(())
}

fn destination(out: &mut dyn Write, what: &str, ids: &[&str], interval: Option<Duration>) -> io::Result<()> {
    if ids.is_empty() {
        return writeln!(out, "{what} -> nowhere");
    }
    write!(out, "{what} -> {}", ids.join(", "))?;
    match interval {
        Some(interval) => writeln!(out, ", every {interval:?}"),
        None => writeln!(out),
    }
}

/// One line; names of headers, but not their values.
fn describe(otlp: &OtlpExporter) -> String {
    let mut line = format!("OTLP/gRPC to {}, {:?}", otlp.endpoint, otlp.compression)
        .to_lowercase()
        .replace("otlp/grpc", "OTLP/gRPC");
    line += &format!(", timeout {:?}", otlp.timeout);
    if otlp.endpoint.tls {
        line += match (otlp.tls.insecure_skip_verify, otlp.tls.cert.is_some()) {
            (true, _) => ", TLS without verification",
            (false, true) => ", mutual TLS",
            (false, false) => ", TLS",
        };
    }
    if !otlp.headers.is_empty() {
        let names: Vec<&str> = otlp.headers.iter().map(|(name, _)| name.as_str()).collect();
        line += &format!(", headers {}", names.join(" "));
    }
    line
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::MapEnv;

    fn run(text: &str, send: bool) -> (Checked, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let args = CheckArgs { config: Some(file.path().to_owned()), send };
        let mut out = Vec::new();
        let checked = check(&args, &MapEnv::default(), &mut out).unwrap();
        (checked, String::from_utf8(out).unwrap().replace(&file.path().display().to_string(), "FILE"))
    }

    #[test]
    fn says_what_is_effective() {
        let text =
            "exporters:\n  debug:\n  otlp:\n    endpoint: http://127.0.0.1:4317\n    headers: {authorization: hush}\n";
        let (checked, out) = run(text, false);
        assert_eq!(checked, Checked::Ok);
        assert_eq!(
            out,
            "exporter debug: console, attempts that failed, came late or reused a port\n\
             exporter otlp: OTLP/gRPC to http://127.0.0.1:4317, gzip, timeout 5s, headers authorization\n\
             traces -> debug, otlp\n\
             logs -> otlp\n\
             metrics -> otlp, every 60s\n\
             synspan's own logs -> standard error\n\
             synspan's own metrics -> nowhere\n"
        );
    }

    #[test]
    fn says_where_each_signal_goes() {
        let text = "exporters: {debug: , otlp/a: {endpoint: 'http://a:1'}, otlp/b: {endpoint: 'http://b:1'}}\n\
                    service:\n  pipelines: {logs: {exporters: [otlp/a, otlp/b]}, traces: {exporters: [debug]}}\n  \
                    telemetry: {logs: {exporters: [otlp/a]}, metrics: {exporters: [otlp/b], interval: 90s}}\n";
        let (checked, out) = run(text, false);
        assert_eq!(checked, Checked::Ok);
        let lines: Vec<&str> = out.lines().filter(|line| line.contains(" -> ")).collect();
        assert_eq!(
            lines,
            [
                "traces -> debug",
                "logs -> otlp/a, otlp/b",
                "metrics -> nowhere",
                "synspan's own logs -> standard error, otlp/a",
                "synspan's own metrics -> otlp/b, every 90s"
            ]
        );
    }

    #[test]
    fn says_what_is_wrong() {
        let (checked, out) = run("captur: 1\n", false);
        assert_eq!((checked, out.as_str()), (Checked::Wrong, "FILE:1: captur: unknown key; did you mean `capture`?\n"));
        let text =
            "exporters:\n  otlp:\n    endpoint: https://127.0.0.1:4317\n    tls: {ca_file: /nonexistent/ca.pem}\n";
        let (checked, out) = run(text, true);
        assert_eq!(checked, Checked::Wrong);
        assert!(out.contains("exporters.otlp: tls.ca_file: /nonexistent/ca.pem cannot be read"), "{out}");
    }

    #[test]
    fn says_that_nobody_listens() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (checked, out) = run(&format!("exporters: {{otlp: {{endpoint: 'http://127.0.0.1:{port}'}}}}"), true);
        assert_eq!(checked, Checked::SendFailed);
        assert!(
            ["traces", "logs", "metrics"].iter().all(|of| out.contains(&format!("send: otlp: {of}: cannot connect: ")))
                && out.contains("check that the backend runs"),
            "{out}"
        );
    }
}
