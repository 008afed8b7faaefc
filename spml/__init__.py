"""SPML: universal weakly supervised segmentation by pixel-to-segment contrastive learning (ICLR 2021).

`load_segmenter` loads what was trained, `spml.segsort` holds the method for use with any network. Both are imported
when they are first used, so that `import spml` stays light.
"""
import importlib
from typing import TYPE_CHECKING, Any

from spml.names import __version__
from spml.utils import interrupt

if TYPE_CHECKING:
    from spml import segsort
    from spml.api import Segmentation, Segmenter, load_segmenter

interrupt.leave_while_importing()

__all__ = ['Segmentation', 'Segmenter', '__version__', 'load_segmenter', 'segsort']


def __getattr__(name: str) -> Any:
    if name == 'segsort':
        return importlib.import_module('spml.segsort')
    if name in __all__:
        return getattr(importlib.import_module('spml.api'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
