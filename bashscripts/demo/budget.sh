# shellcheck shell=bash
# Data, budget and settings of the comparisons on the built-in data (ablation.sh, quality.sh), the same for every run.
# Sourced by them. A run takes at most 3 minutes on 2 CPU cores that know bf16; run again, they go on where they stopped.

HERE=$(CDPATH='' builtin cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=bashscripts/lib/python.sh
. "$HERE/../lib/python.sh"

SEEDS=${SEEDS:-0 1 2}
export DATASET=demo DEMO_OPTIONS='--size 64,64 --num_train 32 --num_val 32 --num_test 2'
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2} FULL_LIST=''
STEPS=260           # of the embedding
CLASSIFIER_STEPS=80 # of each classifier; cross-entropy alone gets them on top of the embedding's
# bf16 takes two thirds of the time where the CPU has it.
SETTINGS='train.precision=bf16'

# run FOLDER SCRIPT NAME STEPS SEED [KEY=VALUE...]: run a pipeline into FOLDER/NAME_SEED and note how long it took.
run() {
    local folder=$1 script=$2 name=$3_$5 steps=$4 seed=$5 start=$SECONDS
    shift 5
    printf '\n== %s\n' "$name"
    SNAPSHOT_ROOT=$folder DATAROOT=$folder/data RUN_NAME=$name \
        SET_EMBEDDING="seed=$seed train.max_iteration=$steps train.snapshot_step=$steps $SETTINGS $*" \
        SET_CLASSIFIER="seed=$seed train.max_iteration=$CLASSIFIER_STEPS train.snapshot_step=$CLASSIFIER_STEPS $SETTINGS" \
        bash "$HERE/../$script" >"$folder/$name.log" 2>&1 || {
        tail -n 8 "$folder/$name.log" >&2
        fail "$name did not finish (log: $folder/$name.log); mend the cause and run this script again"
    }
    # A run that was there already has nothing new to say about its time.
    if [ $((SECONDS - start)) -gt 20 ]; then printf '%s %s\n' "$name" "$((SECONDS - start))" >>"$folder/seconds.txt"; fi
    printf '%s: %s s\n' "$name" "$((SECONDS - start))"
}

# table FOLDER ARGUMENT...: print the table of a folder's runs, and keep it there.
table() {
    local folder=$1 seeds
    shift
    read -r -a seeds <<<"$SEEDS"
    choose_python
    printf '\n'
    "$SPML_PYTHON" "$ROOT/pyscripts/results/spread.py" --runs_dir "$folder" --seeds "${seeds[@]}" \
        --json "$folder/table.json" "$@" >"$folder/table.md.tmp" || exit
    mv "$folder/table.md.tmp" "$folder/table.md" && cat "$folder/table.md"
    printf '\ntable: %s, logs and runs beside it\n' "$folder/table.md"
}
