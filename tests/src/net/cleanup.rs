//! The list of what must be taken away, so that it goes on drop, on panic and on a signal alike.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Result};

/// One thing that the lab made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Leftover {
    /// A named network namespace.
    Netns(String),
    /// A cgroup, with what is below it.
    Cgroup(PathBuf),
    /// A process that the lab started, and the signal that ends it.
    Process(i32, Signal),
    /// A directory with what is in it.
    Directory(PathBuf),
}

static REGISTRY: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

fn registry() -> MutexGuard<'static, Vec<Leftover>> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes something to be taken away.
pub fn register(what: Leftover) {
    registry().push(what);
}

/// Takes something away and forgets it.
pub fn remove(what: &Leftover) {
    what.remove();
    registry().retain(|other| other != what);
}

/// Forgets something that went by itself.
pub fn forget(what: &Leftover) {
    registry().retain(|other| other != what);
}

impl Leftover {
    /// Takes it away; what is gone already is no error.
    pub fn remove(&self) {
        match self {
            Self::Netns(name) => {
                let _ = Command::new("ip").args(["netns", "del", name]).output();
            }
            Self::Cgroup(path) => remove_cgroup(path),
            Self::Process(pid, signal) => {
                let _ = kill(Pid::from_raw(*pid), *signal);
            }
            Self::Directory(path) => {
                let _ = std::fs::remove_dir_all(path);
            }
        }
    }
}

fn remove_cgroup(path: &Path) {
    if let Ok(entries) = std::fs::read_dir(path) {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove_cgroup(&entry.path());
        }
    }
    // A process just killed stays in its cgroup for a moment.
    for _ in 0..100 {
        if !path.exists() || std::fs::remove_dir(path).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Takes SIGINT, SIGTERM and SIGHUP over: they take away all that is noted, and end the program.
///
/// Call it before any thread is started, so that the signals are blocked in all of them.
pub fn take_over_signals() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("block signals")?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let Ok(signal) = signals.wait() else { return };
            // The list stays locked: nothing is added while the process ends.
            let list = registry();
            for what in list.iter().filter(|what| matches!(what, Leftover::Process(..))) {
                what.remove();
            }
            for what in list.iter().rev() {
                what.remove();
            }
            std::process::exit(128 + signal as i32);
        })
        .context("start the signal thread")?;
    Ok(())
}
