"""What PyTorch Image Models (timm) offers: its models' names and what their weights expect of images.

timm is imported only where one of its models is asked for.
"""
import difflib

from spml.errors import ConfigError, require_module

_KEY = 'network.timm_model'


def require_timm():
    """Return the module timm, or raise a ConfigError that says how to install it."""
    return require_module('timm', "backbones of timm need the package timm: pip install -e '.[timm]', or pip install "
                                  'timm', ConfigError)


def known_model(name):
    """Return timm's `pretrained_cfg`, a dict, of a model NAME or NAME.TAG; ConfigError if there is no such model."""
    timm = require_timm()
    if not name:
        raise ConfigError(f'{_KEY} is empty; give the name of a model of timm, such as convnext_tiny')
    known = timm.models.is_model(name) and timm.get_pretrained_cfg(name)
    if not known:
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5) or ['convnext_tiny', 'resnet50']
        raise ConfigError(f'{_KEY} is {name!r}, but timm {timm.__version__} has no such model; did you mean '
                          f'{" or ".join(near)}?')
    return known.to_dict()


def refusal(name, reason, near):
    """Return the ConfigError for a model that gives no features that are fine enough; `near` are some that do."""
    return ConfigError(f'{_KEY} is {name}, which cannot be a backbone here: {reason}; choose another, such as '
                       f'{", ".join(near)}')
