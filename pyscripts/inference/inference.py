r"""Predict the images of a list, by retrieval of prototypes or by the softmax head (stages 3, 4 and 7).

python pyscripts/inference/inference.py --data_dir DATA --data_list LIST --snapshot_dir CLASSIFIER --save_dir OUT \
    --predictor softmax --multi_scale --crf

python pyscripts/inference/inference.py --data_dir DATA --data_list LIST --snapshot_dir EMBEDDING --save_dir OUT \
    --predictor retrieval --semantic_memory_dir PROTOTYPES/semantic_prototype --kmeans_num_clusters 12,12

The softmax head needs the weights alone, retrieval prototypes too. The list may name images alone (a test set).
"""
import functools

from spml.inference import command
from spml.program import execute


def main():
    """Parse, build, call."""
    args = command.parse_prediction(command.build_parser(__doc__))
    return command.launch(args, functools.partial(command.predict_list, args))


if __name__ == '__main__':
    execute(main)
