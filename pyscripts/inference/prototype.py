r"""Make the prototypes of a list's images (stage 2).

python pyscripts/inference/prototype.py --data_dir DATA --data_list LIST --snapshot_dir EMBEDDING --save_dir OUT \
    --kmeans_num_clusters 12,12
"""
from spml.inference import command
from spml.program import execute


def main():
    """Parse, build, call."""
    parser = command.inference_parser(__doc__)
    command.add_clustering_arguments(parser, required=True)
    parser.add_argument('--multi_scale', action='store_true', help='scales 0.5, 1 and 1.5 instead of the single one')
    args = parser.parse_args()

    def make(trained, device):
        from spml.inference.jobs import make_prototypes

        make_prototypes(command.job(args, trained.config), trained.embedder(device), args.kmeans_num_clusters,
                        args.multi_scale)

    return command.launch(args, make)


if __name__ == '__main__':
    execute(main)
