r"""Predict the images of a list, by retrieval of prototypes or by the softmax head (stages 3, 4 and 7).

python pyscripts/inference/inference.py --cfg_path configs/voc12/scribble_classifier.yaml --data_dir DATA \
        --data_list LIST --snapshot_dir RUN --save_dir OUT --predictor softmax [--multi_scale] [--crf]
... --predictor retrieval --semantic_memory_dir OUT/semantic_prototype --kmeans_num_clusters 12,12
"""
from spml import cli


def main():
    """Parse, build, call."""
    parser = cli.build_parser(__doc__)
    cli.add_inference_arguments(parser)
    parser.add_argument('--predictor', choices=('retrieval', 'softmax'), required=True)
    cli.add_clustering_arguments(parser)
    cli.add_memory_argument(parser)
    parser.add_argument('--multi_scale', action='store_true', help='scales 0.5 to 1.5 and their mirrors')
    parser.add_argument('--crf', action='store_true', help='sharpen the result with DenseCRF')
    cli.add_crf_arguments(parser)
    args = parser.parse_args()
    # Imported here: CRF workers import this file again, and they do without torch.
    from spml.config import load_config
    from spml.inference import run
    from spml.utils import distributed
    from spml.utils.device import pick_device

    config = load_config(args.cfg_path, args.overrides)
    if args.predictor == 'retrieval':
        cli.require(args, '--predictor retrieval', 'semantic_memory_dir', 'kmeans_num_clusters')
    with distributed.start(pick_device(args.device)) as device:
        checkpoint = run.checkpoint_path(config, args.snapshot_dir, args.checkpoint)
        embedder = run.build_embedder(config, checkpoint, device)
        if args.predictor == 'softmax':
            predictor = run.build_softmax(config, embedder, checkpoint)
        else:
            predictor = run.build_retrieval(config, embedder, args.semantic_memory_dir, args.kmeans_num_clusters)
        run.run_inference(config, args.data_dir, args.data_list, args.save_dir, predictor, args.multi_scale,
                          cli.crf_parameters(args) if args.crf else None, args.num_workers)


if __name__ == '__main__':
    cli.run(main)
