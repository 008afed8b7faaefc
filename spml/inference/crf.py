"""Fully connected CRF by pydensecrf (METHOD.md, "Inference"; Kraehenbuehl and Koltun, NIPS 2011). No torch in here."""
import dataclasses

import numpy as np

from spml.errors import SpmlError


def _parameter(default, meaning):
    return dataclasses.field(default=default, metadata={'help': f'CRF: {meaning}'})


@dataclasses.dataclass(frozen=True)
class CrfParameters:
    """The parameters of DenseCRF, each with its help."""

    iter_max: int = _parameter(10, 'iterations of mean field')
    pos_xy_std: float = _parameter(1, 'standard deviation of the smoothness kernel, in pixels')
    pos_w: float = _parameter(3, 'weight of the smoothness kernel')
    bi_xy_std: float = _parameter(67, 'standard deviation of the appearance kernel, in pixels')
    bi_rgb_std: float = _parameter(3, 'standard deviation of the appearance kernel, in grey levels')
    bi_w: float = _parameter(4, 'weight of the appearance kernel')


def require_crf():
    """Raise an SpmlError that says what to install when pydensecrf is missing."""
    try:
        import pydensecrf.densecrf  # noqa: F401
    except ImportError:
        raise SpmlError('CRF needs pydensecrf: pip install pydensecrf2 (Python 3.10 to 3.12), '
                        'or leave --crf out') from None


def crf_marginals(probability, image, parameters):
    """Return the (C, H, W) float32 marginals of CRF's mean field, which sum to 1 over the classes.

    The probability is (C, H, W) float, clipped to 1e-5..1 and never renormalised; the image (H, W, 3) uint8 RGB.
    """
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_softmax

    num_classes, height, width = probability.shape
    crf = DenseCRF2D(width, height, num_classes)
    crf.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(np.asarray(probability, np.float32), clip=1e-5)))
    crf.addPairwiseGaussian(sxy=parameters.pos_xy_std, compat=parameters.pos_w)
    crf.addPairwiseBilateral(sxy=parameters.bi_xy_std, srgb=parameters.bi_rgb_std, rgbim=np.ascontiguousarray(image),
                             compat=parameters.bi_w)
    return np.asarray(crf.inference(parameters.iter_max)).reshape(num_classes, height, width)
