//! The eBPF object: loaded, and attached where there is one place for the whole machine.

use std::os::fd::{AsFd, OwnedFd};

use aya::maps::{Array, HashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{
    CgroupAttachMode, CgroupSockAddr, ProgramError, ProgramFd, RawTracePoint, SchedClassifier, SockOps, TracePoint,
};
use aya::{Ebpf, EbpfError, EbpfLoader};
use nix::unistd::{SysconfVar, sysconf};
use synspan_ebpf::record::NO_REASON;

use super::calls::Calls;
use super::cgroup::Root;
use super::inbound::SumMap;
use super::layout::Layout;
use super::names::KernelNames;
use super::{Feature, StartError};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/synspan.bpf.o"));

/// The program of ingress hooks.
pub const INGRESS: &str = "synspan_ingress";
/// The program of egress hooks.
pub const EGRESS: &str = "synspan_egress";
const SOCKOPS: &str = "synspan_sockops";
const CONNECT: [&str; 2] = ["synspan_conn4", "synspan_conn6"];
/// The program that tells a connection's sequence numbers, run on demand.
const NUMBERS: &str = "synspan_numbers";
const ERROR: &str = "synspan_skerr";
const ERROR_TRACEPOINT: &str = "inet_sk_error_report";
const DROP: &str = "synspan_drop";
const DROP_TRACEPOINT: &str = "kfree_skb";
const CALL: &str = "synspan_connret";

/// The ring of what comes from outside, as a part of the other.
const INBOUND_PART: u32 = 4;

/// The per-CPU counters (`synspan_ebpf::record::counter`).
pub type CounterMap = PerCpuArray<MapData, u64>;
/// What each interface is to the node (`synspan_ebpf::record::POINT_*`), by index.
pub type KindMap = HashMap<MapData, u32, u32>;

/// What was loaded.
pub struct Object {
    /// Holds the programs and the links of the cgroup and the tracepoint.
    pub ebpf: Ebpf,
    /// The records.
    pub ring: RingBuf<MapData>,
    /// Those of segments of attempts from outside.
    pub inbound: RingBuf<MapData>,
    /// SYNs from outside that are only summed.
    pub sums: SumMap,
    /// What each interface is to the node.
    pub kinds: KindMap,
    /// The names of what the kernel tells by number.
    pub names: KernelNames,
    /// What connect() returns, where it can be watched.
    pub calls: Option<Calls>,
    /// The counters.
    pub counters: CounterMap,
    /// The program of ingress hooks.
    pub ingress: OwnedFd,
    /// The program of egress hooks.
    pub egress: OwnedFd,
    /// The program that tells a connection's sequence numbers; else why the kernel does not take it.
    pub numbers: Result<OwnedFd, String>,
    /// Whether the error that a socket's owner gets is seen.
    pub error_tracepoint: Feature,
    /// Whether a socket's steps carry its network namespace.
    pub netns_cookie: Feature,
    /// Whether dropped segments are seen.
    pub drops: Feature,
    /// Whether they carry the kernel's reason.
    pub drop_reasons: Feature,
    /// Whether what connect() returns can be watched.
    pub call_results: Feature,
}

/// Loads the object and attaches the programs of the cgroup and the tracepoint.
///
/// # Errors
///
/// [`StartError::Load`] and [`StartError::Attach`]. The tracepoint is no condition.
pub fn load(ring_bytes: u32, root: &Root) -> Result<Object, StartError> {
    raise_memlock();
    let layout = Layout::read();
    // The helper is there or not; asking the verifier is surer than comparing version numbers.
    let (mut ebpf, netns_cookie) = match build(ring_bytes, &layout, true) {
        Ok(ebpf) => (ebpf, Feature::Present),
        Err(_) => {
            let why = "bpf_get_netns_cookie in sock_ops needs kernel 5.15".to_owned();
            (build(ring_bytes, &layout, false)?, Feature::Absent(why))
        }
    };
    for name in CONNECT {
        let program: &mut CgroupSockAddr = program(&mut ebpf, name)?;
        program.attach(root, CgroupAttachMode::Single).map_err(|source| attach_error(name, source))?;
    }
    let sockops: &mut SockOps = program(&mut ebpf, SOCKOPS)?;
    sockops.attach(root, CgroupAttachMode::Single).map_err(|source| attach_error(SOCKOPS, source))?;
    let error_tracepoint =
        tracepoint(&mut ebpf, ERROR, ERROR_TRACEPOINT, layout.socket.is_some(), "inet_sk_error_report (kernel 5.14)");
    let drops = tracepoint(&mut ebpf, DROP, DROP_TRACEPOINT, layout.packet.is_some(), DROP_TRACEPOINT);
    let drop_reasons = match (&drops, layout.packet) {
        (Feature::Present, Some(packet)) if packet.has_reasons => Feature::Present,
        (Feature::Present, _) => Feature::Absent("the kernel gives reasons from 5.17 on".to_owned()),
        (absent, _) => absent.clone(),
    };
    let (calls, call_results) = match calls(&mut ebpf) {
        Ok(calls) => (Some(calls), Feature::Present),
        Err(why) => (None, Feature::Absent(format!("tracepoint sys_exit_connect: {why}"))),
    };
    let ingress = descriptor(&mut ebpf, INGRESS)?;
    let egress = descriptor(&mut ebpf, EGRESS)?;
    let failed = |e: aya::maps::MapError| StartError::load(e.into());
    let ring = RingBuf::try_from(map(&mut ebpf, "RECORDS")?).map_err(failed)?;
    let inbound = RingBuf::try_from(map(&mut ebpf, "RECORDS_IN")?).map_err(failed)?;
    let counters = PerCpuArray::try_from(map(&mut ebpf, "COUNTERS")?).map_err(failed)?;
    let sums = PerCpuArray::try_from(map(&mut ebpf, "SUMS")?).map_err(failed)?;
    let kinds = HashMap::try_from(map(&mut ebpf, "KINDS")?).map_err(failed)?;
    let names = KernelNames::new(layout.reasons);
    let numbers = numbers(&mut ebpf).map_err(|e| chain(&e));
    Ok(Object {
        ebpf,
        ring,
        inbound,
        sums,
        kinds,
        names,
        calls,
        counters,
        ingress,
        egress,
        numbers,
        error_tracepoint,
        netns_cookie,
        drops,
        drop_reasons,
        call_results,
    })
}

/// Creates the maps and loads the programs that must be there.
fn build(ring_bytes: u32, layout: &Layout, netns_cookie: bool) -> Result<Ebpf, StartError> {
    let ring_bytes = ring_size(ring_bytes);
    let inbound_bytes = ring_size(ring_bytes / INBOUND_PART);
    let (half, inbound_half) = (u64::from(ring_bytes / 2), u64::from(inbound_bytes / 2));
    let seed: u64 = rand::random();
    let netns_cookie = u32::from(netns_cookie);
    let socket = layout.socket.unwrap_or_default();
    let packet = layout.packet.unwrap_or_default();
    let has_reasons = u32::from(packet.has_reasons);
    let (not_yet, consumed) = (packet.not_yet.unwrap_or(NO_REASON), packet.consumed.unwrap_or(NO_REASON));
    let mut loader = EbpfLoader::new();
    loader
        .map_max_entries("RECORDS", ring_bytes)
        .map_max_entries("RECORDS_IN", inbound_bytes)
        .override_global("RING_HALF", &half, true)
        .override_global("RING_IN_HALF", &inbound_half, true)
        .override_global("HASH_SEED", &seed, true);
    for (name, value) in [
        ("NETNS_COOKIE", &netns_cookie),
        ("SK_PROTOCOL", &socket.protocol),
        ("SK_COOKIE", &socket.cookie),
        ("SK_ERR", &socket.error),
        ("SK_STATE", &socket.state),
        ("DROP_REASONS", &has_reasons),
        ("DROP_NOT_YET", &not_yet),
        ("DROP_CONSUMED", &consumed),
        ("SKB_PROTOCOL", &packet.protocol),
        ("SKB_NETWORK", &packet.network_header),
        ("SKB_HEAD", &packet.head),
        ("SKB_DEV", &packet.device),
        ("SKB_SK", &packet.socket),
        ("DEV_IFINDEX", &packet.device_ifindex),
        ("DEV_NET", &packet.device_net),
        ("SK_NET", &packet.socket_net),
        ("NET_COOKIE", &packet.net_cookie),
    ] {
        loader.override_global(name, value, true);
    }
    let mut ebpf = loader.load(OBJECT).map_err(StartError::load)?;
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

/// Loads and attaches a program that is no condition, at a raw tracepoint.
fn tracepoint(ebpf: &mut Ebpf, name: &'static str, at: &str, layout_known: bool, what: &str) -> Feature {
    let mut attach = || -> Result<(), StartError> {
        let program: &mut RawTracePoint = program(ebpf, name)?;
        program.load().map_err(|e| StartError::load(e.into()))?;
        program.attach(at).map_err(|source| attach_error(name, source))?;
        Ok(())
    };
    if !layout_known {
        return Feature::Absent("no field offsets: /sys/kernel/btf/vmlinux is missing or not understood".to_owned());
    }
    match attach() {
        Ok(()) => Feature::Present,
        Err(e) => {
            tracing::debug!(program = name, error = whole_chain(&e), "the kernel refused");
            Feature::Absent(format!("tracepoint {what}: {}", chain(&e)))
        }
    }
}

/// Loads the program that sees what connect() returns, and makes ready to attach it when it is wanted.
fn calls(ebpf: &mut Ebpf) -> Result<Calls, String> {
    let watching = map(ebpf, "WATCHING").map_err(|e| chain(&e))?;
    let watching = Array::try_from(watching).map_err(|e| chain(&e))?;
    let program: &mut TracePoint = program(ebpf, CALL).map_err(|e| chain(&e))?;
    program.load().map_err(|e| chain(&e))?;
    let fd = program
        .fd()
        .map_err(|e| chain(&e))
        .and_then(|fd: &ProgramFd| fd.as_fd().try_clone_to_owned().map_err(|e| e.to_string()))?;
    Calls::prepare(fd, watching).map_err(|e| e.to_string())
}

/// Loads the program that is attached nowhere.
fn numbers(ebpf: &mut Ebpf) -> Result<OwnedFd, StartError> {
    program::<SchedClassifier>(ebpf, NUMBERS)?.load().map_err(|e| StartError::load(e.into()))?;
    descriptor(ebpf, NUMBERS)
}

/// A power of two, and a page at least: what the kernel takes.
fn ring_size(bytes: u32) -> u32 {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|p| u32::try_from(p).ok()).unwrap_or(4096);
    bytes.clamp(page, 1 << 30).checked_next_power_of_two().unwrap_or(1 << 30)
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

/// An error and its causes in one line, without what the verifier wrote: that is pages.
pub fn chain(error: &dyn std::error::Error) -> String {
    let line = whole_chain(error);
    match line.split_once("Verifier output") {
        Some((before, _)) => before.trim_end_matches([' ', '.', ':', '\n']).to_owned(),
        None => line,
    }
}

/// An error and its causes, whole.
pub fn whole_chain(error: &dyn std::error::Error) -> String {
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
