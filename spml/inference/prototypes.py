"""Making and reading the prototypes that retrieval looks up (METHOD.md, "Inference", prototypes)."""
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from spml.data.readers import read_prototypes
from spml.errors import DataError
from spml.inference.predictors import cluster_view, cut
from spml.inference.views import pyramid, resize_view, single_scale_size
from spml.segsort.retrieval import NEIGHBOURS, cluster_prototypes, majority_labels
from spml.segsort.segments import nearest_resize

MULTI_SCALE_RATIOS = (0.5, 1.0, 1.5)


@torch.inference_mode()
def image_prototypes(embedder, image, label, grid, iterations, image_size, multi_scale):
    """Return the prototypes of one image's clusters and their labels.

    Args:
        image: (H, W, 3) float32, normalised.
        label: (H, W) uint8; 255 competes for a cluster's majority too.
        grid: (ky, kx) initial clusters.
        image_size: of the single scale; 0 keeps the size. With `multi_scale`, 0.5, 1 and 1.5 of the original instead.

    Returns:
        (S, D) float32 prototypes, (S,) int64 labels, and the (h, w) int64 clusters of the last view.
    """
    if multi_scale:
        views = pyramid(image, MULTI_SCALE_RATIOS, mirrors=False)
    else:
        views = [resize_view(image, single_scale_size(image.shape[:2], image_size))]
    label = torch.from_numpy(label.astype(np.int64)).to(embedder.device)
    prototypes, labels = [], []
    for view in views:
        embedding = embedder.windows(view)
        clusters = cluster_view(embedding, view.size, grid, iterations, embedder.padded_size(view.size))
        found, ids = cluster_prototypes(cut(embedding[0], view.size).flatten(1).T, clusters.reshape(-1))
        prototypes.append(found)
        labels.append(majority_labels(ids, nearest_resize(label, view.size).reshape(-1), len(found)))
    return torch.cat(prototypes).cpu().numpy(), torch.cat(labels).cpu().numpy(), clusters.cpu().numpy()


def load_prototypes(directory, embedding_dim, num_classes):
    """Read all prototypes of a folder of `.npz` files; those whose label is not a class are dropped.

    That is void and, which the release leaves open, unlabelled: a label that is not a class cannot be counted. Returns
    (M, D) float32 unit vectors and (M,) int64 labels in 0..C-1. DataError: no folder or no files, a damaged file,
    another D, or fewer than 20 prototypes.
    """
    directory = pathlib.Path(directory)
    paths = sorted(directory.glob('*.npz')) if directory.is_dir() else []
    if not paths:
        raise DataError(f'{directory}: no prototypes (*.npz) in it; '
                        'name the semantic_prototype folder that prototype.py wrote')
    pairs = [read_prototypes(path, dim=embedding_dim) for path in paths]
    prototypes, labels = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*pairs, strict=True))
    keep = labels < num_classes
    if int(keep.sum()) < NEIGHBOURS:
        raise DataError(f'{directory}: {int(keep.sum())} prototypes have a class below {num_classes}, retrieval needs '
                        f'{NEIGHBOURS}; make prototypes of more images or with more clusters')
    return F.normalize(prototypes[keep], dim=1), labels[keep]
