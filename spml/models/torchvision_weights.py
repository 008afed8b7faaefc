"""torchvision's ImageNet weights: where they are kept, and fetching them."""
import pathlib
import re

import torch

from spml.errors import CheckpointError, first_line
from spml.utils import distributed


def torchvision_checkpoint(name):
    """Return the path of some of torchvision's weights (`ResNet50_Weights`), in the folder where torch keeps them.

    With several processes, one fetches for all.

    Raises:
        CheckpointError: they are not there and cannot be fetched.
    """
    from torchvision import models

    # The first version: torchvision's own segmentation networks start from it too.
    url = getattr(models, name).IMAGENET1K_V1.url
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
        # The name ends with the first letters of the content's hash.
        torch.hub.download_url_to_file(url, str(path), hash_prefix=re.search(r'-([0-9a-f]+)\.pth$', url)[1])
    except (OSError, RuntimeError) as error:
        return f"{path}: torchvision's weights cannot be fetched ({first_line(error)}); put the file {url} there"
    return None
