#!/usr/bin/env bash
# SPML from scribbles, points, boxes and tags on the built-in data, beside cross-entropy on the same weak labels alone and
# beside full supervision, the same budget for each. Mean and spread over the seeds, one table.
#
#     bash bashscripts/demo/quality.sh    # SEEDS='0 1 2', SNAPSHOT_ROOT=snapshots/demo_quality

if [ "${BASH_SOURCE:-}" != "$0" ]; then # sourced: stay out of the user's shell
    (exec bash "${BASH_SOURCE:-$0}")
    return
fi
# shellcheck source=bashscripts/demo/budget.sh
. "$(dirname "${BASH_SOURCE[0]}")/budget.sh"

FOLDER=${SNAPSHOT_ROOT:-$ROOT/snapshots/demo_quality}
mkdir -p "$FOLDER" || fail "$FOLDER: cannot be written; set SNAPSHOT_ROOT"

for seed in $SEEDS; do
    for labels in scribble point box tag; do
        run "$FOLDER" "voc12/train_spml_$labels.sh" "spml_$labels" "$STEPS" "$seed"
        LABELS=$labels run "$FOLDER" voc12/train_cross_entropy.sh "cross_entropy_$labels" \
            $((STEPS + CLASSIFIER_STEPS)) "$seed"
    done
    LABELS=full run "$FOLDER" voc12/train_cross_entropy.sh cross_entropy_full $((STEPS + CLASSIFIER_STEPS)) "$seed"
done
rows=()
for labels in scribble point box tag; do
    rows+=(--row "${labels}s, SPML=spml_${labels}_{seed}"
        --row "${labels}s, cross-entropy alone=cross_entropy_${labels}_{seed}")
done
table "$FOLDER" --column 'single scale=score_single' --column 'multi scale + CRF=score_final' "${rows[@]//boxs/boxes}" \
    --row 'full supervision, cross-entropy=cross_entropy_full_{seed}'
