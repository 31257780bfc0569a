//! Text for people: colours, durations, wall-clock times, and names from outside made harmless.

use std::fmt::Write as _;
use std::time::Duration;

use crate::identify::clock::Utc;

/// Most characters of a name from outside.
const MAX_NAME: usize = 128;

/// Puts colours, or does not.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    pub fn new(colour: bool) -> Self {
        Self { colour }
    }

    fn put(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn bold(self, text: &str) -> String {
        self.put("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.put("2", text)
    }

    pub fn red(self, text: &str) -> String {
        self.put("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.put("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.put("33", text)
    }
}

/// A name from outside with nothing in it that a terminal would obey: control characters, and those
/// that turn the direction of writing, are shown as escapes; what is very long is cut.
pub fn clean(name: &str) -> String {
    clean_to(name, MAX_NAME)
}

/// As [`clean`], for text that may have so many characters.
pub fn clean_to(text: &str, most: usize) -> String {
    let mut clean = String::with_capacity(text.len());
    for (at, c) in text.chars().enumerate() {
        if at == most {
            clean.push_str("...");
            break;
        }
        if c.is_control() || turns_writing(c) {
            // Writing to a string cannot fail.
            let _ = write!(clean, "{}", c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Line separators, marks and embeddings of the bidirectional algorithm (UAX #9), and zero-width ones.
fn turns_writing(c: char) -> bool {
    matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A duration in the unit that fits: `0.4 ms`, `12.3 ms`, `1.013 s`, `127.1 s`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 100.0 {
        format!("{seconds:.3} s")
    } else {
        format!("{seconds:.1} s")
    }
}

/// Nanoseconds since 1970 as `2026-11-23 20:31:07.123 UTC`.
pub fn wall_time(unix_nanos: u64) -> String {
    let Utc { year, month, day, hour, minute, second, nanos } = Utc::new(unix_nanos);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{:03} UTC", nanos / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_cannot_steer_a_terminal() {
        assert_eq!(clean("cart\x1b[2J\n"), "cart\\u{1b}[2J\\u{a}");
        assert_eq!(clean("a\u{202e}b\u{9b}c"), "a\\u{202e}b\\u{9b}c");
        assert_eq!(clean("größe"), "größe");
        assert_eq!(clean(&"x".repeat(500)), format!("{}...", "x".repeat(128)));
    }

    #[test]
    fn durations_have_a_fitting_unit() {
        let shown = |micros| duration(Duration::from_micros(micros));
        assert_eq!(shown(400), "0.4 ms");
        assert_eq!(shown(12_345), "12.3 ms");
        assert_eq!(shown(1_013_000), "1.013 s");
        assert_eq!(shown(127_100_000), "127.1 s");
    }

    #[test]
    fn wall_times_are_right_around_leap_days() {
        assert_eq!(wall_time(0), "1970-01-01 00:00:00.000 UTC");
        assert_eq!(wall_time(951_782_400_000_000_000), "2000-02-29 00:00:00.000 UTC");
        assert_eq!(wall_time(1_709_251_199_999_000_000), "2024-02-29 23:59:59.999 UTC");
        assert_eq!(wall_time(1_795_465_867_123_000_000), "2026-11-23 20:31:07.123 UTC");
    }
}
