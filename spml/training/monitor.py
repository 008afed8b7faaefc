"""What the user sees of a training: lines on how long it takes, a progress bar, `metrics.jsonl`, TensorBoard.

Rank 0 alone shows and writes.
"""
import contextlib
import json
import logging
import sys
import time

import torch
from tqdm import tqdm

from spml.config import images_per_process
from spml.names import RELATIONS
from spml.utils import distributed
from spml.utils.formats import append_line, read_json_lines, write_text
from spml.visualization.tensorboard import TrainingWriter

# Pictures are this many times rarer than scalars.
PICTURE_INTERVAL = 10
# Steps that are timed to say when the training ends; the first one, which is slow, comes before them.
TIMED_STEPS = 10
# Steps after which a relation that has said nothing is taken to have nothing to say.
WATCHED_STEPS = 50

logger = logging.getLogger(__name__)


class Silence:
    """Finds relations whose loss is 0 in every step, those of the first `WATCHED_STEPS`, and says so once."""

    def __init__(self, start, stop):
        self.last, self.largest = min(start + WATCHED_STEPS, stop) - 1, {}

    def note(self, iteration, losses):
        """Take note of a step's losses, a dict of scalar tensors; each process has its own."""
        if iteration > self.last:
            return
        for name, loss in losses.items():
            # Kept where it is: asking for its value would wait for the device in every step.
            self.largest[name] = torch.maximum(self.largest.get(name, loss.detach()), loss.detach())
        if iteration == self.last:
            found = distributed.mean_over_processes(self.largest)
            for name, relation in RELATIONS.items():
                if found.get(f'{name}_loss') == 0 and distributed.rank() == 0:
                    logger.warning('%s_loss has been 0 in every step so far: %s, so %s says nothing; '
                                   'train.%s_loss_types=none saves its time', name, relation.silence, relation.title,
                                   name)


class Monitor:
    """Progress of one training, whose folder gets `metrics.jsonl` and `tensorboard/`, from an iteration on."""

    def __init__(self, directory, start, config):
        self.config, self.interval = config, config.train.tensorboard_step
        self.shown = distributed.rank() == 0
        if not self.shown:
            return
        self.path = directory / 'metrics.jsonl'
        # A resumed training repeats the iterations after its snapshot; their old lines go.
        kept = [row for row in read_json_lines(self.path) if row.get('iteration', start) < start]
        write_text(self.path, ''.join(f'{json.dumps(row)}\n' for row in kept))
        self.writer = TrainingWriter(directory / 'tensorboard', start)
        print(extent(config, start, distributed.world_size()), flush=True)
        self.bar = tqdm(total=config.train.max_iteration, initial=start, desc='train', unit='it', dynamic_ncols=True)

    def due(self, iteration):
        """Whether this iteration's values are logged."""
        return iteration % self.interval == 0

    def log(self, iteration, values):
        """Write one line of floats (means over processes)."""
        if not self.shown:
            return
        append_line(self.path, json.dumps({'iteration': iteration, **values}))
        self.writer.scalars(iteration, values)
        self.bar.set_postfix({name.removesuffix('_loss'): f'{value:.3g}' for name, value in values.items()},
                             refresh=False)

    def pictures(self, iteration, batch, extras):
        """Write the first image of the batch with its labels, clusters and embedding, every so often."""
        if not self.shown or iteration % (self.interval * PICTURE_INTERVAL):
            return
        # The classifier's training has neither over-segmentation nor clusters.
        regions = batch['instance_label'][0].cpu() if 'instance_label' in batch else None
        clusters = extras['clusters'][0].cpu() if 'clusters' in extras else None
        network, dataset = self.config.network, self.config.dataset
        self.writer.images(iteration, image=batch['image'][0].cpu(), means=network.pixel_means, stds=network.pixel_stds,
                           semantic_label=batch['semantic_label'][0].cpu(), regions=regions, clusters=clusters,
                           embedding=extras['embedding'][0].float().cpu(), num_classes=dataset.num_classes,
                           color_map=dataset.color_map)

    def advance(self):
        """Count one iteration; once some have been timed, say when the training will end."""
        if not self.shown:
            return
        with contextlib.suppress(BrokenPipeError):  # nobody reads; the loop notices before the next step
            self.bar.update()
            timed = self.bar.n - self.bar.initial - 1
            if timed == 0:
                self.since = time.monotonic()
            elif timed == TIMED_STEPS and self.bar.n < self.bar.total:
                seconds = (time.monotonic() - self.since) / TIMED_STEPS
                self.bar.write(expectation(self.bar.total - self.bar.n, seconds, time.time()))
                sys.stdout.flush()

    def close(self):
        """Flush and release everything."""
        if self.shown:
            with contextlib.suppress(BrokenPipeError):
                self.bar.close()
            self.writer.close()


def extent(config, start, processes):
    """Return the line that says how much there is to train, from an iteration on."""
    images, total = images_per_process(config, processes), config.train.total_batch_size
    each, steps = images * processes, config.train.max_iteration - start
    uneven = f' = {each} ({total} cannot be shared out evenly)' if total not in (0, each) else ''
    return (f'training on {processes} {"process" if processes == 1 else "processes"} x {images} images{uneven}: '
            f'{steps} steps, {steps * each} images')


def expectation(steps, seconds, now):
    """Return the line on when a training will end: `steps` to do, of `seconds` each; `now` is since the epoch."""
    left = steps * seconds
    days, hours, minutes = int(left // 86400), int(left % 86400 // 3600), int(left % 3600 // 60)
    duration = (f'{days} d {hours} h' if days else f'{hours} h {minutes} min' if hours else
                f'{minutes} min {left % 60:.0f} s' if minutes else f'{left:.0f} s')
    clock = time.strftime('%Y-%m-%d %H:%M', time.localtime(now + left))
    return f'{steps} steps to go, {seconds:.3g} s a step: expected end {clock} (in {duration})'
