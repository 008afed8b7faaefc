"""torchvision's ImageNet weights: where they lie, and fetching them."""
import pathlib
import re

import torch

from spml.errors import CheckpointError, first_line
from spml.utils import distributed


def torchvision_checkpoint(depth):
    """Return the path of torchvision's weights for a ResNet of depth 50 or 101, in the folder that torch keeps them.

    With several processes, one fetches for all.

    Raises:
        CheckpointError: they are not there and cannot be fetched.
    """
    from torchvision.models import ResNet50_Weights, ResNet101_Weights

    # The first version: torchvision's own segmentation networks start from it too.
    url = {50: ResNet50_Weights, 101: ResNet101_Weights}[depth].IMAGENET1K_V1.url
    path = pathlib.Path(torch.hub.get_dir()) / 'checkpoints' / url.rpartition('/')[2]
    problem = distributed.gather_objects(_fetch(url, path) if distributed.rank() == 0 else None)[0]
    if problem:
        raise CheckpointError(problem)
    return path


def _fetch(url, path):
    """Fetch a file unless it is there; return what to say when that fails, or None."""
    if path.is_file():
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The name bears the first letters of the content's hash.
        torch.hub.download_url_to_file(url, str(path), hash_prefix=re.search(r'-([0-9a-f]+)\.pth$', url)[1])
    except (OSError, RuntimeError) as error:
        return f"{path}: torchvision's weights cannot be fetched ({first_line(error)}); put the file {url} there"
    return None
