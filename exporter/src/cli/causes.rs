//! docs/causes.md, made from the table of causes.

use std::fmt::Write as _;

use crate::track::causes::{CAUSES, CauseEntry};
use crate::track::verdict::{Evidence, Outcome, Side};

/// What stands above the causes.
const INTRODUCTION: &str = "\
# Causes

<!-- Made from exporter/src/track/causes.rs by `make causes`. Change it there. -->

Every attempt that synspan reports has an outcome: what the application got. One that went wrong or came late has a
cause as well: why. The two are judged apart, so a connection that came up late is a success with a cause. Where the
evidence does not reach, there is no cause: wrong is worse than unknown.

The better evidence wins; at equal evidence the order of this page decides. What else holds stands beside the cause in
`synspan.causes`.
";

/// What stands above the commands that confirm a cause.
const PLACEHOLDERS: &str = "\
## To confirm by hand

Below each cause stand commands, and what they show if it holds. They need root, and are to be run in the right network
namespace: in a pod's by `nsenter --net=/proc/PID/ns/net COMMAND`, with the number of one of its processes on the host;
not by `ip netns exec`, which hides cgroups. The words in capitals stand for what the attempt's record says:

| word | stands for | attribute |
| --- | --- | --- |
| CLIENT | the client's own address, before NAT | `network.local.address` |
| SERVER, SERVER_PORT | the server's address and port, as the node's interface sees them | `synspan.wire.peer.*`, else `network.peer.*` |
| EGRESS, PORT | the client's address and source port after NAT | `synspan.wire.local.*`, else `network.local.*` |
| POD_INTERFACE | the host side of the pod's interface | the console's tree names it |
| NODE_INTERFACE | the node's interface by which it left | the console's tree names it |
| PID | the client's process, while it lives | |

`tcpdump -i any` shows each packet once for each interface, with its name and `In` or `Out`. Between the pod's interface
and the node's, NAT may have changed the addresses: where the application asked for a service's address, take that
address on the pod's side.

";

const OUTCOMES: [Outcome; 7] = [
    Outcome::Established,
    Outcome::Refused,
    Outcome::TimedOut,
    Outcome::Unreachable,
    Outcome::Aborted,
    Outcome::Failed,
    Outcome::Pending,
];
const EVIDENCES: [Evidence; 6] =
    [Evidence::Kernel, Evidence::Exact, Evidence::Window, Evidence::Tuple, Evidence::Absence, Evidence::None];
const SIDES: [Side; 5] = [Side::Client, Side::Server, Side::Network, Side::Node, Side::BeyondNode];

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Established => "The connection came up, perhaps late.",
        Outcome::Refused => "A RST answered the SYN: ECONNREFUSED.",
        Outcome::TimedOut => "The kernel gave up: ETIMEDOUT.",
        Outcome::Unreachable => {
            "An ICMP error or the routing table ended it: EHOSTUNREACH, ENETUNREACH and their like."
        }
        Outcome::Aborted => {
            "The application closed the socket before anything else ended it, as most do when their own timer runs out."
        }
        Outcome::Failed => "It ended by another error, or how it ended was not seen.",
        Outcome::Pending => "Still open when the agent ended or memory was short: not a failure.",
    }
}

fn evidence(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Kernel => "The kernel said so: an error number, a drop reason, a counter.",
        Evidence::Exact => "Sequence numbers match to the last digit.",
        Evidence::Window => "A sequence number lies inside the range of the connection that had the port before.",
        Evidence::Tuple => "The same addresses and ports were in use a short while ago, and nothing more is known.",
        Evidence::Absence => {
            "A segment was seen at one point and never at another, where other attempts were seen to pass, and no \
             observation was lost."
        }
        Evidence::None => "What happened is plain, and why is not.",
    }
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Client => "The client's application.",
        Side::Server => "The server's application or host.",
        Side::Network => "The network between the nodes.",
        Side::Node => "The node that reports it: its NAT, netfilter, routes, policy.",
        Side::BeyondNode => {
            "It left the node that reports it, and nobody over there could be asked: the network or the server. A \
             synspan on the far node narrows it."
        }
    }
}

