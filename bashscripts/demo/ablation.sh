#!/usr/bin/env bash
# What each relation brings, on the built-in data from scribbles: cross-entropy alone, semantic annotation, and then image
# similarity, co-occurrence and feature affinity on top, one after the other. Mean and spread over the seeds, one table.
#
#     bash bashscripts/demo/ablation.sh    # SEEDS='0 1 2', SNAPSHOT_ROOT=snapshots/demo_ablation

if [ "${BASH_SOURCE:-}" != "$0" ]; then # sourced: stay out of the user's shell
    (exec bash "${BASH_SOURCE:-$0}")
    return
fi
# shellcheck source=bashscripts/demo/budget.sh
. "$(dirname "${BASH_SOURCE[0]}")/budget.sh"

FOLDER=${SNAPSHOT_ROOT:-$ROOT/snapshots/demo_ablation}
mkdir -p "$FOLDER" || fail "$FOLDER: cannot be written; set SNAPSHOT_ROOT"

# relations NAME...: overrides that switch these relations on and all others off.
relations() {
    local name
    for name in sem_ann img_sim sem_occ feat_aff; do
        case " $* " in
            *" $name "*) printf 'train.%s_loss_types=segsort ' "$name" ;;
            *) printf 'train.%s_loss_types=none ' "$name" ;;
        esac
    done
}

# Feature affinity is off in the scribble recipe; these are DensePose's values.
AFFINITY='train.feat_aff_concentration=12 train.feat_aff_loss_weight=0.5'
for seed in $SEEDS; do
    # Unquoted: each word is an override of its own.
    # shellcheck disable=SC2046
    {
        run "$FOLDER" voc12/train_spml_scribble.sh cross_entropy "$STEPS" "$seed" train.detach_softmax=false $(relations)
        run "$FOLDER" voc12/train_spml_scribble.sh ann "$STEPS" "$seed" $(relations sem_ann)
        run "$FOLDER" voc12/train_spml_scribble.sh ann_sim "$STEPS" "$seed" $(relations sem_ann img_sim)
        run "$FOLDER" voc12/train_spml_scribble.sh ann_sim_occ "$STEPS" "$seed" $(relations sem_ann img_sim sem_occ)
        run "$FOLDER" voc12/train_spml_scribble.sh ann_sim_occ_aff "$STEPS" "$seed" \
            $(relations sem_ann img_sim sem_occ feat_aff) $AFFINITY
    }
done
table "$FOLDER" --column 'joint softmax head=score_softmax_joint' --column 'classifier, single scale=score_single' \
    --column 'classifier, multi scale + CRF=score_final' --row 'cross-entropy alone=cross_entropy_{seed}' \
    --row 'semantic annotation=ann_{seed}' --row '+ image similarity=ann_sim_{seed}' \
    --row '+ co-occurrence=ann_sim_occ_{seed}' --row '+ feature affinity=ann_sim_occ_aff_{seed}'
