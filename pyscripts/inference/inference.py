r"""Predict the images of a list, by retrieval of prototypes or by the softmax head (stages 3, 4 and 7).

python pyscripts/inference/inference.py --cfg_path configs/voc12/classifier.yaml --data_dir DATA \
    --data_list LIST --snapshot_dir RUN --save_dir OUT --predictor softmax --multi_scale --crf

python pyscripts/inference/inference.py --cfg_path configs/voc12/scribble.yaml --data_dir DATA --data_list LIST \
    --snapshot_dir RUN --save_dir OUT --predictor retrieval --semantic_memory_dir PROTOTYPES/semantic_prototype \
    --kmeans_num_clusters 12,12

The softmax head needs the weights alone, retrieval prototypes too. The list may name images alone (a test set).
"""
from spml.inference import command
from spml.program import execute


def main():
    """Parse, build, call."""
    args = command.build_parser(__doc__).parse_args()
    # Imported here: CRF workers import this file again, and they do without torch.
    from spml.config import load_config
    from spml.utils import launch

    config = load_config(args.cfg_path, args.overrides)
    return launch.execute(lambda device: command.predict_list(args, config, device), args.device,
                          args.num_processes or 1)


if __name__ == '__main__':
    execute(main)
