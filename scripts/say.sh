# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: where the repository is, and the few sentences they all say.
# Refuses to be run on its own: it does nothing by itself.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TOOLS="$ROOT/.tools"
VENV="$ROOT/.venv"
BUILD="$ROOT/.build"

# uv must never fetch an interpreter of its own: what runs here is what the machine has.
export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1 PIP_DISABLE_PIP_VERSION_CHECK=1
unset VIRTUAL_ENV PYTHONPATH PYTHONHOME

say() { printf '%-9s %s\n' "$1" "$2"; }

# Ends with the cause and the exact next step. Usage: fail CAUSE NEXT-STEP
fail() {
    printf '\n%s\n' "stopped: $1" >&2
    printf '%s\n\n' "next:    $2" >&2
    exit 1
}

# Runs a command with its output kept aside; prints the output only when it fails.
quietly() {
    local out
    mkdir -p "$BUILD"
    out="$BUILD/last-output.$$"
    if "$@" >"$out" 2>&1 </dev/null; then
        rm -f "$out"
    else
        local code=$?
        cat "$out" >&2
        rm -f "$out"
        return "$code"
    fi
}

# The hash of the contents of the named files and directories, build products left out.
digest_of() {
    (cd "$ROOT" && find "$@" \( -name target -o -name __pycache__ \) -prune -o -type f -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-32)
}

# 0 when the version $1 is at least $2 (dotted numbers).
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]; }
