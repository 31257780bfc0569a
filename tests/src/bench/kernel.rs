//! What the kernel tells about BPF programs: their run time and runs, and what an empty program costs.

use std::ffi::c_long;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use serde::Deserialize;

use crate::error::{Context, Error, Result};
use crate::net::{command, netns};

/// Commands of bpf(2), from include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: c_long = 5;
const BPF_LINK_CREATE: c_long = 28;
const BPF_ENABLE_STATS: c_long = 32;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// TCX_NEXT: leave the packet to the next program.
pub const NEXT: i32 = -1;

/// Run times are counted for as long as this lives. Unlike the sysctl it cannot be left on: the kernel ends it
/// with the file descriptor.
#[derive(Debug)]
pub struct Stats(#[expect(dead_code, reason = "held, not read")] OwnedFd);

impl Stats {
    /// Starts counting (BPF_ENABLE_STATS, from 5.8).
    pub fn enable() -> Result<Self> {
        // struct { __u32 type; } enable_stats: 0 is BPF_STATS_RUN_TIME.
        bpf(BPF_ENABLE_STATS, &mut [0_u32]).context("count the run time of BPF programs").map(Self)
    }
}

/// Run time and runs of some programs, since they were loaded.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Runs {
    /// Nanoseconds.
    pub nanoseconds: u64,
    /// Runs.
    pub count: u64,
}

impl Runs {
    /// What came since.
    pub fn since(self, before: Self) -> Self {
        Self {
            nanoseconds: self.nanoseconds.saturating_sub(before.nanoseconds),
            count: self.count.saturating_sub(before.count),
        }
    }
}

/// A program as bpftool lists it.
#[derive(Clone, Debug, Deserialize)]
pub struct Program {
    /// The kernel's number for it.
    pub id: u32,
    #[serde(default)]
    run_time_ns: u64,
    #[serde(default)]
    run_cnt: u64,
}

/// All programs of the machine.
pub fn programs() -> Result<Vec<Program>> {
    let text = command::run("bpftool", &["prog", "show", "-j"])?;
    serde_json::from_str(&text)
        .map_err(|error| Error::Lab(format!("bpftool's list of programs is not understood: {error}")))
}

/// The sum over the programs with these numbers.
pub fn runs_of(ids: &[u32]) -> Result<Runs> {
    let mut sum = Runs::default();
    for program in programs()?.iter().filter(|program| ids.contains(&program.id)) {
        sum.nanoseconds += program.run_time_ns;
        sum.count += program.run_cnt;
    }
    Ok(sum)
}

/// The numbers of the programs that a process holds, by its open files.
pub fn programs_of(process: u32) -> Vec<u32> {
    let entries = std::fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
    let mut ids: Vec<u32> = entries
        .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok()))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Bytes of the BPF maps and rings that a process holds, by its open files: what the kernel accounts for each.
pub fn maps_of(process: u32) -> u64 {
    let entries = std::fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
    let mut maps: Vec<(u64, u64)> = entries
        .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
        .filter_map(|text| {
            let field = |name| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            Some((field("map_id:")?, field("memlock:")?))
        })
        .collect();
    maps.sort_unstable();
    maps.dedup();
    maps.iter().map(|(_, bytes)| bytes).sum()
}

/// A program that does nothing but return, attached both ways to some interfaces: the least that any program there
/// can cost.
#[derive(Debug)]
pub struct Constant {
    program: OwnedFd,
    _links: Vec<OwnedFd>,
}

impl Constant {
    /// Loads it and attaches it in a network namespace by tcx, behind what hangs there already.
    pub fn attach(namespace: &str, interfaces: &[&str], returns: i32) -> Result<Self> {
        let program = load(returns)?;
        let number = program.as_raw_fd();
        let mut indices = Vec::new();
        for interface in interfaces {
            let text = command::run("ip", &["-n", namespace, "-o", "link", "show", interface])?;
            let index = text.split(':').next().and_then(|index| index.trim().parse().ok());
            indices.push(index.ok_or_else(|| Error::Lab(format!("no index of {interface}")))?);
        }
        let links = netns::inside(namespace, move || -> io::Result<Vec<OwnedFd>> {
            let hooks = indices.iter().flat_map(|index| [(*index, BPF_TCX_INGRESS), (*index, BPF_TCX_EGRESS)]);
            // struct { __u32 prog_fd, target_ifindex, attach_type, flags; ... } link_create.
            hooks
                .map(|(index, hook)| bpf(BPF_LINK_CREATE, &mut [number.cast_unsigned(), index, hook, 0, 0, 0, 0, 0]))
                .collect()
        })?
        .context("attach the empty program by tcx")?;
        Ok(Self { program, _links: links })
    }

