# shellcheck shell=bash
# What the pipelines on VOC 2012 share: the settings below, each of which can be given in the environment, and the
# stages of every annotation that one round of pseudo labels serves. See lib/pipeline.sh for the settings of all
# pipelines (GPUS, FORCE, CHECKPOINT, ...).

# shellcheck source=bashscripts/lib/pipeline.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/pipeline.sh"

DATASET=${DATASET:-voc12} # voc12, or demo: the built-in data
[ "$DATASET" != demo ] || demo_defaults
DATAROOT=${DATAROOT:-} # folder that holds VOC2012/ and lists/
SNAPSHOT_ROOT=${SNAPSHOT_ROOT:-$ROOT/snapshots/$DATASET}
PRETRAINED=${PRETRAINED-$ROOT/snapshots/imagenet/trained/resnet-101-cuhk.pth} # or torchvision; empty: random weights
FULL_LIST=${FULL_LIST-$DATAROOT/lists/train_full.txt} # with the full truth; empty: no oracle, no scores of labels
VAL_LIST=${VAL_LIST:-$DATAROOT/lists/val.txt}
CLUSTERS=${CLUSTERS:-12,12} # initial k-means grid of inference
BATCH=${BATCH:-16}          # images of a training step, all processes together

# one_classifier: the pipeline of boxes, scribbles and points.
one_classifier() {
    demo_data
    train_embedding
    oracle_retrieval
    infer softmax_joint 'embedding, joint softmax head' "${EMBEDDING[@]}" --predictor softmax
    pseudo_label pseudo 'pseudo labels on the training images' "${EMBEDDING[@]}" --source softmax_random_walk
    train_classifier classifier "$RUN/lists/train_pseudo.txt"
    final_inference classifier
    picture pseudo_labels
}
