# shellcheck shell=bash
# What the training pipelines share: settings common to all, running stages, and the stages themselves.
#
# A pipeline script sources this file in a bash of its own, gives its settings, calls `prepare CONFIG_NAME`, and hands a
# function that calls the stages below in order to `run_pipeline`. That function is called twice: first to list the
# stages (so that they can be counted, and FORCE and changed settings checked), then to run them.

# shellcheck source=bashscripts/lib/python.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/python.sh"
# shellcheck source=bashscripts/lib/stages.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/stages.sh"

# Common settings, each overridable from the environment.
GPUS=${GPUS:-${CUDA_VISIBLE_DEVICES-0}}  # ids; what runs the network runs one process on each. Ignored without a GPU
PROCESSES=${PROCESSES:-}                 # number of these processes (default: one on each GPU, one without a GPU)
FORCE=${FORCE:-}                         # name of a stage to run again (the later ones follow)
OVERWRITE=${OVERWRITE:-}                 # 1: settings may differ from those of the run that stands in this folder
CHECKPOINT=${CHECKPOINT:-}               # a model-*.pth to use in place of training the embedding
NUM_WORKERS=${NUM_WORKERS:-}             # processes for the CRF (default: what the scripts choose)
SET_EMBEDDING=${SET_EMBEDDING:-}         # blank-separated key=value overrides of the embedding's configuration
SET_CLASSIFIER=${SET_CLASSIFIER:-}       # the same for the classifier's
DEMO_OPTIONS=${DEMO_OPTIONS:-}           # options of make_synthetic.py for the built-in data (DATASET=demo)
NUM_CLASSES=${NUM_CLASSES:-}             # for scores and pictures (default: the configuration's)
CLASS_NAMES=${CLASS_NAMES:-}             # comma-separated, for tables and legends (default: the configuration's)
SPML_PYTHON=${SPML_PYTHON:-}             # the Python to use (default: the active environment's, else .venv's)

# ---- preparing ----

# demo_defaults: the settings that differ on the built-in data, unless they are given.
demo_defaults() {
    DATAROOT=${DATAROOT:-$ROOT/snapshots/demo/data}
    PRETRAINED=${PRETRAINED-}
    CLUSTERS=${CLUSTERS:-6,6}
    BATCH=${BATCH:-8}
}

