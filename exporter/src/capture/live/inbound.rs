//! SYNs from outside that the programs only summed, by listener.

use std::collections::HashMap;

use aya::maps::{MapData, PerCpuArray};
use synspan_ebpf::record::InboundSum;

use crate::capture::observation::InboundCount;
use crate::capture::tuple::{Addr, Endpoint};

/// The map: [`InboundSum`]s as words, which the map's library takes.
pub type SumMap = PerCpuArray<MapData, [u64; WORDS]>;

const WORDS: usize = size_of::<InboundSum>() / 8;
const SLOTS: u32 = 256;

/// What was read of the map so far.
pub struct Sums {
    map: SumMap,
    /// By CPU and slot: whose it was, and how many.
    known: HashMap<(usize, u32), (Endpoint, u64)>,
}

impl Sums {
    /// Of a map of which nothing was read yet.
    pub fn new(map: SumMap) -> Self {
        Self { map, known: HashMap::new() }
    }

    /// What was added since the last time, by listener.
    pub fn news(&mut self) -> Vec<InboundCount> {
        let mut news: HashMap<Endpoint, u64> = HashMap::new();
        for slot in 0..SLOTS {
            // An array's slot is always there; the call fails only if the kernel is out of memory.
            let Ok(values) = self.map.get(&slot, 0) else { continue };
            for (cpu, words) in values.iter().enumerate() {
                let Some((listener, syns)) = read(*words) else { continue };
                let more = since(self.known.insert((cpu, slot), (listener, syns)), listener, syns);
                if more > 0 {
                    *news.entry(listener).or_default() += more;
                }
            }
        }
        news.into_iter().map(|(listener, syns)| InboundCount { listener, syns }).collect()
    }
}

/// What came to a slot since it was read last; one that went to another listener began anew.
fn since(before: Option<(Endpoint, u64)>, listener: Endpoint, syns: u64) -> u64 {
    match before {
        Some((known, count)) if known == listener && count <= syns => syns - count,
        _ => syns,
    }
}

/// A slot's listener and count; none if it was never used.
fn read(words: [u64; WORDS]) -> Option<(Endpoint, u64)> {
    // SAFETY: the same size, and any bytes are valid for integers and arrays of them.
    let sum: InboundSum = unsafe { std::mem::transmute(words) };
    let port = u16::try_from(sum.port).ok().filter(|port| *port != 0)?;
    Some((Endpoint { addr: Addr(sum.address), port }, sum.syns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(port: u32, syns: u64) -> [u64; WORDS] {
        let address = Addr::from(std::net::Ipv4Addr::new(10, 0, 0, 1)).0;
        // SAFETY: as in `read`.
        unsafe { std::mem::transmute(InboundSum { address, port, last: 9, syns }) }
    }

    #[test]
    fn slots_are_read() {
        let (listener, syns) = read(words(8443, 12)).unwrap();
        assert_eq!((listener.to_string().as_str(), syns), ("10.0.0.1:8443", 12));
        assert_eq!(read(words(0, 0)), None);
        assert_eq!(read(words(70_000, 1)), None);
    }

    #[test]
    fn only_what_is_new_counts() {
        let (one, _) = read(words(80, 1)).unwrap();
        let (other, _) = read(words(81, 1)).unwrap();
        assert_eq!(since(None, one, 5), 5);
        assert_eq!(since(Some((one, 5)), one, 7), 2);
        assert_eq!(since(Some((one, 5)), one, 5), 0);
        assert_eq!(since(Some((one, 5)), other, 3), 3);
        assert_eq!(since(Some((one, 5)), one, 2), 2, "it was another's in between");
    }
}
