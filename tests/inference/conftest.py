"""A place in which jobs of inference run on small data, with networks of one layer."""
import dataclasses
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from spml.inference.jobs import Job, make_predictions, make_prototypes, make_pseudo_labels
from spml.inference.outputs import Finish
from spml.inference.predictors import Embedder, RetrievalPredictor, SoftmaxPredictor

NAMES = ['a', 'b', 'c']


class Light(torch.nn.Conv2d):
    """An embedding network of one layer."""

    embedding_dim = 8

    def forward(self, images, resize_as_input):
        assert resize_as_input
        return super().forward(images)


@dataclasses.dataclass
class Place:
    """A data set, networks, and jobs that work on them."""

    folder: pathlib.Path
    data: object
    make_config: object
    capsys: object

    def __post_init__(self):
        maps = 'semantic_gray', 'semantic_color'
        # What a job writes last and first for each image.
        self.kinds = {'prototypes': ('semantic_prototype', 'semantic_cluster'), 'predictions': maps,
                      'pseudo_labels': maps}
        self.out = self.folder / 'out'
        self.embedder = self.new_embedder()
        self.head = torch.nn.Conv2d(8, 3, 1)
        self.prototypes = torch.nn.functional.normalize(torch.randn(30, 8), dim=1)

    @staticmethod
    def new_embedder():
        return Embedder(Light(3, 8, 1), (32, 32), (16, 16), torch.device('cpu'))

    def retrieval(self, grid=(2, 2)):
        return RetrievalPredictor(self.embedder, self.prototypes, torch.arange(30) % 3, 3, grid, 2)

    def make(self, what, *overrides, grid=(2, 2), multi_scale=False, retrieval=False, source='softmax', cam_dir=None,
             list_out=None, tagged_only=False, crf=None, threshold=None, keep_labels=False, normalise=None,
             **options):
        """Do a job and return the names of the images whose results it wrote; `said` keeps what it printed."""
        paths = {name: self.path(self.kinds[what][0], name) for name in NAMES}
        before = {name: _identity(path) for name, path in paths.items()}
        job = Job(self.make_config(*overrides), self.data.folder, self.data.list, self.out,
                  finish=Finish(crf, threshold), **options)
        self.capsys.readouterr()
        if what == 'prototypes':
            make_prototypes(job, self.embedder, grid, multi_scale)
        elif what == 'predictions':
            predictor = self.retrieval(grid) if retrieval else SoftmaxPredictor(self.embedder, self.head)
            make_predictions(job, predictor, multi_scale)
        else:
            parts = {'embedder': self.embedder, 'classifier': self.head, 'predictor': self.retrieval(), 'grid': grid,
                     'tagged_only': tagged_only, **({'normalise': normalise} if normalise else {})}
            make_pseudo_labels(job, source, parts, cam_dir, list_out, keep_labels)
        self.said = self.capsys.readouterr().out
        return [name for name, path in paths.items() if path.exists() and _identity(path) != before[name]]

    def path(self, kind, name):
        return self.out / kind / f'{name}.{"npz" if kind == "semantic_prototype" else "png"}'

    def read(self, kind, name):
        """A picture of the data set or of the results."""
        folder = self.data.folder if kind in ('image', 'semantic', 'instance') else self.out
        return np.array(Image.open(folder / kind / f'{name}.png'))


def _identity(path):
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


@pytest.fixture
def place(tmp_path, small_data, small_config, capsys):
    return Place(tmp_path, small_data, small_config, capsys)
