//! Reading `exporters` and `service`: where each signal goes.

use super::file::Given;
use super::model::{Color, Config, DebugExporter, Exporter, ExporterKind, LogLevel, OwnTelemetry, Pipelines};
use super::otlp::otlp;
use super::reader::{Field, MapReader, Reading, join};
use super::signals::interval;
use super::values::{boolean, choice, nearest, one_of, shown};

/// Types of exporters that exist.
const TYPES: [&str; 3] = ["otlp", "otlp_grpc", "debug"];
/// Types of pipelines that exist.
const SIGNALS: [&str; 3] = ["traces", "logs", "metrics"];

/// What `exporters` defines: ids with their lines.
type Defined = [(String, usize)];

/// Reads both blocks.
pub(super) fn exporters_and_pipelines(
    map: &mut MapReader<'_>,
    reading: &mut Reading<'_>,
    config: &mut Config,
    given: &mut Given,
) {
    let mut defined: Vec<(String, usize)> = Vec::new();
    let mut exporters = Vec::new();
    if let Some(field) = map.field("exporters") {
        for entry in field.entries(reading).unwrap_or_default() {
            let block = Field { node: &entry.value, line: entry.line, path: join(&field.path, &entry.key) };
            defined.push((entry.key.clone(), entry.line));
            if let Some(kind) = exporter(&entry.key, &block, reading) {
                exporters.push(Exporter { id: entry.key.clone(), kind });
            }
        }
    }
    let mut service = map.map(reading, "service");
    let named = service.field("pipelines").map(|field| pipelines(&field, reading, &defined));
    service.unsupported(reading, "extensions", &[], "remove it: synspan has no extensions");
    given.own_interval = telemetry(&mut service, reading, config, &defined);
    service.finish(reading);
    if defined.is_empty() {
        return;
    }
    given.exporters = true;
    config.exporters = exporters;
    config.pipelines = match named {
        Some(named) => {
            doubtful(&named, &config.own_telemetry, &defined, reading);
            named
        }
        // With no pipelines at all, everything goes to every exporter.
        None => Pipelines::all_to(defined.into_iter().map(|(id, _)| id).collect()),
    };
}

/// Warns of exporters that are given nothing, or nothing that they would show.
fn doubtful(named: &Pipelines, own: &OwnTelemetry, defined: &Defined, reading: &mut Reading<'_>) {
    for (id, line) in defined {
        let path = join("exporters", id);
        let own = own.log_exporters.iter().chain(&own.metric_exporters).any(|other| other == id);
        if !own && !named.ids().contains(&id.as_str()) {
            let right = format!("add {id} to the exporters of one below service.pipelines, or remove it");
            reading.warning(*line, &path, "this exporter is in no pipeline", right);
        } else if is_console(id) && !named.traces.contains(id) {
            let right = format!("add {id} to service.pipelines.traces.exporters, or remove it");
            reading.warning(*line, &path, "the console shows what is in a pipeline of traces, and nothing else", right);
        }
    }
}

fn is_console(id: &str) -> bool {
    id.split('/').next() == Some("debug")
}

fn exporter(id: &str, block: &Field<'_>, reading: &mut Reading<'_>) -> Option<ExporterKind> {
    let (kind, name) = match id.split_once('/') {
        Some((kind, name)) => (kind, Some(name)),
        None => (id, None),
    };
    if name.is_some_and(str::is_empty) {
        reading.problem(
            block.line,
            &block.path,
            "the name after the slash is empty",
            format!("write {kind} or {kind}/name"),
        );
        return None;
    }
    match kind {
        "otlp" | "otlp_grpc" => otlp(block, reading).map(|otlp| ExporterKind::Otlp(Box::new(otlp))),
        "debug" => Some(ExporterKind::Debug(debug(block, reading))),
        "otlphttp" | "otlp_http" => {
            reading.problem(
                block.line,
                &block.path,
                "OTLP over HTTP is not supported by this version",
                "use otlp (gRPC, port 4317 by custom)",
            );
            None
        }
        _ => {
            let right = match nearest(kind, TYPES) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("use {}", one_of(&TYPES)),
            };
            reading.problem(
                block.line,
                &block.path,
                format!("{} is no type of exporter that synspan has", shown(kind)),
                right,
            );
            None
        }
    }
}

fn debug(block: &Field<'_>, reading: &mut Reading<'_>) -> DebugExporter {
    let mut map = block.map(reading);
    let mut debug = DebugExporter::default();
    if let Some(all) =
        map.get(reading, "verbosity", |text| choice(text, &[("basic", false), ("normal", false), ("detailed", true)]))
    {
        debug.all = all;
    }
    map.set(reading, "all", &mut debug.all, boolean);
    map.set(reading, "color", &mut debug.color, |text| {
        choice(text, &[("auto", Color::Auto), ("always", Color::Always), ("never", Color::Never)])
    });
    for key in ["sampling_initial", "sampling_thereafter", "use_internal_logger", "output_paths", "sending_queue"] {
        map.unsupported(reading, key, &[], "remove it: the console sums up what it does not show");
    }
    map.finish(reading);
    debug
}

