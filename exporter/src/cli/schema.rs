//! `synspan schema`: the registry of all telemetry, as it was when this program was built.

use std::io::{self, Write};

use synspan_schema::{Registry, render};

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  synspan schema                          OpenTelemetry Weaver's definition format, one document for each file
  synspan schema --format json            with all references resolved
  synspan schema --format markdown        for people";

/// The arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    pub format: Format,
}

/// How the schema is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Format {
    /// The definitions themselves.
    Yaml,
    /// All of it, with references resolved.
    Json,
    /// docs/telemetry.md.
    Markdown,
}

/// Prints the schema; false if this program was built with one that is wrong.
pub fn run(args: &Args, out: &mut impl Write) -> io::Result<bool> {
    let registry = Registry::embedded().map_err(io::Error::other)?;
    let text = match args.format {
        Format::Yaml => render::yaml(),
        Format::Json => render::json(&registry)?,
        Format::Markdown => render::markdown::render(&registry),
    };
    out.write_all(text.as_bytes()).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::observation::PointKind;
    use crate::deliver::DropReason;
    use crate::names::{attribute, value};
    use crate::track::verdict::{CAUSES, ClosedBy, Evidence, Outcome, ServerState, Side};

    fn printed(format: Format) -> String {
        let mut out = Vec::new();
        assert!(run(&Args { format }, &mut out).expect("written"));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_format_has_the_names() {
        for format in [Format::Yaml, Format::Json, Format::Markdown] {
            let text = printed(format);
            for name in [attribute::SYNSPAN_OUTCOME, "synspan.connect.attempts", "tcp connect"] {
                assert!(text.contains(name), "{format:?}: {name}");
            }
        }
        assert!(serde_json::from_str::<serde_json::Value>(&printed(Format::Json)).is_ok());
    }

    fn list(name: &str) -> Vec<String> {
        let registry = Registry::embedded().expect("the registry");
        let members = registry.members(name).expect("a closed list");
        members.iter().map(|member| member.value.clone()).collect()
    }

    #[test]
    fn the_closed_lists_are_those_of_the_code() {
        let causes: Vec<&str> = CAUSES.iter().map(|entry| entry.name).collect();
        assert_eq!(list(attribute::SYNSPAN_CAUSE), causes);
        use Outcome::{Aborted, Established, Failed, Pending, Refused, TimedOut, Unreachable};
        let outcomes = [Pending, Established, Refused, TimedOut, Unreachable, Aborted, Failed].map(Outcome::as_str);
        assert_eq!(list(attribute::SYNSPAN_OUTCOME), outcomes);
        let evidence =
            [Evidence::Kernel, Evidence::Exact, Evidence::Window, Evidence::Tuple, Evidence::Absence, Evidence::None];
        assert_eq!(list(attribute::SYNSPAN_EVIDENCE), evidence.map(Evidence::as_str));
        let sides = [Side::Client, Side::Server, Side::Network, Side::Node, Side::BeyondNode].map(Side::as_str);
        assert_eq!(list(attribute::SYNSPAN_RESPONSIBLE), sides);
        use ServerState::{CutOff, NeverClosed, Remembered, Unknown};
        let states = [NeverClosed, CutOff, Remembered, Unknown].map(ServerState::as_str);
        assert_eq!(list(attribute::SYNSPAN_PREVIOUS_OWNER_SERVER_STATE), states);
        let closed = [ClosedBy::Client, ClosedBy::Server, ClosedBy::Reset, ClosedBy::Unknown].map(ClosedBy::as_str);
        assert_eq!(list(attribute::SYNSPAN_PREVIOUS_OWNER_CLOSED_BY), closed);
        assert_eq!(list(attribute::SYNSPAN_FLOW_CLOSED_BY), closed);
        let points = [PointKind::PodNic, PointKind::NodeNic, PointKind::Overlay].map(PointKind::as_str);
        assert_eq!(list(attribute::SYNSPAN_FORWARD_IN_POINT), points);
        assert_eq!(list(attribute::SYNSPAN_FORWARD_OUT_POINT), points);
        let all = [&[value::point::SOCKET], &points[..], &[value::point::KERNEL]].concat();
        assert_eq!(list(attribute::SYNSPAN_POINT), all);
        assert_eq!(list(attribute::SYNSPAN_EXPORTER_DROP_REASON), DropReason::ALL.map(DropReason::name));
    }
}
