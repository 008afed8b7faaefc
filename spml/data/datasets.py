"""The training data set: one image of a list, read, augmented and turned into tensors.

The augmentation of a sample is a function of the seed and of the sample's position in the endless training stream, and
of nothing else: neither the number of workers nor a resume changes what the network sees.
"""
import dataclasses

import numpy as np
import torch
import torch.utils.data

from spml.data import transforms
from spml.data.readers import entry_tags, read_entry
from spml.errors import ConfigError, DataError

BLUR_SIGMAS = (0.1, 5.0)


@dataclasses.dataclass(eq=False)
class SegmentationDataset(torch.utils.data.Dataset):
    """Images with their weak labels for training; VOC, DensePose (`swap_parts=True`) and the built-in data alike.

    Items are asked for by `(position, index)`: the place in the training stream, from 0, and the index into the list.
    An item is a dict of

    - `image`: (3, h, w) float32, normalised RGB
    - `semantic_label`: (h, w) int64, values 0..255 as in the file, padding 255
    - `instance_label`: (h, w) int64, the same of the regions; absent without `with_regions`
    - `tags`: (256,) bool, the values present in the weak semantic label before augmentation, and the entry's own tags
    - `index`: int, `name`: str, `kind`: str, that of the label as the list says, or ''
    - `damage`: str, only where the image is damaged and could be read: what to tell the user

    A label may hold any value; what is unlabelled (`num_classes`..254) or void (255) is the consumer's business.
    DataError: an entry has no label where one is needed. ConfigError: `swap_parts` with too few classes.
    """

    entries: list  # of `spml.data.lists.Entry`
    crop_size: tuple  # (h, w) of an item; without `random_crop`, larger images lose their right and bottom
    num_classes: int  # background included
    pixel_means: tuple  # of RGB in 0..1
    pixel_stds: tuple
    random_mirror: bool  # with probability 0.5
    random_scale: bool  # uniformly in `scale_range`
    random_crop: bool
    scale_range: tuple = (0.5, 1.5)
    grey_probability: float = 0.0
    blur_probability: float = 0.0
    swap_parts: bool = False  # exchange DensePose's left and right parts in mirrored labels
    seed: int = 0
    with_regions: bool = True  # read the regions too

    def __post_init__(self):
        for entry in self.entries:
            if len(entry.fields) < 2 or (self.with_regions and entry.regions is None):
                needed = 'image semantic instance' if self.with_regions else 'image semantic'
                raise DataError(f'{entry.place}: {len(entry.fields)} fields, but training needs `{needed}`')
        if self.swap_parts and self.num_classes < 15:
            raise ConfigError(f'dataset.num_classes: {self.num_classes}, but DensePose has 15 classes; set it to 15, '
                              'or dataset.swap_parts to false')

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, key):
        position, index = key
        entry = self.entries[index]
        damage = []
        image, semantic, regions = read_entry(entry, with_regions=self.with_regions, on_damage=damage.append)
        tags = entry_tags(entry, semantic)
        labels = (semantic, regions) if self.with_regions else (semantic,)
        rng = np.random.default_rng([self.seed, position])
        image, labels = self._augment(image.astype(np.float32) / 255, labels, rng)
        names = ('semantic_label', 'instance_label')[:len(labels)]
        return {
            'image': torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            **{name: torch.from_numpy(label.astype(np.int64)) for name, label in zip(names, labels, strict=True)},
            'tags': torch.from_numpy(tags), 'index': index, 'name': entry.name,
            'kind': entry.kind or '', **({'damage': f'{entry.place}: {damage[0]}'} if damage else {})}

    def _augment(self, image, labels, rng):
        if self.random_mirror and rng.random() < 0.5:
            image, labels = transforms.mirror(image, labels)
            if self.swap_parts:
                labels = (transforms.swap_parts(labels[0]), *labels[1:])
        if self.random_scale:
            image, labels = transforms.random_scale(image, labels, self.scale_range, rng)
        image, labels = transforms.pad_to(image, labels, self.crop_size, self.pixel_means)
        if self.random_crop:
            image, labels = transforms.random_crop(image, labels, self.crop_size, rng)
        else:
            image, labels = transforms.crop(image, labels, (0, 0), self.crop_size)
        if rng.random() < self.grey_probability:
            image = transforms.to_grey(image)
        if rng.random() < self.blur_probability:
            image = transforms.blur(image, rng.uniform(*BLUR_SIGMAS))
        return transforms.normalise(image, self.pixel_means, self.pixel_stds), labels
