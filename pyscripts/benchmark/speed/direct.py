"""The formulas of the hot stages written down directly: what this benchmark compares the library with.

Plain vectorised torch and nothing of spml: the full matrix of similarities, masks and exponentials, autograd for the
gradients; images one after the other; a full argsort; dense squarings. No loop over pixels or segments, no padding and
nothing computed twice.
"""
import torch
import torch.nn.functional as F


def relations(embeddings, own, prototypes, semantic, tags, concentrations, num_classes):
    """Return the losses of semantic annotation and of semantic co-occurrence, with the kappas `concentrations`.

    `embeddings` (N, D) and `prototypes` (S, D) are unit vectors of pixels and segments, `own` (N,) int64 the segment of
    each pixel, `semantic` (S,) int64 the class of each segment, of which num_classes and above is unlabelled, and
    `tags` (S, T) bool the foreground tags of each segment's image, at most 31.
    """
    similarity = embeddings @ prototypes.T
    labelled = semantic < num_classes
    same = semantic[own][:, None] == semantic[None]
    annotation = _losses(similarity, own, same & labelled, ~same & labelled, concentrations[0])[labelled[own]].mean()
    bits = (tags.int() << torch.arange(tags.shape[1], dtype=torch.int32, device=tags.device)).sum(1, dtype=torch.int32)
    shares = (bits[own][:, None] & bits[None]) != 0
    return annotation, _losses(similarity, own, shares, ~shares, concentrations[1]).mean()


def image_similarity(embeddings, own, prototypes, image, region, concentration):
    """Return the mean over images of that over pixels.

    `image` and `region` are (S,) int64; pixels and segments are in the order of their images.
    """
    # Cut, not indexed: the gradient of an index is as large as all pixels, for every image.
    pixels, segments = torch.bincount(image[own]).tolist(), torch.bincount(image).tolist()
    losses, first = [], 0
    for vectors, rank, targets, ids in zip(embeddings.split(pixels), own.split(pixels), prototypes.split(segments),
                                           region.split(segments), strict=True):
        rank = rank - first
        same = ids[rank][:, None] == ids[None]
        losses.append(_losses(vectors @ targets.T, rank, same, ~same, concentration).mean())
        first += len(ids)
    return torch.stack(losses).mean()


def _losses(similarity, own, positive, negative, concentration):
    """Return the (N,) losses of METHOD.md, "Relations"; overwrites `positive`."""
    exponentials = (concentration * similarity).exp()
    positive.scatter_(1, own[:, None], False)
    positive.scatter_(1, own[:, None], ~positive.any(dim=1, keepdim=True))
    numerator = (exponentials * positive).sum(dim=1)
    return -torch.log(numerator / (numerator + (exponentials * negative).sum(dim=1)))


def kmeans(vectors, labels, num_clusters, iterations):
    """Cluster (B, P, D) unit vectors from (B, P) int64 initial clusters; returns (B, P) int64 clusters."""
    results = []
    for image, assigned in zip(vectors, labels, strict=True):
        for _ in range(iterations):
            sums = image.new_zeros(num_clusters, image.shape[1]).index_add_(0, assigned, image)
            assigned = (image @ F.normalize(sums, dim=1).T).argmax(dim=1)
        results.append(assigned)
    return torch.stack(results)


def retrieval(queries, prototypes, labels, num_classes, neighbours):
    """Return (Q, C) float32 counts of the labels of each query's nearest prototypes."""
    nearest = (queries @ prototypes.T).argsort(dim=1, descending=True)[:, :neighbours]
    return F.one_hot(labels[nearest], num_classes).sum(dim=1).float()


def random_walk(scores, transition):
    """Return scores T^64 of (C, G) scores and a (G, G) transition."""
    for _ in range(6):
        transition = transition @ transition
    return scores @ transition
