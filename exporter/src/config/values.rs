//! Texts to values: durations, sizes, prefixes, and the like.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// Why a text is no such value: what is wrong, and what would be right.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    pub what: String,
    pub instead: String,
}

impl Wrong {
    pub fn new(what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { what: what.into(), instead: instead.into() }
    }
}

/// Longest text of a value that a message repeats.
const SHOWN: usize = 60;

/// A value in backquotes, cut if it is long.
pub(super) fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return format!("`{text}`");
    }
    format!("`{}...`", text.chars().take(SHOWN).collect::<String>())
}

/// `true` or `false`, as YAML 1.2 and the Collector have them.
pub(super) fn boolean(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" | "True" | "TRUE" => Ok(true),
        "false" | "False" | "FALSE" => Ok(false),
        _ => Err(Wrong::new(format!("{} is neither true nor false", shown(text)), "write true or false")),
    }
}

/// A whole number of at least `least`.
pub(super) fn number(text: &str, least: usize) -> Result<usize, Wrong> {
    let wrong =
        |why: &str| Wrong::new(format!("{} {why}", shown(text)), format!("write a whole number of at least {least}"));
    let value: usize = text.replace('_', "").parse().map_err(|_| wrong("is no whole number"))?;
    if value < least { Err(wrong("is too small")) } else { Ok(value) }
}

/// A number from `least` to `most`.
pub(super) fn real(text: &str, least: f64, most: f64) -> Result<f64, Wrong> {
    let range = || {
        if most.is_finite() {
            format!("write a number from {least} to {most}")
        } else {
            format!("write a number of at least {least}")
        }
    };
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= least && value <= most => Ok(value),
        Ok(_) => Err(Wrong::new(format!("{} is out of range", shown(text)), range())),
        Err(_) => Err(Wrong::new(format!("{} is no number", shown(text)), range())),
    }
}

/// A duration as Go's `time.ParseDuration` has it: `300ms`, `1.5s`, `1m30s`, `0`; never negative.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    const RIGHT: &str = "write numbers with units (ns, us, ms, s, m, h), such as 300ms, 5s or 1m30s";
    let wrong = |why: String| Err(Wrong::new(why, RIGHT));
    if text.starts_with('-') {
        return wrong(format!("{} is negative", shown(text)));
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return wrong("the duration is empty".to_owned());
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (figure, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        rest = tail;
        let per_unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return wrong(format!("{} has no unit", shown(text))),
            other => return wrong(format!("{} has the unknown unit {}", shown(text), shown(other))),
        };
        let Some(part) = decimal(figure, per_unit) else {
            return wrong(format!("{} is no duration", shown(text)));
        };
        nanos = nanos.saturating_add(part);
    }
    match u64::try_from(nanos) {
        // Go's durations are signed 64-bit nanoseconds.
        Ok(nanos) if nanos <= i64::MAX as u64 => Ok(Duration::from_nanos(nanos)),
        _ => wrong(format!("{} is longer than 292 years", shown(text))),
    }
}

/// A decimal figure times a unit, rounded down; none if it is no figure or far too large.
fn decimal(figure: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = figure.split_once('.').unwrap_or((figure, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mut value = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    value = u128::checked_mul(value, unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        value = value.checked_add(u128::from(digit - b'0') * place)?;
    }
    Some(value)
}

/// A number of bytes: a plain figure, or one with B, KiB, MiB, GiB, kB, MB, GB.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    const RIGHT: &str = "write bytes, or a figure with KiB, MiB or GiB, such as 8MiB";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (figure, unit) = text.split_at(digits);
    let per_unit: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" | "Ki" => 1 << 10,
        "MiB" | "Mi" => 1 << 20,
        "GiB" | "Gi" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return Err(Wrong::new(format!("{} is no size", shown(text)), RIGHT)),
    };
    let figure: u64 = figure.parse().map_err(|_| Wrong::new(format!("{} is no size", shown(text)), RIGHT))?;
    figure
        .checked_mul(per_unit)
        .filter(|bytes| *bytes <= i64::MAX as u64)
        .ok_or_else(|| Wrong::new(format!("{} is too large", shown(text)), RIGHT))
}

/// A prefix, or an address as the prefix of itself alone. Host bits must be clear, since a prefix with
/// some is more often a slip than meant.
pub(super) fn prefix(text: &str) -> Result<IpNet, Wrong> {
    const RIGHT: &str = "write an address or a prefix, such as 10.244.1.11, 10.0.0.0/8 or fd00::/8";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    match text.parse::<IpNet>() {
        Ok(net) if net.trunc() == net => Ok(net),
        Ok(net) => {
            Err(Wrong::new(format!("{} has bits set beyond its length", shown(text)), format!("write {}", net.trunc())))
        }
        Err(_) => Err(Wrong::new(format!("{} is neither an address nor a prefix", shown(text)), RIGHT)),
    }
}

/// One of a closed list of words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
    Err(Wrong::new(format!("{} is not known here", shown(text)), format!("write {}", one_of(&words))))
}

/// `a, b or c`.
pub(super) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// The known word that is nearest to a mistyped one, if any is near.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let flat = |text: &str| text.to_ascii_lowercase().replace(['-', '.'], "_");
    let word = flat(word);
    if word.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (distance(&word, &flat(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len().max(word.len()) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, with a swap of neighbours as one step.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut older: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, b) in to.iter().enumerate() {
            let mut best = (above[column + 1] + 1).min(line[column] + 1).min(above[column] + usize::from(a != b));
            if row > 0 && column > 0 && *a == to[column - 1] && from[row - 1] == *b {
                best = best.min(older[column - 1] + 1);
            }
            line.push(best);
        }
        older = std::mem::replace(&mut above, line);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, nanos) in [
            ("0", 0),
            ("300ms", 300_000_000),
            ("1m30s", 90_000_000_000),
            ("1h", 3_600_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5m", 30_000_000_000),
            ("2us3ns", 2_003),
            ("1µs", 1_000),
            ("+5s", 5_000_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "5", "s", "5 s", "-5s", "5x", "1..5s", ".s", "9999999h", "1s5", "1d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("5").unwrap_err().what, "`5` has no unit");
    }

    #[test]
    fn sizes_and_numbers() {
        for (text, bytes) in
            [("0", 0), ("512", 512), ("8MiB", 8 << 20), ("8 MiB", 8 << 20), ("1GiB", 1 << 30), ("2kB", 2000)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "8mib", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(number("65_536", 1), Ok(65_536));
        assert!(number("0", 1).is_err());
        assert!(real("NaN", 0.0, 1.0).is_err());
        assert_eq!(real("0.5", 0.0, 1.0), Ok(0.5));
    }

    #[test]
    fn prefixes() {
        assert_eq!(prefix("10.244.1.11").unwrap().to_string(), "10.244.1.11/32");
        assert_eq!(prefix("fd00::/8").unwrap().to_string(), "fd00::/8");
        assert_eq!(prefix("10.0.0.1/8").unwrap_err().instead, "write 10.0.0.0/8");
        assert!(prefix("10.0.0.0/33").is_err());
    }

    #[test]
    fn the_nearest_word() {
        let known = ["endpoint", "timeout", "compression", "headers", "tls"];
        assert_eq!(nearest("endpiont", known), Some("endpoint"));
        assert_eq!(nearest("time_out", known), Some("timeout"));
        assert_eq!(nearest("header", known), Some("headers"));
        assert_eq!(nearest("zebra", known), None);
        assert_eq!(one_of(&["a", "b", "c"]), "a, b or c");
    }
}
