//! The bpf() system call, as far as the probe needs it: load a tiny program, create a map, ask who is
//! attached where, and name a program by its id.
//!
//! Layouts are those of `union bpf_attr` and `struct bpf_prog_info` in `include/uapi/linux/bpf.h`; they
//! only ever grow, and the kernel takes a longer attribute whose tail is zero.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::capture::netlink::filters::Filter;

/// `BPF_PROG_TYPE_SCHED_CLS`.
pub const PROG_SCHED_CLS: u32 = 3;
/// `BPF_PROG_TYPE_TRACEPOINT`.
pub const PROG_TRACEPOINT: u32 = 5;
/// `BPF_PROG_TYPE_SOCK_OPS`.
pub const PROG_SOCK_OPS: u32 = 13;
/// `BPF_PROG_TYPE_RAW_TRACEPOINT`.
pub const PROG_RAW_TRACEPOINT: u32 = 17;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
pub const PROG_CGROUP_SOCK_ADDR: u32 = 18;

/// `BPF_CGROUP_SOCK_OPS`.
pub const ATTACH_SOCK_OPS: u32 = 3;
/// `BPF_CGROUP_INET4_CONNECT`.
pub const ATTACH_CONNECT4: u32 = 10;
/// `BPF_CGROUP_INET6_CONNECT`.
pub const ATTACH_CONNECT6: u32 = 11;
/// `BPF_TCX_INGRESS` (kernel 6.6).
pub const ATTACH_TCX_INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS` (kernel 6.6).
pub const ATTACH_TCX_EGRESS: u32 = 47;

/// `BPF_MAP_TYPE_RINGBUF` (kernel 5.8).
pub const MAP_RINGBUF: u32 = 27;

/// What a tiny program returns: it is its whole body.
pub mod returns {
    /// sock_ops and sock_addr: allow.
    pub const ALLOW: i32 = 1;
    /// sched_cls: `TCX_NEXT` and `TC_ACT_UNSPEC`, leave the packet alone and go on.
    pub const NEXT: i32 = -1;
    /// Tracepoints: nothing.
    pub const NOTHING: i32 = 0;
}

const CMD_MAP_CREATE: libc::c_long = 0;
const CMD_PROG_LOAD: libc::c_long = 5;
const CMD_PROG_TEST_RUN: libc::c_long = 10;
const CMD_PROG_GET_FD_BY_ID: libc::c_long = 13;
const CMD_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const CMD_PROG_QUERY: libc::c_long = 16;
const CMD_RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const CMD_LINK_CREATE: libc::c_long = 28;

/// `union bpf_attr` as bytes. 120 is its size on 5.10; nothing the probe uses lies beyond.
#[repr(C, align(8))]
struct Attr([u8; 120]);

impl Attr {
    fn new() -> Self {
        Self([0; 120])
    }

    fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn pointer<T>(mut self, at: usize, value: *const T) -> Self {
        self.0[at..at + 8].copy_from_slice(&(value as u64).to_ne_bytes());
        self
    }

    fn bytes(mut self, at: usize, value: &[u8]) -> Self {
        self.0[at..at + value.len()].copy_from_slice(value);
        self
    }

    fn read(&self, at: usize) -> u32 {
        read_u32(&self.0, at)
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// Calls bpf(); the pointers inside `attr` must be valid for what `command` does with them.
fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: attr is as long as said and writable; every caller keeps the buffers it points to alive
    // and as long as it says until this returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.0.as_mut_ptr(), attr.0.len()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(i32::try_from(result).unwrap_or(0)) }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: bpf() has just returned this descriptor, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Loads a program that does nothing but return `value`, under `name` (cut at 15 bytes).
///
/// # Errors
/// The kernel's error: `EPERM` without the capability, `EINVAL` where it does not know the type.
pub fn load_returning(kind: u32, attach_type: u32, name: &str, value: i32) -> io::Result<OwnedFd> {
    // r0 = value; exit
    let mut code = [0u8; 16];
    code[0] = 0xb7;
    code[4..8].copy_from_slice(&value.to_ne_bytes());
    code[8] = 0x95;
    let name = &name.as_bytes()[..name.len().min(15)];
    let mut attr = Attr::new()
        .u32(0, kind)
        .u32(4, 2)
        .pointer(8, code.as_ptr())
        .pointer(16, c"GPL".as_ptr())
        .bytes(48, name)
        .u32(68, attach_type);
    bpf(CMD_PROG_LOAD, &mut attr).map(owned)
}

/// Runs a sched_cls program once over a packet, in the calling thread's network namespace, at no hook
/// (`BPF_PROG_TEST_RUN`). `answer` gets the packet as the program left it, as far as it has room.
///
/// # Errors
/// The kernel's error: `EINVAL` for a packet shorter than a link header, `EPERM` without the capability.
pub fn run_by_hand(program: BorrowedFd<'_>, packet: &[u8], answer: &mut [u8]) -> io::Result<()> {
    let mut attr = Attr::new()
        .u32(0, program.as_raw_fd().cast_unsigned())
        .u32(8, u32::try_from(packet.len()).unwrap_or(u32::MAX))
        .u32(12, u32::try_from(answer.len()).unwrap_or(u32::MAX))
        .pointer(16, packet.as_ptr())
        .pointer(24, answer.as_mut_ptr())
        .u32(32, 1);
    bpf(CMD_PROG_TEST_RUN, &mut attr).map(drop)
}

/// Creates a ring buffer of one page.
///
/// # Errors
/// The kernel's error: `EINVAL` below 5.8, `EPERM` without the capability or the locked memory.
pub fn create_ring_buffer() -> io::Result<OwnedFd> {
    let mut attr = Attr::new().u32(0, MAP_RINGBUF).u32(12, page_size()).bytes(28, b"synspan_try");
    bpf(CMD_MAP_CREATE, &mut attr).map(owned)
}

fn page_size() -> u32 {
    // SAFETY: sysconf takes no pointers.
    u32::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Attaches a raw tracepoint program; dropping the result detaches it.
///
/// # Errors
/// `ENOENT` where the kernel has no such tracepoint.
pub fn open_raw_tracepoint(name: &CStr, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = Attr::new().pointer(0, name.as_ptr()).u32(8, program.as_raw_fd().cast_unsigned());
    bpf(CMD_RAW_TRACEPOINT_OPEN, &mut attr).map(owned)
}

/// Creates a link of `program` to `target` (a descriptor for cgroups, an interface index for tcx);
/// dropping the result detaches it.
///
/// # Errors
/// `EINVAL` where the kernel does not know the attach type.
pub fn create_link(program: BorrowedFd<'_>, target: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attr = Attr::new().u32(0, program.as_raw_fd().cast_unsigned()).u32(4, target).u32(8, attach_type);
    bpf(CMD_LINK_CREATE, &mut attr).map(owned)
}

/// Who is attached at a hook.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attached {
    /// Program ids in the order in which they run.
    pub programs: Vec<u32>,
    /// The hook's flags: for cgroups 0 (one program, no others below), 1 (may be overridden) or 2
    /// (several), meaningless where nothing is attached.
    pub flags: u32,
}

/// Asks who is attached to `target` (a cgroup's descriptor, or an interface index for tcx).
/// `effective` asks for all that run for this cgroup, its ancestors' programs included.
///
/// # Errors
/// `EINVAL` where the kernel does not know the attach type, `EPERM` without `CAP_NET_ADMIN`.
pub fn query(target: u32, attach_type: u32, effective: bool) -> io::Result<Attached> {
    let mut room = 64usize;
    loop {
        let mut ids = vec![0u32; room];
        let mut attr = Attr::new()
            .u32(0, target)
            .u32(4, attach_type)
            .u32(8, u32::from(effective))
            .pointer(16, ids.as_mut_ptr())
            .u32(24, u32::try_from(room).unwrap_or(u32::MAX));
        match bpf(CMD_PROG_QUERY, &mut attr) {
            Ok(_) => {
                ids.truncate(attr.read(24) as usize);
                return Ok(Attached { programs: ids, flags: attr.read(12) });
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < 65_536 => room *= 4,
            Err(error) => return Err(error),
        }
    }
}

/// A loaded program's name and tag.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Info {
    /// Its id.
    pub id: u32,
    /// Its name, at most 15 bytes; empty if its loader gave none.
    pub name: String,
    /// The first 8 bytes of a hash of its instructions.
    pub tag: [u8; 8],
}

/// A loaded program's name and tag by its id.
///
/// # Errors
/// `ENOENT` when it is gone, `EPERM` without `CAP_SYS_ADMIN` (the kernel asks it for any look-up by id).
pub fn info_of(id: u32) -> io::Result<Info> {
    let mut attr = Attr::new().u32(0, id);
    let program = bpf(CMD_PROG_GET_FD_BY_ID, &mut attr).map(owned)?;
    info_of_held(program.as_fd())
}

/// The name and tag of a program that this process holds; takes no capability but for bpf() itself.
///
/// # Errors
/// The kernel's error; none is expected.
pub fn info_of_held(program: BorrowedFd<'_>) -> io::Result<Info> {
    let mut info = [0u64; 10];
    let mut attr = Attr::new().u32(0, program.as_raw_fd().cast_unsigned()).u32(4, 80).pointer(8, info.as_mut_ptr());
    bpf(CMD_OBJ_GET_INFO_BY_FD, &mut attr)?;
    let bytes: Vec<u8> = info.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok(read_info(&bytes))
}

/// The name that we give a clsact filter: its program's, and that program's tag, which the kernel tells of the filter
/// as well. By it a filter is known to be ours where its program may not be looked up by its id.
pub fn mark(program: &str, tag: [u8; 8]) -> String {
    format!("{program}:{}", tag_text(tag))
}

/// The program's name in a filter's [`mark`]; none if the filter's name is no mark, or one of another program.
fn marked(filter: &Filter) -> Option<&str> {
    let name = filter.name.as_deref()?;
    let (program, _) = name.split_once(':')?;
    (name == mark(program, filter.tag?)).then_some(program)
}

/// What a filter's program is, asked by its id and held against the filter's own tag; by the filter's [`mark`] where
/// the look-up is refused.
///
/// # Errors
/// Why it cannot be known: no id, the look-up refused and no mark, or another program's tag.
pub fn program_of(filter: &Filter) -> io::Result<Info> {
    let id = filter.program.ok_or_else(|| io::Error::other("the filter names no program"))?;
    let info = match (info_of(id), marked(filter)) {
        (Err(error), Some(name)) if error.raw_os_error() == Some(libc::EPERM) => {
            return Ok(Info { id, name: name.to_owned(), tag: filter.tag.unwrap_or_default() });
        }
        (info, _) => info?,
    };
    match filter.tag {
        Some(tag) if tag != info.tag => Err(io::Error::other("the filter's tag is not that of its program")),
        _ => Ok(info),
    }
}

/// Reads the first 80 bytes of `struct bpf_prog_info`: type, id, tag, ..., name at 64.
fn read_info(bytes: &[u8]) -> Info {
    let name = bytes.get(64..80).unwrap_or_default();
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    Info {
        id: read_u32(bytes, 4),
        name: String::from_utf8_lossy(&name[..end]).into_owned(),
        tag: bytes.get(8..16).and_then(|b| b.try_into().ok()).unwrap_or_default(),
    }
}

/// A tag as bpftool and tc print it: 16 hexadecimal digits.
pub fn tag_text(tag: [u8; 8]) -> String {
    tag.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::observation::Direction;

    #[test]
    fn info_is_read_from_the_kernels_layout() {
        let mut bytes = [0u8; 80];
        bytes[0..4].copy_from_slice(&3u32.to_ne_bytes());
        bytes[4..8].copy_from_slice(&771u32.to_ne_bytes());
        bytes[8..16].copy_from_slice(&[0xde, 0xad, 0, 1, 2, 3, 4, 0xff]);
        bytes[64..79].copy_from_slice(b"synspan_ingress");
        let info = read_info(&bytes);
        assert_eq!((info.id, info.name.as_str()), (771, "synspan_ingress"));
        assert_eq!(tag_text(info.tag), "dead0001020304ff");
    }

    #[test]
    fn a_mark_holds_only_for_the_program_whose_tag_it_names() {
        let tag = [1, 2, 3, 4, 5, 6, 7, 0xff];
        let filter = |name: &str, tag: Option<[u8; 8]>| Filter {
            ifindex: 1,
            direction: Direction::Ingress,
            info: 0,
            handle: 1,
            chain: 0,
            kind: "bpf".into(),
            program: Some(9),
            name: Some(name.into()),
            tag,
            direct_action: true,
        };
        let name = mark("synspan_ingress", tag);
        assert_eq!(name, "synspan_ingress:01020304050607ff");
        assert_eq!(marked(&filter(&name, Some(tag))), Some("synspan_ingress"));
        assert_eq!(marked(&filter(&name, Some([9; 8]))), None, "of another program");
        assert_eq!(marked(&filter(&name, None)), None);
        assert_eq!(marked(&filter("synspan_ingress", Some(tag))), None, "a name like ours is no mark");
    }

    #[test]
    fn a_short_answer_gives_an_empty_name_and_no_panic() {
        assert_eq!(read_info(&[1, 2, 3]), Info::default());
    }
}
