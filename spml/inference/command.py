"""What the inference scripts share: their options, how they start, and the prediction of a list.

Torch is imported only to do the work: CRF workers import a script again, and they do not need it.
"""
import argparse
import dataclasses
import pathlib

from spml.cli import arguments
from spml.inference.outputs import CrfParameters, Finish
from spml.names import MAX_CLUSTERS


def build_parser(doc, predictor=None):
    """Return a parser with the options of inference; `predictor` is the default of `--predictor`, None: required."""
    parser = inference_parser(doc)
    parser.add_argument('--predictor', choices=('retrieval', 'softmax'), required=predictor is None, default=predictor,
                        help='label by the nearest prototypes, or by the softmax head')
    add_clustering_arguments(parser)
    add_prototypes_argument(parser)
    parser.add_argument('--multi_scale', action='store_true', help='scales 0.5 to 1.5 and their mirrors')
    parser.add_argument('--crf', action='store_true', help='sharpen the result with DenseCRF')
    add_crf_arguments(parser)
    return parser


def inference_parser(doc):
    """Return a parser with what every inference script takes: configuration, data, weights, output."""
    parser = arguments.build_parser(doc, cfg_default='the configuration that the checkpoint carries')
    arguments.add_data_arguments(parser)
    parser.add_argument('--snapshot_dir', type=pathlib.Path,
                        help='folder of a training: its newest model-*.pth, with --cfg_path its '
                             'model-<max_iteration - 1>.pth')
    parser.add_argument('--checkpoint', type=pathlib.Path, metavar='FILE', help='weights to use instead of that file')
    parser.add_argument('--save_dir', type=pathlib.Path, required=True, help='folder for the results')
    parser.add_argument('--overwrite', action='store_true',
                        help='make every result again; by default those in --save_dir that were made from the same '
                             'files with the same weights and settings are left')
    arguments.add_process_argument(parser, '1')
    return parser


def add_clustering_arguments(parser, required=False):
    """Add the options of k-means."""
    parser.add_argument('--kmeans_num_clusters', type=cluster_grid, required=required, metavar='H,W',
                        help='initial clusters along y and x')
    parser.add_argument('--label_divisor', type=int, default=2048, metavar='N',
                        help="accepted for the release's command lines; segment ids need no divisor here")


def add_prototypes_argument(parser):
    """Add the folder of stored prototypes."""
    parser.add_argument('--semantic_memory_dir', type=pathlib.Path,
                        help='folder of the prototypes (.npz) to retrieve from')


def add_crf_arguments(parser, **defaults):
    """Add the parameters of DenseCRF, with other `defaults` where given, and its number of worker processes."""
    for field in dataclasses.fields(CrfParameters):
        parse = (arguments.bound if field.default == 0 else
                 arguments.at_least_one if field.type is int else arguments.positive)
        parser.add_argument(f'--crf_{field.name}', type=parse, metavar='N', **field.metadata,
                            default=defaults.get(field.name, field.default))
    arguments.add_workers_argument(parser, 'processes for CRF alongside the network; 0 does both in one')


def crf_parameters(args):
    """Return the CrfParameters that the options give."""
    return CrfParameters(**{field.name: getattr(args, f'crf_{field.name}')
                            for field in dataclasses.fields(CrfParameters)})


def cluster_grid(text):
    """Parse `H,W` into two positive ints (for `--kmeans_num_clusters`)."""
    try:
        height, width = (int(part) for part in text.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form H,W, for example 12,12') from None
    if height < 1 or width < 1 or height * width > MAX_CLUSTERS:
        raise argparse.ArgumentTypeError(
            f'{text!r}: both numbers must be at least 1, their product at most {MAX_CLUSTERS}')
    return height, width


def parse_prediction(parser):
    """Parse the options of a `build_parser`; SpmlError unless they hold what `--predictor` needs."""
    args = parser.parse_args()
    if args.predictor == 'retrieval':
        arguments.require(args, '--predictor retrieval', 'semantic_memory_dir', 'kmeans_num_clusters')
    return args


def launch(args, function):
    """Call `function(trained, device)` here or in the processes that the options ask for; return the exit status."""
    from spml.inference.trained import Trained
    from spml.utils import launch as launcher

    trained = Trained.from_options(args)
    return launcher.execute(lambda device: function(trained, device), args.device, args.num_processes or 1)


def job(args, config, *finish):
    """Return the Job that the options describe; `finish` is what a job of label maps has more."""
    from spml.inference.jobs import Job

    return Job(config, args.data_dir, args.data_list, args.save_dir, args.overwrite, *finish)


def predict_list(args, trained, device):
    """Predict the images of `args.data_list` and write the label maps under `args.save_dir`."""
    from spml.inference.jobs import make_predictions
    from spml.inference.predictors import SoftmaxPredictor

    embedder = trained.embedder(device)
    if args.predictor == 'softmax':
        predictor = SoftmaxPredictor(embedder, trained.classifier(device))
    else:
        predictor = trained.retrieval(embedder, args.semantic_memory_dir, args.kmeans_num_clusters)
    finish = Finish(crf_parameters(args) if args.crf else None)
    make_predictions(job(args, trained.config, finish, args.num_workers), predictor, args.multi_scale)
