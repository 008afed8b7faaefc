#!/usr/bin/env bash
# Set up what is missing, then lint, check the types and run the tests. Every part runs; the status is 1 if any fails.
#
#     bash bashscripts/test.sh        # lint and unit tests
#     bash bashscripts/test.sh all    # also the slow tests (the whole pipeline) and the conformance kits
#
# TEST_PROCESSES: that test side by side, on one thread each (default: one a core, at most 8).

if [ "${BASH_SOURCE:-}" != "$0" ]; then # sourced: stay out of the user's shell
    (exec bash "${BASH_SOURCE:-$0}" "$@")
    return
fi
# shellcheck source=bashscripts/lib/python.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/python.sh"

# part NAME COMMAND...: run a part and note how it went.
part() {
    local name=$1 start=$SECONDS verdict=PASS
    shift
    printf '\n== %s\n' "$name"
    "$@" || verdict="FAIL (status $?)" failed=1
    summary+=("$(printf '%-24s %s, %s s' "$name" "$verdict" "$((SECONDS - start))")")
}

# conformance KIT: compare with what is recorded. What is written for it, a few GB, goes; what failed says why first.
conformance() (
    work=$(mktemp -d) || exit
    trap 'rm -rf "$work"' EXIT # after Ctrl-C, too
    "$SPML_PYTHON" tests/conformance/check.py "tests/conformance/$1" --keep "$work" && exit
    status=$?
    for log in "$work"/*.log; do printf -- '-- %s\n' "${log##*/}" && tail -n 5 "$log"; done
    exit "$status"
)

main() {
    local failed=0 summary=()
    case ${1:-} in '' | all) ;; *) fail "test.sh $1: the only argument is: all" ;; esac
    bash "$ROOT/bashscripts/setup.sh" test || exit
    choose_python
    cd "$ROOT" || exit
    local tests=(env OMP_NUM_THREADS=1 "$SPML_PYTHON" -m pytest -n "${TEST_PROCESSES:-auto}" --maxprocesses 8
        --dist loadgroup)
    trap 'echo "test.sh: interrupted" >&2; exit 130' INT

    part lint "$SPML_PYTHON" -m ruff check .
    part types "$SPML_PYTHON" -m mypy
    if [ "${1:-}" = all ]; then
        part 'tests, slow ones too' "${tests[@]}"
        part 'conformance kit_a' conformance kit_a
        part 'conformance kit_c' conformance kit_c
    else
        part 'unit tests' "${tests[@]}" -m 'not slow'
    fi
    printf '\n== summary\n'
    printf '%s\n' "${summary[@]}"
    return "$failed"
}

main "$@"
