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
        prototypes = []
        for cluster in range(num_clusters):
            total = np.zeros(vectors.shape[1])
            for vector, label in zip(vectors, labels, strict=True):
                if label == cluster:
                    total = total + vector
            prototypes.append(normalised(total))
        for i, vector in enumerate(vectors):
            dots = [float((vector * prototype).sum()) for prototype in prototypes]
            # index() finds the first of equal maxima.
            labels[i] = dots.index(max(dots))
    return labels


def pixel_losses(embeddings, own, prototypes, kappa, positive, negative):
    """Return the list of float64 losses, differentiable in the tensors.

    `positive(i, s)` and `negative(i, s)` say whether segment s stands in A+ or A- of pixel i.
    """
    losses = []
    for i in range(len(own)):
        others = [s for s in range(len(prototypes)) if positive(i, s) and s != own[i]]
        numerator = sum(torch.exp(kappa * (embeddings[i] * prototypes[s]).sum()) for s in (others or [int(own[i])]))
        denominator = numerator
        for s in range(len(prototypes)):
            if negative(i, s):
                denominator = denominator + torch.exp(kappa * (embeddings[i] * prototypes[s]).sum())
        # A difference of logarithms: in a quotient, gradients would underflow earlier.
        losses.append(torch.log(denominator) - torch.log(numerator))
    return losses


def mean(losses, *tensors):
    """Return the mean of a list of scalars; of none, a 0 that back-propagates."""
    return sum(losses) / len(losses) if losses else sum(tensor.sum() * 0 for tensor in tensors)


def semantic_annotation(embeddings, own, prototypes, semantic, kappa, num_classes):
    """Mean over labelled pixels."""
    keep = [i for i in range(len(own)) if semantic[own[i]] < num_classes]

    def positive(i, s):
        return semantic[s] < num_classes and semantic[s] == semantic[own[keep[i]]]

    def negative(i, s):
        return semantic[s] < num_classes and semantic[s] != semantic[own[keep[i]]]

    losses = pixel_losses([embeddings[i] for i in keep], [own[i] for i in keep], prototypes, kappa, positive, negative)
    return mean(losses, embeddings, prototypes)


def sharing(embeddings, own, prototypes, sets, kappa):
    """Mean over all pixels; `sets` is a list of python sets, one a segment (tags or propagated classes)."""
    losses = pixel_losses(embeddings, own, prototypes, kappa, lambda i, s: bool(sets[own[i]] & sets[s]),
                          lambda i, s: not sets[own[i]] & sets[s])
    return mean(losses, embeddings, prototypes)


def image_similarity(embeddings, own, prototypes, image, instance, kappa):
    """Mean over images with pixels of the mean over their pixels."""
    losses = pixel_losses(
        embeddings, own, prototypes, kappa,
        lambda i, s: image[s] == image[own[i]] and instance[s] == instance[own[i]],
        lambda i, s: image[s] == image[own[i]] and instance[s] != instance[own[i]])
    by_image = {}
    for i, loss in enumerate(losses):
        by_image.setdefault(int(image[own[i]]), []).append(loss)
    return mean([sum(group) / len(group) for group in by_image.values()], embeddings, prototypes)


def propagated_classes(prototypes, image, semantic, num_classes, threshold=0.95):
    """Return the list of class sets, one a segment."""
    sets = []
    for s in range(len(semantic)):
        best, label = -math.inf, None
        for t in range(len(semantic)):
            if image[t] == image[s] and semantic[t] < num_classes:
                dot = float((prototypes[s] * prototypes[t]).sum().detach())
                if dot > best:
                    best, label = dot, int(semantic[t])
        if semantic[s] < num_classes:
            sets.append({int(semantic[s])})
        else:
            sets.append({label} if best >= threshold else set(range(num_classes)))
    return sets