/// `service.pipelines`: `traces`, `logs`, `metrics`, each also as `traces/name`.
fn pipelines(field: &Field<'_>, reading: &mut Reading<'_>, defined: &Defined) -> Pipelines {
    let mut pipelines = Pipelines::default();
    let Some(entries) = field.entries(reading) else { return pipelines };
    if entries.is_empty() {
        reading.problem(
            field.line,
            &field.path,
            "there is no pipeline",
            "add traces, logs or metrics: {exporters: [...]}, or remove `pipelines` to send all to every exporter",
        );
    }
    for entry in entries {
        let field = Field { node: &entry.value, line: entry.line, path: join(&field.path, &entry.key) };
        let (signal, name) = match entry.key.split_once('/') {
            Some((signal, name)) => (signal, Some(name)),
            None => (entry.key.as_str(), None),
        };
        let target = match signal {
            "traces" => &mut pipelines.traces,
            "logs" => &mut pipelines.logs,
            "metrics" => &mut pipelines.metrics,
            "profiles" => {
                reading.problem(
                    field.line,
                    &field.path,
                    "not supported by synspan",
                    "remove it: synspan has no profiles",
                );
                continue;
            }
            _ => {
                let right = match nearest(signal, SIGNALS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", SIGNALS.join(", ")),
                };
                reading.problem(field.line, &field.path, "unknown key", right);
                continue;
            }
        };
        if name.is_some_and(str::is_empty) {
            let right = format!("write {signal} or {signal}/name");
            reading.problem(field.line, &field.path, "the name after the slash is empty", right);
        }
        // What several pipelines of a signal name, gets it once.
        for id in pipeline(&field, reading, defined) {
            if !target.contains(&id) {
                target.push(id);
            }
        }
    }
    pipelines
}

fn pipeline(field: &Field<'_>, reading: &mut Reading<'_>, defined: &Defined) -> Vec<String> {
    let mut map = field.map(reading);
    for key in ["receivers", "processors"] {
        map.unsupported(reading, key, &[], "remove it: synspan is the receiver, and has no processors");
    }
    let listed = map.field("exporters");
    map.finish(reading);
    let Some(listed) = listed else {
        reading.problem(field.line, &field.path, "no exporter is named", "add exporters: [...]");
        return Vec::new();
    };
    let ids = ids(&listed, reading, defined);
    if ids.as_ref().is_some_and(|(_, items)| *items == 0) {
        reading.problem(listed.line, &listed.path, "the list is empty", "name at least one exporter");
    }
    ids.map(|(ids, _)| ids).unwrap_or_default()
}

/// Ids of exporters that are defined, each once, and how many items the list has; none if it is no list.
fn ids(listed: &Field<'_>, reading: &mut Reading<'_>, defined: &Defined) -> Option<(Vec<String>, usize)> {
    let mut ids: Vec<String> = Vec::new();
    let items = listed.items(reading)?;
    let count = items.len();
    for item in items {
        if item.is_null() {
            reading.problem(item.line, &item.path, "the list item is empty", "write a value, or remove it");
        }
        let Some(id) = item.text(reading) else { continue };
        if ids.iter().any(|other| other == id) {
            reading.problem(item.line, &item.path, format!("{} is named twice", shown(id)), "keep one of the two");
        } else if !defined.iter().any(|(other, _)| other == id) {
            let right = match nearest(id, defined.iter().map(|(id, _)| id.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add {id}: below `exporters`, or remove it here"),
            };
            reading.problem(item.line, &item.path, format!("the exporter {} is not defined", shown(id)), right);
        } else {
            ids.push(id.to_owned());
        }
    }
    Some((ids, count))
}

/// `service.telemetry`. Whether it says how often synspan's own metrics go out.
fn telemetry(service: &mut MapReader<'_>, reading: &mut Reading<'_>, config: &mut Config, defined: &Defined) -> bool {
    let mut telemetry = service.map(reading, "telemetry");
    let mut logs = telemetry.map(reading, "logs");
    logs.set(reading, "level", &mut config.log_level, |text| {
        let levels = [
            ("error", LogLevel::Error),
            ("warn", LogLevel::Warn),
            ("info", LogLevel::Info),
            ("debug", LogLevel::Debug),
            ("trace", LogLevel::Trace),
        ];
        choice(&text.to_ascii_lowercase(), &levels)
    });
    let own = &mut config.own_telemetry;
    own.log_exporters = own_exporters(&mut logs, reading, defined);
    logs.finish(reading);
    let mut metrics = telemetry.map(reading, "metrics");
    own.metric_exporters = own_exporters(&mut metrics, reading, defined);
    let given = metrics.get(reading, "interval", interval);
    own.metric_interval = given.unwrap_or(own.metric_interval);
    metrics.unsupported(
        reading,
        "level",
        &[],
        "remove it: all of synspan's own metrics are sent to `exporters`, or none if that is empty",
    );
    metrics.unsupported(
        reading,
        "readers",
        &[],
        "remove it: name exporters in `exporters`, or set agent.health.metrics to be scraped",
    );
    metrics.finish(reading);
    for key in ["traces", "resource"] {
        telemetry.unsupported(reading, key, &[], "remove it: of itself synspan sends logs and metrics only");
    }
    telemetry.finish(reading);
    given.is_some()
}

/// Where synspan's own goes.
fn own_exporters(map: &mut MapReader<'_>, reading: &mut Reading<'_>, defined: &Defined) -> Vec<String> {
    let Some(listed) = map.field("exporters") else { return Vec::new() };
    ids(&listed, reading, defined).unwrap_or_default().0
}
