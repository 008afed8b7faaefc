# shellcheck shell=bash
# Settings that the pipelines on VOC 2012 share, each of which can be given in the environment. See lib/pipeline.sh for
# those of all pipelines (GPUS, FORCE, CHECKPOINT, ...).

# shellcheck source=bashscripts/lib/pipeline.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/pipeline.sh"

DATASET=${DATASET:-voc12} # voc12, or demo: the built-in data
[ "$DATASET" != demo ] || { DATAROOT=${DATAROOT:-$ROOT/snapshots/demo/data} CLUSTERS=${CLUSTERS:-6,6}; }
DATAROOT=${DATAROOT:-} # folder that holds VOC2012/ and lists/
SNAPSHOT_ROOT=${SNAPSHOT_ROOT:-$ROOT/snapshots/$DATASET}
FULL_LIST=${FULL_LIST-$DATAROOT/lists/train_full.txt} # with the full truth; empty: no oracle, no scores of labels
VAL_LIST=${VAL_LIST:-$DATAROOT/lists/val.txt}
CLUSTERS=${CLUSTERS:-12,12} # initial k-means grid of inference
