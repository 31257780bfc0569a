//! Reading an OTLP exporter's block as it stands in a Collector's file.

use std::path::PathBuf;
use std::time::Duration;

use super::model::Secret;
use super::otlp_model::{
    Compression, Endpoint, Keepalive, OtlpExporter, Pem, Retry, SendingQueue, Sizer, Tls, TlsVersion,
};
use super::reader::{Field, MapReader, Reading, join};
use super::values::{Wrong, boolean, choice, duration, number, real, shown};

/// The block `exporters.ID` of type `otlp`. None if its endpoint is missing or wrong; every problem
/// is in `reading`.
pub(super) fn otlp(field: &Field<'_>, reading: &mut Reading<'_>) -> Option<OtlpExporter> {
    let mut map = field.map(reading);
    let endpoint_field = map.field("endpoint");
    let parsed = match &endpoint_field {
        Some(endpoint) => endpoint.parse(reading, endpoint_parts),
        None if reading.is_wrong(&join(&map.path, "endpoint")) => None,
        None => {
            reading.problem(
                map.line,
                &map.path,
                "`endpoint` is missing",
                "add one, such as endpoint: http://localhost:4317",
            );
            None
        }
    };
    let has_endpoint = parsed.is_some();
    let (host, port, scheme_tls) = parsed.unwrap_or_else(|| ("localhost".to_owned(), 4317, None));
    if let (Some(endpoint), 4318) = (&endpoint_field, port) {
        reading.warning(
            endpoint.line,
            &endpoint.path,
            "port 4318 is that of OTLP over HTTP by custom",
            "gRPC's is 4317",
        );
    }
    let tls_line = map.field("tls").map(|field| field.line);
    let (insecure, tls) = tls(&mut map, reading);
    let speaks_tls = scheme_tls.unwrap_or(!insecure || tls.ca.is_some());
    if let (Some(line), false, true) = (tls_line, speaks_tls, tls != Tls::default()) {
        let path = format!("{}.tls", map.path);
        reading.warning(
            line,
            &path,
            "these settings are not used",
            "the endpoint is not https:// or tls.insecure is true",
        );
    }
    let mut exporter = OtlpExporter::new(Endpoint { host, port, tls: speaks_tls });
    exporter.tls = tls;
    map.set(reading, "timeout", &mut exporter.timeout, duration);
    map.set(reading, "compression", &mut exporter.compression, compression);
    if let Some(field) = map.field("headers") {
        exporter.headers = headers(&field, reading);
    }
    exporter.retry = retry(&mut map, reading);
    exporter.queue = queue(&mut map, reading);
    exporter.keepalive = keepalive(&mut map, reading);
    exporter.user_agent = map.get(reading, "user_agent", visible);
    exporter.authority = map.get(reading, "authority", authority);
    map.unsupported(
        reading,
        "wait_for_ready",
        &["false"],
        "remove it: what cannot be sent yet waits in the queue and is tried again",
    );
    map.unsupported(
        reading,
        "balancer_name",
        &["round_robin", "pick_first"],
        "remove it: one connection is used, to the first address that answers",
    );
    map.unsupported(reading, "write_buffer_size", &["524288"], "remove it: the buffer is not adjustable");
    map.unsupported(reading, "read_buffer_size", &["0"], "remove it: the buffer is not adjustable");
    map.unsupported(reading, "auth", &[], "remove it, and give the credentials in `headers` (authorization: ...)");
    map.unsupported(reading, "middlewares", &[], "remove it, or send by way of a Collector that has them");
    map.finish(reading);
    has_endpoint.then_some(exporter)
}

