//! Which pod and container a cgroup belongs to, by its path.
//!
//! The kubelet makes a cgroup for each quality class and pod, the container runtime one for each container below
//! it. By the systemd driver (`pkg/kubelet/cm/cgroup_manager_linux.go`, `cgroupName.ToSystemd`) these are
//! `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID.slice/cri-containerd-ID.scope`, with the
//! dashes of the uid as underscores; by the cgroupfs driver `kubepods/burstable/podUID/ID`. What a container makes
//! below its own cgroup is its own.

/// The pod's uid and the container's id that a path names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodPath {
    /// The uid, with dashes where it is a UUID: for static pods it is the hash of their manifest.
    pub uid: String,
    /// The container's id: 64 hex digits in every runtime at hand; none for the pod's own cgroup.
    pub container: Option<String>,
}

/// Reads a path, with or without a leading slash. None where it names no pod.
pub fn read(path: &str) -> Option<PodPath> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let uid = parts.by_ref().find_map(pod)?;
    // The runtime may put its own levels between (CRI-O's `crio-ID.scope/container`); the first id holds, since
    // what lies deeper was made by the container itself, which may run a runtime of its own.
    Some(PodPath { uid, container: parts.find_map(container) })
}

/// Reads the lines of `/proc/PID/cgroup` (cgroups(7)): on hosts where pods have no v2 cgroup the v1 hierarchies
/// name them.
pub fn read_proc(lines: &str) -> Option<PodPath> {
    lines.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(read)
}

/// `kubepods-besteffort-pod1b2c_....slice`, `pod1b2c-...` or `kubepods-pod....slice` to the uid.
fn pod(part: &str) -> Option<String> {
    let uid = match part.strip_suffix(".slice") {
        Some(slice) => {
            let (above, uid) = slice.rsplit_once("-pod")?;
            // The slice's name repeats those above it: `kubepods`, or below what `--cgroup-root` named.
            above.split('-').any(|level| level == "kubepods").then(|| uid.replace('_', "-"))?
        }
        None => part.strip_prefix("pod")?.to_owned(),
    };
    is_uid(&uid).then_some(uid)
}

/// A UUID, or the 32 hex digits of a static pod's hash.
fn is_uid(text: &str) -> bool {
    match text.len() {
        32 => is_hex(text),
        36 => text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(is_hex),
        _ => false,
    }
}

/// `cri-containerd-ID.scope`, `crio-ID.scope`, `docker-ID.scope`, `libpod-ID.scope`, or the bare id. CRI-O's monitor
/// (`crio-conmon-ID.scope`) carries the container's id too and is not the container.
fn container(part: &str) -> Option<String> {
    let id = match part.strip_suffix(".scope") {
        Some(scope) => scope.rsplit_once('-').filter(|(runtime, _)| !runtime.ends_with("conmon"))?.1,
        // CRI-O by cgroupfs writes `crio-ID`, containerd and Docker the bare id.
        None => part.strip_prefix("crio-").unwrap_or(part),
    };
    (id.len() == 64 && is_hex(id)).then(|| id.to_owned())
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "3c9f2b1a-77aa-4d1e-9b6f-0c2d4e5f6a7b";
    const HASH: &str = "0123456789abcdef0123456789abcdef";

    fn id() -> String {
        "ab12".repeat(16)
    }

    #[test]
    fn every_runtime_and_driver_is_read() {
        let id = id();
        let under = UID.replace('-', "_");
        let paths = [
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{id}.scope"
            ),
            format!("/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{under}.slice/crio-{id}.scope"),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{under}.slice/crio-{id}.scope/container"
            ),
            format!("/kubepods.slice/kubepods-pod{under}.slice/docker-{id}.scope"),
            format!("/kubepods/burstable/pod{UID}/{id}"),
            format!("/kubepods/pod{UID}/{id}"),
            format!("/kubepods/besteffort/pod{UID}/crio-{id}"),
            // Below a root of its own: kind, or `--cgroup-root`.
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{under}.slice/cri-containerd-{id}.scope"
            ),
            format!("/docker/{}/kubelet/kubepods/burstable/pod{UID}/{id}", "cd34".repeat(16)),
            // What the container made itself.
            format!("/kubepods/pod{UID}/{id}/init.scope"),
            format!("/kubepods/pod{UID}/{id}/docker/{}", "ef56".repeat(16)),
        ];
        for path in paths {
            let read = read(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((read.uid.as_str(), read.container.as_deref()), (UID, Some(id.as_str())), "{path}");
        }
    }

    #[test]
    fn the_pods_own_cgroup_names_no_container_and_a_static_pod_has_a_hash() {
        let own = read(&format!("/kubepods/burstable/pod{UID}")).expect("pod");
        assert_eq!((own.uid.as_str(), own.container), (UID, None));
        let fixed = format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{HASH}.slice/cri-containerd-{}.scope",
            id()
        );
        assert_eq!(read(&fixed).expect("pod").uid, HASH);
    }

    #[test]
    fn the_monitor_of_a_container_is_not_the_container() {
        let path = format!("/kubepods/pod{UID}/crio-conmon-{}.scope", id());
        assert_eq!(read(&path).expect("pod").container, None);
    }

    #[test]
    fn what_is_no_pod_is_none() {
        let plain = format!("/system.slice/docker-{}.scope", id());
        for path in ["", "/", "/system.slice/ssh.service", &plain, "/kubepods/podx/y", "/podman.slice", "/x-pod1.slice"]
        {
            assert_eq!(read(path), None, "{path}");
        }
        // A slice of the host that happens to end in -pod and a uid.
        assert_eq!(read(&format!("/my-pod{HASH}.slice")), None);
    }

    #[test]
    fn on_hybrid_hosts_a_v1_hierarchy_tells() {
        let lines = format!("12:memory:/kubepods/burstable/pod{UID}/{}\n1:name=systemd:/x\n0::/\n", id());
        assert_eq!(read_proc(&lines).expect("pod").uid, UID);
        assert_eq!(read_proc("0::/system.slice/ssh.service\n"), None);
        assert_eq!(read_proc("no colons\n::\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_and_gives_only_what_has_the_form(path in ".{0,300}") {
            if let Some(found) = read(&path) {
                prop_assert!(is_uid(&found.uid));
                prop_assert!(found.container.is_none_or(|id| id.len() == 64 && is_hex(&id)));
            }
        }
    }
}
