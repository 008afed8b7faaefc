"""What each of two processes does in test_cam_task: the gradient of an image of its own, and a share of the CAMs.

Arguments: a folder with `step.pth` and `config.yaml`, where results go, too; the data folder; the list.
"""
import pathlib
import sys

import torch
from torch.nn.parallel import DistributedDataParallel

from spml import config as configuration
from spml.inference.cams import CamPredictor, make_cams
from spml.inference.jobs import Job
from spml.training.build import build_cam_task
from spml.utils import distributed

CPU = torch.device('cpu')


def main():
    folder, data, data_list = map(pathlib.Path, sys.argv[1:])
    step, config = torch.load(folder / 'step.pth', weights_only=True), configuration.load_config(folder / 'config.yaml')
    torch.set_num_threads(1)
    with distributed.start(CPU):
        rank = distributed.rank()
        task = build_cam_task(config).double().eval()
        task.load_state_dict(step['state'])
        module = DistributedDataParallel(task)
        losses, _ = module({name: value[rank:rank + 1] for name, value in step['batch'].items()})
        losses['tag_loss'].backward()
        gradients = {name: p.grad for name, p in task.named_parameters()}
        torch.save({'loss': losses['tag_loss'].item(), 'gradients': gradients}, folder / f'rank{rank}.pth')
        task.float()
        make_cams(Job(config, data, data_list, folder / 'cams'), CamPredictor(task.embedding, task.classifier, 1, CPU))


if __name__ == '__main__':
    main()
