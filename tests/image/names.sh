#!/usr/bin/env bash
# names.sh PROGRAM: whether the static program finds a host by /etc/hosts and by DNS with nothing beside it but the
# files named here and /dev/random; run within with-collector.sh, in a network and mount namespace of its own. Says what
# failed.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
dns=
trap '[ -z "$dns" ] || kill "$dns"; umount "$work"/root/dev/*; rm -rf "$work"' EXIT
mkdir -p "$work/root/etc" "$work/root/dev"
for device in random urandom; do
    : >"$work/root/dev/$device"
    mount --bind "/dev/$device" "$work/root/dev/$device"
done
cp "$1" "$work/root/synspan"
echo 'nameserver 127.0.0.1' >"$work/root/etc/resolv.conf"
printf '%s\n' '127.0.0.1 localhost' '127.0.0.1 by-hosts.synspan.test' >"$work/root/etc/hosts"
python3 "$here/dns.py" by-dns.synspan.test 127.0.0.1 >>"$work/asked" &
dns=$!
for _ in {1..50}; do ! grep -qx ready "$work/asked" || break; sleep 0.1; done

# send HOST: one record of each signal to the Collector by that name.
send() {
    printf '%s\n' 'exporters:' '  otlp:' "    endpoint: http://$1:${SYNSPAN_OTLP_GRPC##*:}" '    timeout: 5s' \
        >"$work/root/etc/$1.yaml"
    chroot "$work/root" /synspan check "/etc/$1.yaml" --send >"$work/said" 2>&1
}
for nsswitch in none 'files dns'; do
    [ "$nsswitch" = none ] || echo "hosts: $nsswitch" >"$work/root/etc/nsswitch.conf"
    for host in by-hosts by-dns; do
        send "$host.synspan.test" || { cat "$work/said" && echo "$host, nsswitch.conf: $nsswitch" && exit 1; }
    done
    if send by-none.synspan.test; then echo "a name that nobody has was found" && exit 1; fi
    grep -q 'by-none.synspan.test' "$work/said" || { cat "$work/said" && exit 1; }
    grep -q '^by-dns.synspan.test A$' "$work/asked" || { cat "$work/asked" && echo "DNS was not asked" && exit 1; }
    : >"$work/asked"
done
