"""Fully connected CRF by pydensecrf (METHOD.md, "Inference"; Kraehenbuehl and Koltun, NIPS 2011). No torch in here."""
import dataclasses

import numpy as np

from spml.errors import require_module

# Smaller probabilities count as this one.
CLIP = 1e-5


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
    merge_below: float = _parameter(0, 'classes whose largest probability in an image stays below this are computed '
                                       'as one: 1e-5 gives the same but for rounding, more is an approximation')


def require_crf():
    """Raise an SpmlError that says what to install when pydensecrf is missing."""
    require_module('pydensecrf.densecrf',
                   'CRF needs pydensecrf: pip install pydensecrf2 (Python 3.10 to 3.12), or leave --crf out')


def crf_marginals(probability, image, parameters):
    """Return the (C, H, W) float32 marginals of CRF's mean field, which sum to 1 over the classes.

    The probability is (C, H, W) float, clipped to 1e-5..1 and never renormalised; the image (H, W, 3) uint8 RGB.

    Classes with equal unaries have equal marginals in every iteration: nothing in the mean field tells them apart. So n
    of them can be computed as one class with n times the probability, whose messages have 1/n of the weight, and its
    marginal be shared out evenly. All classes that stay below 1e-5 are such, since they are clipped; it takes about as
    long as there are classes left.
    """
    probability = np.asarray(probability, np.float32)
    largest = probability.max(axis=(1, 2))
    merged = largest < parameters.merge_below
    # The largest stays a class, so that there are two.
    merged[largest.argmax()] = False
    count = int(merged.sum())
    if count < 2:
        return _mean_field(probability, image, parameters, 1)
    group = np.clip(probability[merged], CLIP, 1)
    total = group.sum(axis=0)
    weights = np.ones(len(probability) - count + 1, np.float32)
    weights[-1] = 1 / count
    found = _mean_field(np.concatenate([probability[~merged], total[None]]), image, parameters, weights)
    marginals = np.empty_like(probability)
    marginals[~merged] = found[:-1]
    marginals[merged] = found[-1] * (group / total)
    return marginals


def _mean_field(probability, image, parameters, weights):
    """Return the marginals as above; `weights` of the classes' messages, 1 or (C,) float32."""
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_softmax

    num_classes, height, width = probability.shape
    crf = DenseCRF2D(width, height, num_classes)
    crf.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(probability, clip=CLIP)))

    def compatibility(weight):
        # The library takes one weight as what unlike classes cost, an array as what like classes do.
        return weight if np.isscalar(weights) else np.float32(-weight) * weights

    crf.addPairwiseGaussian(sxy=parameters.pos_xy_std, compat=compatibility(parameters.pos_w))
    crf.addPairwiseBilateral(sxy=parameters.bi_xy_std, srgb=parameters.bi_rgb_std, rgbim=np.ascontiguousarray(image),
                             compat=compatibility(parameters.bi_w))
    return np.asarray(crf.inference(parameters.iter_max)).reshape(num_classes, height, width)
