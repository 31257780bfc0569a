//! Programs that the lab uses: ip, nft, ss, conntrack.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use crate::error::{Context, Error, Result};

/// Runs a program to its end and gives its standard output.
pub fn run(program: &str, args: &[&str]) -> Result<String> {
    feed(program, args, "")
}

/// Runs a program with a text on its standard input.
pub fn feed(program: &str, args: &[&str], input: &str) -> Result<String> {
    let line = || format!("{program} {}", args.join(" "));
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(format_args!("start `{}`", line()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input may be gone already.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().context(format_args!("wait for `{}`", line()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if !input.is_empty() {
        stderr = format!("{stderr}\ninput was:\n{input}");
    }
    Err(Error::Command { command: line(), stderr })
}

/// Runs a program in a network namespace. Not by `ip netns exec`, which mounts a new /sys and hides cgroup2.
pub fn run_in(netns: &str, program: &str, args: &[&str]) -> Result<String> {
    feed_in(netns, program, args, "")
}

/// Runs a program in a network namespace with a text on its standard input.
pub fn feed_in(netns: &str, program: &str, args: &[&str], input: &str) -> Result<String> {
    let enter = format!("--net=/run/netns/{netns}");
    let mut all = vec![enter.as_str(), program];
    all.extend(args);
    feed("nsenter", &all, input)
}

/// Prepares a long-lived child: no blocked signals, and it gets a signal with the end of the thread that
/// starts it, which must therefore be one that lives as long as the child shall.
pub fn bind_to_parent(command: &mut Command, signal: Signal) {
    // SAFETY: between fork and exec only async-signal-safe calls are made (sigprocmask, prctl), and
    // nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
            nix::sys::prctl::set_pdeathsig(signal)?;
            Ok(())
        });
    }
}
