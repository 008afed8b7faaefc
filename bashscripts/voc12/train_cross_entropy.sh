#!/usr/bin/env bash
# The baseline on VOC 2012: the same network and softmax head trained by cross-entropy on the labelled pixels alone.
#
#     LABELS=scribble DATAROOT=/data bash bashscripts/voc12/train_cross_entropy.sh    # or: source ...
#     LABELS=full DATASET=demo bash bashscripts/voc12/train_cross_entropy.sh          # full supervision, built-in data
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

LABELS=${LABELS:-scribble} # scribble, point, box, tag or full
case $LABELS in
    scribble | point | box | tag | full) ;;
    *) fail "LABELS=$LABELS: must be scribble, point, box, tag or full" ;;
esac
RUN_NAME=${RUN_NAME:-cross_entropy_$LABELS}                     # folder of the results
TRAIN_LIST=${TRAIN_LIST:-$DATAROOT/lists/train_$LABELS.txt}     # with these labels

cross_entropy_pipeline() {
    train_embedding
    finish cross-entropy '' @stage1
}

run_pipeline cross_entropy_pipeline classifier cross_entropy
