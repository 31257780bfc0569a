//! The files that are made of the registry, and whether they are as they would be made now.

use std::io;
use std::path::Path;

use crate::model::Registry;
use crate::render;

/// A file that is made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its path below the root of the repository.
    pub path: &'static str,
    /// What is to be in it.
    pub text: String,
}

/// All of them.
pub fn files(registry: &Registry) -> Vec<Made> {
    vec![
        Made { path: "exporter/src/names.rs", text: render::rust::render(registry) },
        Made { path: "docs/telemetry.md", text: render::markdown::render(registry) },
    ]
}

/// Writes those that changed; returns which.
pub fn write(registry: &Registry, root: &Path) -> io::Result<Vec<&'static str>> {
    let mut written = Vec::new();
    for made in stale_files(registry, root) {
        std::fs::write(root.join(made.path), &made.text)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", made.path)))?;
        written.push(made.path);
    }
    Ok(written)
}

/// Those that are not as they would be made now.
pub fn stale(registry: &Registry, root: &Path) -> Vec<&'static str> {
    stale_files(registry, root).map(|made| made.path).collect()
}

fn stale_files(registry: &Registry, root: &Path) -> impl Iterator<Item = Made> {
    let root = root.to_owned();
    let differs = move |made: &Made| std::fs::read_to_string(root.join(made.path)).ok().as_ref() != Some(&made.text);
    files(registry).into_iter().filter(differs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_the_registry_is_not_stale() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let stale = stale(&Registry::embedded().expect("the registry"), root);
        assert!(stale.is_empty(), "{} not as config/schema/ says: run `make schema`", stale.join(" and "));
    }

    #[test]
    fn a_file_that_is_not_there_is_stale() {
        let registry = Registry::embedded().expect("the registry");
        assert_eq!(stale(&registry, Path::new("/nowhere")).len(), files(&registry).len());
    }
}
