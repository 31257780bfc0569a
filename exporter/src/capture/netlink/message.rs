//! Messages (`struct nlmsghdr`): built, and told apart in a datagram.

use std::io::{self, ErrorKind};

use super::attributes::{i32_at, u16_at, u32_at};

/// Bytes of `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// `NLMSG_ERROR`: an error, or a success with error 0.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump, with an error or 0.
pub const DONE: u16 = 3;
/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`.
pub const ACK: u16 = 0x4;
/// `NLM_F_DUMP_INTR`: the dump may have missed something, since the tables changed meanwhile.
pub const DUMP_INTERRUPTED: u16 = 0x10;
/// `NLM_F_ROOT | NLM_F_MATCH`.
pub const DUMP: u16 = 0x300;
/// `NLM_F_EXCL`.
pub const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;

/// A message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// What `NLMSG_ERROR` and `NLMSG_DONE` say; a message too short for it is an error itself.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn result(&self) -> io::Result<()> {
        match i32_at(self.payload, 0).unwrap_or(if self.kind == DONE { 0 } else { -libc::EBADMSG }) {
            0.. => Ok(()),
            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        }
    }
}

/// A message's bytes.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`] where it is longer than a header can say.
pub fn build(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(HEADER + payload.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    let mut message = Vec::with_capacity(HEADER + payload.len());
    message.extend_from_slice(&len.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&sequence.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(payload);
    Ok(message)
}

/// The messages of a datagram; ends early at one whose length makes no sense.
pub fn messages(mut rest: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32_at(rest, 0)? as usize;
        let message = Message {
            kind: u16_at(rest, 4)?,
            flags: u16_at(rest, 6)?,
            sequence: u32_at(rest, 8)?,
            payload: rest.get(HEADER..len)?,
        };
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_that_makes_no_sense_ends_the_list() {
        for bytes in [&[3, 0, 1, 0][..], &[0, 0, 0, 0], &[200, 0, 1, 0, 9], &[8, 0]] {
            assert_eq!(messages(bytes).count(), 0, "{bytes:?}");
        }
        // A message that claims less than its own header.
        let mut short = [0_u8; 16];
        short[0] = 8;
        assert_eq!(messages(&short).count(), 0);
    }

    #[test]
    fn errors_are_the_kernels() {
        let error = |payload: &[u8], kind| {
            Message { kind, flags: 0, sequence: 1, payload }.result().map_err(|e| e.raw_os_error())
        };
        assert_eq!(error(&(-libc::ENOENT).to_ne_bytes(), ERROR), Err(Some(libc::ENOENT)));
        assert_eq!(error(&[0; 4], ERROR), Ok(()));
        assert_eq!(error(&[], ERROR), Err(Some(libc::EBADMSG)));
        assert_eq!(error(&[], DONE), Ok(()));
        assert!(error(&i32::MIN.to_ne_bytes(), ERROR).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER);
        }

        #[test]
        fn messages_survive_a_round(kind: u16, flags: u16, sequence: u32, payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            let built = build(kind, flags, sequence, &payload).unwrap();
            let message = messages(&built).next().unwrap();
            prop_assert_eq!(message, Message { kind, flags, sequence, payload: &payload });
            for cut in 0..built.len() {
                prop_assert_eq!(messages(&built[..cut]).count(), 0);
            }
        }
    }
}
