"""The command line that both trainings share: parse, build, call."""
import argparse
import pathlib

from spml import cli
from spml.config import load_config
from spml.utils import distributed
from spml.utils.device import pick_device


def run_training(description, train):
    """Parse the command line and call `train` with what it says.

    Args:
        description: text of `--help`.
        train: a function of `spml.training.run`.
    """
    parser = cli.build_parser(description)
    cli.add_data_arguments(parser)
    parser.add_argument('--snapshot_dir', type=pathlib.Path, required=True,
                        help='folder for snapshots, logs and config.yaml')
    parser.add_argument('--resume', action=argparse.BooleanOptionalAction, default=False,
                        help='go on from the newest complete snapshot in --snapshot_dir, if there is one')
    parser.add_argument('--accept_changes', action='store_true',
                        help='with --resume: go on even where configuration, list or number of processes have changed')
    args = parser.parse_args()
    config = load_config(args.cfg_path, args.overrides)
    with distributed.start(pick_device(args.device)) as device:
        train(config, args.data_dir, args.data_list, args.snapshot_dir, device, args.resume,
              args.accept_changes)
