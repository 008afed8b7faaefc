# shellcheck shell=bash
# What the training pipelines share: settings common to all, and the stages. A pipeline script sources this file in a
# separate bash, gives its settings, calls `prepare`, and hands a function that lists the stages in order to
# `run_pipeline`. The list goes to `python -m spml.pipeline`, which judges what is done already, runs the rest, and owns
# processes, signals, logs and the record (run.jsonl). Nothing runs while the function lists.

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
DEMO_OPTIONS=${DEMO_OPTIONS:-}       # options of make_synthetic.py for the built-in data (DATASET=demo)
NUM_CLASSES=${NUM_CLASSES:-}         # for scores and pictures (default: the configuration's)
CLASS_NAMES=${CLASS_NAMES:-}         # comma-separated, for tables and legends (default: the configuration's)
SPML_PYTHON=${SPML_PYTHON:-}         # the Python to use (default: the active environment's, else .venv's)
TAG_LIST=${TAG_LIST:-}               # list whose tags the CAMs are learned from (default: TRAIN_LIST, else the full truth's)
# PRETRAINED (no default): weights to start from, a file, `torchvision`, `efficientnet_lite0` (which chooses that
# backbone as well) or `timm`; empty: random weights.

# absolute NAME...: make the paths in these variables absolute; an empty one stays empty.
absolute() {
    local name
    for name in "$@"; do
        case ${!name:-} in '' | /*) ;; *) printf -v "$name" '%s/%s' "$PWD" "${!name}" ;; esac
    done
}

# set_options TEXT: set OPTIONS to a `--set` for each of the blank-separated key=value words of TEXT.
set_options() {
    local word words
    # Split at blanks without globbing: values may be lists in brackets.
    read -r -a words <<<"$1"
    OPTIONS=()
    for word in "${words[@]}"; do OPTIONS+=(--set "$word"); done
}

# head_of FILE...: what the first configuration that names a network calls its head, such as panoptic_deeplab.
head_of() { sed -n '/^ *backbone_types: *\(panoptic_[a-z]*\)_.*/{s//\1/p;q}' "$@"; }

# choose_recipe PUBLISHED JOINT: set CONFIG to the one of two configurations below configs/$DATASET that RECIPE means.
choose_recipe() {
    case $RECIPE in
        joint | published) ;;
        '')
            case $DATASET in voc12 | densepose) RECIPE=published ;; *) RECIPE=joint ;; esac
            # Of own data, as an earlier version wrote it.
            [ -f "$ROOT/configs/$DATASET/$2.yaml" ] || RECIPE=published
            ;;
        *) fail "RECIPE=$RECIPE: must be joint or published" ;;
    esac
    case $RECIPE in joint) CONFIG=$2 ;; *) CONFIG=$1 ;; esac
}

