# shellcheck shell=bash
# For scripts that are sourced: `(. own_shell.sh SCRIPT)` runs SCRIPT in a separate bash, so that nothing it does (exit,
# options, PYTHONPATH, functions, working directory) reaches the user's shell, which may also be zsh. Settings are the
# lines NAME=${NAME:-default} of SCRIPT and of lib/*.sh, and PRETRAINED; those that the user has set are passed on even
# when they were not exported.

default='s/^ *\([A-Z_][A-Z_]*\)=["$]*{\{0,1\}\1:\{0,1\}-.*/\1/p'
# shellcheck disable=SC2013
for name in PRETRAINED $(sed -n "$default" "$1" "$(dirname "$1")"/../lib/*.sh); do
    # shellcheck disable=SC2163
    if eval "[ -n \"\${$name+given}\" ]"; then export "$name"; fi
done
exec bash "$1"
