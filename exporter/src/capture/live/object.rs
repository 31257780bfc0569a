//! The eBPF object: loaded, and attached where there is one place for the whole machine.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError, RawTracePoint, SchedClassifier, SockOps};
use aya::{Ebpf, EbpfError, EbpfLoader};
use nix::unistd::{SysconfVar, sysconf};

use super::btf::Btf;
use super::cgroup::Root;
use super::{Feature, StartError};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/synspan.bpf.o"));

/// The program of ingress hooks.
pub const INGRESS: &str = "synspan_ingress";
/// The program of egress hooks.
pub const EGRESS: &str = "synspan_egress";
const SOCKOPS: &str = "synspan_sockops";
const CONNECT: [&str; 2] = ["synspan_conn4", "synspan_conn6"];
const ERROR: &str = "synspan_skerr";
const ERROR_TRACEPOINT: &str = "inet_sk_error_report";

/// The per-CPU counters (`synspan_ebpf::record::counter`).
pub type CounterMap = PerCpuArray<MapData, u64>;

/// What was loaded.
pub struct Object {
    /// Holds the programs and the links of the cgroup and the tracepoint.
    pub ebpf: Ebpf,
    /// The records.
    pub ring: RingBuf<MapData>,
    /// The counters.
    pub counters: CounterMap,
    /// The program of ingress hooks.
    pub ingress: OwnedFd,
    /// The program of egress hooks.
    pub egress: OwnedFd,
    /// Whether the error that a socket's owner gets is seen.
    pub error_tracepoint: Feature,
    /// Whether a socket's steps carry its network namespace.
    pub netns_cookie: Feature,
}

/// Where the fields of `struct sock` are that the error tracepoint's program reads.
#[derive(Clone, Copy, Default)]
struct Offsets {
    protocol: u32,
    cookie: u32,
    error: u32,
}

/// Loads the object and attaches the programs of the cgroup and the tracepoint.
///
/// # Errors
///
/// [`StartError::Load`] and [`StartError::Attach`]. The tracepoint is no condition.
pub fn load(ring_bytes: u32, root: &Root) -> Result<Object, StartError> {
    raise_memlock();
    let offsets = offsets();
    // The helper is there or not; asking the verifier is surer than comparing version numbers.
    let (mut ebpf, netns_cookie) = match build(ring_bytes, offsets, true) {
        Ok(ebpf) => (ebpf, Feature::Present),
        Err(_) => {
            let why = "bpf_get_netns_cookie in sock_ops needs kernel 5.15".to_owned();
            (build(ring_bytes, offsets, false)?, Feature::Absent(why))
        }
    };
    for name in CONNECT {
        let program: &mut CgroupSockAddr = program(&mut ebpf, name)?;
        program.attach(root, CgroupAttachMode::Single).map_err(|source| attach_error(name, source))?;
    }
    let sockops: &mut SockOps = program(&mut ebpf, SOCKOPS)?;
    sockops.attach(root, CgroupAttachMode::Single).map_err(|source| attach_error(SOCKOPS, source))?;
    let error_tracepoint = match offsets {
        None => Feature::Absent("no field offsets: /sys/kernel/btf/vmlinux is missing or not understood".to_owned()),
        Some(_) => match attach_tracepoint(&mut ebpf) {
            Ok(()) => Feature::Present,
            Err(e) => Feature::Absent(format!("tracepoint {ERROR_TRACEPOINT} (kernel 5.14): {}", chain(&e))),
        },
    };
    let ingress = descriptor(&mut ebpf, INGRESS)?;
    let egress = descriptor(&mut ebpf, EGRESS)?;
    let ring = RingBuf::try_from(map(&mut ebpf, "RECORDS")?).map_err(|e| StartError::load(e.into()))?;
    let counters = PerCpuArray::try_from(map(&mut ebpf, "COUNTERS")?).map_err(|e| StartError::load(e.into()))?;
    Ok(Object { ebpf, ring, counters, ingress, egress, error_tracepoint, netns_cookie })
}

