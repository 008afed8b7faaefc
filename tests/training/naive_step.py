"""METHOD.md, "Relations", for a training step of two processes, in loops and float64: the oracle of the tests here."""
import naive_segsort as naive
import numpy as np
import torch
import torch.nn.functional as F

PROCESSES, IMAGES, SIZE, GRID = 2, 2, 32, 8
CLASSES, VOID = 3, 255
WEIGHTS = {'sem_ann_loss': 0.7, 'sem_occ_loss': 0.4, 'img_sim_loss': 0.3, 'feat_aff_loss': 0.2, 'softmax_loss': 1.1}
KAPPA = {'sem_ann': 6, 'sem_occ': 8, 'img_sim': 16, 'feat_aff': 5}
# The kinds of the four images' labels, and what those of points have for themselves, by the names of keys.
KINDS = ['point', 'scribble', 'point', 'point']
OF_POINTS = {'sem_ann_loss_weight': 0.2, 'sem_occ_concentration': 5, 'img_sim_concentration': 9,
             'img_sim_loss_weight': 0.9, 'feat_aff_loss_weight': 0.5}


def random_batch(rng):
    """Return four images in blocks of 8 x 8 pixels: class, unlabelled and void, and an over-segmentation."""
    def blocks(values):
        return torch.from_numpy(np.kron(rng.choice(values, (4, 4, 4)), np.ones((8, 8), int)))
    # Each image has its own foreground class or none, so that some share tags and others don't.
    labels = torch.stack([blocks([0, foreground, 200, VOID])[0] for foreground in (1, 2, 1, 0)])
    tags = torch.stack([torch.bincount(label.flatten(), minlength=256) > 0 for label in labels])
    return {'image': torch.from_numpy(rng.standard_normal((4, 3, SIZE, SIZE))), 'semantic_label': labels,
            'instance_label': blocks([0, 3, 255]), 'tags': tags}


def naive_segments(task, batch, iterations):
    """Return the kept pixels and the segments of all four images, from the network's output on, in plain loops."""
    location = np.linspace(0, 1, GRID) - 0.5
    start = np.round(np.linspace(0, 1, GRID)).astype(int)
    pixels, segments = [], {}
    embeddings = task.embedding(batch['image'])
    for image, embedding in enumerate(embeddings):
        kept = []
        for y in range(GRID):
            for x in range(GRID):
                semantic = int(batch['semantic_label'][image, y * 4, x * 4])
                if semantic == VOID:
                    continue
                unit = embedding[:, y, x] / embedding[:, y, x].norm()
                place = torch.tensor([location[y], location[x]], dtype=torch.float64)
                joint = torch.cat([unit, place])
                kept.append({'unit': unit, 'joint': joint / joint.norm(), 'image': image, 'semantic': semantic,
                             'instance': int(batch['instance_label'][image, y * 4, x * 4]),
                             'start': start[y] + 2 * start[x]})
        clusters = naive.kmeans(np.array([pixel['joint'].detach().numpy() for pixel in kept]),
                                [pixel['start'] for pixel in kept], 4, iterations)
        for pixel, cluster in zip(kept, clusters, strict=True):
            key = (image, int(cluster), pixel['semantic'], pixel['instance'])
            segments.setdefault(key, []).append(pixel)
            pixels.append((pixel, key))
    order = {key: index for index, key in enumerate(segments)}
    own = [order[key] for _, key in pixels]

    def sums(name):
        return torch.stack([F.normalize(sum(p[name] for p in members), dim=0) for members in segments.values()])
    described = {'image': [key[0] for key in segments], 'semantic': [key[2] for key in segments],
                 'instance': [key[3] for key in segments], 'unit': sums('unit'), 'joint': sums('joint')}
    described['tags'] = [set(batch['tags'][image].nonzero()[:, 0].tolist()) & {1, 2} for image in described['image']]
    return [pixel for pixel, _ in pixels], own, described, embeddings


def of_image(image, kinds, name, part):
    """Return kappa (`part` is concentration) or weight (loss_weight) of a relation for the pixels of an image."""
    usual = KAPPA[name] if part == 'concentration' else WEIGHTS[f'{name}_loss'] if kinds else 1
    return OF_POINTS.get(f'{name}_{part}', usual) if kinds and kinds[image] == 'point' else usual


def naive_losses(task, batches, iterations, kinds=None):
    """Return the losses of the last step by METHOD.md, "Relations": the mean over processes of each one's mean.

    With the `kinds` of the images they are weighted.
    """
    with torch.no_grad():
        _, _, bank, _ = naive_segments(task, batches[0], iterations)
    pixels, own, now, embeddings = naive_segments(task, batches[1], iterations)
    # An earlier step's images are others than this step's.
    image = now['image'] + [index + IMAGES * PROCESSES for index in bank['image']]
    semantic = torch.tensor(now['semantic'] + bank['semantic'])
    unit, joint = (torch.cat([now[name], bank[name]]) for name in ('unit', 'joint'))
    tags = now['tags'] + bank['tags']
    classes = naive.propagated_classes(joint, image, semantic, CLASSES)
    totals = dict.fromkeys(WEIGHTS, 0)
    for process in range(PROCESSES):
        mine = [i for i, pixel in enumerate(pixels) if pixel['image'] // IMAGES == process]
        vectors, segments = torch.stack([pixels[i]['unit'] for i in mine]), [own[i] for i in mine]
        with_location = torch.stack([pixels[i]['joint'] for i in mine])
        local = slice(0, len(now['image']))
        images = range(process * IMAGES, (process + 1) * IMAGES)
        kappa, weight = ({name: [of_image(pixels[i]['image'], kinds, name, part) for i in mine] for name in KAPPA}
                         for part in ('concentration', 'loss_weight'))
        losses = {
            'sem_ann_loss': naive.semantic_annotation(vectors, segments, unit, semantic, kappa['sem_ann'], CLASSES,
                                                      weight['sem_ann']),
            'sem_occ_loss': naive.sharing(vectors, segments, unit, tags, kappa['sem_occ'], weight['sem_occ']),
            'feat_aff_loss': naive.sharing(vectors, segments, unit, classes, kappa['feat_aff'], weight['feat_aff']),
            'img_sim_loss': naive.image_similarity(with_location, segments, joint[local], now['image'],
                                                   now['instance'], kappa['img_sim'], weight['img_sim']),
            'softmax_loss': naive_cross_entropy(
                task, embeddings[list(images)].detach(), batches[1]['semantic_label'][list(images)],
                [of_image(image, kinds, 'sem_ann', 'loss_weight') for image in images])}
        totals = {name: totals[name] + losses[name] / PROCESSES for name in totals}
    return totals


def naive_cross_entropy(task, embeddings, labels, weights):
    logits = task.classifier.semantic_classifier(embeddings / embeddings.norm(dim=1, keepdim=True))
    logits = F.interpolate(logits, size=(SIZE, SIZE), mode='bilinear', align_corners=False)
    terms = [-weights[b] * logits[b, :, y, x].log_softmax(0)[labels[b, y, x]]
             for b, y, x in (labels < CLASSES).nonzero().tolist()]
    return sum(terms) / len(terms)
