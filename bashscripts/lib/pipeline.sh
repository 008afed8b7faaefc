# shellcheck shell=bash
# What the training pipelines share: settings common to all, and the stages. A pipeline script sources this file in a
# separate bash, gives its settings, and hands a function that lists the stages in order to `run_pipeline`. Nothing runs
# while it lists. The list goes to `python -m spml.pipeline`, which replaces words such as @list and @embedding by what
# the settings mean (spml/pipeline/plan.py says how), judges what is done already, runs the rest, and owns
# processes, signals, logs and the record (run.jsonl).

# shellcheck source=bashscripts/lib/python.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"

# Common settings, each overridable from the environment. For what is not given, the configuration counts; keys
# in SET_EMBEDDING and SET_CLASSIFIER override both.
GPUS=${GPUS:-}                       # ids; what runs the network runs one process on each. Ignored without a GPU
PROCESSES=${PROCESSES:-}             # number of these processes (default: one on each GPU, one without a GPU)
BATCH=${BATCH:-}                     # images of a step of the embedding's training, all processes together
RECIPE=${RECIPE:-}                   # joint or published (default: published for voc12 and densepose, else joint)
FORCE=${FORCE:-}                     # name of a stage to run again (the later ones follow)
OVERWRITE=${OVERWRITE:-}             # 1: train again what was trained with other settings or data
CHECKPOINT=${CHECKPOINT:-}           # a model-*.pth to use in place of training the embedding
NUM_WORKERS=${NUM_WORKERS:-}         # processes for the CRF (default: what the scripts choose)
SET_EMBEDDING=${SET_EMBEDDING:-}     # blank-separated key=value overrides of the embedding's configuration
SET_CLASSIFIER=${SET_CLASSIFIER:-}   # the same for the classifier's
SET_CAM=${SET_CAM:-}                 # the same for the tag classifier's, where CAMs are made
CAM_LABELS=${CAM_LABELS---alpha 1 --threshold 0.7} # options of prepare_cam.py for these: what they are sure of
DEMO_OPTIONS=${DEMO_OPTIONS:-}       # options of make_synthetic.py for the built-in data (DATASET=demo)
NUM_CLASSES=${NUM_CLASSES:-}         # for scores and pictures (default: the configuration's)
CLASS_NAMES=${CLASS_NAMES:-}         # comma-separated, for tables and legends (default: the configuration's)
SPML_PYTHON=${SPML_PYTHON:-}         # the Python to use (default: the active environment's, else .venv's)
TAG_LIST=${TAG_LIST:-}               # list whose tags CAMs are learned from (default: TRAIN_LIST, else that of full truth)
# PRETRAINED (no default): weights to start from, a file, `torchvision`, `efficientnet_lite0` (which chooses that
# backbone as well) or `timm`; empty: random weights.

PATHS=(DATAROOT SNAPSHOT_ROOT CHECKPOINT TRAIN_LIST FULL_LIST VAL_LIST) # settings that are paths; scripts add theirs

