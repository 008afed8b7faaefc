"""What the scripts that predict a list share: their options and the prediction itself.

Torch is imported only to predict: CRF workers import a script again, and they do without it.
"""
from spml import cli


def build_parser(description, predictor=None):
    """Return a parser with the options of inference.

    Args:
        description: text of `--help`.
        predictor: default of `--predictor`; None makes it required.
    """
    parser = cli.build_parser(description)
    cli.add_inference_arguments(parser)
    parser.add_argument('--predictor', choices=('retrieval', 'softmax'), required=predictor is None, default=predictor)
    cli.add_clustering_arguments(parser)
    cli.add_memory_argument(parser)
    parser.add_argument('--multi_scale', action='store_true', help='scales 0.5 to 1.5 and their mirrors')
    parser.add_argument('--crf', action='store_true', help='sharpen the result with DenseCRF')
    cli.add_crf_arguments(parser)
    return parser


def predict_list(args, config, device):
    """Predict the images of `args.data_list` and write the label maps under `args.save_dir`.

    Args:
        args: options of `build_parser`.
        config: the resolved configuration.
        device: this process's torch.device.

    Raises:
        SpmlError: options, weights, list or images cannot be used.
    """
    from spml.inference import run

    if args.predictor == 'retrieval':
        cli.require(args, '--predictor retrieval', 'semantic_memory_dir', 'kmeans_num_clusters')
    checkpoint = run.checkpoint_path(config, args.snapshot_dir, args.checkpoint)
    embedder = run.build_embedder(config, checkpoint, device)
    if args.predictor == 'softmax':
        predictor = run.build_softmax(config, embedder, checkpoint)
    else:
        predictor = run.build_retrieval(config, embedder, args.semantic_memory_dir, args.kmeans_num_clusters)
    run.run_inference(config, args.data_dir, args.data_list, args.save_dir, predictor, args.multi_scale,
                      cli.crf_parameters(args) if args.crf else None, args.num_workers, args.overwrite)
