#!/usr/bin/env bash
# From a fresh clone to a mIoU table: set up what is missing, then run the scribble pipeline on the built-in data.
#
#     bash bashscripts/quickstart.sh
#
# The pipeline's settings (see bashscripts/voc12/train_spml_scribble.sh) can be given in the environment. It starts from
# ImageNet weights that come with the installation, unless PRETRAINED says otherwise (empty: random ones of ResNet-14,
# which take twice as long). Run again, it skips what is done.

if [ "${BASH_SOURCE:-}" != "$0" ]; then # sourced: stay out of the user's shell
    (exec bash "${BASH_SOURCE:-$0}")
    return
fi
here=$(dirname "${BASH_SOURCE[0]}")

bash "$here/setup.sh" || exit
DATASET=demo PRETRAINED=${PRETRAINED-efficientnet_lite0} exec bash "$here/voc12/train_spml_scribble.sh"
