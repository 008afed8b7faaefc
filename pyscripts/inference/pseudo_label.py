r"""Make pseudo labels for the images of a list (stage 5).

python pyscripts/inference/pseudo_label.py --data_dir DATA --data_list LIST --snapshot_dir EMBEDDING --save_dir OUT \
    --source softmax_random_walk --list_out OUT/train_pseudo.txt

Scales, mirrors, walk and CRF are fixed by the source. Some options go beyond the release, all off by default:
--tagged_classes_only, --confidence_threshold, --keep_labels and --normalise. CRF computes all classes without a score
as one, which changes rounding alone (--crf_merge_below 0: each by itself).
"""
import pathlib

from spml.cli import arguments
from spml.inference import command
from spml.inference.outputs import CLIP, Finish
from spml.inference.sources import NORMALISATIONS, SOURCES, normalisation
from spml.program import execute


def build_parser():
    """Return the parser of the options; a pipeline asks it before its first stage."""
    parser = command.inference_parser(__doc__)
    sources = '; '.join(f'{name}: {source.help}' for name, source in SOURCES.items())
    parser.add_argument('--source', choices=tuple(SOURCES), required=True, help=f'what the scores come from. {sources}')
    command.add_clustering_arguments(parser)
    command.add_prototypes_argument(parser)
    parser.add_argument('--cam_dir', type=pathlib.Path, help='folder of raw CAM dicts, <image name>.npy')
    parser.add_argument('--list_out', type=pathlib.Path, metavar='FILE',
                        help='write the list again with the pseudo labels as its label column')
    parser.add_argument('--tagged_classes_only', action='store_true',
                        help="retrieval: drop classes (background too) that the image's weak label does not contain; "
                             'pixels where no tagged class was retrieved stay unlabelled (254)')
    parser.add_argument('--confidence_threshold', type=arguments.share, default=None, metavar='T',
                        help='leave pixels unlabelled (254) whose largest probability is below T, 0 < T <= 1: '
                             "the marginal of CRF, or without CRF the largest score over the scores' sum")
    parser.add_argument('--keep_labels', action='store_true',
                        help='pixels that the weak label gives a class, or calls void, keep it; give the list of your '
                             'own labels. Images of the kind mask keep their label altogether')
    parser.add_argument('--normalise', choices=(*NORMALISATIONS, 'auto'), default='class',
                        help="what the softmax sources divide an image's scores of each class by: their maximum (the "
                             'default), so that small classes are not lost; the root of that; nothing. auto: nothing '
                             'where the data have no background (dataset.background), else their maximum')
    # Classes that the weak label does not contain have no scores: what is computed of them together is exact.
    command.add_crf_arguments(parser, merge_below=CLIP)
    return parser


def main():
    """Parse, build, call."""
    args = build_parser().parse_args()
    source = SOURCES[args.source]
    arguments.require(args, f'--source {args.source}', *source.options)

    def make(trained, device):
        # Imported here: CRF workers import this file again, and they do without torch.
        from spml.inference.jobs import make_pseudo_labels

        parts = {'embedder': trained.embedder(device), 'grid': args.kmeans_num_clusters,
                 'tagged_only': args.tagged_classes_only}
        if 'classifier' in source.takes:
            parts['classifier'] = trained.classifier(device)
        if 'predictor' in source.takes:
            parts['predictor'] = trained.retrieval(parts['embedder'], args.semantic_memory_dir, parts['grid'])
        normalise = normalisation(args.normalise, trained.config.dataset.background)
        if normalise != 'class':
            parts['normalise'] = normalise
        finish = Finish(command.crf_parameters(args), args.confidence_threshold)
        job = command.job(args, trained.config, finish, args.num_workers)
        make_pseudo_labels(job, args.source, parts, args.cam_dir, args.list_out, args.keep_labels)

    return command.launch(args, make)


if __name__ == '__main__':
    execute(main)