/// Creates the maps and loads the programs that must be there.
fn build(ring_bytes: u32, offsets: Option<Offsets>, netns_cookie: bool) -> Result<Ebpf, StartError> {
    let ring_bytes = ring_size(ring_bytes);
    let half = u64::from(ring_bytes / 2);
    let seed: u64 = rand::random();
    let netns_cookie = u32::from(netns_cookie);
    let offsets = offsets.unwrap_or_default();
    let mut ebpf = EbpfLoader::new()
        .map_max_entries("RECORDS", ring_bytes)
        .override_global("RING_HALF", &half, true)
        .override_global("HASH_SEED", &seed, true)
        .override_global("NETNS_COOKIE", &netns_cookie, true)
        .override_global("SK_PROTOCOL", &offsets.protocol, true)
        .override_global("SK_COOKIE", &offsets.cookie, true)
        .override_global("SK_ERR", &offsets.error, true)
        .load(OBJECT)
        .map_err(StartError::load)?;
    let failed = |e: ProgramError| StartError::load(e.into());
    for name in CONNECT {
        program::<CgroupSockAddr>(&mut ebpf, name)?.load().map_err(failed)?;
    }
    program::<SockOps>(&mut ebpf, SOCKOPS)?.load().map_err(failed)?;
    for name in [INGRESS, EGRESS] {
        program::<SchedClassifier>(&mut ebpf, name)?.load().map_err(failed)?;
    }
    Ok(ebpf)
}

fn attach_tracepoint(ebpf: &mut Ebpf) -> Result<(), StartError> {
    let program: &mut RawTracePoint = program(ebpf, ERROR)?;
    program.load().map_err(|e| StartError::load(e.into()))?;
    program.attach(ERROR_TRACEPOINT).map_err(|source| attach_error(ERROR, source))?;
    Ok(())
}

/// A power of two, and a page at least: what the kernel takes.
fn ring_size(bytes: u32) -> u32 {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|p| u32::try_from(p).ok()).unwrap_or(4096);
    bytes.clamp(page, 1 << 30).checked_next_power_of_two().unwrap_or(1 << 30)
}

fn offsets() -> Option<Offsets> {
    let data = fs::read("/sys/kernel/btf/vmlinux").ok()?;
    let btf = Btf::parse(&data)?;
    Some(Offsets {
        protocol: btf.offset_of("sock", &["sk_protocol"])?,
        cookie: btf.offset_of("sock", &["__sk_common", "skc_cookie"])?,
        error: btf.offset_of("sock", &["sk_err"])?,
    })
}

fn program<'a, T>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, StartError>
where
    &'a mut T: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(StartError::Missing { name })?;
    program.try_into().map_err(|e: ProgramError| StartError::load(e.into()))
}

fn map(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, StartError> {
    ebpf.take_map(name).ok_or(StartError::Missing { name })
}

fn descriptor(ebpf: &mut Ebpf, name: &'static str) -> Result<OwnedFd, StartError> {
    let program: &mut SchedClassifier = program(ebpf, name)?;
    let fd = program.fd().map_err(|e| StartError::load(e.into()))?;
    fd.as_fd().try_clone_to_owned().map_err(|e| StartError::load(EbpfError::from(ProgramError::IOError(e))))
}

fn attach_error(program: &'static str, source: ProgramError) -> StartError {
    StartError::Attach { program, source: Box::new(source) }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = inner.source();
    }
    line
}

/// Kernels before 5.11 charge maps to the limit of locked memory, which is small by default. Where it
/// may not be raised, the load fails and says so.
fn raise_memlock() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    if kernel_before(5, 11) {
        // SAFETY: the structure is valid for the call, which only reads it.
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    }
}

/// Whether the kernel's release is older; false if it cannot be told.
fn kernel_before(major: u32, minor: u32) -> bool {
    let Ok(names) = nix::sys::utsname::uname() else { return false };
    let release = names.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(a)), Some(Ok(b))) => (a, b) < (major, minor),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_sizes_are_powers_of_two() {
        assert_eq!(ring_size(8 << 20), 8 << 20);
        assert_eq!(ring_size((8 << 20) + 1), 16 << 20);
        assert!(ring_size(0).is_power_of_two() && ring_size(0) >= 4096);
        assert_eq!(ring_size(u32::MAX), 1 << 30);
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert!(!kernel_before(3, 0));
        assert!(kernel_before(1000, 0));
    }
}
