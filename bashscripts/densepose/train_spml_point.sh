#!/usr/bin/env bash
# SPML from points on DensePose: train the embedding, retrieve, propagate the points, train the classifier, score.
#
#     DATAROOT=/data GPUS=0,1,2,3 bash bashscripts/densepose/train_spml_point.sh    # or: source ...
#     DATASET=demo bash bashscripts/densepose/train_spml_point.sh                   # the built-in data
#
# Every setting below, and those at the top of bashscripts/lib/pipeline.sh (GPUS, FORCE, CHECKPOINT, ...), can be given
# in the environment. Run again, it skips the stages that are done; FORCE=<stage> runs one, and those after it, again.

if [ "${BASH_SOURCE:-}" != "$0" ]; then # sourced
    # shellcheck source=bashscripts/lib/own_shell.sh
    (. "$(dirname "${BASH_SOURCE:-$0}")/../lib/own_shell.sh" "${BASH_SOURCE:-$0}")
    return
fi
# shellcheck source=bashscripts/lib/pipeline.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/pipeline.sh"

DATASET=${DATASET:-densepose} # densepose, or demo: the built-in data
[ "$DATASET" != demo ] || { DATAROOT=${DATAROOT:-$ROOT/snapshots/demo/data} CLUSTERS=${CLUSTERS:-6,6}; }
DATAROOT=${DATAROOT:-} # folder that holds images/, segcls/, seginst/ and lists/
SNAPSHOT_ROOT=${SNAPSHOT_ROOT:-$ROOT/snapshots/$DATASET}
RUN_NAME=${RUN_NAME:-spml_densepose_point}                # folder of the results
TRAIN_LIST=${TRAIN_LIST:-$DATAROOT/lists/train_point.txt} # train2014 with the points
FULL_LIST=${FULL_LIST-$DATAROOT/lists/train_full.txt}     # a subset with full truth, for prototypes; empty: none
VAL_LIST=${VAL_LIST:-$DATAROOT/lists/val.txt}             # minival2014
CLUSTERS=${CLUSTERS:-24,24}                               # initial k-means grid of inference

densepose_pipeline() {
    from_labels --source densepose_random_walk @clusters
}

own=$([ "$DATASET" != demo ] || printf densepose_)
run_pipeline densepose_pipeline "${own}classifier" "${own}point" "${own:-spml_}joint"
