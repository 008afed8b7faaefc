#!/usr/bin/env bash
# SPML from whatever labels your photos have (masks, scribbles, points, boxes, tags), as prepare_custom.py lists them:
# CAMs where an image has only boxes or tags, the embedding, pseudo labels, the classifier (these two unless
# PSEUDO_LABELS is empty), scores or pictures.
#
#     DATASET=mine DATAROOT=mine/data bash bashscripts/custom/train_spml.sh    # or: source ...
#     DATASET=demo bash bashscripts/custom/train_spml.sh                       # the built-in data, with a mix of labels
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

DATASET=${DATASET:-} # name of a folder of configs/, as prepare_custom.py writes it; demo: the built-in data
if [ "$DATASET" = demo ]; then
    DATAROOT=${DATAROOT:-$ROOT/snapshots/demo/data_mix} CLUSTERS=${CLUSTERS:-6,6}
    DEMO_OPTIONS="--mix ${DEMO_OPTIONS:-}"
fi
DATAROOT=${DATAROOT:-} # what prepare_custom.py wrote
SNAPSHOT_ROOT=${SNAPSHOT_ROOT:-$ROOT/snapshots/${DATASET:-custom}}
# Options of pseudo_label.py; empty: no pseudo labels and no classifier, the softmax head of stage 1 predicts.
PSEUDO_LABELS=${PSEUDO_LABELS---source softmax_random_walk --keep_labels --normalise auto}
# Folder of the results. With and without a classifier they do not mix: whoever reads a run takes the classifier there.
if [ -n "$PSEUDO_LABELS" ]; then RUN_NAME=${RUN_NAME:-spml}; else RUN_NAME=${RUN_NAME:-spml_head}; fi
CLUSTERS=${CLUSTERS:-12,12} # initial k-means grid of inference

# list_if_there NAME: print the path of a list of DATAROOT, or nothing where there is none. The built-in data has both.
list_if_there() {
    if [ "$DATASET" = demo ] || [ -s "$DATAROOT/lists/$1.txt" ]; then printf '%s' "$DATAROOT/lists/$1.txt"; fi
}

TRAIN_LIST=${TRAIN_LIST:-$DATAROOT/lists/train.txt}     # every image with a label; its kind is the fifth field
# Full truth of training images; empty: no oracle, no scores of labels. Own images that have it are trained on it, so
# that it says nothing of pseudo labels.
[ "$DATASET" != demo ] || FULL_LIST=${FULL_LIST-$DATAROOT/lists/train_full.txt}
FULL_LIST=${FULL_LIST-}
VAL_LIST=${VAL_LIST-$(list_if_there val)}               # images to score on; empty: no scores, but pictures
IMAGE_LIST=${IMAGE_LIST:-$DATAROOT/lists/all.txt}       # where VAL_LIST is empty: images to predict
BOXES=${BOXES:-$DATAROOT/boxes.json}                    # of the images whose kind is box
PATHS+=(TAG_LIST IMAGE_LIST BOXES)

# kinds KIND...: whether an image of OWN_LIST has labels of one of these kinds.
kinds() {
    [ "$DATASET" = demo ] ||
        awk -v kinds=" $* " 'index(kinds, " " $5 " ") { found = 1 } END { exit !found }' "$OWN_LIST"
}

custom_pipeline() {
    OWN_LIST=$TRAIN_LIST # people's own labels, which pseudo labels keep; what CAMs suggest they do not
    if kinds box tag; then
        TAG_LIST=$TRAIN_LIST
        if kinds box; then own_cams "$RUN/lists/train.txt" --boxes "$BOXES"; else own_cams "$RUN/lists/train.txt"; fi
    fi
    if [ -n "$PSEUDO_LABELS" ]; then
        # shellcheck disable=SC2086
        from_labels $PSEUDO_LABELS
    else
        train_embedding
        finish 'joint softmax head' '' @stage1
    fi
}

[ -n "$DATASET" ] || fail 'DATASET is not set; set it to the name that prepare_custom.py printed, or to demo'
[ "$DATASET" = demo ] || [ -f "$TRAIN_LIST" ] ||
    fail "$TRAIN_LIST: no such list; set DATAROOT to what prepare_custom.py wrote"
run_pipeline custom_pipeline classifier scribble spml_joint
