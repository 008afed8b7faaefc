#!/usr/bin/env bash
# SPML from points on VOC 2012: train the embedding, retrieve, make pseudo labels, train the classifier, score.
#
#     DATAROOT=/data GPUS=0,1,2,3 bash bashscripts/voc12/train_spml_point.sh    # or: source ...
#     DATASET=demo bash bashscripts/voc12/train_spml_point.sh                   # the built-in data
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

RUN_NAME=${RUN_NAME:-spml_point}                         # folder of the results
TRAIN_LIST=${TRAIN_LIST:-$DATAROOT/lists/train_point.txt} # with the weak labels

point_pipeline() {
    from_labels --source softmax_random_walk
}

run_pipeline point_pipeline classifier point spml_joint
