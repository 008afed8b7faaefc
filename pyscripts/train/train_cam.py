r"""Train a classifier of image tags, whose class activation maps cam.py writes.

python pyscripts/train/train_cam.py --cfg_path configs/voc12/cam.yaml --data_dir DATA --data_list LIST \
    --snapshot_dir OUT --set network.pretrained=FILE

An image's tags are the classes in its label map and those of the fourth field of its line (`image - regions 1,15`).
Nothing else of its labels is used.
"""
from spml.program import execute
from spml.training.build import run_training, train_cam


def main():
    """Train."""
    return run_training(__doc__, train_cam)


if __name__ == '__main__':
    execute(main)
