"""Fully connected CRF by pydensecrf (METHOD.md, "Inference"; Kraehenbuehl and Koltun, NIPS 2011). No torch in here."""
import dataclasses

import numpy as np

from spml.errors import SpmlError


@dataclasses.dataclass(frozen=True)
class CrfParameters:
    """Iterations, standard deviations in pixels and grey levels, and weights of the two pairwise terms."""

    iter_max: int = 10
    pos_xy_std: float = 1
    pos_w: float = 3
    bi_xy_std: float = 67
    bi_rgb_std: float = 3
    bi_w: float = 4


def require_crf():
    """Raise an SpmlError that says what to install when pydensecrf is missing."""
    try:
        import pydensecrf.densecrf  # noqa: F401
    except ImportError:
        raise SpmlError('CRF needs pydensecrf: pip install pydensecrf2 (Python 3.10 to 3.12), '
                        'or leave --crf out') from None


def crf_marginals(probability, image, parameters):
    """Sharpen class probabilities along the edges of the image.

    Args:
        probability: (C, H, W) float, clipped to 1e-5..1 and never renormalised.
        image: (H, W, 3) uint8 RGB.
        parameters: CrfParameters.

    Returns:
        (C, H, W) float32: the marginals of CRF's mean field, which sum to 1 over the classes.
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
