//! `${env:NAME}` in values, as the OpenTelemetry Collector expands it: `${NAME}` is the same,
//! `${env:NAME:-default}` has a default, and `$$` is a dollar sign.
//!
//! One difference: a variable that is not set and has no default is an error here, where the
//! Collector warns and goes on with nothing.

use super::environment::Env;
use super::values::{Wrong, shown};

/// The text with its references replaced. Values are not expanded again.
///
/// # Errors
/// A reference that is not closed, has a bad name or an unknown source, or names a variable that is
/// not set.
pub(super) fn expand(text: &str, env: &dyn Env) -> Result<String, Wrong> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(inner) = rest.strip_prefix('{') {
            let Some(end) = closing(inner) else {
                return Err(Wrong::new("`${` is not closed", "close it by }, or write $$ for a dollar sign"));
            };
            out.push_str(&reference(&inner[..end], env)?);
            rest = &inner[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Where the brace that closes is.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn reference(inner: &str, env: &dyn Env) -> Result<String, Wrong> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let name = name.strip_prefix("env:").unwrap_or(name);
    if let Some((source, _)) = name.split_once(':') {
        return Err(Wrong::new(
            format!("{} is no source of values that synspan has", shown(source)),
            "use ${env:NAME}",
        ));
    }
    let good = name
        .bytes()
        .enumerate()
        .all(|(at, byte)| byte == b'_' || byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()));
    if name.is_empty() || !good {
        return Err(Wrong::new(
            format!("{} is no name of an environment variable", shown(name)),
            "use ${env:NAME}, or write $$ for a dollar sign",
        ));
    }
    match (env.var(name), default) {
        (Some(value), _) => Ok(value),
        (_, Some(default)) => expand(default, env),
        _ => Err(Wrong::new(
            format!("the environment variable {name} is not set"),
            format!("set it, or give a default: ${{env:{name}:-default}}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::environment::MapEnv;

    #[test]
    fn references() {
        let env = MapEnv::from([("HOST", "collector"), ("EMPTY", ""), ("DOLLAR", "${HOST}")]);
        for (text, expanded) in [
            ("plain", "plain"),
            ("http://${env:HOST}:4317", "http://collector:4317"),
            ("${HOST}", "collector"),
            ("${env:NONE:-localhost}", "localhost"),
            ("${env:NONE:-}", ""),
            ("${env:EMPTY}", ""),
            ("${env:EMPTY:-x}", ""),
            ("${env:NONE:-${HOST}}/x", "collector/x"),
            ("a$$b $${HOST} $c $", "a$b ${HOST} $c $"),
            ("${DOLLAR}", "${HOST}"),
        ] {
            assert_eq!(expand(text, &env).as_deref(), Ok(expanded), "{text}");
        }
    }

    #[test]
    fn wrong_references() {
        let env = MapEnv::default();
        for (text, what) in [
            ("${env:NONE}", "the environment variable NONE is not set"),
            ("${HOST", "`${` is not closed"),
            ("${file:/etc/x}", "`file` is no source of values that synspan has"),
            ("${1X}", "`1X` is no name of an environment variable"),
            ("${}", "`` is no name of an environment variable"),
        ] {
            assert_eq!(expand(text, &env).unwrap_err().what, what, "{text}");
        }
    }
}
