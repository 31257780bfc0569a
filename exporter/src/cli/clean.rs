//! `synspan clean`: takes away what a killed agent or doctor left behind, and before an agent ends what it would.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::capture::probe::cgroup::Cgroup;
use crate::capture::probe::leftovers::{self, Found, Leftover, Whose};
use crate::capture::probe::{Options, mounts};

/// The command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// The configuration that `synspan run` used
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say what would be taken away, and leave it
    #[arg(long)]
    pub dry_run: bool,
    /// Also the clsact filters of the agent that still runs on this cgroup, so that none stays should it be killed:
    /// to be run right before it is stopped, as by a preStop hook. From then on it sees no segments there
    #[arg(long)]
    pub running: bool,
}

/// Takes the leftovers of this network namespace and of the cgroup away and prints each to `out`.
///
/// Returns whether nothing failed: the exit status is 0 then, else 1. `options` is what the
/// configuration named by [`Args::config`] says.
///
/// # Errors
/// Where the hooks cannot be asked at all, or `out` cannot be written.
pub fn run(args: &Args, options: &Options, out: &mut dyn Write) -> io::Result<bool> {
    let cgroup = Cgroup::gather(options.cgroup.as_deref(), &mounts::gather());
    let whose = if args.running { Whose::Running } else { Whose::Gone };
    let found = leftovers::find(&cgroup, whose)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot list the filters of the interfaces: {error}")))?;
    take(&found, args, leftovers::remove, out)
}

fn take(
    found: &Found,
    args: &Args,
    remove: impl Fn(&Leftover) -> io::Result<()>,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let mut clean = true;
    for leftover in &found.leftovers {
        if args.dry_run {
            writeln!(out, "would remove {leftover}")?;
            continue;
        }
        match remove(leftover) {
            Ok(()) => writeln!(out, "removed {leftover}")?,
            Err(error) => {
                clean = false;
                writeln!(out, "cannot remove {leftover}: {error}")?;
            }
        }
    }
    for kept in &found.kept {
        writeln!(out, "left alone: {}: {}", kept.what, kept.why)?;
    }
    if found.leftovers.is_empty() {
        let nothing = if args.running {
            "no filter of an agent is here: what it attached by tcx and to the cgroup ends with it"
        } else {
            "nothing of a killed agent is left here"
        };
        writeln!(out, "{nothing}")?;
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::probe::leftovers::Kept;

    fn found() -> Found {
        Found {
            leftovers: vec![
                Leftover::Cgroup("/c/synspan-doctor-1".into()),
                Leftover::Cgroup("/c/synspan-doctor-2".into()),
            ],
            kept: vec![Kept { what: "filter x".into(), why: "process 9 uses it".into() }],
        }
    }

    fn taken(found: &Found, dry_run: bool, remove: impl Fn(&Leftover) -> io::Result<()>) -> (bool, String) {
        let mut out = Vec::new();
        let args = Args { dry_run, ..Args::default() };
        let clean = take(found, &args, remove, &mut out).expect("a writer that takes all");
        (clean, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn each_is_named_and_a_failure_does_not_stop_the_rest() {
        let (clean, text) = taken(&found(), false, |leftover| match leftover {
            Leftover::Cgroup(path) if path.ends_with("synspan-doctor-1") => {
                Err(io::Error::from_raw_os_error(libc::EPERM))
            }
            _ => Ok(()),
        });
        assert!(!clean);
        assert!(text.contains("cannot remove cgroup /c/synspan-doctor-1: Operation not permitted"), "{text}");
        assert!(text.contains("\nremoved cgroup /c/synspan-doctor-2\n"), "{text}");
        assert!(text.contains("left alone: filter x: process 9 uses it"), "{text}");
    }

    #[test]
    fn a_dry_run_removes_nothing() {
        let (clean, text) = taken(&found(), true, |_| panic!("must not be called"));
        assert!(clean);
        assert_eq!(text.matches("would remove").count(), 2);
    }

    #[test]
    fn nothing_there_is_said() {
        let (clean, text) = taken(&Found::default(), false, |_| Ok(()));
        assert!(clean);
        assert_eq!(text, "nothing of a killed agent is left here\n");
    }
}
