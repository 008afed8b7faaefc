r"""Train the embedding network from weak labels (stage 1).

python pyscripts/train/train.py --cfg_path configs/voc12/scribble.yaml --data_dir DATA --data_list LIST \
        --snapshot_dir OUT [--set network.pretrained=FILE] [--resume]
"""
import argparse
import pathlib

from spml import cli
from spml.config import load_config
from spml.training.run import train_embedding
from spml.utils import distributed
from spml.utils.device import pick_device


def main():
    """Parse, build, call."""
    parser = cli.build_parser(__doc__)
    cli.add_data_arguments(parser)
    parser.add_argument('--snapshot_dir', type=pathlib.Path, required=True,
                        help='folder for snapshots, logs and config.yaml')
    parser.add_argument('--resume', action=argparse.BooleanOptionalAction, default=False,
                        help='go on from the newest complete snapshot in --snapshot_dir, if there is one')
    args = parser.parse_args()
    config = load_config(args.cfg_path, args.overrides)
    with distributed.start(pick_device(args.device)) as device:
        train_embedding(config, args.data_dir, args.data_list, args.snapshot_dir, device, args.resume)


if __name__ == '__main__':
    cli.run(main)
