//! Every seed, and every input that once failed, through its target. A panic names the file.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails with the reason")]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use synspan_fuzz::{TARGETS, target};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn every_target_has_seeds_and_every_seed_a_target() {
    for name in names(&corpus()) {
        assert!(target(&name).is_some(), "corpus/{name} belongs to no target");
    }
    for target in TARGETS {
        assert!(!names(&corpus().join(target.name)).is_empty(), "{} has no seeds", target.name);
    }
}

#[test]
fn every_seed_holds() {
    let mut failed = Vec::new();
    for target in TARGETS {
        for name in names(&corpus().join(target.name)) {
            let data = fs::read(corpus().join(target.name).join(&name)).unwrap();
            if catch_unwind(|| (target.run)(&data)).is_err() {
                failed.push(format!("corpus/{}/{name}", target.name));
            }
        }
    }
    assert!(failed.is_empty(), "these fail: {failed:#?}");
}

/// What every parser must bear, whatever its format.
#[test]
fn nothing_long_and_monotonous_holds() {
    for target in TARGETS {
        for byte in [0, 1, b'[', b'\n', b'-', 0x7f, 0xff] {
            for length in [0, 1, 3, 15, 16, 17, 255, 4096] {
                (target.run)(&vec![byte; length]);
            }
        }
    }
}
