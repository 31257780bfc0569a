//! The registry as text.

pub mod markdown;
pub mod rust;

use std::fmt::Write as _;

use crate::model::Registry;
use crate::{MANIFEST, SOURCES};

/// The files as they are, one document each.
pub fn yaml() -> String {
    let mut text = String::new();
    for source in [&MANIFEST].into_iter().chain(SOURCES) {
        // Writing to a string cannot fail.
        let _ = write!(text, "---\n# config/schema/{}\n{}", source.name, source.text);
    }
    text
}

/// All of it with references resolved.
pub fn json(registry: &Registry) -> serde_json::Result<String> {
    serde_json::to_string_pretty(registry).map(|text| text + "\n")
}
