"""Reading weights: this project's and the authors' checkpoints, and flat ImageNet state dicts.

The keys are those of METHOD.md, "Checkpoint keys". Files are read with `weights_only`, so nothing in them is
executed.
"""
import logging
import pathlib
import re

import torch

from spml.errors import CheckpointError

logger = logging.getLogger(__name__)

BACKBONE = 'resnet_backbone.'


def model_path(snapshot_dir, iteration):
    """Return the path of the snapshot of a zero-based iteration."""
    return pathlib.Path(snapshot_dir) / f'model-{iteration}.pth'


def newest_model(folder):
    """Return the `model-<iteration>.pth` of the highest iteration in a folder, or None."""
    found = [(int(match[1]), path) for path in pathlib.Path(folder).glob('model-*.pth')
             if (match := re.fullmatch(r'model-(\d+)\.pth', path.name))]
    return max(found)[1] if found else None


def read_checkpoint(path):
    """Return the dict stored in `path`, tensors on the CPU.

    Raises:
        CheckpointError: the file is missing, unreadable, holds code, or is not a dict.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise CheckpointError(f'{path}: no such checkpoint; train first, or name another file')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged or unsafe file; all mean the same to the user
        reason = str(error).strip().split('\n')[0][:200]
        raise CheckpointError(f'{path}: not a readable checkpoint of tensors alone ({reason}); '
                              'fetch or train it again') from None
    if not isinstance(content, dict):
        raise CheckpointError(f'{path}: holds a {type(content).__name__}, not a dict of weights; '
                              'name a model-*.pth file')
    return content


def rename_imagenet(key):
    """Return the embedding network's name for a key of a flat ImageNet state dict; other keys stay as they are."""
    if key.startswith(('conv1.', 'bn1.')):
        return f'{BACKBONE}conv1.{key}'
    return re.sub(r'^layer([1-4])\.', lambda match: f'{BACKBONE}res{int(match[1]) + 1}.', key)


def tensors(state, name, path):
    """Return a state dict without any leading `module.`, or raise CheckpointError if it is none."""
    good = isinstance(state, dict) and len(state) > 0 and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items())
    if not good:
        raise CheckpointError(f'{path}: holds no weights of the {name}; name a model-*.pth of a training that has one')
    return {key.removeprefix('module.'): value for key, value in state.items()}


def embedding_state(content, path):
    """Return the embedding's state dict out of a checkpoint's content, names translated, `module.` dropped."""
    state = tensors(content.get('embedding_model', content), 'embedding network', path)
    return {rename_imagenet(key): value for key, value in state.items()}


def classifier_state(content, path):
    """Return the softmax head's state dict out of a checkpoint's content."""
    return tensors(content.get('prediction_model'), 'softmax head', path)


def load_state(model, state, path, optional=()):
    """Copy `state` into `model` and report by name what does not fit.

    Args:
        model: a module.
        state: dict from key to tensor.
        path: where the state came from, for messages.
        optional: prefixes of keys of the model that may stay unset with a warning; any other is an error.

    Raises:
        CheckpointError: a tensor of the model that is not optional is missing or has another shape.
    """
    own = model.state_dict()
    wrong_shape = {key: (tuple(state[key].shape), tuple(value.shape)) for key, value in own.items()
                   if key in state and state[key].shape != value.shape}
    fitting = {key: value for key, value in state.items() if key in own and key not in wrong_shape}
    # Batch counters are not used, and the smoothing kernel is a constant: a file may lack both.
    unset = [key for key in own if key not in fitting and (
        key in wrong_shape or not key.endswith(('num_batches_tracked', 'smooth_kernel.weight')))]
    fatal = [key for key in unset if not key.startswith(tuple(optional))]
    if fatal:
        raise CheckpointError(f'{path}: does not fit the configured network ({_describe(fatal, wrong_shape)}); '
                              'check network.backbone_types, network.stem, network.embedding_dim and '
                              'dataset.num_classes')
    if unset:
        logger.warning('%s: these weights start at random: %s', path, _describe(unset, wrong_shape))
    unused = [key for key in state if key not in own]
    if unused:
        logger.warning('%s: not used: %s', path, _shorten(unused))
    model.load_state_dict(fitting, strict=False)


def load_embedding(model, path, lenient=False):
    """Load an embedding network's weights from `path`; with `lenient`, a head that does not fit is only a warning."""
    optional = [f'{name}.' for name, _ in model.named_children() if name != 'resnet_backbone'] if lenient else []
    load_state(model, embedding_state(read_checkpoint(path), path), path, optional)


def load_classifier(model, path):
    """Load a softmax head's weights from `path`; everything has to fit."""
    load_state(model, classifier_state(read_checkpoint(path), path), path)


def _describe(keys, wrong_shape):
    return _shorten([f'{key} has shape {wrong_shape[key][0]}, needed {wrong_shape[key][1]}' if key in wrong_shape
                     else f'{key} is missing' for key in keys], separator='; ')


def _shorten(items, most=6, separator=', '):
    more = f' and {len(items) - most} more' if len(items) > most else ''
    return separator.join(items[:most]) + more
