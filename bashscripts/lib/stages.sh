# shellcheck shell=bash
# Running the stages of a pipeline: skipping what is done, logs, and stopping at the first failure. Sourced by
# pipeline.sh.
#
# Under $RUN stand, for each stage, its output, logs/<stage>.log and, once it has succeeded, the stamp .done/<stage>
# with its arguments. A stage is skipped when its stamp holds the same arguments and its output is there. When a stage
# runs, the stamps of all later ones of this pipeline go. How a stage is launched (Python, GPUs, number of processes and
# workers) is not part of the stamp. run.txt says what was run: settings, code, command lines; usage.jsonl,
# what each stage cost.

# run_pipeline FUNCTION: list the stages that FUNCTION calls, run them, print the scores.
run_pipeline() {
    PLAN=() PASSED=() SCORES=() CHANGED=() STAGE='' PLANNING=1
    "$1"
    PLANNING=''
    [ -z "$FORCE" ] || in_list "$FORCE" "${PLAN[@]}" || fail "FORCE=$FORCE: no such stage; stages: ${PLAN[*]}"
    [ "${#CHANGED[@]}" -eq 0 ] || [ -n "$OVERWRITE" ] || fail "$RUN: made with other settings (${CHANGED[0]});" \
        'set RUN_NAME to begin another run, or OVERWRITE=1 to run what they change again'
    mkdir -p "$RUN/.done" "$RUN/logs" "$RUN/lists" || fail "$RUN: cannot be written; set SNAPSHOT_ROOT to a folder that can"
    if command -v flock >/dev/null; then
        exec 9>"$RUN/.lock"
        flock -n 9 2>/dev/null
        [ $? -ne 1 ] || fail "$RUN: another run is at work there; wait for it or set RUN_NAME"
    fi
    trap interrupted INT
    describe_run
    "$1"
    keep_lists
    printf '\n'
    "$SPML_PYTHON" "$ROOT/pyscripts/results/summary.py" --run_dir "$RUN" "${SCORES[@]}" || exit
    printf '\nresults:  %s\npictures: %s (overview)\n' "$RUN" "$RUN/contact_sheet.png"
    printf '          %s (each prediction, in colour)\n' "$RUN/*/semantic_color"
}

# describe_run: append the settings and the code's version to run.txt; each stage adds its command line.
describe_run() {
    local name version
    version=$(git -C "$ROOT" describe --always --dirty --abbrev=12 2>/dev/null) ||
        version=$(sed -n "s/^__version__ = '\(.*\)'/\1/p" "$ROOT/spml/__init__.py")
    {
        printf '%s\n' "-- $(date '+%Y-%m-%d %H:%M:%S'): $0, SPML $version, $VERSIONS"
        for name in "${SETTINGS[@]}"; do printf '%s=%q\n' "$name" "${!name}"; done
    } >>"$RUN/run.txt"
}

# keep_lists: copy the list files of this run to lists/, where those of the pseudo labels stand.
keep_lists() {
    local list
    for list in TRAIN_LIST FULL_LIST VAL_LIST; do
        cp -f -- "${!list}" "$RUN/lists/input_$(basename -- "${!list}")" 2>/dev/null
    done
}

# stage NAME OUTPUT SCRIPT [ARGUMENT...]: run a Python script of this repository as a stage that writes OUTPUT; skip it
# when it is done; on failure name it and exit.
stage() {
    local name=$1 output=$2 arguments label start status resume=()
    shift 2
    arguments=$(stage_arguments "$@")
    if [ -n "$PLANNING" ]; then
        PLAN+=("$name")
        note_change "$name" "$arguments"
        return
    fi
    PASSED+=("$name")
    STAGE="[${#PASSED[@]}/${#PLAN[@]}] $name" start=$SECONDS
    label=$STAGE
    if is_done "$name" "$output" "$arguments"; then
        printf '%s: done before, skipped\n' "$label"
        return
    fi
    if was_begun "$name" "$arguments"; then
        # Trainings are told so; the other scripts leave what stands already and was made with the same arguments.
        if compgen -G "$output/model-*.state.pth" >/dev/null; then resume=(--resume); fi
        printf '%s ... (goes on where it stopped)\n' "$label"
    else
        clear_output "$output"
        printf '%s ...%s\n' "$label" "${REASON:+ ($REASON)}"
    fi
    forget_stages_from "$name"
    printf '%s\n' "$arguments" >"$RUN/.done/$name.begun"
    set -- "$SPML_PYTHON" "$ROOT/$1" "${@:2}" "${resume[@]}"
    printf '%s\n' "[$name] $(printf '%q ' "$@")" >>"$RUN/run.txt"
    # tee -i outlives Ctrl-C, so the last words of the stage still get through.
    SPML_STAGE=$name SPML_USAGE=$RUN/usage.jsonl PYTHONUNBUFFERED=1 "$@" 2>&1 | tee -i "$RUN/logs/$name.log"
    status=${PIPESTATUS[0]}
    [ "$status" -ne 130 ] || interrupted
    if [ "$status" -eq 0 ] && [ ! -e "$output" ]; then
        printf '%s is missing although the stage reported success\n' "$output" | tee -a "$RUN/logs/$name.log"
        status=1
    fi
    [ "$status" -eq 0 ] || stage_failed "$name" "$status" "$@"
    mv -f "$RUN/.done/$name.begun" "$RUN/.done/$name"
    printf '%s done in %s s\n' "$label" "$((SECONDS - start))"
}

