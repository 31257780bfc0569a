#!/usr/bin/env bash
# static.sh [ARCH]: builds the released program as one file that needs no other, and prints its path. ARCH is amd64 or
# arm64; without it, this machine's. The other one is cross-compiled.
#
# It is linked with glibc's static library, which resolves names by /etc/hosts and DNS on its own. No path of this
# machine is in it. Beside it lies synspan.debug: symbols and lines for backtraces and profiles.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

own=$(own_arch) arch=${1:-$(own_arch)}
case $arch in
    amd64) cpu=x86_64 ;;
    arm64) cpu=aarch64 ;;
    *) die "unknown architecture $arch: amd64 or arm64" ;;
esac
target=$cpu-unknown-linux-gnu
scripts/setup.sh --build

# Debian's compiler where it is new enough, as in the image's build, so that both architectures come from one compiler.
rustc=rustc
if at_least "$(rust_version /usr/bin/cargo || echo 0)" "$RUST_MIN"; then
    PATH=/usr/bin:$PATH
    rustc=/usr/bin/rustc
fi
dir=${CARGO_TARGET_DIR:-$ROOT/target}/static
mkdir -p "$dir/$arch"
dir=$(cd "$dir" && pwd)

flags=(-Ctarget-feature=+crt-static)
binutils=
if [ "$arch" != "$own" ]; then
    binutils=$cpu-linux-gnu-
    sysroot=$(scripts/cross.sh "$arch" "$rustc")
    # What of glibc lies in the compiler's own folders is older than Debian's updates: ours comes first.
    flags+=("-Clinker=${binutils}gcc" "-Clink-arg=-B$sysroot/usr/lib/$cpu-linux-gnu")
    [ ! -d "$sysroot/usr/lib/rustlib" ] || flags+=("--sysroot=$sysroot/usr")
    # For what is C: ring, zstd and jemalloc.
    name=${target//-/_}
    export "CC_$name=${binutils}gcc" "CFLAGS_$name=--sysroot=$sysroot"
    # jemalloc's makefile has steps without the flags of C.
    export "${name^^}_CPPFLAGS=--sysroot=$sysroot"
fi
# Kernels for arm64 have pages of 4, 16 or 64 KiB; jemalloc takes the size that it is built for, or any smaller one.
[ "$arch" != arm64 ] || export JEMALLOC_SYS_WITH_LG_PAGE=16
# Sources have the same names wherever they lie; of names that fit, the last holds. Crates must be there to be known.
scripts/cargo.sh fetch --locked --quiet --target "$target"
flags+=("--remap-path-prefix=$ROOT=/synspan" "--remap-path-prefix=$dir=/synspan/target")
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
    flags+=("--remap-path-prefix=${registry%/}=/crates")
done
# One separator that no path has: the flags may hold blanks.
printf -v encoded '%s\x1f' "${flags[@]}"

# With --target the flags are not those of build scripts and macros, which run here.
CARGO_ENCODED_RUSTFLAGS=${encoded%$'\x1f'} \
    scripts/quietly.sh "building the static program for $arch (three to six minutes)" \
    scripts/cargo.sh build --release --locked --package synspan --bin synspan --target "$target" --target-dir "$dir"

built=$dir/$target/release/synspan out=$dir/$arch/synspan
"${binutils}objcopy" --only-keep-debug "$built" "$out.debug"
# Names of functions stay: a backtrace without the other file still says where.
"${binutils}objcopy" --strip-debug --add-gnu-debuglink="$out.debug" "$built" "$out.new"

if LC_ALL=C readelf --wide --program-headers --dynamic "$out.new" | grep -E 'INTERP|NEEDED'; then
    die "$out.new is not static: see above"
fi
for path in "$ROOT" "$dir" "${CARGO_HOME:-$HOME/.cargo}" "$CACHE"; do
    if grep -qaF -- "$path" "$out.new"; then die "$out.new has a path of this machine in it: $path"; fi
done
mv "$out.new" "$out"
say "static program for $arch: $(stat -c %s "$out") bytes, $(sha256sum "$out" | cut -c 1-16)"
echo "$out"