# absolute NAME...: make the paths in these variables absolute; an empty one stays empty.
absolute() {
    local name
    for name in "$@"; do
        case ${!name} in
            '' | /*) ;;
            *) printf -v "$name" '%s/%s' "$PWD" "${!name}" ;;
        esac
    done
}

# require NAME...: fail unless the file named by each variable is there.
require() {
    local name
    for name in "$@"; do
        [ -f "${!name}" ] || fail "$name=${!name}: no such file; set $name, or DATAROOT for all lists, to where it is"
    done
}

# choose_devices: show the GPUs named in GPUS to Python and set PROCESS_OPTION, the number of processes for a script.
choose_devices() {
    local visible wanted
    export CUDA_VISIBLE_DEVICES=$GPUS
    visible=$("$SPML_PYTHON" -c 'import torch; print(torch.cuda.device_count(), "PyTorch", torch.__version__)') || fail \
        "$SPML_PYTHON cannot import torch; run \`bash bashscripts/setup.sh\` first"
    VERSIONS=${visible#* } visible=${visible%% *}
    wanted=1
    [ "$visible" -eq 0 ] || wanted=$(($(printf '%s' "$GPUS" | tr -cd , | wc -c) + 1))
    wanted=${PROCESSES:-$wanted}
    [ "$visible" -eq 0 ] || [ "$visible" -ge "$wanted" ] ||
        fail "GPUS=$GPUS: only $visible of these GPUs can be used, but $wanted processes are to run; name others"
    PROCESS_OPTION=(--num_processes "$wanted")
}

# set_options TEXT: set OPTIONS to a `--set` for each of the blank-separated key=value words of TEXT.
set_options() {
    local word words
    # Split at blanks without globbing: values may be lists in brackets.
    read -r -a words <<<"$1"
    OPTIONS=()
    for word in "${words[@]}"; do OPTIONS+=(--set "$word"); done
}

# prepare CONFIG_NAME [NAME...]: check the settings and derive what the stages use. Reads DATASET, DATAROOT,
# SNAPSHOT_ROOT, RUN_NAME, PRETRAINED, BATCH, the lists and the common settings, and those in the variables NAME, the
# paths that the script has beside these.
prepare() {
    local configs=$ROOT/configs/$DATASET name=$1
    local classifier=$configs/classifier.yaml
    case $name in densepose_*) classifier=$configs/densepose_classifier.yaml ;; esac
    # A folder that prepare_custom.py wrote before there was one classifier.yaml.
    [ -f "$classifier" ] || classifier=$configs/${name}_classifier.yaml
    [ -f "$configs/$name.yaml" ] || fail "DATASET=$DATASET: there is no $configs/$name.yaml; choose another or demo"
    [ -n "$DATAROOT" ] || fail 'DATAROOT is not set; set it to the folder that holds the data, or set DATASET=demo'
    case $BATCH in '' | 0* | *[!0-9]*) fail "BATCH=$BATCH: not a whole number greater than 0" ;; esac
    case $PROCESSES in 0* | *[!0-9]*) fail "PROCESSES=$PROCESSES: not a whole number greater than 0" ;; esac
    SETTINGS=(DATASET DATAROOT SNAPSHOT_ROOT RUN_NAME PRETRAINED CHECKPOINT TRAIN_LIST FULL_LIST VAL_LIST NUM_CLASSES
        CLASS_NAMES CLUSTERS BATCH GPUS SET_EMBEDDING SET_CLASSIFIER DEMO_OPTIONS "${@:2}")
    absolute DATAROOT SNAPSHOT_ROOT CHECKPOINT TRAIN_LIST FULL_LIST VAL_LIST "${@:2}"
    # torchvision: no file, but its weights for the stem that they need.
    local stem=()
    if [ "$PRETRAINED" = torchvision ]; then stem=(--set network.stem=7x7); else absolute PRETRAINED; fi
    case $SPML_PYTHON in */*) absolute SPML_PYTHON ;; esac
    if [ "$DATASET" != demo ]; then
        require TRAIN_LIST VAL_LIST ${FULL_LIST:+FULL_LIST}
    fi
    if [ -n "$CHECKPOINT" ]; then
        require CHECKPOINT
    elif [ -n "$PRETRAINED" ] && [ "$PRETRAINED" != torchvision ]; then
        require PRETRAINED
    fi
    RUN=$SNAPSHOT_ROOT/$RUN_NAME
    # The lists of pseudo labels name files below RUN, and blanks separate the fields of a list.
    case $RUN in *[[:blank:]]*) fail "$RUN: results cannot stand under a name with blanks; set SNAPSHOT_ROOT" ;; esac
    choose_python
    choose_devices

    set_options "$SET_EMBEDDING"
    EMBEDDING_CONFIG=(--cfg_path "$configs/$name.yaml" "${stem[@]}" "${OPTIONS[@]}")
    set_options "$SET_CLASSIFIER"
    CLASSIFIER_CONFIG=(--cfg_path "$classifier" "${stem[@]}" "${OPTIONS[@]}")
    # Inference from the embedding's weights takes them from a file when one is given.
    EMBEDDING=("${EMBEDDING_CONFIG[@]}" --snapshot_dir "$RUN/stage1")
    [ -z "$CHECKPOINT" ] || EMBEDDING+=(--checkpoint "$CHECKPOINT")
    CLUSTERING=(--kmeans_num_clusters "$CLUSTERS" --label_divisor 2048)
    CLASSES=("${EMBEDDING_CONFIG[@]}") # number, names and colours of the classes
    [ -z "$NUM_CLASSES" ] || CLASSES+=(--num_classes "$NUM_CLASSES")
    [ -z "$CLASS_NAMES" ] || CLASSES+=(--class_names "$CLASS_NAMES")
    WORKERS=()
    [ -z "$NUM_WORKERS" ] || WORKERS=(--num_workers "$NUM_WORKERS")
}

# ---- the stages ----

