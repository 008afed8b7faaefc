"""What each of two processes does in test_several_processes: a step in float64, and trainings that one disturbs.

Arguments: a folder with `step.pth` in it, in `kinds` and in `cam`, and for results, the data folder, the list, a port
for a second group. Writes what the steps gave to `rank<r>.pth` and what each training ended with to `<rank>.json`; ends
with a mistake of the first.
"""
import atexit
import contextlib
import json
import os
import pathlib
import signal
import sys

import torch
from torch.nn.parallel import DistributedDataParallel

from spml import config as configuration
from spml.errors import SpmlError
from spml.inference.cams import CamPredictor, make_cams
from spml.inference.jobs import Job, make_prototypes
from spml.inference.trained import Trained
from spml.program import execute
from spml.training import loop, tasks
from spml.training.build import build_cam_task, build_embedding_task, train_embedding
from spml.utils import distributed

CPU = torch.device('cpu')
SETTINGS = ('train.batch_size=1', 'train.shuffle=false', 'train.max_iteration=4')


def step_in_float64(folder):
    """Make the steps of `step.pth` in a folder and save the last one's losses and gradients; return the task."""
    step = torch.load(folder / 'step.pth', weights_only=True)
    config, rank = configuration.resolve(step['config']), distributed.rank()
    build = build_cam_task if config.network.prediction_types == 'cam' else build_embedding_task
    task = build(config).double().eval()
    task.load_state_dict(step['state'])
    module, images = DistributedDataParallel(task), config.train.batch_size
    for batch in step['batches']:
        losses, extras = module({name: value[rank * images:(rank + 1) * images] for name, value in batch.items()})
        task.after_step(extras)
    total = sum(step['weights'][name] * loss for name, loss in losses.items())
    total.backward()
    torch.save({'losses': {name: loss.detach() for name, loss in losses.items()}, 'total': total.detach(),
                'gradients': {name: p.grad for name, p in task.named_parameters()}}, folder / f'rank{rank}.pth')
    return task


def on_iteration(wanted, action):
    """Call `action` at the beginning of an iteration's step, after its batch was read."""
    rate = loop.learning_rate

    def patched(iteration, *args):
        if iteration == wanted:
            action()
        return rate(iteration, *args)
    loop.learning_rate = patched
    return lambda: setattr(loop, 'learning_rate', rate)


def spoil_loss_in_rank_1():
    forward = tasks.EmbeddingTask.forward
    calls = []

    def patched(task, batch):
        losses, extras = forward(task, batch)
        calls.append(batch['name'])
        if distributed.rank() == 1 and len(calls) == 2:
            losses['sem_ann_loss'] = losses['sem_ann_loss'] * float('nan')
        return losses, extras
    tasks.EmbeddingTask.forward = patched
    return lambda: setattr(tasks.EmbeddingTask, 'forward', forward)


def outcome(config, data, data_list, folder, restore=lambda: None, **options):
    """Train and return how it ended: [type of the error, exit status, message]."""
    try:
        train_embedding(config, data, data_list, folder, CPU, **options)
    except SpmlError as error:
        return [type(error).__name__, error.exit_status, str(error)]
    except SystemExit as error:
        return ['SystemExit', error.code, '']
    finally:
        restore()
    return ['done', 0, '']


def threads():
    """Return the names of this process's threads."""
    names = []
    for path in pathlib.Path('/proc/self/task').glob('*/comm'):
        with contextlib.suppress(OSError):  # it has just ended
            names.append(path.read_text().strip())
    return names


class TakenDown:
    """Says that the interpreter is torn down."""

    def __del__(self):
        print('taken down')


def main():
    out, data, data_list = map(pathlib.Path, sys.argv[1:4])
    config = configuration.load_config(out / 'config.yaml', SETTINGS)
    torch.set_num_threads(1)
    ends = {}
    with distributed.start(CPU):
        step_in_float64(out)
        step_in_float64(out / 'kinds')
        tagger = step_in_float64(out / 'cam').float()
        first = distributed.rank() == 0

        def signalled():
            if not first:
                os.kill(os.getpid(), signal.SIGTERM)

        def damage():
            # Sample 2, which rank 0 has read in step 1 and rank 1 reads in step 2.
            (data / 'semantic' / 'c.png').write_bytes(b'junk')

        ends['once'] = outcome(config, data, data_list, out / 'once')
        ends['stopped'] = outcome(config, data, data_list, out / 'twice', on_iteration(1, signalled))
        ends['resumed'] = outcome(config, data, data_list, out / 'twice', resume=True)
        ends['spoilt'] = outcome(config, data, data_list, out / 'spoilt', spoil_loss_in_rank_1())
        ends['damaged'] = outcome(config, data, data_list, out / 'damaged', on_iteration(1, damage))

        # Inference: each takes its share of the images, and both know what is done already.
        (data / 'semantic' / 'c.png').write_bytes((data / 'semantic' / 'a.png').read_bytes())
        make_cams(Job(config, data, data_list, out / 'cams'),
                  CamPredictor(tagger.embedding, tagger.classifier, 1, CPU))
        embedder = Trained(out / 'once' / 'model-3.pth', config).embedder(CPU)
        options = (Job(config, data, data_list, out / 'prototypes'), embedder, (2, 2), False)
        make_prototypes(*options)
        distributed.gather_objects(None)
        if first:
            (out / 'prototypes' / 'semantic_prototype' / 'b.npz').unlink()
        make_prototypes(*options)
        rank, before = distributed.rank(), threads()
    ends['threads'] = before, threads()
    (out / f'{rank}.json').write_text(json.dumps(ends))
    atexit.register(print, 'cleared away')
    os.environ['MASTER_PORT'] = sys.argv[4]
    with distributed.start(CPU):
        distributed.gather_objects(None)
        raise (SpmlError('a mistake'), SystemExit(2))[rank]


if __name__ == '__main__':
    kept = TakenDown()
    execute(main)
