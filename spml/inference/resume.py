"""Which results of a list are there already (`spml.recipe`), when one or several processes make them.

Results stay as long as everything that they depend on is the same: the options, the keys of the configuration that
matter, the weights, and the content of the image's own files.
"""
import hashlib
import pathlib

import torch

from spml.names import __version__
from spml.recipe import Recipe, ResultFolder
from spml.utils import distributed
from spml.utils.files import remove_abandoned

# What folders of an earlier version hold in place of `made_with.json`.
_EARLIER = 'arguments.json'


def describe(result, settings, **parts):
    """Return the Recipe of the results that a script makes.

    Args:
        result: what is made, for example `prototypes`.
        settings: dict of the keys of the configuration that matter, as `spml.config.effective` gives them.
        parts: what else they are made with: networks, dicts of tensors, values that JSON can hold, or objects whose
            `ingredients` is a dict of these.
    """
    values, files = {'result': result, 'version': __version__, **settings}, {}
    for name, part in parts.items():
        for key, item in getattr(part, 'ingredients', {name: part}).items():
            tensors = item.state_dict() if isinstance(item, torch.nn.Module) else item
            if isinstance(tensors, dict) and all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
                files[key] = fingerprint(tensors)
            else:
                values[key] = item
    return Recipe(values, files)


def fingerprint(tensors):
    """Return a short text that identifies a dict of tensors: their names, shapes, types and values."""
    state = hashlib.blake2b(digest_size=12)
    for name, tensor in sorted(tensors.items()):
        state.update(f'{name} {tuple(tensor.shape)} {tensor.dtype}\n'.encode())
        state.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return state.hexdigest()


class Results:
    """The results of a list's images in one folder.

    Args:
        outputs: function from an image name to the paths of its results.
        inputs: function from an entry to what its results are made from: paths, and values that JSON can hold.
        exclusive: what reads the folder reads all of it, so results of images outside the list go.
    """

    def __init__(self, save_dir, recipe, outputs, inputs, exclusive=False):
        self.save_dir, self.recipe, self.exclusive = pathlib.Path(save_dir), recipe, exclusive
        self.outputs, self.inputs = outputs, inputs

    def remaining(self, entries, overwrite=False):
        """Return the entries whose results have to be made, the same in every process, and say how many are there."""
        inputs = {entry.name: self.inputs(entry) for entry in entries}
        self._folder = ResultFolder(self.save_dir, self.recipe, self.outputs, inputs.get)
        made_from = self._decide(list(inputs), overwrite) if distributed.rank() == 0 else None
        # One process decides for all: the others would see results that the first have begun to write.
        self._made_from = distributed.gather_objects(made_from)[0]
        return [entry for entry in entries if entry.name in self._made_from]

    def note(self, name):
        """Note that an image's results are complete; any process may."""
        self._folder.note(name, self._made_from[name])

    def _decide(self, names, overwrite):
        """Return dict from the name of an image whose results have to be made to the digest of its files."""
        remove_abandoned(self.save_dir)
        earlier = self.save_dir / _EARLIER
        is_earlier, is_known = earlier.is_file(), self._folder.is_begun
        todo, difference = self._folder.remaining(names, overwrite or is_earlier)
        if is_earlier:
            # Dates told what was done then; and that version may have written over what this one noted.
            earlier.unlink()
            difference = 'by an earlier version'
        # Where anything but the list changed, nobody could tell results of other images from those to be made.
        removed = self._remove_others(names) if difference or (self.exclusive and is_known) else 0
        also = f'; those of {removed} image{"s" * (removed > 1)} outside the list are removed' if removed else ''
        if difference:
            print(f'{self.save_dir}: holds results made differently ({difference}); all are made again{also}')
        elif len(todo) < len(names) or removed:
            print(f'{self.save_dir}: {len(names) - len(todo)} of {len(names)} images are done already{also}')
        return {name: self._folder.made_from[name] for name in todo}

    def _remove_others(self, names):
        """Remove the results of images outside the list; return of how many."""
        names, removed = set(names), set()
        for pattern in self.outputs('*'):
            for path in pattern.parent.glob(pattern.name):
                if path.stem not in names:
                    path.unlink()
                    removed.add(path.stem)
        return len(removed)
