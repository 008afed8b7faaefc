"""Loading weights: this project's and the authors' checkpoints, and flat ImageNet state dicts.

The keys are those of METHOD.md, "Checkpoint keys".
"""
import logging

import torch

from spml.errors import CheckpointError
from spml.models.files import read_checkpoint

logger = logging.getLogger(__name__)


def tensors(state, name, path):
    """Return a state dict without any leading `module.`, or raise CheckpointError if it is not one."""
    good = isinstance(state, dict) and len(state) > 0 and all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items())
    if not good:
        raise CheckpointError(f'{path}: holds no weights of the {name}; name a model-*.pth of a training that has one')
    return {key.removeprefix('module.'): value for key, value in state.items()}


def embedding_state(backbone, content, path):
    """Return the embedding's state dict from a checkpoint's content, foreign keys as the backbone names them."""
    state = tensors(content.get('embedding_model', content), 'embedding network', path)
    renamed = {key: backbone.foreign_key(key) for key in state}
    return {key if renamed[key] is None else f'{backbone.checkpoint_name}.{renamed[key]}': value
            for key, value in state.items()}


def load_state(model, state, path, optional=(), exact=()):
    """Copy `state` into `model` and report by name what does not fit.

    Args:
        state: dict from key to tensor.
        optional: prefixes of keys of the model that may stay unset with a warning; any other is an error.
        exact: prefixes of keys of the state that the model must have; any other is a warning.

    CheckpointError: a tensor of the model that is not optional is missing or has another shape, or there are tensors
    that the model should have but does not.
    """
    own = model.state_dict()
    wrong_shape = {key: (tuple(state[key].shape), tuple(value.shape)) for key, value in own.items()
                   if key in state and state[key].shape != value.shape}
    fitting = {key: value for key, value in state.items() if key in own and key not in wrong_shape}
    # Batch counters are not used, and the smoothing kernel is a constant: a file need not hold them.
    unset = [key for key in own if key not in fitting and (
        key in wrong_shape or not key.endswith(('num_batches_tracked', 'smooth_kernel.weight')))]
    unused = [key for key in state if key not in own]
    problems = _describe([key for key in unset if not key.startswith(tuple(optional))], wrong_shape) or _shorten(
        [f'it has {key}, unknown to the network' for key in unused if key.startswith(tuple(exact))], separator='; ')
    if problems:
        raise CheckpointError(f'{path}: does not fit the configured network ({problems}); check '
                              'network.backbone_types, network.timm_model, network.stem, network.embedding_dim and '
                              'dataset.num_classes')
    if unset:
        logger.warning('%s: these weights start at random: %s', path, _describe(unset, wrong_shape))
    if unused:
        logger.warning('%s: not used: %s', path, _shorten(unused))
    model.load_state_dict(fitting, strict=False)


def load_embedding(model, path, lenient=False, content=None):
    """Load an EmbeddingNetwork's weights, or `content` where they have been read; `lenient`: its head may not fit."""
    state = embedding_state(model.backbone, content or read_checkpoint(path), path)
    backbone = model.backbone.checkpoint_name
    rest = [f'{name}.' for name, _ in model.named_children() if name != backbone]
    load_state(model, state, path, rest if lenient else [], exact=[f'{backbone}.', *([] if lenient else rest)])


def load_classifier(model, path, content=None):
    """Load a softmax head's weights; everything has to fit."""
    content = content or read_checkpoint(path)
    load_state(model, tensors(content.get('prediction_model'), 'softmax head', path), path)


def _describe(keys, wrong_shape):
    return _shorten([f'{key} has shape {wrong_shape[key][0]}, needed {wrong_shape[key][1]}' if key in wrong_shape
                     else f'{key} is missing' for key in keys], separator='; ')


def _shorten(items, most=6, separator=', '):
    more = f' and {len(items) - most} more' if len(items) > most else ''
    return separator.join(items[:most]) + more
