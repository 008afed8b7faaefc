r"""Make pseudo labels for the images of a list (stage 5).

python pyscripts/inference/pseudo_label.py --cfg_path configs/voc12/scribble.yaml --data_dir DATA \
    --data_list LIST --snapshot_dir RUN --save_dir OUT --source softmax_random_walk --list_out OUT/train_pseudo.txt

Scales, mirrors, walk and CRF are fixed by the source. Beside the weights, `cam_random_walk` needs --cam_dir,
`retrieval` --semantic_memory_dir and --kmeans_num_clusters, `densepose_random_walk` --kmeans_num_clusters.
Two options go beyond the release, both off by default: --tagged_classes_only and --confidence_threshold.
"""
import pathlib

from spml.cli import arguments
from spml.inference import command
from spml.inference.sources import SOURCES
from spml.program import execute


def main():
    """Parse, build, call."""
    parser = arguments.build_parser(__doc__)
    command.add_inference_arguments(parser)
    parser.add_argument('--source', choices=tuple(SOURCES), required=True,
                        help='what the scores come from: raw CAMs, the softmax head (with one step of the walk or the '
                             'whole), retrieval of prototypes, or labels propagated along the embedding')
    command.add_clustering_arguments(parser)
    command.add_memory_argument(parser)
    parser.add_argument('--cam_dir', type=pathlib.Path, help='folder of raw CAM dicts, <image name>.npy')
    parser.add_argument('--list_out', type=pathlib.Path, metavar='FILE',
                        help='write the list again with the pseudo labels as its label column')
    parser.add_argument('--tagged_classes_only', action='store_true',
                        help="retrieval: drop classes (background too) that the image's weak label lacks; pixels where "
                             'no tagged class was retrieved stay unlabelled (254)')
    parser.add_argument('--confidence_threshold', type=arguments.share, default=None, metavar='T',
                        help='leave pixels unlabelled (254) whose largest probability is below T, 0 < T <= 1: '
                             "the marginal of CRF, or without CRF the largest score over the scores' sum")
    command.add_crf_arguments(parser)
    args = parser.parse_args()
    # Imported here: CRF workers import this file again, and they do without torch.
    from spml.config import load_config
    from spml.inference import run
    from spml.utils import launch

    config = load_config(args.cfg_path, args.overrides)
    source = SOURCES[args.source]
    needed = [name for name, wanted in (('cam_dir', source.needs_cam), ('semantic_memory_dir', source.needs_memory),
                                        ('kmeans_num_clusters', source.needs_clusters)) if wanted]
    arguments.require(args, f'--source {args.source}', *needed)

    def make(device):
        checkpoint = run.checkpoint_path(config, args.snapshot_dir, args.checkpoint)
        embedder = run.build_embedder(config, checkpoint, device)
        classifier = run.build_softmax(config, embedder, checkpoint).classifier if source.needs_classifier else None
        predictor = (run.build_retrieval(config, embedder, args.semantic_memory_dir, args.kmeans_num_clusters)
                     if source.needs_memory else None)
        run.run_pseudo_labels(config, args.data_dir, args.data_list, args.save_dir, args.source,
                              command.crf_parameters(args), args.num_workers, embedder=embedder,
                              classifier=classifier, predictor=predictor, cam_dir=args.cam_dir,
                              grid=args.kmeans_num_clusters, list_out=args.list_out,
                              tagged_only=args.tagged_classes_only, threshold=args.confidence_threshold,
                              overwrite=args.overwrite)

    return launch.execute(make, args.device, args.num_processes or 1)


if __name__ == '__main__':
    execute(main)
