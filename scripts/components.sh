# shellcheck shell=bash
# What the scripts have in common that build and run the programs of others for the tests. To be sourced behind env.sh.

# go_build NAME FOLDER ARGS...: builds Go code there from what its module files pin, and nothing else. What it says comes
# only where it fails.
go_build() {
    local name=$1 src=$2 go
    shift 2
    go=$("$ROOT/scripts/go.sh")
    GOENV=off GOTOOLCHAIN=local GOWORK=off GOFLAGS=-buildvcs=false GOGC=400 CGO_ENABLED=0 \
        "$go" build -C "$src" -mod=readonly -trimpath -gcflags=all=-dwarf=false "$@" >"$LOG" 2>&1 || {
        tail -n 30 "$LOG" >&2
        die "$name could not be built; the last lines are above"
    }
}

# answers_ok PORT PATH: whether an HTTP server on loopback answers 200. By the shell alone: curl may not be there.
answers_ok() {
    local answer=
    { exec 3<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 1
    printf 'GET %s HTTP/1.0\r\n\r\n' "$2" >&3
    read -r -t 2 answer <&3 || true
    exec 3>&-
    [[ $answer == *" 200 "* ]]
}

# await_ok NAME PID PORT PATH SECONDS: waits until the server of that process answers 200.
await_ok() {
    local name=$1 pid=$2 port=$3 path=$4 seconds=$5 i
    for ((i = 0; i < seconds * 10; i++)); do
        kill -0 "$pid" 2>/dev/null || die "$name ended; its messages are above"
        ! answers_ok "$port" "$path" || return 0
        sleep 0.1
    done
    die "$name was not ready within $seconds s"
}
