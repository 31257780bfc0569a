#!/usr/bin/env bash
# image-root.sh [ARCH [DIR]]: makes the root folder of the container image, all that is in it, for amd64 or arm64 (this
# machine's without it), and prints where it is: target/image/ARCH, or DIR. The image's build calls this very script.
#
# SOURCE_DATE_EPOCH is the time of all files, the last commit's without it.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"
umask 022

arch=${1:-$(own_arch)}
target=${CARGO_TARGET_DIR:-$ROOT/target}
out=${2:-$target/image/$arch}
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
program=$(scripts/static.sh "$arch")

mkdir -p "$out"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work" "$LOG"' EXIT
install -d -m 755 "$work"/etc/synspan "$work"/etc/ssl/certs "$work"/usr/share/doc/synspan
# A read-only root has to have the folder of the agent's socket, on which a volume is put.
install -d -m 755 "$work/run"
install -d -m 700 "$work/run/synspan"
install -m 755 "$program" "$work/synspan"
install -m 644 image/passwd image/group image/nsswitch.conf "$work/etc/"
install -m 644 config/synspan.yaml "$work/etc/synspan/synspan.yaml"
install -m 644 LICENSE "$work/usr/share/doc/synspan/LICENSE"
scripts/notices.sh "$arch" >"$work/usr/share/doc/synspan/THIRD-PARTY"
# Mozilla's certificates as Debian ships them. Not this system's bundle: others may have been added to that, such as a
# company's own, which an image must not trust.
bundle=$work/etc/ssl/certs/ca-certificates.crt
for certificate in /usr/share/ca-certificates/mozilla/*.crt; do
    [ -r "$certificate" ] ||
        die "there are no certificates in /usr/share/ca-certificates/mozilla: apt install ca-certificates"
    cat "$certificate"
done >"$bundle"
chmod 644 "$bundle" "$work/usr/share/doc/synspan/THIRD-PARTY"
chmod 755 "$work"
find "$work" -exec touch --no-dereference --date="@$epoch" {} +

rm -rf "$out"
mv "$work" "$out"
say "image root for $arch: $(find "$out" -type f | wc -l) files, $(du -sb --apparent-size "$out" | cut -f 1) bytes," \
    "of which the program $(stat -c %s "$out/synspan")"
echo "$out"
