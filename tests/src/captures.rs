//! Capture files of a run: one for each interface of a node, as tcpdump would write them there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, IoSliceMut, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeSpec, TimeVal};

use crate::error::{Context, Error, Result, lab};
use crate::net::netns;
use crate::world::{UPLINK, VETH};

/// pcap with nanoseconds (draft-ietf-opsawg-pcap, 4), in this machine's byte order.
const MAGIC: u32 = 0xa1b2_3c4d;
const SNAP: u32 = 262_144;
const LINKTYPE_ETHERNET: u32 = 1;
/// What ends a file: to and from locally administered addresses, of the Ethernet type for experiments (IEEE 802),
/// and as short as frames may be.
const MARK: [u8; 60] = {
    let mut frame = [0; 60];
    (frame[0], frame[6], frame[12], frame[13]) = (2, 2, 0x88, 0xb5);
    frame
};
/// Room for what comes while the thread waits for a CPU.
const BUFFER: usize = 64 << 20;

/// The captures of one node, running until they are ended.
#[derive(Debug)]
pub struct Captures {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Captures {
    /// Starts to capture at all pods' interfaces and the uplink of a node's namespace, those that come later too,
    /// into `DIR/KIND.INTERFACE.pcap`.
    pub fn start(netns: &str, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).context(format_args!("make {}", dir.display()))?;
        let fd = netns::inside(netns, || {
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
        })?
        .context("open a packet socket")?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000)).context("set a receive timeout")?;
        setsockopt(&fd, sockopt::RcvBufForce, &BUFFER).context("set a receive buffer")?;
        setsockopt(&fd, sockopt::ReceiveTimestampns, &true).context("ask for timestamps")?;
        let end = Arc::new(AtomicBool::new(false));
        let (ended, netns, dir) = (end.clone(), netns.to_owned(), dir.to_owned());
        let work = move || {
            // Interfaces' names are those of the thread's namespace.
            netns::enter(&netns)?;
            let mut files = Files { dir, open: HashMap::new() };
            files.write(&fd, &ended)?;
            files.mark()
        };
        let thread = std::thread::Builder::new().name("captures".into()).spawn(work).context("start a thread")?;
        Ok(Self { end, thread: Some(thread) })
    }

    /// Ends them; what has passed is in the files, and a frame of no meaning at each interface, so that a file says
    /// how long it lasted: nodes of the world are never quiet, and the lab's are.
    pub fn end(&mut self) -> Result<()> {
        // What was just sent may still be on its way to the packet socket.
        std::thread::sleep(Duration::from_millis(50));
        self.end.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => lab("the thread that captures panicked"),
        }
    }
}

impl Drop for Captures {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

struct Files {
    dir: PathBuf,
    /// By interface index; none for those that are no point.
    open: HashMap<usize, Option<BufWriter<File>>>,
}

impl Files {
    fn write(&mut self, fd: &OwnedFd, ended: &AtomicBool) -> Result<()> {
        let mut buffer = vec![0; SNAP as usize];
        let mut control = nix::cmsg_space!(TimeSpec);
        loop {
            let mut room = [IoSliceMut::new(&mut buffer)];
            let (length, index, at) =
                match recvmsg::<LinkAddr>(fd.as_raw_fd(), &mut room, Some(&mut control), MsgFlags::MSG_TRUNC) {
                    Ok(message) => {
                        let at = message.cmsgs().ok().and_then(|mut all| {
                            all.find_map(|one| match one {
                                ControlMessageOwned::ScmTimestampns(at) => Some(at),
                                _ => None,
                            })
                        });
                        (message.bytes, message.address.map(|from| from.ifindex()), at)
                    }
                    Err(Errno::EAGAIN) if ended.load(Ordering::Relaxed) => break,
                    Err(Errno::EAGAIN | Errno::EINTR) => continue,
                    Err(errno) => return Err(errno).context("read captured packets"),
                };
            let (Some(index), Some(at)) = (index, at) else { return lab("a packet with no interface or no time") };
            if let Some(file) = self.file(index)? {
                let kept = &buffer[..length.min(buffer.len())];
                record(file, at, kept, length).context("write a capture")?;
            }
        }
        lost(fd)?;
        self.flush()
    }

