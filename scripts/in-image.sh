#!/usr/bin/env bash
# in-image.sh ROOT ARGS...: runs the program of an image's root folder as a container engine would on the host network
# and in the host's process ids: the root is read-only, /proc, /sys (read-only) and /dev are mounted, /run/synspan is a
# volume, and the environment is empty. Needs root. It stays one process, so that signals reach the program.
#
#   SYNSPAN_VOLUMES    folders of the host, separated by blanks, that the program sees at the same place
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
trap - EXIT

[ -z "${SYNSPAN_IN_IMAGE:-}" ] || {
    # In a mount namespace of its own from here on: /mnt is the container's root.
    unset SYNSPAN_IN_IMAGE
    root=$1
    shift
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 image /mnt
    cp -a "$root/." /mnt/
    read -r -a volumes <<<"${SYNSPAN_VOLUMES:-}"
    # An engine makes the places that are mounted on, before the root becomes read-only.
    mkdir -p /mnt/proc /mnt/sys /mnt/dev "${volumes[@]/#//mnt}"
    mount --rbind /proc /mnt/proc
    mount --rbind /sys /mnt/sys
    while read -r place; do
        mount -o remount,bind,ro "$place"
    done < <(awk '$2 ~ "^/mnt/sys(/|$)" { print $2 }' /proc/mounts)
    mount -t tmpfs -o mode=755 dev /mnt/dev
    for device in null zero full random urandom; do
        : >"/mnt/dev/$device"
        mount --bind "/dev/$device" "/mnt/dev/$device"
    done
    mount -t tmpfs -o mode=700 run /mnt/run/synspan
    for volume in "${volumes[@]}"; do mount --rbind "$volume" "/mnt$volume"; done
    mount -o remount,bind,ro /mnt
    cd /
    exec env -i "$(command -v chroot)" /mnt /synspan "$@"
}
[ $# -ge 1 ] || die "usage: in-image.sh ROOT ARGS..."
[ "$(id -u)" = 0 ] || die "needs root"
[ -x "$1/synspan" ] || die "$1 is no image's root: scripts/image-root.sh makes one"
SYNSPAN_IN_IMAGE=1 exec unshare --mount "${BASH_SOURCE[0]}" "$(cd "$1" && pwd)" "${@:2}"
