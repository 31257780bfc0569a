//! SYNs from outside that come to nothing, by the records of the agents: whether the sums are exact, and few.

use std::net::SocketAddr;

use crate::counters::Counters;
use crate::error::{Error, Result};
use crate::net::netns::Netns;
use crate::receiver::Kept;
use crate::seen::{Attributes, Span};

/// Attempts to one listener that are told one by one in ten seconds, until there is a sum: the agent's own rule.
const ONE_BY_ONE: u64 = 10;
/// As many SYNs are a flood, which must be summed up. A few attempts, some of them sent again, may be told one by one.
const FLOOD: u64 = 100;
/// Sums of one listener that may be told of one flood: one when it is over or long, and one at the agent's end.
const RECORDS: usize = 3;

/// Counts the SYNs that come in to a node for a listener, from now on: in the kernel, where the agent has seen them.
pub fn count(node: &Netns, listener: SocketAddr) -> Result<()> {
    node.nft(&format!(
        "table inet lab_came {{\n counter syns {{ }}\n chain in {{\n  type filter hook prerouting priority raw;\n  \
         iifname \"{}\" tcp dport {} tcp flags & (syn | ack | rst) == syn counter name syns\n }}\n}}\n",
        crate::world::UPLINK,
        listener.port()
    ))
}

/// How many came since [`count`].
pub fn came(node: &Netns) -> Result<u64> {
    let text = node.run("nft", &["list", "counter", "inet", "lab_came", "syns"])?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let packets = words.windows(2).find(|pair| pair[0] == "packets").and_then(|pair| pair[1].parse().ok());
    packets.ok_or_else(|| Error::Lab(format!("nft does not say how many came: {text}")))
}

/// A flood of a listener, and what its node's agent made of it.
#[derive(Clone, Debug)]
pub struct Flooded {
    /// The listener.
    pub listener: SocketAddr,
    /// How many SYNs came in to its node.
    pub came: u64,
    /// What the agent's records say.
    pub sums: Sums,
    /// What the agent counted.
    pub counters: Counters,
}

impl Flooded {
    /// What is wrong with it.
    pub fn faults(&self) -> Vec<String> {
        self.sums.faults(self.came, &self.counters)
    }
}

impl std::fmt::Display for Flooded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { listener, came, sums: Sums { records, summed, counted, told }, counters } = self;
        writeln!(
            f,
            "{came} SYNs came to {listener} from outside: {summed} are in {records} sums ({counted} of them were"
        )?;
        write!(f, "only counted), {told} were told one by one, and {} records of any kind were lost", counters.lost())
    }
}

/// What the records say of a listener's SYNs from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// Records that sum up.
    pub records: usize,
    /// SYNs in them.
    pub summed: u64,
    /// Of these, those that were counted in the kernel alone.
    pub counted: u64,
    /// SYNs of attempts that were told one by one.
    pub told: u64,
}

impl Sums {
    /// Of all that came. Attempts that were accepted are none of these.
    pub fn of(kept: &Kept, listener: SocketAddr) -> Self {
        let mut sums = Self::default();
        let (address, port) = (listener.ip().to_string(), listener.port().to_string());
        let is = |attributes: &Attributes, name: &str, port_name: &str| {
            attributes.get(name) == Some(&address) && attributes.get(port_name) == Some(&port)
        };
        for record in kept.records().iter().filter(|record| record.event == "synspan.inbound") {
            if is(&record.attributes, "server.address", "server.port") {
                sums.records += 1;
                sums.summed += record.number("synspan.inbound.syns");
                sums.counted += record.number("synspan.inbound.counted");
            }
        }
        let spans = kept.spans();
        let name = "synspan.forward.in.destination";
        let there = |span: &&Span| is(&span.attributes, &format!("{name}.address"), &format!("{name}.port"));
        // That of a client's own node, and that of an accepted connection, do not say what came of it.
        let told = spans.iter().filter(|span| span.is("tcp forward")).filter(there);
        let told = told.filter(|span| span.get("synspan.outcome").is_some_and(|outcome| outcome != "established"));
        sums.told = told.filter_map(|span| span.get("synspan.syns")?.parse::<u64>().ok()).sum();
        sums
    }

    /// What is wrong with them, if so many came.
    pub fn faults(&self, came: u64, counters: &Counters) -> Vec<String> {
        let mut faults = Vec::new();
        let lost: u64 = ["/capture/lost_inbound", "/capture/summed_unplaced", "/findings_dropped"]
            .iter()
            .filter_map(|place| counters.get(place))
            .sum();
        let known = self.summed + self.told;
        if known > came || came - known > lost {
            faults.push(format!(
                "{came} SYNs came from outside, {} are in sums, {} were told one by one, and {lost} records were lost",
                self.summed, self.told
            ));
        }
        if self.counted > self.summed {
            faults.push(format!("of {} SYNs in sums {} were only counted", self.summed, self.counted));
        }
        if came >= FLOOD && (self.told > ONE_BY_ONE || !(1..=RECORDS).contains(&self.records)) {
            faults.push(format!("a flood made {} sums, and {} attempts told one by one", self.records, self.told));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_exact_or_what_is_missing_was_lost() {
        let counters = |lost: u64| {
            Counters::of(&format!("synspan counters {{\"capture\": {{\"lost_inbound\": {lost}}}}}")).unwrap()
        };
        let sums = Sums { records: 1, summed: 990, counted: 700, told: 10 };
        assert!(sums.faults(1_000, &counters(0)).is_empty());
        assert_eq!(sums.faults(1_001, &counters(0)).len(), 1, "one is missing");
        assert!(sums.faults(1_001, &counters(1)).is_empty());
        assert_eq!(sums.faults(999, &counters(50)).len(), 1, "one is there twice");
        assert_eq!(Sums { told: 11, ..sums }.faults(1_001, &counters(0)).len(), 1);
        let none = Sums { records: 0, summed: 0, counted: 0, ..sums };
        assert_eq!(none.faults(1_000, &counters(990)).len(), 1, "a flood makes a sum");
        assert!(none.faults(10, &counters(0)).is_empty(), "a few do not");
    }
}
