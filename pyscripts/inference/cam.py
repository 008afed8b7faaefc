r"""Write the class activation maps (CAMs) of a list's images, by the classifier of tags that train_cam.py trained.

python pyscripts/inference/cam.py --data_dir DATA --data_list LIST --snapshot_dir TAG_CLASSIFIER --save_dir OUT

OUT/cam_npy/<image>.npy is a pickled dict {class - 1: H x W in 0..1} of the image's tags ({class: ...} with
dataset.background: false): the classes in its label map and those of the fourth field of its line. prepare_cam.py
and pseudo_label.py read these files.
"""
from spml.inference import command
from spml.program import execute


def main():
    """Parse, build, call."""
    args = command.inference_parser(__doc__).parse_args()

    def make(trained, device):
        from spml.inference.cams import make_cams

        make_cams(command.job(args, trained.config), trained.cam_predictor(device))

    return command.launch(args, make)


if __name__ == '__main__':
    execute(main)
