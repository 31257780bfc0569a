//! Network namespaces.

use std::fs::File;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};

use super::cleanup::{self, Leftover};
use super::command;
use crate::error::{Context, Error, Result};

/// A named network namespace, deleted on drop with the interfaces in it.
#[derive(Debug)]
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one, with its loopback up and IPv6's duplicate detection off, since it delays addresses.
    pub fn create(name: &str) -> Result<Self> {
        command::run("ip", &["netns", "add", name])?;
        cleanup::register(Leftover::Netns(name.to_owned()));
        let netns = Self { name: name.to_owned() };
        netns.sysctl(&[
            ("net/ipv6/conf/all/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
        ])?;
        netns.ip("link set lo up\n")?;
        Ok(netns)
    }

    /// Its name, as in `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        path_of(&self.name)
    }

    /// Runs `ip` commands in it, one a line, without the word `ip`.
    pub fn ip(&self, batch: &str) -> Result<()> {
        command::feed("ip", &["-n", &self.name, "-batch", "-"], batch).map(drop)
    }

    /// Loads an nftables script in it.
    pub fn nft(&self, script: &str) -> Result<()> {
        command::feed_in(&self.name, "nft", &["-f", "-"], script).map(drop)
    }

    /// Runs a program in it.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        command::run_in(&self.name, program, args)
    }

    /// Sets kernel settings of this namespace; names are paths below /proc/sys.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        let settings: Vec<(String, String)> =
            settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        inside(&self.name, move || {
            for (key, value) in settings {
                std::fs::write(format!("/proc/sys/{key}"), &value).context(format_args!("set {key} = {value}"))?;
            }
            Ok(())
        })?
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        cleanup::remove(&Leftover::Netns(self.name.clone()));
    }
}

/// The file of a named network namespace.
pub fn path_of(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}

/// Moves the calling thread into a named network namespace.
pub fn enter(name: &str) -> Result<()> {
    let path = path_of(name);
    let file = File::open(&path).context(format_args!("open {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).context(format_args!("enter network namespace {name} (needs root)"))
}

/// Runs something in a named network namespace, on a thread of its own. Sockets made there stay there.
pub fn inside<T: Send + 'static>(name: &str, what: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let name = name.to_owned();
    let thread = std::thread::Builder::new()
        .name("netns".into())
        .spawn(move || enter(&name).map(|()| what()))
        .context("start a thread")?;
    thread.join().map_err(|_| Error::Lab("a thread inside a network namespace panicked".into()))?
}
