r"""What only a GPU can show, in eight minutes: kernels' tests, speed, resuming, and the records of a conformance kit.

python pyscripts/benchmark/gpu_check.py --out gpu_check --kit tests/conformance/kit_a

Every part is a process with a deadline. `OUT/gpu_check.json` says for each how it ended, how long it took and the end
of what it printed; `OUT/speed.json` holds the benchmark's figures. The exit status is 1 if a part fails.
"""
import pathlib
import subprocess
import sys
import time

from spml.cli import arguments
from spml.program import execute
from spml.utils.formats import write_json

ROOT = pathlib.Path(__file__).parents[2]
# Seconds that each part may take.
DEADLINES = {'kernels': 90, 'resume': 60, 'speed': 210, 'kit': 120}
# The parts of the benchmark that GPUs are held to and that fit.
STAGES = 'relations', 'image_similarity', 'kmeans', 'retrieval', 'random_walk', 'pipeline'
KIT_STAGES = 'prototype', 'inference', 'inference_softmax_msc', 'pseudo_softmax', 'train_1_process_grid'
# The checker hides GPUs from what it runs.
SHOW_GPUS = """
import os, runpy, subprocess, sys
run = subprocess.run
def shown(*args, env=None, **options):
    env = {**(env or os.environ)}
    env.pop('CUDA_VISIBLE_DEVICES', None)
    return run(*args, env=env, **options)
subprocess.run = shown
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""
# A training of four steps on made-up data, and what a resume from its second step makes of it.
RESUME = """
import pathlib, shutil, sys, tempfile
import numpy as np, torch
from PIL import Image
from spml import config as configuration
from spml.training.build import train_embedding
device, folder = torch.device(sys.argv[1]), pathlib.Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
for name, shape, high in (('a', (96, 96, 3), 256), ('label', (96, 96), 3), ('regions', (96, 96), 5)):
    Image.fromarray(rng.integers(0, high, shape).astype(np.uint8)).save(folder / f'{name}.png')
(folder / 'list.txt').write_text('a.png label.png regions.png\\n')
config = configuration.resolve({
    'dataset': {'num_classes': 3}, 'num_threads': 0,
    'network': {'backbone_types': 'panoptic_deeplab_14', 'embedding_dim': 16, 'frozen_stages': []},
    'train': {'max_iteration': 4, 'snapshot_step': 2, 'batch_size': 2, 'crop_size': [64, 64]}})
train_embedding(config, folder, folder / 'list.txt', folder / 'once', device)
shutil.copytree(folder / 'once', folder / 'twice', ignore=shutil.ignore_patterns('model-3*'))
train_embedding(config, folder, folder / 'list.txt', folder / 'twice', device, resume=True)
once, twice = (torch.load(folder / name / 'model-3.pth', weights_only=True)['embedding_model']
               for name in ('once', 'twice'))
gaps = [((once[key] - twice[key]).abs().max() / once[key].abs().max().clamp(min=1e-12)).item() for key in once]
print(f'largest difference of a weight: {max(gaps):.1e} of the largest in its tensor')
sys.exit(max(gaps) > 1e-3)
"""


def main():
    """Run the parts one after the other, write what they gave, and return the exit status."""
    parser = arguments.script_parser(__doc__)
    parser.add_argument('--out', type=pathlib.Path, required=True, metavar='DIR', help='folder for the results')
    parser.add_argument('--kit', type=pathlib.Path, metavar='DIR', help='a conformance kit (none: not run)')
    args = parser.parse_args()
    python, checker = sys.executable, ROOT / 'tests' / 'conformance' / 'check.py'
    parts = {
        'kernels': [python, '-m', 'pytest', '-q', '-x', ROOT / 'tests' / 'segsort' / 'test_kernels.py'],
        'resume': [python, '-c', RESUME, 'cuda'],
        'speed': [python, ROOT / 'pyscripts' / 'benchmark' / 'speed', '--device', 'cuda', '--stage', *STAGES,
                  '--json', args.out / 'speed.json'],
        **({'kit': [python, '-c', SHOW_GPUS, checker, args.kit, '--only', *KIT_STAGES]} if args.kit else {})}
    found = {}
    for name, command in parts.items():
        found[name] = run_part(list(map(str, command)), DEADLINES[name])
        print(f'{name}: {found[name]["ended"]} after {found[name]["seconds"]:.0f} s')
        write_json(args.out / 'gpu_check.json', found)
    return int(any(part['ended'] != 'well' for part in found.values()))


def run_part(command, deadline):
    """Run a command for at most `deadline` seconds; return how it `ended`, its `seconds` and its `output`'s end."""
    begin = time.monotonic()
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE,  # noqa: S603 - commands of this script
                              stderr=subprocess.STDOUT, timeout=deadline, check=False)
        output, ended = done.stdout, 'well' if done.returncode == 0 else f'with status {done.returncode}'
    except subprocess.TimeoutExpired as error:
        output, ended = error.stdout or b'', 'at its deadline'
    return {'ended': ended, 'seconds': time.monotonic() - begin,
            'output': output.decode(errors='replace')[-4000:].splitlines()}


if __name__ == '__main__':
    execute(main)
