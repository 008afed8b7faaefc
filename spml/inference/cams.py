"""Class activation maps of a list's images, by a trained classifier of tags (METHOD.md, "Class activation maps")."""
import dataclasses
import logging
import pathlib

import numpy as np
import torch

from spml import config as configuration
from spml.data.readers import read_entry, read_tags
from spml.inference.predictors import normalised
from spml.inference.resume import Results, describe
from spml.inference.views import bilinear, pyramid, resize_view, shrunk_size
from spml.utils import distributed
from spml.utils.files import remove_abandoned
from spml.utils.formats import write_npy
from spml.utils.memory import memory_advice

logger = logging.getLogger(__name__)

CAM_RATIOS = (0.5, 1.0, 1.5, 2.0)
FOLDER = 'cam_npy'
# A larger image is scaled down to so many pixels first: its objects are then about as large as in training, and the
# network takes less than 2 GiB however large the photo is (2.5 GiB were measured with twice as many pixels).
MOST_PIXELS = 1 << 19


@dataclasses.dataclass
class CamPredictor:
    """A tag classifier in eval mode: FeatureNetwork and CamHead, whose K classes are those from `first_class` on."""

    features: torch.nn.Module
    head: torch.nn.Module
    first_class: int
    device: torch.device

    @property
    def ingredients(self):
        """What maps depend on, see `resume.describe`."""
        return {'weights of the backbone': self.features, 'weights of the CAM head': self.head}

    @torch.inference_mode()
    def maps(self, image, classes):
        """Return the maps of some classes, a dict {class: (H, W) float32 array in 0..1}.

        The head's output at all CAM_RATIOS and their mirrors is summed, rectified, and divided by each class's maximum;
        a class without a positive value is 0 everywhere. `image` is (H, W, 3) float32, normalised.
        """
        size = image.shape[:2]
        if not len(classes):
            return {}
        image = resize_view(image, shrunk_size(size, MOST_PIXELS)).image
        channels = [index - self.first_class for index in classes]
        total = 0
        for view in pyramid(image, CAM_RATIOS, mirrors=True):
            pixels = torch.from_numpy(view.image).to(self.device).permute(2, 0, 1)[None]
            maps = self.head(self.features(pixels))[:, channels]
            total = total + bilinear(view.unmirror(maps), image.shape[:2])
        found = {}
        for index, label in enumerate(classes):  # one at a time: of a large photo, each takes much memory
            activation = bilinear(total[:, index:index + 1], size)[0, 0].relu_()
            top = activation.max()
            found[int(label)] = (activation.div_(top) if top > 0 else activation).cpu().numpy()
        return found


def make_cams(job, predictor):
    """Write `cam_npy/<name>.npy` of each image of a list, the maps of the image's tags.

    The files hold dicts {class - 1: (H, W) float32}, or {class: ...} where class 0 is no background.
    """
    config, entries = job.config, job.entries((2, 3))
    recipe = describe('CAMs', configuration.effective(config, 'cams'), predictor=predictor)
    folder = pathlib.Path(job.save_dir) / FOLDER
    results = Results(job.save_dir, recipe, lambda name: [folder / f'{name}.npy'],
                      lambda entry: [entry.image, entry.label_source, list(entry.tags)])
    empty = []
    for entry in job.remaining(results, entries):
        image, _, _ = read_entry(entry, with_semantic=False, with_regions=False)
        tags = np.flatnonzero(read_tags([entry])[0, :config.dataset.num_classes])
        tags = tags[tags >= predictor.first_class]
        with memory_advice(f'{entry.place}: {entry.image}', 'end other programs, or give --device cpu'):
            maps = predictor.maps(normalised(image, config), tags)
        empty += [f'{config.dataset.class_names[index]} in {entry.name}' for index in maps if not maps[index].any()]
        write_npy(folder / f'{entry.name}.npy', {index - predictor.first_class: maps[index] for index in maps})
        results.note(entry.name)
    empty = [text for found in distributed.gather_objects(empty) for text in found]
    if distributed.rank() == 0:
        remove_abandoned(folder)
        print(f'{len(entries)} files of CAMs: {folder}')
        if empty:
            logger.warning('%d maps are 0 everywhere, the first of %s: the classifier sees nothing of a class that the '
                           'image is said to show; train it for longer, or check the tags', len(empty), empty[0])
