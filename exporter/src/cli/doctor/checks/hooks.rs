//! What it means that others are at our hooks.

use super::{Checks, Status};
use crate::capture::probe::bpf::tag_text;
use crate::capture::probe::hooks::{Hook, Hooks, Owner, Place, Program};

/// Whether this is the hook of the socket steps.
pub fn is_sock_ops(place: &Place) -> bool {
    *place == Place::SockOps
}

/// Whether this is one of the hooks of connect().
pub fn is_connect(place: &Place) -> bool {
    matches!(place, Place::Connect4 | Place::Connect6)
}

/// A line for each hook where another's program is, and one if there is none.
pub fn check(hooks: &Hooks, checks: &mut Checks) {
    let mut none = true;
    for hook in &hooks.hooks {
        if !hook.foreign().is_empty() {
            none = false;
            check_hook(hook, checks);
        }
    }
    if let Some((place, refusal)) = hooks.unknown.first() {
        none = false;
        let others = match hooks.unknown.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more places)"),
        };
        checks.add(
            Status::Warn,
            &place.to_string(),
            format!("could not be asked: {}{others}", refusal.text),
            "it is not known who else is there",
            "CAP_NET_ADMIN and CAP_SYS_ADMIN",
        );
    }
    if none {
        checks.ok("foreign programs", format!("none at the cgroup and at {} interfaces", hooks.interfaces));
    }
    for hook in hooks.hooks.iter().filter(|hook| hook.foreign().len() < hook.programs.len()) {
        let ours = list(hook.programs.iter().filter(|program| program.owner == Owner::Ours));
        checks.ok(&format!("our own at {}", hook.place), ours);
    }
}

fn check_hook(hook: &Hook, checks: &mut Checks) {
    let name = hook.place.to_string();
    let ahead = hook.ahead_of_ours();
    let all = list(hook.foreign().into_iter());
    if hook.exclusive {
        let lost = "ours cannot attach: that program was attached so that no other may join it";
        let fix = "have it attached with BPF_F_ALLOW_MULTI or as a link";
        return checks.add(Status::Missing, &name, format!("exclusive: {all}"), lost, fix);
    }
    match hook.place {
        Place::Tcx { .. } | Place::Clsact { .. } if ahead.is_empty() => {
            checks.ok(&name, format!("{all}: after ours, so it does not matter"));
        }
        Place::Tcx { .. } | Place::Clsact { .. } => checks.add(
            Status::Warn,
            &name,
            format!("before ours: {}; in all: {all}", list(ahead.into_iter())),
            "what it says pass to, drops or redirects never reaches ours: a program ahead of ours that says pass \
             blinds us at this interface",
            if matches!(hook.place, Place::Tcx { .. }) {
                "restart synspan, which goes first, after that program's owner has attached it"
            } else {
                "a kernel of 6.6 or later (tcx), or a higher preference for that filter"
            },
        ),
        Place::Connect4 | Place::Connect6 if ahead.is_empty() => {
            checks.ok(&name, format!("{all}: after ours, so the address asked for is read as asked"));
        }
        Place::Connect4 | Place::Connect6 => checks.add(
            Status::Warn,
            &name,
            format!("before ours: {}", list(ahead.into_iter())),
            "the address that the application asked for, if that program rewrites it (a CNI's load balancer does)",
            "nothing needs to be done: the address is marked as unknown",
        ),
        Place::SockOps => checks.add(
            Status::Warn,
            &name,
            all,
            "a program that sets callback flags without keeping those that are set takes ours away; they are set \
             again when a connection is established, and counted",
            "nothing needs to be done",
        ),
    }
}

fn list<'a>(programs: impl Iterator<Item = &'a Program>) -> String {
    programs.map(describe).collect::<Vec<_>>().join(", ")
}

/// `cil_from_netdev (id 77, tag a04f5eef06a7f555, preference 1)`
fn describe(program: &Program) -> String {
    let mut parts = Vec::new();
    parts.extend(program.id.map(|id| format!("id {id}")));
    parts.extend(program.tag.map(|tag| format!("tag {}", tag_text(tag))));
    parts.extend(program.preference.map(|preference| format!("preference {preference}")));
    if program.inherited {
        parts.push("of an ancestor".into());
    }
    if program.id.is_none() {
        parts.push("no BPF program".into());
    }
    let name = match program.name.as_deref() {
        None => "name unknown",
        Some("") => "without a name",
        Some(name) => name,
    };
    format!("{name} ({})", parts.join(", "))
}
