//! The targets under libFuzzer, which brings its own `main` and takes its own arguments; which target it is
//! stands in `SYNSPAN_FUZZ`. Without it the targets are listed. Built and run by `scripts/fuzz.sh`.
#![no_main]

use std::process::exit;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use synspan_fuzz::{TARGETS, Target, target};

static CHOSEN: OnceLock<&Target> = OnceLock::new();

/// The target that was asked for; ends the process if there is none.
fn choose() -> &'static Target {
    match std::env::var("SYNSPAN_FUZZ") {
        Ok(name) => target(&name).unwrap_or_else(|| {
            eprintln!("there is no target {name}: run this without SYNSPAN_FUZZ for a list");
            exit(2);
        }),
        Err(_) => {
            for target in TARGETS {
                println!("{}\t{}", target.name, target.about);
            }
            exit(0);
        }
    }
}

fuzz_target!(init: { let _ = CHOSEN.set(choose()); }, |data: &[u8]| {
    if let Some(target) = CHOSEN.get() {
        (target.run)(data);
    }
});
