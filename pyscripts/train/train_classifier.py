r"""Train the softmax classifier on pseudo labels with the embedding frozen (stage 6).

python pyscripts/train/train_classifier.py --cfg_path configs/voc12/classifier.yaml --data_dir DATA \
    --data_list LIST --snapshot_dir OUT --embedding snapshots/stage1
"""
from spml.program import execute
from spml.training.build import run_training, train_classifier


def main():
    """Train."""
    return run_training(__doc__, train_classifier, needs_embedding=True)


if __name__ == '__main__':
    execute(main)