# last_model FOLDER: print the model-<iteration>.pth of the highest iteration.
last_model() {
    local file number best=-1
    for file in "$1"/model-*.pth; do
        number=${file##*/model-}
        number=${number%.pth}
        case $number in '' | *[!0-9]*) continue ;; esac
        [ "$((10#$number))" -le "$best" ] || best=$((10#$number))
    done
    printf '%s/model-%s.pth\n' "$1" "$best"
}

# demo_data: write the built-in data set where DATASET=demo.
demo_data() {
    local options
    [ "$DATASET" = demo ] || return 0
    read -r -a options <<<"$DEMO_OPTIONS"
    stage demo_data "$VAL_LIST" pyscripts/data/make_synthetic.py --out "$DATAROOT" "${options[@]}"
}

# train_embedding: from ImageNet weights, or random ones where PRETRAINED is empty; not where CHECKPOINT is given.
train_embedding() {
    [ -z "$CHECKPOINT" ] || return 0
    local total=(--set "train.total_batch_size=$BATCH")
    case " $SET_EMBEDDING" in *' train.batch_size='*) total=() ;; esac # the user's own word counts
    stage train_embedding "$RUN/stage1" pyscripts/train/train.py --data_dir "$DATAROOT" --data_list "$TRAIN_LIST" \
        --snapshot_dir "$RUN/stage1" "${EMBEDDING_CONFIG[@]}" --set "network.pretrained=$PRETRAINED" "${total[@]}" \
        "${PROCESS_OPTION[@]}"
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
    stage "$1" "$RUN/$1/semantic_prototype" pyscripts/inference/prototype.py --data_dir "$DATAROOT" --data_list "$2" \
        --save_dir "$RUN/$1" "${EMBEDDING[@]}" "${CLUSTERING[@]}" "${@:3}" "${PROCESS_OPTION[@]}"
}

# infer NAME TITLE OPTION...: predict the validation images into $RUN/inference_NAME and score them under TITLE.
infer() {
    local name=$1 title=$2
    shift 2
    stage "inference_$name" "$RUN/inference_$name" pyscripts/inference/inference.py --data_dir "$DATAROOT" \
        --data_list "$VAL_LIST" --save_dir "$RUN/inference_$name" "$@" "${WORKERS[@]}" "${PROCESS_OPTION[@]}"
    score "score_$name" "$title" "$RUN/inference_$name/semantic_gray" "$VAL_LIST"
}

# final_inference CLASSIFIER: the scores that close every pipeline, from the classifier in $RUN/CLASSIFIER.
final_inference() {
    local classifier=("${CLASSIFIER_CONFIG[@]}" --snapshot_dir "$RUN/$1" --predictor softmax)
    infer single 'classifier, single scale' "${classifier[@]}"
    infer final 'classifier, multi scale + CRF' "${classifier[@]}" --multi_scale --crf
}

# pseudo_label NAME TITLE OPTION...: label the training images into $RUN/NAME_labels, write the list
# lists/train_NAME.txt, and score the labels against the training truth, if there is one, under TITLE.
pseudo_label() {
    local name=$1 title=$2 output=$RUN/$1_labels
    shift 2
    stage "${name}_labels" "$output" pyscripts/inference/pseudo_label.py --data_dir "$DATAROOT" \
        --data_list "$TRAIN_LIST" --save_dir "$output" --list_out "$RUN/lists/train_$name.txt" "$@" "${WORKERS[@]}" \
        "${PROCESS_OPTION[@]}"
    [ -z "$FULL_LIST" ] || score "score_$name" "$title" "$output/semantic_gray" "$FULL_LIST"
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
    stage "$1" "$RUN/scores/$1.json" "${5:-pyscripts/benchmark/benchmark_by_mIoU.py}" --pred_dir "$3" \
        --gt_dir "$DATAROOT" --gt_list "$4" "${CLASSES[@]}" --json "$RUN/scores/$1.json" "${@:6}"
    [ -n "$PLANNING" ] || SCORES+=(--score "$1=$2")
}

# train_classifier NAME LIST: a fresh head on the frozen embedding, into $RUN/NAME, from the labels of LIST.
train_classifier() {
    local weights=$CHECKPOINT
    [ -n "$weights" ] || weights=$(last_model "$RUN/stage1")
    stage "train_$1" "$RUN/$1" pyscripts/train/train_classifier.py --data_dir "$DATAROOT" --data_list "$2" \
        --snapshot_dir "$RUN/$1" "${CLASSIFIER_CONFIG[@]}" --set "network.pretrained=$weights"
}

# picture PSEUDO_LABELS: the contact sheet of these (a folder under $RUN; empty: none) and of the final predictions.
picture() {
    stage picture "$RUN/contact_sheet.png" pyscripts/results/contact_sheet.py --data_dir "$DATAROOT" \
        --train_list "$TRAIN_LIST" ${1:+--pseudo_dir "$RUN/$1/semantic_gray"} ${FULL_LIST:+--full_list "$FULL_LIST"} \
        --val_list "$VAL_LIST" --pred_dir "$RUN/inference_final/semantic_gray" "${CLASSES[@]}" \
        --out "$RUN/contact_sheet.png"
}