    /// Writes a last frame to each file, of now.
    fn mark(&mut self) -> Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| Error::Lab(error.to_string()))?;
        let now = TimeSpec::from_duration(now);
        for file in self.open.values_mut().flatten() {
            record(file, now, &MARK, MARK.len()).context("write a capture")?;
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.open.values_mut().flatten().try_for_each(BufWriter::flush).context("write a capture")
    }

    fn file(&mut self, index: usize) -> Result<Option<&mut BufWriter<File>>> {
        if !self.open.contains_key(&index) {
            let file = match point(&name_of(index)?) {
                None => None,
                Some(point) => {
                    let path = self.dir.join(format!("{point}.pcap"));
                    let mut file =
                        BufWriter::new(File::create(&path).context(format_args!("make {}", path.display()))?);
                    header(&mut file).context("write a capture")?;
                    Some(file)
                }
            };
            self.open.insert(index, file);
        }
        Ok(self.open.get_mut(&index).and_then(Option::as_mut))
    }
}

/// `KIND.INTERFACE`, in the words of `synspan replay --point`.
fn point(interface: &str) -> Option<String> {
    if interface == UPLINK {
        Some(format!("node_nic.{interface}"))
    } else if interface.starts_with(VETH) {
        Some(format!("pod_nic.{interface}"))
    } else {
        None
    }
}

fn name_of(index: usize) -> Result<String> {
    let index = u32::try_from(index).map_err(|error| Error::Lab(error.to_string()))?;
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: `name` has the IF_NAMESIZE bytes that if_indextoname may write.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        // It is gone already.
        return Ok(String::new());
    }
    Ok(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned())
}

/// An error if the kernel had no room for some packets.
fn lost(fd: &OwnedFd) -> Result<()> {
    let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length = libc::socklen_t::try_from(size_of_val(&stats)).unwrap_or(0);
    let at = (&raw mut stats).cast();
    // SAFETY: `at` and `length` are of a tpacket_stats, which is what PACKET_STATISTICS writes.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_STATISTICS, at, &raw mut length) };
    Errno::result(result).context("ask for the captures' losses")?;
    if stats.tp_drops > 0 { lab(format!("the captures lack {} packets", stats.tp_drops)) } else { Ok(()) }
}

fn header(file: &mut impl Write) -> std::io::Result<()> {
    file.write_all(&MAGIC.to_ne_bytes())?;
    file.write_all(&2u16.to_ne_bytes())?;
    file.write_all(&4u16.to_ne_bytes())?;
    for word in [0, 0, SNAP, LINKTYPE_ETHERNET] {
        file.write_all(&word.to_ne_bytes())?;
    }
    Ok(())
}

fn record(file: &mut impl Write, at: TimeSpec, kept: &[u8], length: usize) -> std::io::Result<()> {
    let word = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    let size = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    for word in [word(at.tv_sec()), word(at.tv_nsec()), size(kept.len()), size(length)] {
        file.write_all(&word.to_ne_bytes())?;
    }
    file.write_all(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_named_by_their_interface() {
        assert_eq!(point("eth0").as_deref(), Some("node_nic.eth0"));
        assert_eq!(point("veth-cart").as_deref(), Some("pod_nic.veth-cart"));
        assert_eq!(point("lo"), None);
    }

    #[test]
    fn a_record_has_its_time_and_both_lengths() {
        let mut file = Vec::new();
        record(&mut file, TimeSpec::new(7, 9), &[1, 2], 5).unwrap();
        let words: Vec<u32> = file[..16].chunks(4).map(|w| u32::from_ne_bytes(w.try_into().unwrap())).collect();
        assert_eq!((words.as_slice(), &file[16..]), ([7, 9, 2, 5].as_slice(), [1, 2].as_slice()));
    }
}
