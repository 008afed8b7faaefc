"""The sources of pseudo labels, an entry each (METHOD.md, "Pseudo labels").

An entry names a function and what it takes. The options that a source requires, the files of an image that it reads,
the list that it needs and the call all follow from that. No torch in here, for the sake of the CRF workers.
"""
import dataclasses

from spml.data.cam_labels import cam_path

# What the softmax head's scores of a class are divided by in an image: their maximum, its root, or nothing.
NORMALISATIONS = ('class', 'root', 'none')


def normalisation(choice, background):
    """Return one of NORMALISATIONS; `auto` is what was better in our measurements (BENCHMARKS.md).

    That is `class` with a background, which is larger than what lies on it, and `none` where all classes are alike.
    """
    if choice != 'auto':
        return choice
    return 'class' if background else 'none'


# The options that have to be given for something that a source takes.
_OPTIONS = {'cams': ('cam_dir',), 'predictor': ('semantic_memory_dir', 'kmeans_num_clusters'),
            'grid': ('kmeans_num_clusters',)}


@dataclasses.dataclass(frozen=True)
class Source:
    """Where pseudo labels come from.

    What the function takes is, of the networks: `embedder`, `classifier` (the softmax head), `predictor` (retrieval of
    prototypes); of an image: `image`, `label` (the weak one), `tags`, `regions` (the over-segmentation), `cams`;
    settings: `num_classes`, `background`, `grid` and `iterations` of k-means, `tagged_only`, `normalise`, `walk_cells`,
    `max_pixels`. What has a default may be left out.
    """

    title: str  # what the scores are, for the help
    function: str  # name of the function in `spml.inference.pseudo_labels`
    takes: tuple  # names of its arguments
    crf: bool = True  # whether DenseCRF follows
    keeps_void: bool = False  # whether the weak label's void is written back as 255

    @property
    def options(self):
        """The options that have to be given, by the names of their attributes."""
        return tuple(dict.fromkeys(option for name in self.takes for option in _OPTIONS.get(name, ())))

    @property
    def help(self):
        """Title and required options, for the help."""
        return self.title + (f' (needs {" and ".join(f"--{name}" for name in self.options)})' if self.options else '')

    def made_from(self, entry, cam_dir):
        """Return what an image's pseudo label is made from: the paths of its files, and tags that its line gives."""
        cams, regions = ([path] if name in self.takes else []
                         for name, path in (('cams', cam_dir and cam_path(cam_dir, entry)),
                                            ('regions', entry.regions)))
        return [entry.image, entry.label_source, *regions, *cams, *([entry.tags] if entry.tags else [])]

    def __call__(self, values):
        """Return the Prediction for an image, given a dict that holds at least what the source takes."""
        from spml.inference import pseudo_labels

        return getattr(pseudo_labels, self.function)(**{name: values[name] for name in self.takes if name in values})


SOURCES = {
    'cam_random_walk': Source('raw CAMs', 'cam_random_walk',
                              ('embedder', 'image', 'cams', 'num_classes', 'background', 'walk_cells')),
    'softmax': Source('the softmax head, with one step of the walk', 'softmax_once',
                      ('embedder', 'classifier', 'image', 'tags', 'normalise', 'walk_cells'), crf=False),
    'softmax_random_walk': Source('the softmax head, with the whole walk', 'softmax_random_walk',
                                  ('embedder', 'classifier', 'image', 'tags', 'normalise', 'walk_cells')),
    'retrieval': Source('retrieval of prototypes', 'retrieval',
                        ('predictor', 'image', 'tags', 'tagged_only', 'max_pixels')),
    'densepose_random_walk': Source('labels propagated along the embedding', 'densepose_random_walk',
                                    ('embedder', 'image', 'label', 'regions', 'tags', 'num_classes', 'grid',
                                     'iterations', 'walk_cells'),
                                    keeps_void=True),
}
