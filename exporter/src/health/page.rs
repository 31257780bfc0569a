//! The status as a page for people: plain text, nothing in it that a terminal would obey.

use std::fmt::{self, Write};

use super::status::{Exporter, Failed, Kubernetes, Names, Status, for_people, span};
use crate::deliver::console::text::clean_to;

/// Most characters of a text from outside: an error with what to check.
const LONGEST: usize = 400;

/// The page.
pub fn page(status: &Status) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write(status, &mut page);
    page
}

fn write(status: &Status, page: &mut String) -> fmt::Result {
    let Status { version, node, pid, .. } = status;
    writeln!(page, "synspan {}, node {}, process {pid}", one_line(version), one_line(node))?;
    line(page, "since", &for_people(&status.started))?;
    line(page, "lives", &verdict(status.live.ok, &status.live.says))?;
    line(page, "ready", &verdict(status.ready.ok, &status.ready.says))?;
    capture(status, page)?;
    attempts(status, page)?;
    names(&status.names, page)?;
    if status.console || status.exporters.is_empty() {
        writeln!(page, "\nConsole")?;
        line(page, "shows", if status.console { "attempts" } else { "nothing, and there is no exporter" })?;
    }
    for exporter in &status.exporters {
        self::exporter(exporter, page)?;
    }
    Ok(())
}

/// A text from outside as one harmless line.
pub fn one_line(text: &str) -> String {
    clean_to(text, LONGEST)
}

fn line(page: &mut String, what: &str, says: &str) -> fmt::Result {
    writeln!(page, "  {what:<11}{}", one_line(says))
}

fn verdict(ok: bool, says: &str) -> String {
    if ok { says.to_owned() } else { format!("no: {says}") }
}

fn capture(status: &Status, page: &mut String) -> fmt::Result {
    let capture = &status.capture;
    writeln!(page, "\nCapture")?;
    line(page, "cgroup", &capture.cgroup)?;
    let attaching = if capture.attached { "" } else { ", and more are being attached" };
    let blind = match capture.blind {
        0 => String::new(),
        blind => format!("; {blind} could not be attached: nothing is seen there"),
    };
    line(page, "hooks", &format!("{} by {}{attaching}{blind}", capture.hooks, capture.attach))?;
    for missing in &capture.missing {
        line(page, "missing", &format!("{}: {}", missing.what, missing.why))?;
    }
    line(page, "seen", &format!("{} observations", capture.observations.all))?;
    let lost =
        format!("{} records of this node's attempts, {} of attempts from outside", capture.lost, capture.lost_inbound);
    line(page, "lost", &lost)?;
    // What is zero on nearly every node.
    for (count, what) in [
        (capture.drops_untold, "dropped segments beyond the budget for telling of them"),
        (capture.summed, "SYNs from outside summed and not told one by one"),
        (capture.summed_unplaced, "of them with a listener that is not known"),
        (capture.pending_overwritten, "pending SYNs overwritten: a stale ACK to them is not seen"),
        (capture.unreadable, "segments whose headers could not be read"),
        (capture.undecodable, "records that made no sense"),
        (capture.unasked, "questions to the kernel that found no room"),
        (capture.flags_reasserted, "sockets whose callback flags another program had overwritten"),
    ] {
        if count > 0 {
            line(page, "", &format!("{count} {what}"))?;
        }
    }
    Ok(())
}

fn attempts(status: &Status, page: &mut String) -> fmt::Result {
    let attempts = &status.attempts;
    writeln!(page, "\nAttempts")?;
    line(page, "open", &attempts.open.to_string())?;
    let evicted = match attempts.evicted {
        0 => String::new(),
        evicted => format!(", {evicted} with their outcome unseen: too many were open (tracking.max_attempts)"),
    };
    line(page, "finished", &format!("{}{evicted}", attempts.finished))?;
    let early = match attempts.tenancies_evicted {
        0 => String::new(),
        early => format!(", {early} forgotten too early (tracking.max_tenancies)"),
    };
    line(page, "ledger", &format!("{} tenancies{early}; {} ports reused", attempts.tenancies, attempts.reuses))?;
    let untold = &status.untold;
    for (count, what) in [
        (untold.loopback, "on loopback, left out (quiet.loopback)"),
        (untold.health_checks, "of health checks, left out (quiet.health_checks)"),
        (untold.sidecar, "to a pod's own sidecar, left out (quiet.sidecar)"),
        (untold.by_ratio, "successes in metrics alone, by sampling.ratio"),
        (untold.by_ceiling, "successes in metrics alone, beyond sampling.ceiling"),
        (untold.by_budget, "others in summaries, beyond sampling.budget"),
        (untold.stalled, "hung and were told of at their end alone, beyond sampling.budget"),
        (untold.overflowed, "measurements in a series of overflow (metrics.max_series, max_destinations)"),
    ] {
        if count > 0 {
            line(page, "untold", &format!("{count} {what}"))?;
        }
    }
    if attempts.findings_dropped > 0 {
        line(page, "dropped", &format!("{} findings: telemetry could not keep up", attempts.findings_dropped))?;
    }
    Ok(())
}

