"""What each process of test_distributed.py runs: two training steps in float64.

    torchrun --nproc_per_node=W distributed_step.py FOLDER

Reads FOLDER/step.pth, writes FOLDER/rank<r>.pth.
"""
import pathlib
import sys

import torch
from torch.nn.parallel import DistributedDataParallel

from spml import config as configuration
from spml.training.build import build_embedding_task
from spml.utils import distributed


def main(folder):
    step = torch.load(folder / 'step.pth', weights_only=True)
    config = configuration.resolve(step['config'])
    with distributed.start(torch.device('cpu')):
        task = build_embedding_task(config).double().eval()
        task.load_state_dict(step['state'])
        module = DistributedDataParallel(task)
        images = config.train.batch_size
        own = slice(distributed.rank() * images, (distributed.rank() + 1) * images)
        for batch in step['batches']:
            losses, extras = module({name: value[own] for name, value in batch.items()})
            task.after_step(extras)
        total = sum(step['weights'][name] * loss for name, loss in losses.items())
        total.backward()
        torch.save({'losses': {name: loss.detach() for name, loss in losses.items()}, 'total': total.detach(),
                    'gradients': {name: p.grad for name, p in task.named_parameters()}},
                   folder / f'rank{distributed.rank()}.pth')


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
