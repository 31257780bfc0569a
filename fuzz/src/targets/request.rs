//! Requests at the agent's local socket.

use synspan::answer::request::Request;

/// Reads the bytes as a line.
pub fn run(data: &[u8]) {
    match Request::parse(data) {
        Ok(request) => assert_eq!(Ok(request), Request::parse(data), "the same bytes, another answer"),
        Err(why) => assert!(!why.is_empty() && why.len() < 500, "refused without a reason, or with a long one: {why}"),
    }
}
