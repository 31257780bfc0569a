//! From the configuration's exporters to delivery's options.

use crate::config::{self, Config, ExporterKind, OtlpExporter, Sizer, TlsVersion};
use crate::deliver::{
    Capacity, Compression, ExporterOptions, GrpcOptions, MAX_REQUEST, Options, Pem, QueueOptions, RetryOptions, Signal,
    TlsOptions,
};
use crate::own::Target;

/// Where the configuration counts records, a request goes out at this many bytes too...
const ENOUGH: usize = 512 << 10;
/// ...and takes no more than this. Each needs its size in memory several times over.
const PLENTY: usize = 1 << 20;

/// Options of delivery for every exporter that a pipeline sends to. The console is none of them.
pub fn delivery_options(config: &Config) -> Options {
    let used = config.pipelines.ids().into_iter().filter_map(|id| config.exporter(id));
    let exporters = used
        .filter_map(|exporter| match &exporter.kind {
            ExporterKind::Otlp(otlp) => Some(otlp_options(&exporter.id, otlp, signals(config, &exporter.id))),
            ExporterKind::Debug(_) => None,
        })
        .collect();
    Options { memory_limit: usize::try_from(config.delivery.memory_limit).unwrap_or(usize::MAX), exporters }
}

/// Where synspan's own telemetry goes, to these exporters of the configuration.
pub fn own_targets(config: &Config, ids: &[String]) -> Vec<Target> {
    let target = |exporter: &config::Exporter| match &exporter.kind {
        ExporterKind::Otlp(otlp) => Target::Otlp(exporter.id.clone(), Box::new(grpc(otlp))),
        ExporterKind::Debug(_) => Target::Console,
    };
    config.named(ids).map(target).collect()
}

/// The signals whose pipelines name an exporter.
pub fn signals(config: &Config, id: &str) -> Vec<Signal> {
    let pipelines = &config.pipelines;
    [(Signal::Traces, &pipelines.traces), (Signal::Logs, &pipelines.logs), (Signal::Metrics, &pipelines.metrics)]
        .into_iter()
        .filter(|(_, ids)| ids.iter().any(|other| other == id))
        .map(|(signal, _)| signal)
        .collect()
}

/// Options of one OTLP exporter for these signals.
pub fn otlp_options(id: &str, otlp: &OtlpExporter, signals: Vec<Signal>) -> ExporterOptions {
    ExporterOptions {
        id: id.to_owned(),
        signals,
        grpc: grpc(otlp),
        retry: RetryOptions {
            enabled: otlp.retry.enabled,
            initial: otlp.retry.initial_interval,
            randomization: otlp.retry.randomization_factor,
            multiplier: otlp.retry.multiplier,
            max: otlp.retry.max_interval,
            max_elapsed: otlp.retry.max_elapsed_time,
        },
        queue: queue(&otlp.queue),
    }
}

fn grpc(otlp: &OtlpExporter) -> GrpcOptions {
    GrpcOptions {
        host: otlp.endpoint.host.clone(),
        port: otlp.endpoint.port,
        tls: otlp.endpoint.tls.then(|| tls(&otlp.tls)),
        timeout: otlp.timeout,
        compression: match otlp.compression {
            config::Compression::Gzip => Compression::Gzip,
            config::Compression::Zstd => Compression::Zstd,
            config::Compression::None => Compression::None,
        },
        headers: otlp.headers.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect(),
        user_agent: otlp.user_agent.clone(),
        authority: otlp.authority.clone(),
        keepalive_time: otlp.keepalive.time,
        keepalive_timeout: otlp.keepalive.timeout,
        keepalive_while_idle: otlp.keepalive.permit_without_stream,
    }
}

fn tls(tls: &config::Tls) -> TlsOptions {
    let pem = |pem: &config::Pem| match pem {
        config::Pem::File(path) => Pem::File(path.clone()),
        config::Pem::Text(text) => Pem::Text(text.0.clone()),
    };
    TlsOptions {
        insecure_skip_verify: tls.insecure_skip_verify,
        server_name: tls.server_name_override.clone(),
        ca: tls.ca.as_ref().map(pem),
        system_roots: tls.include_system_ca_certs_pool,
        client: tls.cert.as_ref().zip(tls.key.as_ref()).map(|(cert, key)| (pem(cert), pem(key))),
        tls12: tls.min_version == TlsVersion::V1_2,
        tls13: tls.max_version != Some(TlsVersion::V1_2),
        reload_interval: tls.reload_interval,
    }
}

fn queue(queue: &config::SendingQueue) -> QueueOptions {
    let batch = &queue.batch;
    let unlimited = |size: usize| if size == 0 { usize::MAX } else { size };
    let (min_items, min_bytes, max_items, max_bytes) = match batch.sizer {
        Sizer::Bytes => (usize::MAX, batch.min_size, usize::MAX, unlimited(batch.max_size)),
        Sizer::Items | Sizer::Requests => (batch.min_size, ENOUGH, unlimited(batch.max_size), PLENTY),
    };
    QueueOptions {
        consumers: queue.num_consumers,
        capacity: match queue.sizer {
            Sizer::Requests => Capacity::Requests(queue.queue_size),
            Sizer::Items => Capacity::Items(queue.queue_size),
            Sizer::Bytes => Capacity::Bytes(queue.queue_size),
        },
        flush_timeout: batch.flush_timeout,
        min_items,
        min_bytes,
        max_items,
        max_bytes: max_bytes.min(MAX_REQUEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MapEnv;

    #[test]
    fn each_exporter_has_the_signals_of_its_pipelines() {
        let of = |text: &str| {
            let config = Config::parse("t.yaml", text, &MapEnv::default()).unwrap().config;
            let exporters = delivery_options(&config).exporters.into_iter();
            exporters.map(|exporter| (exporter.id, exporter.signals)).collect::<Vec<_>>()
        };
        let (traces, logs, metrics) = (Signal::Traces, Signal::Logs, Signal::Metrics);
        let exporters = "exporters: {otlp: {endpoint: 'http://a:1'}, otlp/b: {endpoint: 'http://b:1'}, debug: }\n";
        let all = vec![traces, logs, metrics];
        assert_eq!(of(exporters), [("otlp".to_owned(), all.clone()), ("otlp/b".to_owned(), all)]);
        let apart = "service:\n  pipelines:\n    logs: {exporters: [otlp/b, debug]}\n    \
                     traces: {exporters: [otlp]}\n    metrics: {exporters: [otlp/b]}\n";
        assert_eq!(
            of(&format!("{exporters}{apart}")),
            [("otlp".to_owned(), vec![traces]), ("otlp/b".to_owned(), vec![logs, metrics])]
        );
        let own = "service: {pipelines: {logs: {exporters: [otlp]}}, telemetry: {metrics: {exporters: [otlp/b]}}}";
        assert_eq!(of(&format!("{exporters}{own}")), [("otlp".to_owned(), vec![logs])], "the SDK sends synspan's own");
    }
}