/// Host, port, and whether TLS if the scheme says so. `dns:///` and `passthrough:///` are taken off,
/// since names are resolved at each connect anyway. Brackets may stand around an IPv4 address too, as the
/// Collector takes them: `[${env:NODE_IP}]:4317` serves nodes of either family.
pub(super) fn endpoint_parts(text: &str) -> Result<(String, u16, Option<bool>), Wrong> {
    const RIGHT: &str = "write host:port, http://host:port or https://host:port, such as http://localhost:4317";
    let wrong = |why: &str| Err(Wrong::new(format!("{} {why}", shown(text)), RIGHT));
    let text_left = text.trim();
    let (tls, rest) = if let Some(rest) = text_left.strip_prefix("https://") {
        (Some(true), rest)
    } else if let Some(rest) = text_left.strip_prefix("http://") {
        (Some(false), rest)
    } else if let Some(rest) = ["dns:///", "passthrough:///"].iter().find_map(|scheme| text_left.strip_prefix(scheme)) {
        (None, rest)
    } else if text_left.contains("://") || text_left.starts_with("unix:") {
        return wrong("has a scheme that synspan does not have");
    } else {
        (None, text_left)
    };
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() {
        return wrong("has a path, which gRPC does not have (OTLP over HTTP has)");
    }
    if address.contains('@') {
        return wrong("has a user's name in it, which gRPC does not send (`headers` does)");
    }
    let Some((host, port)) = address.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')) else {
        return wrong("has no port");
    };
    let Some(port) = port.parse::<u16>().ok().filter(|port| *port != 0) else {
        return wrong(if port.ends_with(']') || port.is_empty() {
            "has no port"
        } else {
            "has a port that is no number from 1 to 65535"
        });
    };
    let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
        Some(Some(inside)) if inside.parse::<std::net::IpAddr>().is_ok() => inside,
        Some(_) => return wrong("has brackets around what is no IP address"),
        None if host.contains(':') => return wrong("has an IPv6 address without brackets"),
        None => host,
    };
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(letters) {
        return wrong("has no host that could be looked up");
    }
    Ok((host.to_owned(), port, tls))
}

/// A name of compression as the Collector has them.
pub(super) fn compression(text: &str) -> Result<Compression, Wrong> {
    match text {
        "snappy" | "x-snappy-framed" | "zlib" | "deflate" | "lz4" => {
            Err(Wrong::new(format!("{} is not supported by synspan", shown(text)), "write gzip, zstd or none"))
        }
        "" => Ok(Compression::None),
        _ => choice(text, &[("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("none", Compression::None)]),
    }
}

/// A header's name, in lower case.
pub(super) fn header_name(name: &str) -> Result<String, Wrong> {
    let lower = name.to_ascii_lowercase();
    let wrong = |why: &str, right: &str| Err(Wrong::new(format!("{} {why}", shown(name)), right));
    if http::HeaderName::from_bytes(lower.as_bytes()).is_err() {
        return wrong("is no name of a header", "use letters, digits and -");
    }
    if lower.ends_with("-bin") {
        return wrong("is a binary header, which synspan does not send", "use a name that does not end in -bin");
    }
    if lower.starts_with("grpc-") || matches!(lower.as_str(), "te" | "content-type" | "connection" | "host") {
        return wrong("is a header that gRPC sets itself", "remove it");
    }
    Ok(lower)
}

/// Text that a header can carry.
pub(super) fn visible(text: &str) -> Result<String, Wrong> {
    if !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Ok(text.to_owned())
    } else {
        // The text may be a credential, so it is not repeated.
        Err(Wrong::new("the value is empty, or has characters that no header can carry", "use printable ASCII"))
    }
}

fn authority(text: &str) -> Result<String, Wrong> {
    match text.parse::<http::uri::Authority>() {
        Ok(_) if !text.contains('@') => Ok(text.to_owned()),
        _ => Err(Wrong::new(format!("{} is no authority", shown(text)), "write host or host:port")),
    }
}

fn headers(field: &Field<'_>, reading: &mut Reading<'_>) -> Vec<(String, Secret)> {
    let mut headers: Vec<(String, Secret)> = Vec::new();
    let mut add = |reading: &mut Reading<'_>, place: &Field<'_>, name: &str, value: Option<String>| {
        let value = value.map_or_else(|| visible(""), |value| visible(&value));
        match header_name(name).and_then(|name| Ok((name, value?))) {
            Ok((name, _)) if headers.iter().any(|(other, _)| *other == name) => {
                reading.problem(
                    place.line,
                    &place.path,
                    format!("the header {} is given twice", shown(&name)),
                    "keep one of the two",
                );
            }
            Ok((name, value)) => headers.push((name, Secret(value))),
            Err(wrong) => reading.problem(place.line, &place.path, wrong.what, wrong.instead),
        }
    };
    if matches!(field.node.value, super::tree::Value::List(_)) {
        for item in field.items(reading).unwrap_or_default() {
            let mut map = item.map(reading);
            let (name, value) = (map.text(reading, "name"), map.text(reading, "value"));
            map.finish(reading);
            match name {
                Some(name) => add(reading, &item, &name, value),
                None => {
                    reading.problem(item.line, &item.path, "the header has no name", "write {name: ..., value: ...}")
                }
            }
        }
    } else {
        for entry in field.entries(reading).unwrap_or_default() {
            let place = Field { node: &entry.value, line: entry.line, path: format!("{}.{}", field.path, entry.key) };
            let value = match &entry.value.value {
                super::tree::Value::Null => Some(String::new()),
                _ => place.text(reading).map(str::to_owned),
            };
            if let Some(value) = value {
                add(reading, &place, &entry.key, Some(value));
            }
        }
    }
    headers
}

/// Whether `insecure`, and the rest.
fn tls(map: &mut MapReader<'_>, reading: &mut Reading<'_>) -> (bool, Tls) {
    let mut map = map.map(reading, "tls");
    let mut tls = Tls::default();
    let mut insecure = false;
    map.set(reading, "insecure", &mut insecure, boolean);
    map.set(reading, "insecure_skip_verify", &mut tls.insecure_skip_verify, boolean);
    tls.server_name_override = map.get(reading, "server_name_override", server_name);
    tls.ca = pem(&mut map, reading, "ca_file", "ca_pem");
    tls.cert = pem(&mut map, reading, "cert_file", "cert_pem");
    tls.key = pem(&mut map, reading, "key_file", "key_pem");
    if tls.cert.is_some() != tls.key.is_some() {
        let (there, missing) = if tls.cert.is_some() { ("certificate", "key_file") } else { ("key", "cert_file") };
        reading.problem(
            map.line,
            &map.path,
            format!("a client {there} alone"),
            format!("add {missing}, or remove both"),
        );
    }
    map.set(reading, "include_system_ca_certs_pool", &mut tls.include_system_ca_certs_pool, boolean);
    map.set(reading, "min_version", &mut tls.min_version, version);
    tls.max_version = map
        .get(reading, "max_version", |text| if text.is_empty() { Ok(None) } else { version(text).map(Some) })
        .flatten();
    if tls.max_version.is_some_and(|max| max < tls.min_version) {
        reading.problem(map.line, &map.path, "max_version is below min_version", "remove max_version");
    }
    tls.reload_interval = map.get(reading, "reload_interval", duration).filter(|interval| !interval.is_zero());
    map.unsupported(reading, "cipher_suites", &[], "remove it: the safe suites of TLS 1.2 and 1.3 are on");
    map.unsupported(reading, "curve_preferences", &[], "remove it");
    map.unsupported(reading, "tpm", &[], "remove it, and give the key by key_file");
    map.finish(reading);
    (insecure, tls)
}

fn pem(map: &mut MapReader<'_>, reading: &mut Reading<'_>, file: &'static str, text: &'static str) -> Option<Pem> {
    let from_file = map.text(reading, file).filter(|path| !path.is_empty());
    let from_text = map.text(reading, text).filter(|text| !text.is_empty());
    match (from_file, from_text) {
        (Some(_), Some(_)) => {
            reading.problem(map.line, &map.path, format!("both {file} and {text}"), "keep one of the two");
            None
        }
        (Some(path), None) => Some(Pem::File(PathBuf::from(path))),
        (None, Some(text)) => Some(Pem::Text(Secret(text))),
        (None, None) => None,
    }
}

fn server_name(text: &str) -> Result<String, Wrong> {
    match rustls::pki_types::ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Wrong::new(
            format!("{} is no DNS name or address", shown(text)),
            "write the name in the server's certificate",
        )),
    }
}

