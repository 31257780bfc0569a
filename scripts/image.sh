#!/usr/bin/env bash
# image.sh [ARCH...]: builds the image with the container engine that is here (podman, buildah or docker), as
# synspan:VERSION for one architecture, as a list of that name for several. Without any, this machine's.
# ARGS of the engine's build, a mirror's base image among them (--build-arg BASE=...), in IMAGE_ARGS.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

[ $# -gt 0 ] || set -- "$(own_arch)"
for engine in podman buildah docker; do ! have "$engine" || break; done
have "$engine" || die "building an image takes podman, buildah or docker, none of which is here. What would be in it:" \
    "scripts/image-root.sh"
version=$(crate_version)
platforms=$(printf 'linux/%s,' "$@")
read -r -a args <<<"${IMAGE_ARGS:-}"
args+=(--file Containerfile --platform "${platforms%,}" --build-arg "VERSION=$version"
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
    --build-arg "SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}")
case "$engine $#" in
    docker* | *' 1') args+=(--tag "synspan:$version") ;;
    *) args+=(--manifest "synspan:$version") ;;
esac
"$engine" build "${args[@]}" .
say "the image is synspan:$version ($engine, $*)"
