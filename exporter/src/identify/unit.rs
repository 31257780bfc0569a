//! The systemd unit that a cgroup path names.

/// The unit's name without its suffix, if the path lies in a unit that says what runs there.
///
/// `/system.slice/foo.service` -> `foo`; of nested units the innermost holds, so a user's own
/// services are told apart (`user@1000.service/app.slice/bar.service` -> `bar`). Units that only hold
/// others or whose name says nothing are passed over: slices, login sessions, user managers,
/// containers named by their id, and what `systemd-run` numbers.
pub fn of_path(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|component| {
        // systemd puts an underscore before names that the kernel's own files could take
        // (cg_escape in systemd's cgroup-util.c).
        let component = component.strip_prefix('_').unwrap_or(component);
        let name = component.strip_suffix(".service").or_else(|| component.strip_suffix(".scope"))?;
        says_something(name, component.ends_with(".scope")).then_some(name)
    })
}

fn says_something(name: &str, scope: bool) -> bool {
    if name.is_empty() || name.starts_with("user@") {
        return false;
    }
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !rest.is_empty())
    };
    let container =
        name.rsplit('-').next().is_some_and(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let transient = name.starts_with("run-") && name[4..].bytes().any(|byte| byte.is_ascii_digit());
    !container && !transient && !(scope && (name == "init" || numbered("session-")))
}

/// The unit by the lines of `/proc/PID/cgroup` (cgroups(7)): systemd's own v1 hierarchy, else v2.
pub fn of_proc_cgroup(lines: &str) -> Option<&str> {
    let path_of = |controllers: &str| {
        lines.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            (fields.next()? == controllers).then(|| fields.next())?
        })
    };
    path_of("name=systemd").and_then(of_path).or_else(|| path_of("").and_then(of_path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_unit_that_says_something_holds() {
        let cases = [
            ("/system.slice/foo.service", Some("foo")),
            ("/system.slice/postgresql@15-main.service/worker", Some("postgresql@15-main")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/bar.service", Some("bar")),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", None),
            ("/user.slice/user-1000.slice/session-3.scope", None),
            ("/user.slice/user-1000.slice/session-c2.scope", None),
            ("/system.slice/session-broker.service", Some("session-broker")),
            ("/machine.slice/vm.scope", Some("vm")),
            ("/system.slice/run-r0123abc.service", None),
            ("/init.scope", None),
            ("/system.slice", None),
            ("/", None),
            ("", None),
            ("/_tasks.service", Some("tasks")),
        ];
        for (path, unit) in cases {
            assert_eq!(of_path(path), unit, "{path}");
        }
        let container = format!("/kubepods.slice/cri-containerd-{}.scope", "ab".repeat(32));
        assert_eq!(of_path(&container), None);
    }

    #[test]
    fn on_hybrid_hosts_systemds_own_hierarchy_holds() {
        let lines = "4:memory:/x.service\n1:name=systemd:/system.slice/foo.service\n0::/\n";
        assert_eq!(of_proc_cgroup(lines), Some("foo"));
        assert_eq!(of_proc_cgroup("0::/system.slice/bar.service\n"), Some("bar"));
        assert_eq!(of_proc_cgroup("4:memory:/x.service\n0::/\n"), None);
        assert_eq!(of_proc_cgroup("nonsense"), None);
    }
}
