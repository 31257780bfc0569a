//! Attributes (`struct nlattr`, netlink(7)), and numbers in them.
//!
//! Route netlink writes numbers in the machine's order, netfilter in the network's.

/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// The bits of a type that are no flags.
const KIND: u16 = 0x3fff;

/// The attributes in `bytes`: type and value; ends early at one that makes no sense.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & KIND;
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Adds an attribute. Values here are short: a name, a number, or some of them.
pub fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&len.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Adds an attribute that holds attributes.
pub fn put_nested(body: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    fill(&mut inner);
    put(body, kind | NESTED, &inner);
}

/// Some bytes, if there are as many.
pub fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A number in the machine's order; none if the bytes end before it.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

/// A number in the machine's order; none if the bytes end before it.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

/// A number in the machine's order; none if the bytes end before it.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_ne_bytes)
}

/// A number in the machine's order; none if the bytes end before it.
pub fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    u32_at(bytes, at).map(u32::cast_signed)
}

/// A number in network order; none if the bytes end before it.
pub fn be16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_be_bytes)
}

/// A number in network order; none if the bytes end before it.
pub fn be32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_be_bytes)
}

/// The text before the first NUL.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_come_back_as_they_were_put() {
        let mut body = Vec::new();
        put(&mut body, 1, b"clsact\0");
        put_nested(&mut body, 2, |inner| put(inner, 6, &7_u32.to_ne_bytes()));
        let found: Vec<_> = attributes(&body).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], (1, &b"clsact\0"[..]));
        assert_eq!(found[1].0, 2);
        assert_eq!(attributes(found[1].1).next(), Some((6, &7_u32.to_ne_bytes()[..])));
    }

    #[test]
    fn a_length_that_makes_no_sense_ends_the_list() {
        for bytes in [&[3, 0, 1, 0][..], &[0, 0, 0, 0], &[200, 0, 1, 0, 9], &[8, 0]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(attributes(&bytes).count() <= bytes.len() / 4);
        }

        #[test]
        fn a_list_survives_a_round(list in proptest::collection::vec(
            (0_u16..0x4000, proptest::collection::vec(any::<u8>(), 0..40)), 0..10,
        )) {
            let mut body = Vec::new();
            list.iter().for_each(|(kind, value)| put(&mut body, *kind, value));
            let found: Vec<_> = attributes(&body).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(found, list);
        }
    }
}
