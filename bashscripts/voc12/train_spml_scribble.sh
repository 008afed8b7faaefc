#!/usr/bin/env bash
# SPML from scribbles on VOC 2012: train the embedding, retrieve, make pseudo labels, train the classifier, score.
#
#     DATAROOT=/data GPUS=0,1,2,3 bash bashscripts/voc12/train_spml_scribble.sh    # or: source ...
#     DATASET=demo bash bashscripts/voc12/train_spml_scribble.sh                   # the built-in data
#
# Every setting below, and those at the top of bashscripts/lib/pipeline.sh (GPUS, FORCE, CHECKPOINT, ...), can be
# given in the environment. Run again, it skips the stages that are done; FORCE=<stage> runs one, and those after it,
# again.

if [ "${BASH_SOURCE:-}" != "$0" ]; then # sourced
    # shellcheck source=bashscripts/lib/own_shell.sh
    (. "$(dirname "${BASH_SOURCE:-$0}")/../lib/own_shell.sh" "${BASH_SOURCE:-$0}")
    return
fi
# shellcheck source=bashscripts/lib/pipeline.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/pipeline.sh"

DATASET=${DATASET:-voc12} # voc12, or demo: the built-in data
[ "$DATASET" != demo ] || demo_defaults
DATAROOT=${DATAROOT:-} # folder that holds VOC2012/ and lists/
SCRIBBLE=${SCRIBBLE:-dilate_3} # or a shortened one: dilate_3_0.8, dilate_3_0.5, dilate_3_0.3
SNAPSHOT_ROOT=${SNAPSHOT_ROOT:-$ROOT/snapshots/$DATASET}
RUN_NAME=${RUN_NAME:-spml_scribble${SCRIBBLE#dilate_3}} # folder of the results under SNAPSHOT_ROOT
PRETRAINED=${PRETRAINED-$ROOT/snapshots/imagenet/trained/resnet-101-cuhk.pth} # empty: random weights
TRAIN_LIST=${TRAIN_LIST:-$DATAROOT/lists/train_scribble${SCRIBBLE#dilate_3}.txt} # with the weak labels
FULL_LIST=${FULL_LIST:-$DATAROOT/lists/train_full.txt}                           # with the full truth, for prototypes
VAL_LIST=${VAL_LIST:-$DATAROOT/lists/val.txt}
NUM_CLASSES=${NUM_CLASSES:-21}
CLUSTERS=${CLUSTERS:-12,12} # initial k-means grid of inference

prepare scribble

pipeline() {
    local retrieval=(--predictor retrieval "${CLUSTERING[@]}"
        --semantic_memory_dir "$RUN/prototypes/semantic_prototype")
    local classifier=("${CLASSIFIER_CONFIG[@]}" --snapshot_dir "$RUN/classifier" --predictor softmax)

    demo_data
    train_embedding
    make_prototypes prototypes "$FULL_LIST"
    infer retrieval 'embedding, retrieval (prototypes from full truth)' "${EMBEDDING[@]}" "${retrieval[@]}"
    infer softmax_joint 'embedding, joint softmax head' "${EMBEDDING[@]}" --predictor softmax
    pseudo_label pseudo 'pseudo labels on the training images' "${EMBEDDING[@]}" --source softmax_random_walk
    train_classifier classifier "$RUN/lists/train_pseudo.txt"
    infer single 'classifier, single scale' "${classifier[@]}"
    infer final 'classifier, multi scale + CRF' "${classifier[@]}" --multi_scale --crf
    picture pseudo_labels inference_final
}

run_pipeline pipeline
