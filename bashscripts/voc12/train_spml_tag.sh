#!/usr/bin/env bash
# SPML from image tags on VOC 2012: train the embedding on CAMs, make pseudo labels in two rounds (each a
# random walk or softmax, then retrieval) with a classifier after each, score.
#
#     DATAROOT=/data GPUS=0,1,2,3 bash bashscripts/voc12/train_spml_tag.sh    # or: source ...
#     DATASET=demo bash bashscripts/voc12/train_spml_tag.sh                   # the built-in data
#
# With CAM_DIR= (empty), the class activation maps come from a classifier of tags that is trained first.
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

RUN_NAME=${RUN_NAME:-spml_tag}                          # folder of the results
CAM_DIR=${CAM_DIR-$DATAROOT/VOC2012/cam_npy}            # raw CAM dicts, <image name>.npy; empty: made here,
[ -n "$CAM_DIR" ] || TAG_LIST=${TAG_LIST:-${TRAIN_LIST:-$DATAROOT/lists/train_full.txt}} # from the tags of this list
TRAIN_LIST=${TRAIN_LIST:-$DATAROOT/lists/train_tag.txt} # labels from CAMs, unless they are made here
INST_DIR=${INST_DIR-$DATAROOT/VOC2012/seginst}          # instances, for scores by instance; empty: leave those out
PATHS+=(CAM_DIR INST_DIR TAG_LIST)

# label_round NAME TITLE LIST: prototypes at several scales with the labels of LIST, then labels by retrieval from them.
label_round() {
    stage "prototypes_$1" "$RUN/prototypes_$1" pyscripts/inference/prototype.py @list "$3" --save_dir @output \
        @stage1 @clusters --multi_scale
    pseudo_label "$1" "$2" @stage1 --source retrieval @clusters \
        --semantic_memory_dir "$RUN/prototypes_$1/semantic_prototype"
    score_by_instance "$1"
}

# score_by_instance NAME: the labels in $RUN/NAME_labels once more, by instance, unless INST_DIR is empty.
score_by_instance() {
    [ -z "$INST_DIR" ] || score "$1_by_instance" "$1, by instance" "$1_labels" "$FULL_LIST" \
        pyscripts/benchmark/benchmark_by_instance.py --inst_dir "$INST_DIR"
}

tag_pipeline() {
    local head_1=(@classifier --snapshot_dir "$RUN/classifier_1")

    [ -n "$CAM_DIR" ] || own_cams "$RUN/lists/train_tag.txt"
    embed

    pseudo_label cam_walk 'labels 1a: CAMs, random walk' @stage1 --source cam_random_walk \
        --cam_dir "${CAM_DIR:-$RUN/cams/cam_npy}"
    score_by_instance cam_walk
    label_round retrieval_1 'labels 1b: retrieval' "$RUN/lists/train_cam_walk.txt"
    train_classifier classifier_1 "$RUN/lists/train_retrieval_1.txt"
    infer classifier_1 'classifier 1, single scale' "${head_1[@]}" --predictor softmax

    pseudo_label softmax 'labels 2a: softmax of classifier 1' "${head_1[@]}" --source softmax
    score_by_instance softmax
    label_round retrieval_2 'labels 2b: retrieval' "$RUN/lists/train_softmax.txt"
    train_classifier classifier_2 "$RUN/lists/train_retrieval_2.txt"
    finish classifier retrieval_2_labels @classifier --snapshot_dir "$RUN/classifier_2"
}

run_pipeline tag_pipeline classifier tag_box spml_joint