# prepare EMBEDDING CLASSIFIER [NAME...]: derive what the stages use from the settings and from the names of the two
# configurations below configs/$DATASET. NAME: variables of the script that hold paths.
prepare() {
    local configs=$ROOT/configs/$DATASET derived=() stem=() before=() classifier=$2
    [ -f "$configs/$1.yaml" ] || fail "DATASET=$DATASET: there is no $configs/$1.yaml; choose another or demo"
    # Of own data, as an earlier version wrote it: under another name, with the path of weights that nobody has.
    [ -f "$configs/$2.yaml" ] || classifier=${1}_classifier before=(--set network.pretrained=)
    [ -n "$DATAROOT" ] || fail 'DATAROOT is not set; set it to the folder that holds the data, or set DATASET=demo'
    absolute DATAROOT SNAPSHOT_ROOT CHECKPOINT TRAIN_LIST FULL_LIST VAL_LIST "${@:3}"
    SETTINGS=(DATASET DATAROOT SNAPSHOT_ROOT RUN_NAME CHECKPOINT TRAIN_LIST FULL_LIST VAL_LIST NUM_CLASSES CLASS_NAMES
        CLUSTERS RECIPE BATCH GPUS PROCESSES NUM_WORKERS FORCE OVERWRITE SET_EMBEDDING SET_CLASSIFIER SET_CAM
        DEMO_OPTIONS "${@:3}")
    RUN=$SNAPSHOT_ROOT/$RUN_NAME
    # The lists of pseudo labels name files below RUN, and blanks separate the fields of a list.
    case $RUN in *[[:blank:]]*) fail "$RUN: results cannot go to a path with blanks; set SNAPSHOT_ROOT" ;; esac
    if [ -n "${PRETRAINED+given}" ]; then
        SETTINGS+=(PRETRAINED)
        # Names instead of files, with the stem or the backbone that the weights need.
        case $PRETRAINED in
            torchvision) stem=(--set network.stem=7x7) ;;
            efficientnet_lite0) stem=(--set "network.backbone_types=$(head_of "$configs/$1.yaml" "$configs"/*.yaml)_lite0") ;;
            timm) ;;
            *) absolute PRETRAINED ;;
        esac
        derived+=(--set "network.pretrained=$PRETRAINED")
    fi
    [ -z "$BATCH" ] || derived+=(--set "train.total_batch_size=$BATCH")
    case $SPML_PYTHON in */*) absolute SPML_PYTHON ;; esac
    choose_python

    set_options "$SET_CAM"
    # Where no file of its own says how, tags are learned with the settings of the embedding.
    CAM_CONFIG=(--cfg_path "$configs/cam.yaml")
    [ -f "$configs/cam.yaml" ] || CAM_CONFIG=(--cfg_path "$configs/$1.yaml" --set network.prediction_types=cam)
    CAM_CONFIG+=("${stem[@]}" "${derived[@]}" "${OPTIONS[@]}")
    set_options "$SET_EMBEDDING"
    EMBEDDING_CONFIG=(--cfg_path "$configs/$1.yaml" "${stem[@]}" "${derived[@]}" "${OPTIONS[@]}")
    set_options "$SET_CLASSIFIER"
    CLASSIFIER_CONFIG=(--cfg_path "$configs/$classifier.yaml" "${before[@]}" "${stem[@]}" "${OPTIONS[@]}")
    # Inference from the embedding's weights takes them from a file when one is given.
    EMBEDDING=("${EMBEDDING_CONFIG[@]}" --snapshot_dir "$RUN/stage1")
    [ -z "$CHECKPOINT" ] || EMBEDDING+=(--checkpoint "$CHECKPOINT")
    CLUSTERING=(--kmeans_num_clusters "$CLUSTERS" --label_divisor 2048)
    CLASSES=("${EMBEDDING_CONFIG[@]}") # number, names and colours of the classes
    case " $SET_EMBEDDING" in *' dataset.num_classes='*) ;; *) CLASSES+=(${NUM_CLASSES:+--num_classes "$NUM_CLASSES"}) ;; esac
    case " $SET_EMBEDDING" in *' dataset.class_names='*) ;; *) CLASSES+=(${CLASS_NAMES:+--class_names "$CLASS_NAMES"}) ;; esac
}

# run_pipeline FUNCTION: have the stages that FUNCTION lists judged, run and summed up.
run_pipeline() {
    local name settings=()
    PLAN=() TITLE=''
    "$1"
    for name in "${SETTINGS[@]}"; do settings+=(3 setting "$name" "${!name}"); done
    exec "$SPML_PYTHON" -m spml.pipeline "$RUN" --script "$0" < <(printf '%s\0' "${settings[@]}" "${PLAN[@]}")
}

# stage NAME OUTPUT SCRIPT [ARGUMENT...]: list a script of this repository as a stage that writes OUTPUT. TITLE: of its
# line in the closing table, for scores.
stage() { PLAN+=("$(($# + 2))" stage "$TITLE" "$@"); }

# ---- the stages ----

# demo_data: write the built-in data set where DATASET=demo.
demo_data() {
    local options
    [ "$DATASET" = demo ] || return 0
    read -r -a options <<<"$DEMO_OPTIONS"
    stage demo_data "$VAL_LIST" pyscripts/data/make_synthetic.py --out "$DATAROOT" "${options[@]}"
}

# train_embedding: not where CHECKPOINT is given.
train_embedding() {
    [ -z "$CHECKPOINT" ] || return 0
    stage train_embedding "$RUN/stage1" pyscripts/train/train.py --data_dir "$DATAROOT" --data_list "$TRAIN_LIST" \
        --snapshot_dir "$RUN/stage1" "${EMBEDDING_CONFIG[@]}"
}

# own_lists KIND: choose TRAIN_LIST, of labels made of CAMs; and where CAM_DIR is empty, TAG_LIST, from which they are made.
own_lists() {
    if [ -n "$CAM_DIR" ]; then
        TRAIN_LIST=${TRAIN_LIST:-$DATAROOT/lists/train_$1.txt}
    else
        TAG_LIST=${TAG_LIST:-${TRAIN_LIST:-$DATAROOT/lists/train_full.txt}}
        TRAIN_LIST=$SNAPSHOT_ROOT/$RUN_NAME/lists/train_$1.txt
    fi
}

# own_cams: a classifier of the tags of TAG_LIST, and the class activation maps of its images into $RUN/cams/cam_npy.
own_cams() {
    stage train_cam "$RUN/cam_classifier" pyscripts/train/train_cam.py --data_dir "$DATAROOT" --data_list "$TAG_LIST" \
        --snapshot_dir "$RUN/cam_classifier" "${CAM_CONFIG[@]}"
    stage cams "$RUN/cams/cam_npy" pyscripts/inference/cam.py --data_dir "$DATAROOT" --data_list "$TAG_LIST" \
        --save_dir "$RUN/cams" --snapshot_dir "$RUN/cam_classifier" "${CAM_CONFIG[@]}"
}

# cam_labels LIST [OPTION...]: label the images of TAG_LIST by their CAMs into $RUN/cam_labels, write LIST with
# these labels, and score them against the training truth, if there is one.
cam_labels() {
    stage cam_labels "$RUN/cam_labels" pyscripts/data/prepare_cam.py --cam_dir "$RUN/cams/cam_npy" \
        --data_dir "$DATAROOT" --data_list "$TAG_LIST" --save_dir "$RUN/cam_labels" --list_out "$1" "${CLASSES[@]}" \
        ${FULL_LIST:+--gt_list "$FULL_LIST"} "${@:2}"
    [ -z "$FULL_LIST" ] || score score_cam 'labels from own CAMs' "$RUN/cam_labels/semantic_gray" "$FULL_LIST"
}

# oracle_retrieval: prototypes with the full truth, and the validation images labelled by retrieval from them, unless
# FULL_LIST is empty.
oracle_retrieval() {
    [ -n "$FULL_LIST" ] || return 0
    make_prototypes prototypes "$FULL_LIST"
    infer retrieval 'embedding, retrieval (prototypes from full truth)' "${EMBEDDING[@]}" --predictor retrieval \
        "${CLUSTERING[@]}" --semantic_memory_dir "$RUN/prototypes/semantic_prototype"
}

# make_prototypes NAME LIST [OPTION...]: into $RUN/NAME, from the labels of LIST.
make_prototypes() {
    stage "$1" "$RUN/$1" pyscripts/inference/prototype.py --data_dir "$DATAROOT" --data_list "$2" --save_dir "$RUN/$1" \
        "${EMBEDDING[@]}" "${CLUSTERING[@]}" "${@:3}"
}

# infer NAME TITLE OPTION...: predict the validation images into $RUN/inference_NAME and score them under TITLE; without
# truth, predict those of IMAGE_LIST.
infer() {
    stage "inference_$1" "$RUN/inference_$1" pyscripts/inference/inference.py --data_dir "$DATAROOT" \
        --data_list "${VAL_LIST:-$IMAGE_LIST}" --save_dir "$RUN/inference_$1" "${@:3}"
    [ -z "$VAL_LIST" ] || score "score_$1" "$2" "$RUN/inference_$1/semantic_gray" "$VAL_LIST"
}

# final_inference CLASSIFIER: the scores that close every pipeline, from the classifier in $RUN/CLASSIFIER.
final_inference() {
    local classifier=("${CLASSIFIER_CONFIG[@]}" --snapshot_dir "$RUN/$1" --predictor softmax)
    [ -z "$VAL_LIST" ] || infer single 'classifier, single scale' "${classifier[@]}"
    infer final 'classifier, multi scale + CRF' "${classifier[@]}" --multi_scale --crf
}

# pseudo_label NAME TITLE OPTION...: label the images of OWN_LIST (empty: TRAIN_LIST) into $RUN/NAME_labels, write the
# list lists/train_NAME.txt, and score the labels against the training truth, if there is one, under TITLE.
pseudo_label() {
    stage "$1_labels" "$RUN/$1_labels" pyscripts/inference/pseudo_label.py --data_dir "$DATAROOT" \
        --data_list "${OWN_LIST:-$TRAIN_LIST}" --save_dir "$RUN/$1_labels" --list_out "$RUN/lists/train_$1.txt" "${@:3}"
    [ -z "$FULL_LIST" ] || score "score_$1" "$2" "$RUN/$1_labels/semantic_gray" "$FULL_LIST"
}

# score_by_instance NAME: the same labels by instance, unless INST_DIR or FULL_LIST is empty.
score_by_instance() {
    [ -n "$INST_DIR" ] && [ -n "$FULL_LIST" ] || return 0
    score "score_$1_by_instance" "$1, by instance" "$RUN/$1_labels/semantic_gray" "$FULL_LIST" \
        pyscripts/benchmark/benchmark_by_instance.py --inst_dir "$INST_DIR"
}

# score NAME TITLE PREDICTIONS LIST [SCRIPT OPTION...]: score (by default: mIoU) against the truth that LIST names, into
# $RUN/scores/NAME.json.
score() {
    TITLE=$2 stage "$1" "$RUN/scores/$1.json" "${5:-pyscripts/benchmark/benchmark_by_mIoU.py}" --pred_dir "$3" \
        --gt_dir "$DATAROOT" --gt_list "$4" "${CLASSES[@]}" --json "$RUN/scores/$1.json" "${@:6}"
}

# train_classifier NAME LIST: a fresh head on the frozen embedding, into $RUN/NAME, from the labels of LIST.
train_classifier() {
    stage "train_$1" "$RUN/$1" pyscripts/train/train_classifier.py --data_dir "$DATAROOT" --data_list "$2" \
        --snapshot_dir "$RUN/$1" --embedding "${CHECKPOINT:-$RUN/stage1}" "${CLASSIFIER_CONFIG[@]}"
}

# picture PSEUDO_LABELS: the contact sheet of these (a folder under $RUN; empty: none) and of the final predictions.
picture() {
    stage picture "$RUN/contact_sheet.png" pyscripts/results/contact_sheet.py --data_dir "$DATAROOT" \
        --train_list "$TRAIN_LIST" ${1:+--pseudo_dir "$RUN/$1/semantic_gray"} ${FULL_LIST:+--full_list "$FULL_LIST"} \
        ${VAL_LIST:+--val_list "$VAL_LIST"} --pred_dir "$RUN/inference_final/semantic_gray" "${CLASSES[@]}" \
        --out "$RUN/contact_sheet.png"
}

# one_classifier: the pipeline of scribbles and points.
one_classifier() {
    demo_data
    from_labels
}

# from_labels [OPTION...]: what follows once there are labels; options of the pseudo labels.
from_labels() {
    train_embedding
    oracle_retrieval
    [ -z "$VAL_LIST" ] || infer softmax_joint 'embedding, joint softmax head' "${EMBEDDING[@]}" --predictor softmax
    pseudo_label pseudo 'pseudo labels on the training images' "${EMBEDDING[@]}" --source softmax_random_walk "$@"
    train_classifier classifier "$RUN/lists/train_pseudo.txt"
    final_inference classifier
    picture pseudo_labels
}
