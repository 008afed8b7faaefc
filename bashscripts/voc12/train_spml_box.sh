#!/usr/bin/env bash
# SPML from boxes on VOC 2012: train the embedding, retrieve, make pseudo labels, train the classifier, score.
#
#     DATAROOT=/data GPUS=0,1,2,3 bash bashscripts/voc12/train_spml_box.sh    # or: source ...
#     DATASET=demo bash bashscripts/voc12/train_spml_box.sh                   # the built-in data
#
# With CAM_DIR= (empty), the labels come from BOXES and from the class activation maps of a classifier of tags that is
# trained first; otherwise they are those of TRAIN_LIST, and CAM_DIR does nothing.
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

RUN_NAME=${RUN_NAME:-spml_box}                         # folder of the results
CAM_DIR=${CAM_DIR-given}                               # empty: CAMs and labels are made here,
[ -n "$CAM_DIR" ] || TAG_LIST=${TAG_LIST:-${TRAIN_LIST:-$DATAROOT/lists/train_full.txt}} # from the tags of this list
BOXES=${BOXES:-$DATAROOT/boxes.json}                   # and these: JSON of COCO, or a folder of XML (VOC's Annotations)
TRAIN_LIST=${TRAIN_LIST:-$DATAROOT/lists/train_box.txt} # labels from boxes and CAMs, unless they are made here
PATHS+=(TAG_LIST BOXES)

box_pipeline() {
    [ -n "$CAM_DIR" ] || own_cams "$RUN/lists/train_box.txt" --boxes "$BOXES"
    from_labels --source softmax_random_walk
}

run_pipeline box_pipeline classifier tag_box spml_joint
