"""METHOD.md, "Spherical k-means" and "Relations", in double loops and float64: the oracle of the tests here."""
import math

import numpy as np
import torch


def normalised(vector):
    """Scale a numpy vector to length 1; the norm is floored at 1e-12."""
    return vector / max(math.sqrt(sum(float(x) ** 2 for x in vector)), 1e-12)


def random_units(*shape):
    """Return random float64 unit vectors as a tensor."""
    vectors = np.random.default_rng().standard_normal(shape)
    return torch.from_numpy(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def kmeans(vectors, labels, num_clusters, iterations):
    """Cluster the rows of (P, D) vectors; void pixels have been dropped by the caller."""
    labels = list(labels)
    for _ in range(iterations):
        sums = np.zeros((num_clusters, vectors.shape[1]))
        for vector, label in zip(vectors, labels, strict=True):
            sums[label] += vector
        prototypes = np.array([normalised(total) for total in sums])
        # argmax() finds the first of equal maxima.
        labels = [int((prototypes * vector).sum(axis=1).argmax()) for vector in vectors]
    return labels


def pixel_losses(embeddings, own, prototypes, kappa, positive, negative):
    """Return the list of float64 losses, differentiable in the tensors.

    `own` is a list of ints; `kappa` a number or a list of one a pixel; `positive(i, s)` and `negative(i, s)` say
    whether segment s is in A+ or A- of pixel i.
    """
    kappas = kappa if isinstance(kappa, list) else [kappa] * len(own)
    losses = []
    for i, itself in enumerate(own):
        terms = torch.exp(kappas[i] * (embeddings[i] * prototypes).sum(dim=1))
        others = [s for s in range(len(prototypes)) if positive(i, s) and s != itself]
        negatives = [s for s in range(len(prototypes)) if negative(i, s)]
        numerator = terms[others or [itself]].sum()
        # A difference of logarithms: in a quotient, gradients would underflow earlier.
        losses.append(torch.log(numerator + terms[negatives].sum()) - torch.log(numerator))
    return losses


def mean(losses, *tensors):
    """Return the mean of a list of scalars; of none, a 0 that back-propagates."""
    return sum(losses) / len(losses) if losses else sum(tensor.sum() * 0 for tensor in tensors)


def chosen(values, keep):
    """Return some of a list's items; a number, which stands for all, as it is."""
    return [values[i] for i in keep] if isinstance(values, list) else values


def weighted(losses, weights):
    """Return losses times their weights, a number or a list."""
    return [loss * weight for loss, weight in
            zip(losses, weights if isinstance(weights, list) else [weights] * len(losses), strict=True)]


def semantic_annotation(embeddings, own, prototypes, semantic, kappa, num_classes, weight=1):
    """Mean over labelled pixels; `kappa` and `weight` may be lists of one a pixel, here and below."""
    semantic, every = list(map(int, semantic)), list(map(int, own))
    keep = [i for i, s in enumerate(every) if semantic[s] < num_classes]
    own = [every[i] for i in keep]
    losses = pixel_losses([embeddings[i] for i in keep], own, prototypes, chosen(kappa, keep),
                          lambda i, s: semantic[s] == semantic[own[i]],
                          lambda i, s: semantic[s] < num_classes and semantic[s] != semantic[own[i]])
    return mean(weighted(losses, chosen(weight, keep)), embeddings, prototypes)


def sharing(embeddings, own, prototypes, sets, kappa, weight=1):
    """Mean over all pixels; `sets` is a list of python sets, one a segment (tags or propagated classes)."""
    own = list(map(int, own))
    losses = pixel_losses(embeddings, own, prototypes, kappa, lambda i, s: bool(sets[own[i]] & sets[s]),
                          lambda i, s: not sets[own[i]] & sets[s])
    return mean(weighted(losses, weight), embeddings, prototypes)


def image_similarity(embeddings, own, prototypes, image, instance, kappa, weight=1):
    """Mean over images with pixels of the mean over their pixels."""
    own, image, instance = (list(map(int, values)) for values in (own, image, instance))
    losses = pixel_losses(
        embeddings, own, prototypes, kappa,
        lambda i, s: image[s] == image[own[i]] and instance[s] == instance[own[i]],
        lambda i, s: image[s] == image[own[i]] and instance[s] != instance[own[i]])
    by_image = {}
    for i, loss in enumerate(weighted(losses, weight)):
        by_image.setdefault(image[own[i]], []).append(loss)
    return mean([sum(group) / len(group) for group in by_image.values()], embeddings, prototypes)


def propagated_classes(prototypes, image, semantic, num_classes, threshold=0.95):
    """Return the list of class sets, one a segment."""
    image, semantic, prototypes = list(map(int, image)), list(map(int, semantic)), prototypes.detach().numpy()
    sets = []
    for s, label in enumerate(semantic):
        near = [(float((prototypes[s] * prototypes[t]).sum()), other) for t, other in enumerate(semantic)
                if image[t] == image[s] and other < num_classes]
        best, found = max(near, key=lambda pair: pair[0], default=(-math.inf, None))
        if label < num_classes:
            sets.append({label})
        else:
            sets.append({found} if best >= threshold else set(range(num_classes)))
    return sets
