r"""Train the embedding network from weak labels (stage 1).

python pyscripts/train/train.py --cfg_path configs/voc12/scribble.yaml --data_dir DATA --data_list LIST \
    --snapshot_dir OUT --set network.pretrained=FILE
"""
from spml.program import execute
from spml.training.build import run_training, train_embedding


def main():
    """Train."""
    return run_training(__doc__, train_embedding)


if __name__ == '__main__':
    execute(main)
