#!/usr/bin/env bash
# Set up what is missing: a virtual environment in .venv unless one is active (venv or conda, but for conda's base),
# and this project in it. Done once, it returns at once.
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

# python_version PYTHON: print 310 for 3.10; fail for one that cannot make a virtual environment.
python_version() {
    "$1" -c 'import ensurepip, sys, venv; print("%d%02d" % sys.version_info[:2])' 2>/dev/null
}

# find_base_python: print the interpreter for .venv. pydensecrf2 does not compile on 3.13, so older ones come first.
find_base_python() {
    local candidate version newer=''
    if [ -n "${PYTHON:-}" ]; then
        version=$(python_version "$PYTHON") || fail "PYTHON=$PYTHON: not a Python that can make a virtual environment"
        [ "$version" -ge 310 ] || fail "PYTHON=$PYTHON: Python 3.10 or newer is needed"
        printf '%s\n' "$PYTHON"
        return
    fi
    for candidate in python3.12 python3.11 python3.10 python3 python3.13; do
        version=$(python_version "$candidate") || continue
        if [ "$version" -ge 310 ] && [ "$version" -lt 313 ]; then
            printf '%s\n' "$candidate"
            return
        fi
        [ "$version" -lt 313 ] || newer=${newer:-$candidate}
    done
    [ -n "$newer" ] || fail 'no Python 3.10 to 3.12 with venv found; install one (Debian: python3-venv) or set PYTHON'
    printf 'note: only %s found, where CRF (pydensecrf2) is unavailable; Python 3.12 has it\n' "$newer" >&2
    printf '%s\n' "$newer"
}

# explain_failure LOG: one line on why the installation failed.
explain_failure() {
    if grep -qiE 'no space left' "$1"; then
        fail "the disk is full; free some space and run again (log: $1)"
    elif grep -qiE '(failed building wheel for|failed to build|─>).*pydensecrf' "$1"; then
        fail 'pydensecrf2 did not compile; install a C++ compiler and the headers of Python' \
            "(Debian: g++ python3-dev) and run again (log: $1)"
    elif grep -qiE 'temporary failure in name|connection (error|refused|timed)|read timed out|max retries' "$1"; then
        fail "the package index cannot be reached; check the network and run again (log: $1)"
    fi
    fail "pip failed: $(grep -iE '^ *error|No module named' "$1" | tail -n 1) (log: $1)"
}

main() {
    local what=. extra=${1:-} prefix python stamp wanted log
    if [ -n "${SPML_PYTHON:-}" ]; then
        printf 'setup: SPML_PYTHON=%s is used as it is\n' "$SPML_PYTHON"
        return
    fi
    case $extra in
        '') ;;
        test) what='.[test]' ;;
        *) fail "setup.sh $extra: the only argument is: test" ;;
    esac
    prefix=$(environment_prefix)
    python=$prefix/bin/python stamp=$prefix/.spml-setup-${extra:-run} log=$prefix/spml-setup.log
    wanted="$ROOT $(cksum <"$ROOT/setup.py")"
    "$python" -c '' 2>/dev/null || make_venv "$prefix"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        printf 'setup: done before in %s\n' "$prefix"
        return
    fi
    [ "$("$python" -c 'import sys; print("%d%02d" % sys.version_info[:2])')" -ge 310 ] ||
        fail "$python: Python 3.10 or newer is needed; deactivate this environment or use another"
    install "$python" "$what" "$log"
    printf '%s\n' "$wanted" >"$stamp"
    printf 'setup: done, %s is ready\n' "$prefix"
}

# make_venv PREFIX: create .venv anew; an active environment that does not work is the user's to mend.
make_venv() {
    local base
    [ "$1" = "$ROOT/.venv" ] || fail "$1: the active environment has no working Python; deactivate it or use another"
    base=$(find_base_python) || exit
    printf 'setup: making %s with %s\n' "$1" "$base"
    "$base" -m venv --clear "$1" || fail "$1: the virtual environment could not be made"
}

# install PYTHON WHAT LOG: pip install, tried twice since downloads break off, and a check that what was installed
# loads.
install() {
    local attempt
    printf 'setup: installing; this takes some minutes (log: %s)\n' "$3"
    cd "$ROOT" || exit
    for attempt in 1 2; do
        "$1" -m pip install --disable-pip-version-check -e "$2" >"$3" 2>&1 && break
        [ "$attempt" -eq 1 ] || explain_failure "$3"
        printf 'setup: pip failed, trying once more\n'
    done
    "$1" -c 'import sys, torch, torchvision, cv2, spml
if sys.version_info < (3, 13): import pydensecrf.densecrf' >>"$3" 2>&1 ||
        fail "what was installed does not load: $(tail -n 1 "$3") (log: $3)"
}

main "$@"
