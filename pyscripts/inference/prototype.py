r"""Make the prototypes of a list's images (stage 2).

python pyscripts/inference/prototype.py --cfg_path configs/voc12/scribble.yaml --data_dir DATA --data_list LIST \
    --snapshot_dir RUN --save_dir OUT --kmeans_num_clusters 12,12
"""
from spml.cli import arguments
from spml.config import load_config
from spml.inference import command, run
from spml.program import execute
from spml.utils import launch


def main():
    """Parse, build, call."""
    parser = arguments.build_parser(__doc__)
    command.add_inference_arguments(parser)
    command.add_clustering_arguments(parser, required=True)
    parser.add_argument('--multi_scale', action='store_true', help='scales 0.5, 1 and 1.5 instead of the single one')
    args = parser.parse_args()
    config = load_config(args.cfg_path, args.overrides)

    def make(device):
        embedder = run.build_embedder(config, run.checkpoint_path(config, args.snapshot_dir, args.checkpoint), device)
        run.run_prototypes(config, args.data_dir, args.data_list, args.save_dir, embedder, args.kmeans_num_clusters,
                           args.multi_scale, args.overwrite)

    return launch.execute(make, args.device, args.num_processes or 1)


if __name__ == '__main__':
    execute(main)
