//! `synspan doctor`: what works here, what is lost where something is missing, and how to get it.

mod checks;
pub mod names;
mod render;

use std::io::{self, Write};
use std::path::PathBuf;

use names::Names;

pub use checks::{Check, Diagnosis, Group, Status};

use crate::capture::probe::cgroup::Cgroup;
use crate::capture::probe::connection::{self, Watch};
use crate::capture::probe::{Facts, Options, mounts};

/// The command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The configuration that `synspan run` would use
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Proves that capture works by a connection of its own.
pub trait SelfTest {
    /// What was proven, in one line.
    ///
    /// # Errors
    /// What failed or was not seen, in one line for people.
    fn prove(&self) -> Result<String, String>;
}

/// The proof by a connection from another cgroup, seen by a capture that `start` starts and that ends
/// when it is dropped.
pub struct ByConnection<S> {
    /// Where capture would attach.
    pub options: Options,
    /// Starts capture; its error is one line for people.
    pub start: S,
}

impl<S: Fn() -> Result<Box<dyn Watch>, String>> SelfTest for ByConnection<S> {
    fn prove(&self) -> Result<String, String> {
        let cgroup = Cgroup::gather(self.options.cgroup.as_deref(), &mounts::gather());
        connection::prove(&cgroup, || (self.start)())
    }
}

/// For a program built without live capture: there is nothing to prove.
pub struct NoCapture;

impl SelfTest for NoCapture {
    fn prove(&self) -> Result<String, String> {
        Err("this program was built without live capture (feature `live`)".into())
    }
}

/// Gathers the facts, tries the proof where it can be tried, and prints the diagnosis to `out`.
///
/// Returns whether `synspan run` would work here, perhaps in a lower mode: the exit status is 0 then,
/// else 1. `options` and `names` are by what the configuration named by [`Args::config`] says.
///
/// # Errors
/// Where `out` cannot be written.
pub fn run(
    args: &Args,
    options: &Options,
    names: &Names,
    test: &dyn SelfTest,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let facts = Facts::gather(options);
    let diagnosis = diagnose(&facts, names, test);
    if args.json {
        render::json(&diagnosis, out)?
    } else {
        render::text(&diagnosis, out)?
    }
    Ok(diagnosis.works)
}

/// The diagnosis of these facts; the proof is tried only if they leave it a chance.
pub fn diagnose(facts: &Facts, names: &Names, test: &dyn SelfTest) -> Diagnosis {
    checks::diagnose(facts, names, || test.prove())
}

#[cfg(test)]
mod tests;
