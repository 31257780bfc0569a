//! What an agent counted, as the last line of its log says it: `synspan counters {...}`.

use serde_json::Value;

/// The counters at an agent's end.
#[derive(Clone, PartialEq, Debug)]
pub struct Counters(Value);

/// What counts observations, attempts or findings that came to nothing, by what it is of.
const LOSSES: [&str; 5] =
    ["/capture/lost", "/capture/lost_inbound", "/capture/summed_unplaced", "/capture/undecodable", "/findings_dropped"];

impl Counters {
    /// The last that a log tells of; none if it tells of none.
    pub fn of(log: &str) -> Option<Self> {
        let last = log.rsplit_once("synspan counters ")?.1;
        // The line may go on after the counters, and the log after the line.
        serde_json::Deserializer::from_str(last).into_iter().next()?.ok().map(Self)
    }

    /// One of them, by its place: `/capture/lost`. None if there is no such.
    pub fn get(&self, place: &str) -> Option<u64> {
        self.0.pointer(place)?.as_u64()
    }

    /// All that was lost on the way from the kernel to the encoders.
    pub fn lost(&self) -> u64 {
        LOSSES.iter().filter_map(|place| self.get(place)).sum()
    }

    /// Items of a signal that exporters sent: spans, records, metrics.
    pub fn sent(&self, signal: &str) -> u64 {
        let exporters = self.0.get("deliver").and_then(Value::as_array).into_iter().flatten();
        let of = exporters.filter(|exporter| exporter.get("signal").and_then(Value::as_str) == Some(signal));
        of.filter_map(|exporter| exporter.get("sent")?.as_u64()).sum()
    }

    /// All that exporters dropped.
    pub fn undelivered(&self) -> u64 {
        let exporters = self.0.get("deliver").and_then(Value::as_array).into_iter().flatten();
        let dropped = exporters.filter_map(|exporter| exporter.get("dropped")?.as_object());
        dropped.flat_map(|reasons| reasons.values().filter_map(Value::as_u64)).sum()
    }
}

impl std::fmt::Display for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_counters_tell_of_losses() {
        let log = "INFO synspan counters {\"capture\": {\"lost\": 3}}\nINFO synspan counters {\"capture\": {\"lost\": 5}, \
                   \"findings_dropped\": 2, \"deliver\": [{\"dropped\": {\"queue_full\": 4}}, {\"dropped\": {}}]}\n";
        let counters = Counters::of(log).unwrap();
        assert_eq!((counters.get("/capture/lost"), counters.get("/capture/found")), (Some(5), None));
        assert_eq!((counters.lost(), counters.undelivered()), (7, 4));
        assert_eq!(Counters::of("capture ready"), None);
    }
}
