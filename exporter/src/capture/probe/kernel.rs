//! The kernel and its settings: release, BTF, tracefs, sysctls, conntrack.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use super::mounts::Mount;

/// The initial pid namespace's inode (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h), from kernel 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// A kernel release, as far as it can be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Release {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
}

impl Release {
    /// From the text of uname's release: `6.18.44-fc` is 6.18.
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self { major, minor })
    }
}

/// What the kernel's own type information (BTF) names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Btf {
    /// The tracepoint `sock/inet_sk_error_report` (from 5.14).
    pub error_report: bool,
    /// The tracepoint `skb/kfree_skb`.
    pub kfree_skb: bool,
    /// Drop reasons, `enum skb_drop_reason` (from 5.17).
    pub drop_reasons: bool,
}

/// The conntrack table as this network namespace sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Conntrack {
    /// Entries now.
    pub entries: u64,
    /// Most entries.
    pub limit: u64,
}

/// The kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kernel {
    /// uname's release.
    pub release: String,
    /// The machine's architecture by uname.
    pub machine: String,
    /// What BTF names; none if there is no BTF.
    pub btf: Option<Btf>,
    /// Where tracefs is mounted.
    pub tracefs: Option<PathBuf>,
    /// Where bpffs is mounted.
    pub bpffs: Option<PathBuf>,
    /// `net.ipv4.tcp_timestamps` of this network namespace: 0 off, 1 on, 2 on without random offsets.
    pub tcp_timestamps: Option<u32>,
    /// `net.ipv4.ip_local_port_range` of this network namespace, both ends included.
    pub local_ports: Option<(u16, u16)>,
    /// The conntrack table; none if the kernel has none loaded.
    pub conntrack: Option<Conntrack>,
    /// `kernel.bpf_stats_enabled`: the kernel measures every BPF program, which costs time itself.
    pub bpf_stats: Option<bool>,
    /// `kernel.unprivileged_bpf_disabled`: 0 allowed, 1 off for good, 2 off.
    pub unprivileged_bpf_disabled: Option<u32>,
}

impl Kernel {
    /// Asks the kernel; `mounts` are those of this process.
    pub fn gather(mounts: &[Mount]) -> Self {
        let (release, machine) = nix::sys::utsname::uname()
            .map(|name| (name.release().to_string_lossy().into(), name.machine().to_string_lossy().into()))
            .unwrap_or_default();
        let mounted = |kind: &str| mounts.iter().find(|mount| mount.kind == kind).map(|mount| mount.at.clone());
        Self {
            release,
            machine,
            btf: fs::read("/sys/kernel/btf/vmlinux").ok().map(|bytes| read_btf(&bytes)),
            tracefs: mounted("tracefs"),
            bpffs: mounted("bpf"),
            tcp_timestamps: number("net/ipv4/tcp_timestamps"),
            local_ports: sysctl("net/ipv4/ip_local_port_range").and_then(|text| read_range(&text)),
            conntrack: number("net/netfilter/nf_conntrack_count")
                .zip(number("net/netfilter/nf_conntrack_max"))
                .map(|(entries, limit)| Conntrack { entries, limit }),
            bpf_stats: number::<u32>("kernel/bpf_stats_enabled").map(|value| value != 0),
            unprivileged_bpf_disabled: number("kernel/unprivileged_bpf_disabled"),
        }
    }
}

/// Whether this process is in the machine's own pid namespace and `/proc` can be asked.
pub fn in_initial_pid_namespace() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|meta| meta.ino() == INITIAL_PID_NAMESPACE)
}

/// The cookie of the calling thread's network namespace; none below kernel 5.14.
pub fn netns_cookie() -> Option<u64> {
    // Of no network family, so that it can be had in a namespace whose loopback is down too.
    let socket = UnixDatagram::unbound().ok()?;
    let mut cookie = 0_u64;
    let mut size = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes into `cookie`, which has room for them.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut size)
    };
    (result == 0).then_some(cookie)
}

fn sysctl(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()
}

fn number<T: std::str::FromStr>(name: &str) -> Option<T> {
    sysctl(name)?.trim().parse().ok()
}

fn read_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Looks names up in the string section of BTF (`struct btf_header`, `include/uapi/linux/btf.h`).
fn read_btf(bytes: &[u8]) -> Btf {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
    let section = (|| {
        let magic = bytes.get(0..2)?;
        if magic != 0xeb9f_u16.to_ne_bytes() {
            return None;
        }
        let start = (word(4)? as usize).checked_add(word(16)? as usize)?;
        bytes.get(start..start.checked_add(word(20)? as usize)?)
    })()
    .unwrap_or_default();
    let mut found = Btf::default();
    for name in section.split(|&b| b == 0) {
        match name {
            b"btf_trace_inet_sk_error_report" => found.error_report = true,
            b"btf_trace_kfree_skb" => found.kfree_skb = true,
            b"skb_drop_reason" => found.drop_reasons = true,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_by_number() {
        assert_eq!(Release::parse("6.18.44-fc-v669"), Some(Release { major: 6, minor: 18 }));
        assert_eq!(Release::parse("5.10-generic"), Some(Release { major: 5, minor: 10 }));
        assert!(Release::parse("5.9.1") < Release::parse("5.10.0"));
        assert_eq!(Release::parse("unknown"), None);
    }

    fn btf(strings: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(0xeb9f_u16.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [24u32, 0, 8, 8, strings.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend([0; 8]);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn tracepoints_are_found_by_whole_name() {
        let found = read_btf(&btf(b"\0btf_trace_kfree_skb\0btf_trace_inet_sk_error_report_x\0skb_drop_reason\0"));
        assert_eq!(found, Btf { error_report: false, kfree_skb: true, drop_reasons: true });
    }

    #[test]
    fn broken_btf_names_nothing() {
        let whole = btf(b"\0skb_drop_reason\0");
        for cut in 0..whole.len() {
            assert_eq!(read_btf(&whole[..cut]), Btf::default(), "cut at {cut}");
        }
        let mut huge = whole;
        huge[16..24].fill(0xff);
        assert_eq!(read_btf(&huge), Btf::default());
    }

    #[test]
    fn port_ranges_are_two_numbers() {
        assert_eq!(read_range("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(read_range("32768"), None);
    }
}
