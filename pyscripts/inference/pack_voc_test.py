r"""Predict a VOC test set and pack it for the evaluation server of PASCAL VOC.

python pyscripts/inference/pack_voc_test.py --data_dir DATA --data_list DATA/lists/test.txt \
    --snapshot_dir CLASSIFIER --save_dir OUT --multi_scale --crf

The options of inference.py, and what it writes; the archive follows once every image is predicted. With --pack_only
the predictions in OUT/semantic_gray, of this script or inference.py, are packed and nothing is predicted.
"""
import pathlib

from spml.errors import ConfigError
from spml.inference import command
from spml.program import execute


def main():
    """Parse, predict, pack."""
    parser = command.build_parser(__doc__, predictor='softmax')
    parser.add_argument('--competition', choices=('comp5', 'comp6'), default='comp6',
                        help='comp5: trained on VOC alone; comp6: on other data too, ImageNet for one')
    parser.add_argument('--out', type=pathlib.Path, metavar='FILE.tgz',
                        help='the archive (default: results.tgz in --save_dir)')
    parser.add_argument('--pack_only', action='store_true', help='pack what --save_dir holds, without predicting')
    args = command.parse_prediction(parser)
    out = args.out or args.save_dir / 'results.tgz'
    if out.is_dir():
        raise ConfigError(f'--out {out}: a folder; name a file, for example {out / "results.tgz"}')

    def predict_and_pack(trained, device):
        # Imported here: CRF workers import this file again, and they do without torch.
        from spml.inference.voc_results import pack_results
        from spml.utils import distributed

        if not args.pack_only:
            command.predict_list(args, trained, device)
        if distributed.rank() == 0:
            pack_results(args.data_list, args.data_dir, args.save_dir / 'semantic_gray',
                         trained.config.dataset.num_classes, args.competition, out)

    return command.launch(args, predict_and_pack)


if __name__ == '__main__':
    execute(main)
