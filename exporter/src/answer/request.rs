//! Questions, as they stand on the socket.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of questions and answers.
pub const VERSION: u64 = 1;
/// Most bytes of a question, its newline included.
pub const MAX_REQUEST: usize = 4_096;
/// Most attempts in one answer.
pub const MAX_LIMIT: u32 = 10_000;
/// Attempts in an answer where the question does not say.
pub const DEFAULT_LIMIT: u32 = 100;

/// A question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The attempts of late.
    Attempts {
        /// Only those that went wrong, came late, or have a cause that is a fault.
        #[serde(default)]
        failed: bool,
        /// Only those that ended within so many milliseconds.
        #[serde(default)]
        since_ms: Option<u64>,
        /// At most so many, the newest; at most [`MAX_LIMIT`].
        #[serde(default = "default_limit")]
        limit: u32,
        /// Then go on with each as it ends.
        #[serde(default)]
        follow: bool,
    },
    /// Who had a source port.
    Who {
        /// Which, before or after NAT.
        port: u16,
    },
    /// How the agent stands.
    Status {},
}

fn default_limit() -> u32 {
    DEFAULT_LIMIT
}

impl Request {
    /// The line for the socket, with its newline.
    pub fn line(&self) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(map) = &mut value {
            map.insert("v".to_owned(), VERSION.into());
        }
        format!("{value}\n")
    }

    /// Reads a line, without its newline or with it.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence for people.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        if line.len() > MAX_REQUEST {
            return Err(format!("the question is longer than {MAX_REQUEST} bytes"));
        }
        let mut value: Value =
            serde_json::from_slice(line).map_err(|error| format!("the question is no JSON: {error}"))?;
        let Value::Object(map) = &mut value else { return Err("the question is no JSON object".to_owned()) };
        match map.remove("v") {
            Some(version) if version == VERSION => {}
            Some(_) => {
                return Err(format!(
                    "the question is of another version than {VERSION}: use the `synspan` program that the agent runs"
                ));
            }
            None => return Err("the question has no version `v`".to_owned()),
        }
        let request: Self = serde_json::from_value(value).map_err(|error| unknown(&error.to_string()))?;
        match request {
            Self::Attempts { limit, .. } if limit > MAX_LIMIT => {
                Err(format!("`limit` is {limit}; at most {MAX_LIMIT} attempts are kept"))
            }
            Self::Who { port: 0 } => Err("no connection has port 0".to_owned()),
            request => Ok(request),
        }
    }
}

/// Why a question is not known. The reason quotes what was asked, which may be long.
fn unknown(why: &str) -> String {
    const LONG: usize = 200;
    match why.char_indices().nth(LONG) {
        Some((end, _)) => format!("unknown question: {}…", &why[..end]),
        None => format!("unknown question: {why}"),
    }
}

/// What [`Request::Attempts`] asks of the memory of attempts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Only those that went wrong, came late, or have a cause that is a fault.
    pub failed: bool,
    /// Only those that ended within that time.
    pub since: Option<Duration>,
    /// At most so many, the newest.
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_request() -> impl Strategy<Value = Request> {
        let attempts = (any::<bool>(), any::<Option<u64>>(), 0..=MAX_LIMIT, any::<bool>());
        prop_oneof![
            attempts.prop_map(|(failed, since_ms, limit, follow)| Request::Attempts {
                failed,
                since_ms,
                limit,
                follow
            }),
            (1..=u16::MAX).prop_map(|port| Request::Who { port }),
            Just(Request::Status {}),
        ]
    }

    /// Lines that are nearly questions: words of the language in any order.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let word = proptest::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"v\"",
            "1",
            "\"ask\"",
            "\"who\"",
            "\"port\"",
            "46994",
            "\"attempts\"",
            "\"limit\"",
            "-1",
            "1e99",
            "null",
            "true",
            "\"since_ms\"",
            "\u{0}",
            "\"\\ud800\"",
        ]);
        proptest::collection::vec(word, 0..40).prop_map(|words| words.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_question_or_one_sentence(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            if let Err(error) = Request::parse(&bytes) {
                prop_assert!(!error.is_empty() && !error.contains('\n') && error.len() < 1000, "{error}");
            }
        }

        #[test]
        fn what_looks_like_a_question_gives_one_or_a_sentence(bytes in nearly()) {
            if let Err(error) = Request::parse(&bytes) {
                prop_assert!(!error.is_empty() && !error.contains('\n') && error.len() < 1000, "{error}");
            }
        }

        #[test]
        fn a_question_comes_through(request in any_request()) {
            let line = request.line();
            prop_assert!(line.len() <= MAX_REQUEST && line.ends_with('\n'));
            prop_assert_eq!(Request::parse(line.as_bytes()), Ok(request));
        }
    }

    #[test]
    fn questions_may_leave_out_what_has_a_default() {
        let parsed = Request::parse(br#"{"v":1,"ask":"attempts"}"#);
        let limit = DEFAULT_LIMIT;
        assert_eq!(parsed, Ok(Request::Attempts { failed: false, since_ms: None, limit, follow: false }));
        assert_eq!(Request::parse(br#"{"v":1,"ask":"status"}"#), Ok(Request::Status {}));
    }

    #[test]
    fn a_wrong_question_is_told_what_is_wrong() {
        for (line, what) in [
            ("", "no JSON"),
            ("{\"v\":1", "no JSON"),
            ("[]", "no JSON object"),
            ("{}", "no version"),
            (r#"{"v":2,"ask":"who","port":1}"#, "another version"),
            (r#"{"v":"1","ask":"who","port":1}"#, "another version"),
            (r#"{"v":1,"ask":"what"}"#, "unknown question: unknown variant `what`"),
            (r#"{"v":1,"ask":"who","port":70000}"#, "unknown question"),
            (r#"{"v":1,"ask":"who","port":0}"#, "port 0"),
            (r#"{"v":1,"ask":"who"}"#, "missing field `port`"),
            (r#"{"v":1,"ask":"attempts","limit":10001}"#, "at most 10000"),
            (r#"{"v":1,"ask":"attempts","colour":"red"}"#, "unknown field `colour`"),
            (r#"{"v":1,"ask":"status","colour":"red"}"#, "unknown field `colour`"),
        ] {
            let error = Request::parse(line.as_bytes()).expect_err(line);
            assert!(error.contains(what), "{line}: {error}");
        }
        let odd = format!(r#"{{"v":1,"ask":"{}"}}"#, "ü".repeat(500));
        assert!(Request::parse(odd.as_bytes()).is_err_and(|error| error.chars().count() < 250 && error.ends_with('…')));
        let long = vec![b' '; MAX_REQUEST + 1];
        assert!(Request::parse(&long).is_err_and(|error| error.contains("longer")));
        // Deep nesting must not take the stack.
        assert!(Request::parse(&[b'['; MAX_REQUEST]).is_err());
    }
}
