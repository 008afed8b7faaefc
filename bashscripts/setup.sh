#!/usr/bin/env bash
# Set up what is missing: a virtual environment in .venv unless one is active (venv or conda, except conda's base),
# and this project in it, with a small network and its ImageNet weights. Done once, it returns at once.
#
#     bash bashscripts/setup.sh [test]        # test: also what the tests need
#
# PYTHON: the interpreter to make .venv from. SPML_PYTHON: one that has everything already, so nothing is set up.

if [ "${BASH_SOURCE:-}" != "$0" ]; then # sourced: stay out of the user's shell
    (exec bash "${BASH_SOURCE:-$0}" "$@")
    return
fi
# shellcheck source=bashscripts/lib/python.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.sh"

# can_host PYTHON: whether it is 3.10 or newer and can make virtual environments.
can_host() { "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

# make_venv PREFIX: create .venv anew; an active environment that does not work is for the user to repair.
make_venv() {
    local base
    [ "$1" = "$ROOT/.venv" ] || fail "$1: the active environment has no working Python; deactivate it or use another"
    # pydensecrf2, for CRF, does not compile on 3.13, so older ones come first.
    for base in ${PYTHON:-python3.12 python3.11 python3.10 python3}; do
        ! can_host "$base" || break
    done
    can_host "$base" || fail "${PYTHON:+PYTHON=}$base: cannot make a virtual environment, or is older than Python 3.10;" \
        'install Python 3.10 to 3.12 with venv (Debian: python3-venv) or set PYTHON'
    printf 'setup: making %s with %s\n' "$1" "$base"
    "$base" -m venv --clear "$1" || fail "$1: the virtual environment could not be made"
}

main() {
    local prefix python stamp wanted log
    case ${1:-} in '' | test) ;; *) fail "setup.sh $1: the only argument is: test" ;; esac
    if [ -n "${SPML_PYTHON:-}" ]; then
        printf 'setup: SPML_PYTHON=%s is used as it is\n' "$SPML_PYTHON"
        return
    fi
    prefix=$(environment_prefix) wanted="$ROOT $(cksum <"$ROOT/setup.py")"
    python=$prefix/bin/python stamp=$prefix/.spml-setup-${1:-run} log=$prefix/spml-setup.log
    "$python" -c '' 2>/dev/null || make_venv "$prefix"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        printf 'setup: done before in %s\n' "$prefix"
        return
    fi
    printf 'setup: installing; this takes some minutes (log: %s)\n' "$log"
    cd "$ROOT" || exit
    "$python" -m pip install --disable-pip-version-check --retries 10 -e ".[${1:-lite}]" >"$log" 2>&1 || fail \
        "pip failed: $(grep -iE 'error|no space' "$log" | tail -n 1) (log: $log); for pydensecrf2 install a C++ compiler" \
        'and the headers of Python (Debian: g++ python3-dev); then run again'
    "$python" -c 'import sys, torch, torchvision, cv2, spml
if sys.version_info < (3, 13): import pydensecrf.densecrf' >>"$log" 2>&1 ||
        fail "what was installed does not load: $(tail -n 1 "$log") (log: $log)"
    printf '%s\n' "$wanted" >"$stamp"
    printf 'setup: done, %s is ready\n' "$prefix"
}

main "$@"
