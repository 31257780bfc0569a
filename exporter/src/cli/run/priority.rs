//! Manners on a shared node: telling what was seen comes after the node's own work.

/// The nice value of the threads that describe, encode and send (sched(7)): they give way to whatever
/// else wants the CPU, and still get a tenth of it where all is busy.
const NICE: libc::c_int = 10;

/// Lets the calling thread give way to the workloads. Capture and tracking keep the common priority, since
/// a record that is not read in time is lost; a finding waits in its channel.
pub fn after_the_workloads() {
    // SAFETY: gettid and setpriority take and return plain numbers. Linux counts nice values by thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid().cast_unsigned(), NICE) };
    if result != 0 {
        // Lowering one's own priority needs no privilege; a seccomp filter may forbid the call.
        tracing::debug!("the priority of a thread stays as it is: {}", std::io::Error::last_os_error());
    }
}