/// The page.
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push('\n');
    words(&mut page, "Outcome", "outcome", OUTCOMES.map(|word| (word.as_str(), outcome(word))));
    words(&mut page, "Evidence, best first", "evidence", EVIDENCES.map(|word| (word.as_str(), evidence(word))));
    words(&mut page, "Responsible side", "responsible", SIDES.map(|word| (word.as_str(), side(word))));
    page.push_str(PLACEHOLDERS);
    page.push_str("## All causes\n\n| cause | what happened |\n| --- | --- |\n");
    for cause in CAUSES {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| [`{name}`](#{name}) | {} |", sentence(cause.sentence), name = cause.name);
    }
    for cause in CAUSES {
        self::cause(&mut page, cause);
    }
    page
}

fn words<const N: usize>(page: &mut String, title: &str, attribute: &str, words: [(&str, &str); N]) {
    let _ = write!(page, "## {title}\n\n| `synspan.{attribute}` | meaning |\n| --- | --- |\n");
    for (word, meaning) in words {
        let _ = writeln!(page, "| `{word}` | {meaning} |");
    }
    page.push('\n');
}

fn cause(page: &mut String, cause: &CauseEntry) {
    let _ = write!(page, "\n## {}\n\n{}\n\n", cause.name, sentence(cause.sentence));
    page.push_str("| evidence | responsible |\n| --- | --- |\n");
    for &evidence in cause.evidence {
        let side = cause.cause.side(evidence).map_or("", Side::as_str);
        let _ = writeln!(page, "| `{}` | `{side}` |", evidence.as_str());
    }
    if !cause.fault {
        page.push_str("\nIt is no fault: the span's status stays unset.\n");
    }
    let _ = write!(page, "\n**How it is proven.** {}\n\n**To confirm by hand:**\n\n", sentence(cause.proof));
    for step in cause.confirm {
        // A command goes up to the colon, and what it shows comes behind.
        let _ = match step.split_once(": ") {
            Some((command, shows)) if !shows.is_empty() && is_command(command) => {
                writeln!(page, "- `{command}`: {shows}")
            }
            _ => writeln!(page, "- {step}"),
        };
    }
    let _ = write!(page, "\n**What to do.** {}\n", sentence(cause.advice));
}

/// Programs with which commands begin.
const PROGRAMS: [&str; 13] = [
    "bpftool",
    "conntrack",
    "dmesg",
    "ip",
    "iptables-save",
    "nc",
    "nft",
    "nstat",
    "ss",
    "strace",
    "synspan",
    "sysctl",
    "tcpdump",
];

fn is_command(text: &str) -> bool {
    text.split(' ').next().is_some_and(|program| PROGRAMS.contains(&program))
}

/// Beginning with a capital, and with a full stop.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().collect::<String>()).unwrap_or_default();
    let stop = if text.ends_with(['.', '?']) { "" } else { "." };
    format!("{first}{}{stop}", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/causes.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == markdown(), "docs/causes.md is not what exporter/src/track/causes.rs says: run `make causes`");
    }

    #[test]
    fn every_cause_has_all_its_parts() {
        let page = markdown();
        for cause in CAUSES {
            let begin = page.find(&format!("\n## {}\n", cause.name)).expect(cause.name);
            let part = &page[begin + 4..];
            let part = &part[..part.find("\n## ").unwrap_or(part.len())];
            for heading in ["| evidence | responsible |", "**How it is proven.**", "**To confirm by hand:**\n\n- `"] {
                assert!(part.contains(heading), "{}: no {heading}:\n{part}", cause.name);
            }
            assert!(part.trim_end().ends_with('.'), "{}", cause.name);
            assert!(page.contains(&format!("(#{})", cause.name)), "{} is not in the list", cause.name);
            assert!(cause.confirm.iter().all(|step| !step.contains('`')), "{}: commands are quoted here", cause.name);
        }
    }
}
