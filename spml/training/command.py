"""The command line that both trainings share: parse, build, call."""
import argparse
import pathlib

from spml.cli import arguments
from spml.utils import launch
from spml.utils.device import steady_convolutions
from spml.utils.model_files import weights_path


def run_training(doc, train):
    """Parse the command line and call `train` with what it says.

    With several GPUs configured, or `--num_processes`, this process only starts those that train.

    Args:
        doc: the script's docstring.
        train: a function of `spml.training.run`.
    """
    parser = arguments.build_parser(doc)
    arguments.add_data_arguments(parser)
    parser.add_argument('--snapshot_dir', type=pathlib.Path, required=True,
                        help='folder for snapshots, logs and config.yaml')
    parser.add_argument('--resume', action=argparse.BooleanOptionalAction, default=False,
                        help='go on from the newest complete snapshot in --snapshot_dir, if there is one')
    parser.add_argument('--accept_changes', action='store_true',
                        help='with --resume: go on even where settings, list or number of processes have changed')
    arguments.add_process_argument(parser, 'one on each GPU of the key gpus, 1 without CUDA')
    parser.add_argument('--embedding', type=pathlib.Path, metavar='PATH',
                        help='of a classifier: model-*.pth, or folder of the training, of the embedding where '
                             'network.pretrained is empty')
    args, config = arguments.parse(parser)
    if args.embedding and not config.network.pretrained:
        config.network.pretrained = str(weights_path(args.embedding))
    steady_convolutions(config.train.precision)
    return launch.execute(lambda device: train(config, args.data_dir, args.data_list, args.snapshot_dir, device,
                                           args.resume, args.accept_changes),
                      args.device, args.num_processes, config.gpus)
