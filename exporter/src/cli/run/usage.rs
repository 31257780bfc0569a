//! What the agent's own process takes.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::health::status::Process;

/// CPU time and memory of this process; none where the kernel does not say.
pub fn own() -> Option<Process> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(Process {
        cpu_user_s: seconds(usage.user_time()),
        cpu_system_s: seconds(usage.system_time()),
        memory_bytes: resident(&status)?,
    })
}

fn seconds(time: TimeVal) -> f64 {
    // A process runs for less than 2^53 microseconds.
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}

/// The line `VmRSS: N kB` of /proc/PID/status (proc_pid_status(5)), in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_some() {
        let own = own().expect("Linux tells");
        assert!(own.memory_bytes > 1 << 20 && own.cpu_user_s + own.cpu_system_s > 0.0, "{own:?}");
    }

    #[test]
    fn what_is_not_as_expected_is_nothing() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   1234 kB\n"), Some(1_234 * 1_024));
        assert_eq!(resident("VmRSS:\tlots\n"), None);
        assert_eq!(resident(""), None);
    }
}
