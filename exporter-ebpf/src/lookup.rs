//! The question that the program of `numbers` answers, laid over the bytes of a test run's packet.

/// A packet that is no packet: a link header, the tuple that is looked for, and room for the answer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Lookup {
    /// The link header, with an Ethernet type that no protocol has.
    pub link: [u8; 14],
    /// 4 or 6.
    pub family: u8,
    /// Not used.
    pub reserved: u8,
    /// The answer: none but what the kernel's look-up by this tuple finds.
    pub answer: Answer,
    /// `struct bpf_sock_tuple` as a segment has it that comes to the socket: for IPv4 its first 12 bytes.
    pub tuple: [u8; 36],
}

/// The numbers of a socket.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// Its state (`TCP_*`), 0 if there is no such socket.
    pub state: u32,
    /// The first of its own sequence numbers that is not acknowledged.
    pub snd_una: u32,
    /// Its next own sequence number.
    pub snd_nxt: u32,
    /// The next sequence number that it expects.
    pub rcv_nxt: u32,
}
