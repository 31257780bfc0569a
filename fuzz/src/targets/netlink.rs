//! Messages of rtnetlink: links, addresses, routes and tc's filters.

use synspan::capture::live::fuzzing::tables;
use synspan::capture::netlink::filters;
use synspan::capture::netlink::message::messages;
use synspan::capture::netlink::{attributes, put};
use synspan::capture::observation::Direction;

/// Reads the bytes as a datagram and each payload, and the bytes themselves, into every table.
pub fn run(data: &[u8]) {
    let mut total = 0;
    for message in messages(data) {
        total += 16 + message.payload.len();
        if let Err(error) = message.result() {
            assert!(!error.to_string().is_empty());
        }
        read(message.payload);
    }
    assert!(total <= data.len(), "more was read than there is");
    read(data);
}

fn read(payload: &[u8]) {
    let (link, shared, by) = tables(payload);
    if let Some(link) = &link {
        assert!(payload.len() >= 16 && link.name.len() <= payload.len() * 3 && link.kind.len() <= payload.len() * 3);
    }
    assert!(shared.is_none() || payload.len() >= 8);
    assert!(by.len() <= payload.len() / 4, "more next hops than there is room for");
    assert_eq!((link, shared, by), tables(payload), "the same bytes, another answer");

    if let Some(found) = filters::read(payload, Direction::Ingress) {
        assert_ne!(found.handle, 0, "a preference's own entry is no filter");
        assert!(found.kind == "bpf" || found.program.is_none(), "only bpf filters have a program");
        assert_eq!(Some(found), filters::read(payload, Direction::Ingress), "the same bytes, another answer");
    }

    let found: Vec<_> = attributes(payload).collect();
    let mut again = Vec::new();
    for (kind, value) in &found {
        put(&mut again, *kind, value);
    }
    assert!(attributes(&again).eq(found), "attributes do not come back as they were put");
}