    /// Its run time and runs.
    pub fn runs(&self) -> Result<Runs> {
        let path = format!("/proc/self/fdinfo/{}", self.program.as_raw_fd());
        let text = std::fs::read_to_string(&path).context(format_args!("read {path}"))?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
        match field("prog_id:") {
            Some(id) => runs_of(&[id]),
            None => Err(Error::Lab(format!("{path} names no program"))),
        }
    }
}

fn load(returns: i32) -> Result<OwnedFd> {
    // r0 = returns; exit. struct bpf_insn: code, registers, offset, immediate.
    let code: [u64; 2] = [0xb7 | u64::from(returns.cast_unsigned()) << 32, 0x95];
    let licence = c"GPL";
    let (code, licence) = (code.as_ptr() as u64, licence.as_ptr() as u64);
    // struct { __u32 prog_type, insn_cnt; __u64 insns, license; __u32 log_level, log_size; __u64 log_buf;
    // __u32 kern_version, prog_flags; char prog_name[16]; ... }
    let mut name = [0_u8; 16];
    name[..11].copy_from_slice(b"bench_empty");
    let mut attr = vec![BPF_PROG_TYPE_SCHED_CLS, 2];
    attr.extend([code as u32, (code >> 32) as u32, licence as u32, (licence >> 32) as u32]);
    attr.extend([0; 6]);
    attr.extend(name.chunks_exact(4).map(|part| u32::from_le_bytes([part[0], part[1], part[2], part[3]])));
    bpf(BPF_PROG_LOAD, &mut attr).context("load the empty program")
}

/// bpf(2) for the commands that give a file descriptor. The attribute is 8-byte aligned by a copy.
fn bpf(operation: c_long, attribute: &mut [u32]) -> io::Result<OwnedFd> {
    let mut aligned = [0_u64; 16];
    for (at, word) in attribute.iter().enumerate() {
        aligned[at / 2] |= u64::from(*word) << (32 * (at % 2));
    }
    let size = attribute.len() * 4;
    // SAFETY: `aligned` is longer than `size` (the callers pass at most 16 words of its 32), is initialised, and
    // the kernel reads it during the call only. Pointers in it are to objects that live through the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, operation, aligned.as_ptr(), size) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: these commands return a new file descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// tracefs at its usual place, where the peers look for it. It is left mounted, as any later tool expects it.
pub fn mount_tracefs() -> Result<()> {
    let place = "/sys/kernel/tracing";
    if File::open(format!("{place}/events")).is_ok() {
        return Ok(());
    }
    command::run("mount", &["-t", "tracefs", "tracefs", place]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::leftovers::Mark;
    use crate::net::netns::Netns;

    /// Needs root and BPF.
    #[test]
    fn an_empty_program_lets_packets_pass_and_its_runs_are_counted() {
        let netns = Netns::create(&Mark::name("empty")).unwrap();
        let empty = Constant::attach(netns.name(), &["lo"], NEXT).unwrap();
        let _stats = Stats::enable().unwrap();
        let before = empty.runs().unwrap();
        let received = netns::inside(netns.name(), || {
            let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            sender.send_to(b"hello", receiver.local_addr().unwrap()).unwrap();
            receiver.recv(&mut [0; 16]).unwrap()
        });
        let runs = empty.runs().unwrap().since(before);
        assert_eq!(received.unwrap(), 5);
        assert_eq!(runs.count, 2, "once out and once in");
        assert!(runs.nanoseconds > 0);
    }
}
