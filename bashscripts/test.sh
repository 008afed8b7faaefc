#!/usr/bin/env bash
# Set up what is missing, then lint, check the types and run the tests. Every part runs; the status is 1 if any fails.
#
#     bash bashscripts/test.sh        # lint and unit tests
#     bash bashscripts/test.sh all    # also the slow tests (the whole pipeline) and the conformance kits
#
# OMP_NUM_THREADS: threads of each process (default 2).

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

main() {
    local failed=0 summary=()
    case ${1:-} in '' | all) ;; *) fail "test.sh $1: the only argument is: all" ;; esac
    bash "$ROOT/bashscripts/setup.sh" test || exit
    choose_python
    cd "$ROOT" || exit
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
    trap 'echo "test.sh: interrupted" >&2; exit 130' INT

    part lint "$SPML_PYTHON" -m ruff check .
    part types "$SPML_PYTHON" -m mypy
    if [ "${1:-}" = all ]; then
        part 'tests, slow ones too' "$SPML_PYTHON" -m pytest
        part 'conformance kit_a' "$SPML_PYTHON" tests/conformance/check.py tests/conformance/kit_a
        part 'conformance kit_c' "$SPML_PYTHON" tests/conformance/check.py tests/conformance/kit_c
    else
        part 'unit tests' "$SPML_PYTHON" -m pytest -m 'not slow'
    fi
    printf '\n== summary\n'
    printf '%s\n' "${summary[@]}"
    return "$failed"
}

main "$@"
