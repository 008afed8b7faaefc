"""The command line that both trainings share: parse, build, call."""
import argparse
import pathlib

from spml.cli import arguments
from spml.utils import launch
from spml.utils.device import steady_convolutions


def run_training(doc, train, needs_embedding=False):
    """Parse the command line and call `train` with what it says, here or in the processes that are to train."""
    parser = arguments.build_parser(doc)
    arguments.add_data_arguments(parser)
    parser.add_argument('--snapshot_dir', type=pathlib.Path, required=True,
                        help='folder for snapshots, logs and config.yaml')
    parser.add_argument('--resume', action=argparse.BooleanOptionalAction, default=False,
                        help='continue from the newest complete snapshot in --snapshot_dir, if there is one')
    parser.add_argument('--accept_changes', action='store_true',
                        help='with --resume: continue even if settings, list or number of processes have changed')
    if needs_embedding:
        parser.add_argument('--embedding', type=pathlib.Path, metavar='PATH',
                            help='trained embedding, a model-*.pth or the folder of its training, used where '
                                 'network.pretrained is empty')
    arguments.add_process_argument(parser, 'one on each GPU of the key gpus, 1 without CUDA')
    args, config = arguments.parse(parser)
    steady_convolutions(config.train.precision)
    options = {'embedding': args.embedding} if needs_embedding else {}
    return launch.execute(lambda device: train(config, args.data_dir, args.data_list, args.snapshot_dir, device,
                                               args.resume, args.accept_changes, **options),
                          args.device, args.num_processes, config.gpus)