fn version(text: &str) -> Result<TlsVersion, Wrong> {
    match text {
        "1.0" | "1.1" => Err(Wrong::new(format!("TLS {text} is not supported by synspan"), "write \"1.2\" or \"1.3\"")),
        _ => choice(text, &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)]),
    }
}

fn retry(map: &mut MapReader<'_>, reading: &mut Reading<'_>) -> Retry {
    let mut map = map.map(reading, "retry_on_failure");
    let mut retry = Retry::default();
    map.set(reading, "enabled", &mut retry.enabled, boolean);
    map.set(reading, "initial_interval", &mut retry.initial_interval, duration);
    map.set(reading, "randomization_factor", &mut retry.randomization_factor, |text| real(text, 0.0, 1.0));
    map.set(reading, "multiplier", &mut retry.multiplier, |text| real(text, 1.0, f64::INFINITY));
    map.set(reading, "max_interval", &mut retry.max_interval, duration);
    map.set(reading, "max_elapsed_time", &mut retry.max_elapsed_time, duration);
    let given_up = !retry.max_elapsed_time.is_zero() && retry.max_elapsed_time < retry.initial_interval;
    if retry.enabled && given_up {
        reading.problem(
            map.line,
            &map.path,
            "max_elapsed_time is shorter than initial_interval",
            "make it longer, or 0 for ever",
        );
    }
    map.finish(reading);
    retry
}

