//! What a container's own specification says of its telemetry: the standard variables, where they are literal.
//!
//! `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` (OpenTelemetry specification, "SDK Environment Variables") are
//! what the application's SDK will say of itself, so that its spans and ours meet under one name.

use super::text;

/// Most pairs taken of one container.
const MAX_PAIRS: usize = 32;

/// The resource attributes that two variables' values declare, in their order; `service.name` of the first comes
/// last, so that it holds. A value with a reference (`$(NAME)`) is not literal: what it becomes is known only inside
/// the container, and the pair is left out.
pub fn attributes(service_name: Option<&str>, resource_attributes: Option<&str>) -> Vec<(String, String)> {
    let pairs = resource_attributes.unwrap_or_default().split(',').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (name.trim(), percent_decoded(value.trim())?);
        (text::is_name(name) && is_literal(&value) && !value.is_empty()).then(|| (name.to_owned(), text::value(&value)))
    });
    let named = service_name.map(str::trim).filter(|name| !name.is_empty() && is_literal(name));
    let mut found: Vec<_> = pairs.take(MAX_PAIRS).collect();
    found.extend(named.map(|name| ("service.name".to_owned(), text::value(name))));
    found
}

/// Whether Kubernetes would leave a value as it is: `$(NAME)` is replaced, `$$(NAME)` is an escaped one, which is
/// rare enough to be left out with it.
fn is_literal(value: &str) -> bool {
    !value.contains("$(")
}

/// Values are percent-encoded as in W3C baggage; none where the encoding is broken.
fn percent_decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let decoded = digit(rest.next())? * 16 + digit(rest.next())?;
            bytes.push(u8::try_from(decoded).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn literal_values_are_taken_and_the_name_comes_last() {
        let given = "service.name=other, deployment.environment.name=prod,team=a%20b";
        let wanted = pairs(&[
            ("service.name", "other"),
            ("deployment.environment.name", "prod"),
            ("team", "a b"),
            ("service.name", "pay"),
        ]);
        assert_eq!(attributes(Some("pay"), Some(given)), wanted);
    }

    #[test]
    fn references_broken_pairs_and_empty_values_are_left_out() {
        let given = "a=$(POD),b,=c,d=,e=%zz,f=%4,g=ok";
        assert_eq!(attributes(Some("$(NAME)"), Some(given)), pairs(&[("g", "ok")]));
        assert_eq!(attributes(Some("  "), None), pairs(&[]));
    }

    #[test]
    fn hostile_values_are_bounded() {
        let long = (0..100).map(|n| format!("k{n}={}", "x".repeat(1_000))).collect::<Vec<_>>().join(",");
        let found = attributes(Some("a\x1b]0;title\x07"), Some(&long));
        assert_eq!(found.len(), MAX_PAIRS + 1);
        assert!(found.iter().all(|(_, value)| value.len() <= text::MAX_VALUE && !value.contains('\x1b')));
    }
}