# run_pipeline FUNCTION CLASSIFIER PUBLISHED [JOINT]: have the stages that FUNCTION lists judged, run and summed up,
# after that of the built-in data where DATASET=demo. The other words name configurations below configs/$DATASET: of
# the classifier, and of the embedding for each RECIPE.
run_pipeline() {
    local name settings
    [ $# -ge 3 ] || fail "$0: run_pipeline needs the names of configurations; end it as bashscripts/voc12/*.sh do"
    choose_python
    for name in "${PATHS[@]}"; do # made absolute; an empty one stays empty
        case ${!name:-} in '' | /*) ;; *) printf -v "$name" '%s/%s' "$PWD" "${!name}" ;; esac
    done
    settings=(DATASET RUN_NAME NUM_CLASSES CLASS_NAMES CLUSTERS RECIPE BATCH GPUS PROCESSES NUM_WORKERS FORCE OVERWRITE
        SET_EMBEDDING SET_CLASSIFIER SET_CAM CAM_LABELS DEMO_OPTIONS "${PATHS[@]}" ${PRETRAINED+PRETRAINED}
        ${PSEUDO_LABELS+PSEUDO_LABELS})
    RUN=$SNAPSHOT_ROOT/$RUN_NAME TITLE=''
    PLAN=("$(($# + 1))" configurations "$ROOT/configs/$DATASET" "${@:2}")
    [ "$DATASET" != demo ] || stage demo_data "$VAL_LIST" pyscripts/data/make_synthetic.py --out "$DATAROOT" @demo
    "$1"
    for name in "${settings[@]}"; do PLAN+=(3 setting "$name" "${!name}"); done
    exec "$SPML_PYTHON" -m spml.pipeline "$RUN" --script "$0" < <(printf '%s\0' "${PLAN[@]}")
}

# stage NAME OUTPUT SCRIPT [ARGUMENT...]: list a script of this repository as a stage that writes OUTPUT. TITLE: of its
# line in the closing table, for scores.
stage() { PLAN+=("$(($# + 2))" stage "$TITLE" "$@"); }

# ---- the stages ----

# train_embedding: not where CHECKPOINT is given.
train_embedding() {
    [ -n "$CHECKPOINT" ] || stage train_embedding "$RUN/stage1" pyscripts/train/train.py @list "$TRAIN_LIST" \
        --snapshot_dir @output @embedding
}

# own_cams LIST [OPTION...]: a classifier of the tags of TAG_LIST, the class activation maps of its images, and labels
# made from these, which LIST lists and all else learns from; options of the labels.
own_cams() {
    TRAIN_LIST=$1
    stage train_cam "$RUN/cam_classifier" pyscripts/train/train_cam.py @list "$TAG_LIST" --snapshot_dir @output @cam
    stage cams "$RUN/cams/cam_npy" pyscripts/inference/cam.py @list "$TAG_LIST" --save_dir "$RUN/cams" \
        --snapshot_dir "$RUN/cam_classifier" @cam
    stage cam_labels "$RUN/cam_labels" pyscripts/data/prepare_cam.py --cam_dir "$RUN/cams/cam_npy" @list "$TAG_LIST" \
        --save_dir @output --list_out "$TRAIN_LIST" @cam_labels @classes ${FULL_LIST:+--gt_list "$FULL_LIST"} "${@:2}"
    score cam 'labels from own CAMs (unlabelled: wrong)' cam_labels "$FULL_LIST"
}

# infer NAME TITLE OPTION...: predict the validation images into $RUN/inference_NAME and score them under TITLE; without
# truth, predict those of IMAGE_LIST.
infer() {
    stage "inference_$1" "$RUN/inference_$1" pyscripts/inference/inference.py @list "${VAL_LIST:-$IMAGE_LIST}" \
        --save_dir @output "${@:3}"
    score "$1" "$2" "inference_$1" "$VAL_LIST"
}

# pseudo_label NAME TITLE OPTION...: label the images of OWN_LIST (empty: TRAIN_LIST) into $RUN/NAME_labels, write the
# list lists/train_NAME.txt, and score the labels against the training truth under TITLE.
pseudo_label() {
    stage "$1_labels" "$RUN/$1_labels" pyscripts/inference/pseudo_label.py @list "${OWN_LIST:-$TRAIN_LIST}" \
        --save_dir @output --list_out "$RUN/lists/train_$1.txt" "${@:3}"
    score "$1" "$2" "$1_labels" "$FULL_LIST"
}

# score NAME TITLE FOLDER LIST [SCRIPT OPTION...]: score (by default: mIoU) the label maps of $RUN/FOLDER against the
# truth that LIST names, unless LIST is empty.
score() {
    [ -z "$4" ] || TITLE=$2 stage "score_$1" "$RUN/scores/score_$1.json" \
        "${5:-pyscripts/benchmark/benchmark_by_mIoU.py}" --pred_dir "$RUN/$3/semantic_gray" --gt_dir "$DATAROOT" \
        --gt_list "$4" @classes --json @output "${@:6}"
}

# train_classifier NAME LIST: a fresh head on the frozen embedding, into $RUN/NAME, from the labels of LIST.
train_classifier() {
    stage "train_$1" "$RUN/$1" pyscripts/train/train_classifier.py @list "$2" --snapshot_dir @output \
        --embedding "${CHECKPOINT:-$RUN/stage1}" @classifier
}

# picture PSEUDO_LABELS: the contact sheet of these (a folder under $RUN; empty: none) and of the final predictions.
picture() {
    stage picture "$RUN/contact_sheet.png" pyscripts/results/contact_sheet.py --data_dir "$DATAROOT" \
        --train_list "$TRAIN_LIST" ${1:+--pseudo_dir "$RUN/$1/semantic_gray"} ${FULL_LIST:+--full_list "$FULL_LIST"} \
        ${VAL_LIST:+--val_list "$VAL_LIST"} --pred_dir "$RUN/inference_final/semantic_gray" @classes --out @output
}

# embed: train the embedding, and label the validation images by retrieval from prototypes with the full truth (unless
# FULL_LIST is empty) and by the softmax head.
embed() {
    train_embedding
    if [ -n "$FULL_LIST" ]; then
        stage prototypes "$RUN/prototypes" pyscripts/inference/prototype.py @list "$FULL_LIST" --save_dir @output \
            @stage1 @clusters
        infer retrieval 'embedding, retrieval (prototypes from full truth)' @stage1 --predictor retrieval @clusters \
            --semantic_memory_dir "$RUN/prototypes/semantic_prototype"
    fi
    [ -z "$VAL_LIST" ] || infer softmax_joint 'embedding, joint softmax head' @stage1 --predictor softmax
}

# finish TITLE PSEUDO_LABELS NETWORK...: the scores of the last network and the picture that close every pipeline.
finish() {
    [ -z "$VAL_LIST" ] || infer single "$1, single scale" "${@:3}" --predictor softmax
    infer final "$1, multi scale + CRF" "${@:3}" --predictor softmax --multi_scale --crf
    picture "$2"
}

# from_labels OPTION...: what follows once there are labels; options of the pseudo labels.
from_labels() {
    embed
    pseudo_label pseudo 'pseudo labels on the training images' @stage1 "$@"
    train_classifier classifier "$RUN/lists/train_pseudo.txt"
    finish classifier pseudo_labels @classifier --snapshot_dir "$RUN/classifier"
}