fn queue(map: &mut MapReader<'_>, reading: &mut Reading<'_>) -> SendingQueue {
    const ALWAYS: &str = "remove it: the queue is always on, since export must not slow capture";
    const NEVER: &str = "remove it: nothing waits for export; what does not fit is dropped and counted";
    let mut map = map.map(reading, "sending_queue");
    let mut queue = SendingQueue::default();
    map.unsupported(reading, "enabled", &["true"], ALWAYS);
    map.set(reading, "num_consumers", &mut queue.num_consumers, |text| number(text, 1));
    map.set(reading, "queue_size", &mut queue.queue_size, |text| number(text, 1));
    map.set(reading, "sizer", &mut queue.sizer, |text| {
        choice(text, &[("requests", Sizer::Requests), ("items", Sizer::Items), ("bytes", Sizer::Bytes)])
    });
    map.unsupported(reading, "block_on_overflow", &["false"], NEVER);
    map.unsupported(reading, "wait_for_result", &["false"], NEVER);
    map.unsupported(reading, "storage", &[], "remove it: this version has no queue on disk");
    let mut inner = map.map(reading, "batch");
    let batch = &mut queue.batch;
    inner.set(reading, "flush_timeout", &mut batch.flush_timeout, duration);
    inner.set(reading, "min_size", &mut batch.min_size, |text| number(text, 0));
    inner.set(reading, "max_size", &mut batch.max_size, |text| number(text, 0));
    inner.set(reading, "sizer", &mut batch.sizer, |text| {
        choice(text, &[("items", Sizer::Items), ("bytes", Sizer::Bytes)])
    });
    inner.unsupported(reading, "partition", &[], "remove it");
    if inner.has("max_size") && batch.max_size != 0 && batch.max_size < batch.min_size {
        if inner.has("min_size") {
            reading.problem(
                inner.line,
                &inner.path,
                "max_size is below min_size",
                "make max_size larger, or 0 for no limit",
            );
        } else {
            batch.min_size = batch.max_size;
        }
    }
    inner.finish(reading);
    map.finish(reading);
    queue
}

fn keepalive(map: &mut MapReader<'_>, reading: &mut Reading<'_>) -> Keepalive {
    let mut map = map.map(reading, "keepalive");
    let mut keepalive = Keepalive::default();
    let positive = |text: &str| match duration(text) {
        Ok(Duration::ZERO) => Err(Wrong::new("the duration is zero", "write a duration such as 10s")),
        other => other,
    };
    map.set(reading, "time", &mut keepalive.time, positive);
    map.set(reading, "timeout", &mut keepalive.timeout, positive);
    map.set(reading, "permit_without_stream", &mut keepalive.permit_without_stream, boolean);
    map.finish(reading);
    keepalive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, host, port, tls) in [
            ("http://192.168.60.2:4317", "192.168.60.2", 4317, Some(false)),
            ("https://collector.example:443/", "collector.example", 443, Some(true)),
            ("localhost:4317", "localhost", 4317, None),
            ("http://[fd00::1]:4317", "fd00::1", 4317, Some(false)),
            ("http://[192.168.60.2]:4317", "192.168.60.2", 4317, Some(false)),
            ("dns:///collector:4317", "collector", 4317, None),
        ] {
            assert_eq!(endpoint_parts(text), Ok((host.to_owned(), port, tls)), "{text}");
        }
        for (text, what) in [
            ("http://localhost", "has no port"),
            ("http://[fd00::1]", "has no port"),
            ("fd00::1:4317", "has an IPv6 address without brackets"),
            ("http://[collector]:4317", "has brackets around what is no IP address"),
            ("http://[]:4317", "has brackets around what is no IP address"),
            ("http://localhost:4318/v1/traces", "has a path"),
            ("unix:///run/x.sock", "has a scheme"),
            ("http://user@localhost:4317", "has a user's name"),
            ("localhost:0", "has a port that is no number"),
            (":4317", "has no host"),
            ("http://a b:4317", "has no host"),
            ("", "has no port"),
        ] {
            let wrong = endpoint_parts(text).unwrap_err();
            assert!(wrong.what.contains(what), "{text}: {}", wrong.what);
        }
    }

    #[test]
    fn header_names() {
        assert_eq!(header_name("X-Tenant"), Ok("x-tenant".to_owned()));
        for name in ["", "a b", "trace-bin", "grpc-timeout", "te"] {
            assert!(header_name(name).is_err(), "{name}");
        }
    }
}