fn names(names: &Names, page: &mut String) -> fmt::Result {
    writeln!(page, "\nNames")?;
    match &names.kubernetes {
        None => line(page, "Kubernetes", "not asked")?,
        Some(kubernetes) => api(kubernetes, page)?,
    }
    if names.nameless > 0 {
        line(page, "nameless", &format!("{} ends on this node went out with no name, or with less", names.nameless))?;
    }
    Ok(())
}

fn api(kubernetes: &Kubernetes, page: &mut String) -> fmt::Result {
    let synced =
        if kubernetes.synced { "asked, and this node's pods are known" } else { "asked, and no list of pods yet" };
    line(page, "Kubernetes", synced)?;
    match &kubernetes.away {
        Some(away) => {
            let kept = if kubernetes.synced { "; what is known stays known" } else { "" };
            line(page, "away", &format!("since {}{kept}", for_people(&away.since)))?;
            line(page, "", &away.why)?;
        }
        None if kubernetes.last_contact.is_none() => line(page, "away", "no answer yet")?,
        None => {}
    }
    if let Some(contact) = &kubernetes.last_contact {
        let (requests, lists) = (kubernetes.requests, kubernetes.lists);
        let asked = format!("; {requests} requests, {lists} complete lists");
        line(page, "heard", &format!("{} ago{asked}", span(contact.ago_s)))?;
    }
    match &kubernetes.pods {
        Some(pods) => {
            line(page, "pods", &format!("{}, {} KiB", pods.known, pods.bytes.div_ceil(1024)))?;
            for (count, what) in [
                (pods.conflicts, "claims of an address that another pod had: the later one has it"),
                (pods.out_of_order, "events older than what was known, left out"),
                (pods.doubtful, "ends with an address that may have been another pod's: no name by it"),
            ] {
                if count > 0 {
                    line(page, "", &format!("{count} {what}"))?;
                }
            }
            Ok(())
        }
        None => line(page, "pods", "busy: ask again"),
    }
}

fn exporter(exporter: &Exporter, page: &mut String) -> fmt::Result {
    writeln!(
        page,
        "\nExporter {} ({}), {}",
        one_line(&exporter.exporter),
        one_line(&exporter.endpoint),
        exporter.signal
    )?;
    match (&exporter.failing_since, &exporter.last_failure) {
        (Some(since), Some(failed)) => {
            line(page, "fails", &format!("since {}", for_people(since)))?;
            line(page, "", &failed.why)?;
        }
        (None, Some(Failed { at, why })) => {
            line(page, "well", &format!("again; a request failed last {} ago", span(at.ago_s)))?;
            line(page, "", why)?;
        }
        _ if exporter.requests == 0 => line(page, "untried", "there was nothing to send")?,
        _ => {}
    }
    let Exporter { sent, requests, failures, .. } = exporter;
    line(page, "sent", &format!("{sent} records in {requests} requests, {} KiB", exporter.bytes.div_ceil(1024)))?;
    if *failures > 0 {
        line(page, "failed", &format!("{failures} requests, each try counted"))?;
    }
    let waiting = exporter.queued_bytes.div_ceil(1024);
    line(page, "waiting", &format!("{} records, {waiting} KiB; {} on their way", exporter.queued, exporter.in_flight))?;
    let dropped = exporter.dropped.iter().filter(|dropped| dropped.records > 0);
    let dropped: Vec<String> = dropped.map(|dropped| format!("{} {}", dropped.records, dropped.reason)).collect();
    line(page, "dropped", &if dropped.is_empty() { "0".to_owned() } else { dropped.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::status::{Attempts, Capture};
    use crate::health::testing::status;

    #[test]
    fn a_page_for_people() {
        insta::assert_snapshot!(page(&status()));
    }

    #[test]
    fn nothing_on_it_steers_a_terminal() {
        let text = page(&status());
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }

    #[test]
    fn an_agent_outside_a_cluster_with_no_exporter() {
        let quiet = Status {
            capture: Capture { blind: 0, missing: Vec::new(), lost: 0, summed: 0, ..status().capture },
            attempts: Attempts::default(),
            names: Names::default(),
            exporters: Vec::new(),
            ..status()
        };
        insta::assert_snapshot!(page(&quiet));
    }
}
