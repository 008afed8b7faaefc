# shellcheck shell=bash
# Which Python the scripts use, and their one-line errors. Sourced by scripts that run in a separate bash.

ROOT=$(CDPATH='' builtin cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)

# fail MESSAGE: one line on standard error, exit status 2.
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# environment_prefix: print the folder of the active environment (venv or conda, except conda's base), else that of
# .venv.
environment_prefix() {
    local conda=${CONDA_PREFIX:-}
    [ "${CONDA_DEFAULT_ENV:-}" != base ] || conda=
    printf '%s\n' "${VIRTUAL_ENV:-${conda:-$ROOT/.venv}}"
}

# choose_python: set and export SPML_PYTHON (kept when given: an interpreter that has everything) and let it find spml
# here, whatever copy is installed in its environment.
choose_python() {
    SPML_PYTHON=${SPML_PYTHON:-$(environment_prefix)/bin/python}
    command -v -- "$SPML_PYTHON" >/dev/null ||
        fail "$SPML_PYTHON: no such Python; run \`bash bashscripts/setup.sh\` first"
    "$SPML_PYTHON" -c 'import importlib.util as u
[u.find_spec(name).name for name in ("numpy", "torch", "yaml")]' 2>/dev/null ||
        fail "$SPML_PYTHON: has not all that this project needs; run \`bash bashscripts/setup.sh\` first"
    export SPML_PYTHON
    export PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH}
}