# stage_arguments ARGUMENT...: print what a stage computes: its arguments, one a line, with a checksum of the
# configuration and the lists they name, without those that only say how fast.
stage_arguments() {
    local argument previous=''
    for argument in "$@"; do
        case $previous:$argument in
            --num_workers:* | *:--num_workers | --num_processes:* | *:--num_processes) ;;
            --cfg_path:* | --*_list:*) printf '%s  # %s\n' "$argument" "$(cksum 2>/dev/null <"$argument")" ;;
            *) printf '%s\n' "$argument" ;;
        esac
        previous=$argument
    done
}

# note_change NAME ARGUMENTS: add to CHANGED what differs from the stamp that an earlier run left for this stage, unless
# the stage is to be forced, or follows one that is, or one of its lists (its checksum is empty) is still to be made.
note_change() {
    local stamp=$RUN/.done/$1 line
    [ -f "$stamp" ] || stamp=$stamp.begun
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" = "$2" ] || grep -q '  # $' <<<"$2" ||
        { [ -n "$FORCE" ] && in_list "$FORCE" "${PLAN[@]}"; }; then
        return
    fi
    line=$(diff <(printf '%s\n' "$2") "$stamp" | sed -n 's/^< //p' | head -n 1)
    CHANGED+=("$1: ${line:-fewer options}")
}

# is_done NAME OUTPUT ARGUMENTS: whether the stage can be skipped; if not, REASON says why it runs again ('' the first
# time).
is_done() {
    local stamp=$RUN/.done/$1
    REASON=''
    if [ ! -f "$stamp" ]; then
        return 1
    elif [ "$FORCE" = "$1" ]; then
        REASON='forced'
    elif [ ! -e "$2" ]; then
        REASON='its output is gone, runs again'
    elif [ "$(cat "$stamp")" != "$3" ]; then
        REASON='its settings changed, runs again'
    fi
    [ -z "$REASON" ]
}

# was_begun NAME ARGUMENTS: whether the stage was begun with these arguments and not finished, and is not forced.
was_begun() {
    local begun=$RUN/.done/$1.begun
    [ "$FORCE" != "$1" ] && [ -f "$begun" ] && [ "$(cat "$begun")" = "$2" ]
}

# clear_output PATH: remove what an earlier run left, which would be taken for results of this one. Only below $RUN;
# weights may have cost days and are kept under another name.
clear_output() {
    local number=1
    case $1 in
        "$RUN"/?*) ;;
        *) return ;;
    esac
    if compgen -G "$1/model-*.pth" >/dev/null; then
        while [ -e "$1.previous-$number" ]; do number=$((number + 1)); done
        mv -- "$1" "$1.previous-$number"
    fi
    rm -rf -- "$1"
}

# forget_stages_from NAME: remove the stamps of NAME and of the stages of this pipeline that follow it. A run that
# leaves a stage out (CHECKPOINT does) does not touch its stamp.
forget_stages_from() {
    local name
    for name in "${PLAN[@]}"; do
        if [ "$name" = "$1" ] || ! in_list "$name" "${PASSED[@]}"; then
            rm -f -- "$RUN/.done/$name" "$RUN/.done/$name.begun"
        fi
    done
}

# stage_failed NAME STATUS COMMAND...: say what failed and how to go on; exit with STATUS.
stage_failed() {
    local hint=''
    [ "$2" -ne 137 ] || hint=' (killed, perhaps for want of memory)'
    {
        printf '%s FAILED with status %s%s\n' "$STAGE" "$2" "$hint"
        printf '  command: %s\n' "$(printf '%q ' "${@:3}")"
        printf '  log:     %s\n' "$RUN/logs/$1.log"
        printf '  to go on: mend the cause and run the same script again; finished stages are skipped\n'
    } >&2
    exit "$2"
}

interrupted() {
    printf '\n%s interrupted; run the same script again to go on, finished stages are skipped\n' "$STAGE" >&2
    exit 130
}

# in_list WORD ITEM...: whether WORD is one of the items.
in_list() {
    local item
    for item in "${@:2}"; do
        [ "$item" != "$1" ] || return 0
    done
    return 1
}
