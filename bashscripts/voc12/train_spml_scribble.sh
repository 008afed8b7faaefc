#!/usr/bin/env bash
# SPML from scribbles on VOC 2012: train the embedding, retrieve, make pseudo labels, train the classifier, score.
#
#     DATAROOT=/data GPUS=0,1,2,3 bash bashscripts/voc12/train_spml_scribble.sh    # or: source ...
#     DATASET=demo bash bashscripts/voc12/train_spml_scribble.sh                   # the built-in data
#
# Every setting below, and those at the top of bashscripts/lib/voc12.sh and bashscripts/lib/pipeline.sh (DATAROOT, GPUS,
# FORCE, CHECKPOINT, ...), can be given in the environment. Run again, it skips the stages that are done; FORCE=<stage>
# runs one, and those after it, again.

if [ "${BASH_SOURCE:-}" != "$0" ]; then # sourced
    # shellcheck source=bashscripts/lib/own_shell.sh
    (. "$(dirname "${BASH_SOURCE:-$0}")/../lib/own_shell.sh" "${BASH_SOURCE:-$0}")
    return
fi
# shellcheck source=bashscripts/lib/voc12.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/voc12.sh"

SCRIBBLE=${SCRIBBLE:-dilate_3} # or a shortened one: dilate_3_0.8, dilate_3_0.5, dilate_3_0.3
RUN_NAME=${RUN_NAME:-spml_scribble${SCRIBBLE#dilate_3}}                          # folder of the results
TRAIN_LIST=${TRAIN_LIST:-$DATAROOT/lists/train_scribble${SCRIBBLE#dilate_3}.txt} # with the weak labels

scribble_pipeline() {
    from_labels --source softmax_random_walk
}

run_pipeline scribble_pipeline classifier scribble spml_joint
