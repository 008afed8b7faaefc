"""The stages of this benchmark that are functions of tensors: their inputs, the library's call, the direct one.

Every builder returns a `measure.Case` of the sizes it is given. Inputs look like the real ones where that decides the
cost: embeddings as a trained network gives them, each near the direction of its class and these at right angles; a few
tags an image; images of different numbers of segments. `inputs` may be another of INPUTS. They are drawn on the CPU
from a fixed seed, so that all processes and devices see the same.
"""
import direct
import torch
import torch.nn.functional as F
from measure import Bar, Case, Work

from spml.inference.pseudo_labels import affinity, transition, walk
from spml.segsort import relations
from spml.segsort.clustering import initial_clusters, spherical_kmeans
from spml.segsort.retrieval import NEIGHBOURS, nearest_label_counts

CLASSES = 21
# Directions of embeddings: of classes, at right angles; anywhere; all nearly the same, as before a training.
INPUTS = ('clustered', 'random', 'alike')
# Float32 sums in another order.
TOLERANCE = 1e-4


def relation_case(device, pixels, segments, channels=64, images=48, inputs=INPUTS[0]):
    """Return `sem_ann` and `sem_occ`, forward and backward, all pixels labelled, over the images of a few steps."""
    generator = torch.Generator().manual_seed(0)
    embeddings, own, prototypes = _pixels(pixels, segments, channels, inputs, generator)
    semantic = torch.randint(0, CLASSES, (segments,), generator=generator)
    tags = torch.rand(images, CLASSES - 1, generator=generator) < 0.08
    tags[torch.arange(images), torch.randint(0, CLASSES - 1, (images,), generator=generator)] = True
    tags = tags[torch.arange(segments) * images // segments]
    own, semantic, tags = (tensor.to(device) for tensor in (own, semantic, tags))
    kappas = 6.0, 12.0

    def fast(vectors, targets):
        return sum(relations.losses(vectors, own, targets, [relations.ClassRelation(kappas[0], semantic, CLASSES),
                                                            relations.SetRelation(kappas[1], tags)]))

    def plain(vectors, targets):
        return sum(direct.relations(vectors, own, targets, semantic, tags, kappas, CLASSES))

    leaves = embeddings.to(device), prototypes.to(device)
    pairs = pixels * segments
    # One product for the similarities and two for the gradients; an exponential a relation.
    work = Work(operations=3 * 2 * pairs * channels, exponentials=2 * pairs, bytes=2 * 4 * embeddings.numel())
    return Case(f'relations sem_ann + sem_occ, forward + backward: {pixels:,} pixels x {segments:,} segments, '
                f'D {channels}', lambda: _with_gradients(fast, leaves), lambda: _with_gradients(plain, leaves), _close,
                work)


def image_similarity_case(device, images, pixels, segments=250, channels=66, inputs=INPUTS[0]):
    """Return `img_sim`, forward and backward; images differ in their numbers of segments, by up to 40 %."""
    generator = torch.Generator().manual_seed(0)
    counts = (segments * (0.7 + 0.6 * torch.rand(images, generator=generator))).long().tolist()
    parts = [_pixels(pixels, count, channels, inputs, generator) for count in counts]
    embeddings, prototypes = (torch.cat([part[index] for part in parts]) for index in (0, 2))
    starts = torch.tensor([0, *counts]).cumsum(0).tolist()
    own = torch.cat([part[1] + start for part, start in zip(parts, starts, strict=False)]).to(device)
    image = torch.arange(images).repeat_interleave(torch.tensor(counts)).to(device)
    region = torch.randint(0, 40, (sum(counts),), generator=generator).to(device)

    def fast(vectors, targets):
        return relations.image_similarity_loss(vectors, own, targets, image, region, 16.0)

    def plain(vectors, targets):
        return direct.image_similarity(vectors, own, targets, image, region, 16.0)

    leaves = embeddings.to(device), prototypes.to(device)
    pairs = pixels * sum(counts)
    work = Work(operations=3 * 2 * pairs * channels, exponentials=pairs, bytes=2 * 4 * embeddings.numel())
    return Case(f'image similarity, forward + backward: {images} images x {pixels:,} pixels, {sum(counts):,} segments',
                lambda: _with_gradients(fast, leaves), lambda: _with_gradients(plain, leaves), _close, work)


def kmeans_case(device, images, height, width, grid, iterations=10, inputs=INPUTS[0]):
    """Return the clustering of unit embeddings of 64 channels with their two location features."""
    generator = torch.Generator().manual_seed(0)
    unit = _maps(images, (height, width), inputs, generator)
    axes = torch.linspace(-0.5, 0.5, height), torch.linspace(-0.5, 0.5, width)
    location = torch.stack(torch.meshgrid(*axes, indexing='ij')).expand(images, -1, -1, -1)
    vectors = F.normalize(torch.cat([unit, location], dim=1), dim=1).flatten(2).transpose(1, 2).contiguous().to(device)
    initial = initial_clusters(height, width, grid, device).reshape(1, -1).expand(images, -1)
    clusters = grid[0] * grid[1]

    def compare(fast, plain):
        # Another order of sums moves the rare pixel between two equally near prototypes.
        share = (fast == plain).float().mean().item()
        return None if share >= 0.999 else f'only {share:.4%} of the pixels are in the same cluster'

    work = Work(operations=iterations * vectors.numel() * (2 * clusters + 1), bytes=4 * vectors.numel())
    return Case(f'k-means: {images} x {height} x {width}, D {vectors.shape[2]}, {clusters} clusters, {iterations} '
                'iterations', lambda: spherical_kmeans(vectors, initial, clusters, iterations),
                lambda: direct.kmeans(vectors, initial, clusters, iterations), compare, work)


def retrieval_case(device, queries, prototypes, channels=64, inputs=INPUTS[0]):
    """Return the label counts of the 20 nearest of many stored prototypes."""
    generator = torch.Generator().manual_seed(0)
    stored, vectors = (_directions(count, channels, inputs, generator).to(device) for count in (prototypes, queries))
    labels = torch.randint(0, CLASSES, (prototypes,), generator=generator).to(device)

    def compare(fast, plain):
        # Rounding may swap the 20th and the 21st.
        share = (fast == plain).all(dim=1).float().mean().item()
        return None if share >= 0.98 else f'only {share:.2%} of the queries have the same labels'

    work = Work(operations=2 * queries * prototypes * channels, bytes=4 * stored.numel())
    return Case(f'retrieval: {queries} queries, {prototypes:,} prototypes, top {NEIGHBOURS}',
                lambda: nearest_label_counts(vectors, stored, labels, CLASSES),
                lambda: direct.retrieval(vectors, stored, labels, CLASSES, NEIGHBOURS), compare, work)


def walk_case(device, height, width, classes=CLASSES, inputs=INPUTS[0]):
    """Return the walk from T to F T^64; T as `transition` hands it on."""
    generator = torch.Generator().manual_seed(0)
    view = _maps(1, (height, width), inputs, generator).to(device)
    transitions = transition(affinity([view, view], (height, width)))
    cells = height * width
    scores = torch.rand(classes, cells, generator=generator).to(device)
    work = Work(operations=64 * 2 * classes * cells ** 2, bytes=4 * cells ** 2)
    return Case(f'random walk: {height} x {width} grid, {classes} classes, T to F T^64',
                lambda: (walk(scores, transitions),), lambda: (direct.random_walk(scores, transitions),), _close, work)


def _directions(count, channels, inputs, generator):
    """Return (count, channels) unit vectors, of a kind of INPUTS."""
    noise = torch.randn(count, channels, generator=generator)
    if inputs == 'clustered':
        axes = torch.linalg.qr(torch.randn(channels, channels, generator=generator))[0][:CLASSES]
        noise = axes[torch.randint(0, len(axes), (count,), generator=generator)] + 0.5 * F.normalize(noise, dim=1)
    elif inputs == 'alike':
        noise = F.normalize(torch.randn(channels, generator=generator), dim=0) + 0.1 * F.normalize(noise, dim=1)
    return F.normalize(noise, dim=1)


def _pixels(pixels, segments, channels, inputs, generator):
    """Return unit vectors of pixels, their int64 segments (each occurs) and the segments' unit vectors."""
    own = torch.randint(0, segments, (pixels,), generator=generator)
    own[:segments] = torch.arange(segments)
    own = own.sort().values
    prototypes = _directions(segments, channels, inputs, generator)
    noise = F.normalize(torch.randn(pixels, channels, generator=generator), dim=1)
    return F.normalize(prototypes[own] + 0.5 * noise, dim=1), own, prototypes


def _maps(images, size, inputs, generator):
    """Return (images, 64, *size) unit vectors: parts with a direction each and noise on it."""
    parts = F.interpolate(torch.randn(images, 30, 8, 8, generator=generator), size=size, mode='bilinear').argmax(dim=1)
    noise = F.normalize(torch.randn(images, 64, *size, generator=generator), dim=1)
    vectors = _directions(30, 64, inputs, generator)[parts].permute(0, 3, 1, 2)
    return F.normalize(vectors + 0.3 * noise, dim=1)


def _with_gradients(function, leaves):
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    loss = function(*leaves)
    loss.backward()
    return loss.detach(), *(leaf.grad for leaf in leaves)


def _close(fast, plain):
    """Compare tensors relative to the largest entry of each."""
    gaps = [((one - other).abs().max() / other.abs().max()).item() for one, other in zip(fast, plain, strict=True)]
    return None if max(gaps) <= TOLERANCE else f'results differ by {max(gaps):.1e} of their largest entry'


def tensor_stages(on_gpu):
    """Return, by stage, lists of (builder, sizes, small sizes for a first run, bar, runs of (fast, direct))."""
    if on_gpu:
        many, bars = {'pixels': 65536, 'segments': 12000}, (Bar(5, lighter=20), Bar(5, 2), Bar(3), Bar(3))
    else:
        many, bars = {'pixels': 16384, 'segments': 4000}, (Bar(2, lighter=8), Bar(2, 2), Bar(1.5, 2), Bar(8))
    batches = ({'images': images, 'height': side, 'width': side, 'grid': (grid, grid)}
               for images, side, grid in ((16, 128, 6), (1, 512, 12)))
    return {
        'relations': [(relation_case, many, {'pixels': 256, 'segments': 100}, bars[0], (7, 5))],
        'image_similarity': [(image_similarity_case, {'images': 16, 'pixels': 16384}, {'images': 2, 'pixels': 64,
                              'segments': 9}, bars[1], (15, 9))],
        'kmeans': [(kmeans_case, sizes, {'images': 2, 'height': 9, 'width': 8, 'grid': (3, 3)}, bars[2], (7, 7))
                   for sizes in batches],
        'retrieval': [(retrieval_case, {'queries': 144, 'prototypes': 1500000}, {'queries': 9, 'prototypes': 999},
                       Bar(10, limit=1 << 30), (7, 3))],
        'random_walk': [(walk_case, {'height': 47, 'width': 63}, {'height': 5, 'width': 6}, bars[3], (7, 5))],
    }


# Sizes that are doubled in turn to see how the cost grows.
GROWTH = [(relation_case, {'pixels': 8192, 'segments': 2000}), (image_similarity_case, {'images': 4, 'pixels': 8192,
          'segments': 250}), (kmeans_case, {'images': 4, 'height': 128, 'width': 128, 'grid': (6, 6)}),
          (retrieval_case, {'queries': 144, 'prototypes': 400000}), (walk_case, {'height': 32, 'width': 32})]
