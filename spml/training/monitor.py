"""What a person sees of a training: a progress bar, `metrics.jsonl`, TensorBoard. Rank 0 alone shows and writes."""
import json
import pathlib

from tqdm import tqdm

from spml.utils import distributed
from spml.utils.formats import append_line, read_json_lines, write_text
from spml.visualization.tensorboard import TrainingWriter

# Pictures are this many times rarer than scalars.
PICTURE_INTERVAL = 10


class Monitor:
    """Progress of one training.

    Args:
        directory: snapshot folder; gets `metrics.jsonl` and `tensorboard/`.
        start, stop: first iteration and one past the last.
        interval: iterations between lines of `metrics.jsonl`.
        num_classes: C.
        means, stds: of the image normalisation, for pictures.
        color_map: (C, 3) ints, the classes' colours in pictures.
    """

    def __init__(self, directory, start, stop, interval, num_classes, means, stds, color_map=None):
        self.interval = interval
        self.num_classes = num_classes
        self.means, self.stds = means, stds
        self.color_map = color_map
        self.shown = distributed.rank() == 0
        if not self.shown:
            return
        self.path = pathlib.Path(directory) / 'metrics.jsonl'
        # A resumed run repeats the iterations after its snapshot; their old lines go.
        kept = [row for row in read_json_lines(self.path) if row.get('iteration', start) < start]
        write_text(self.path, ''.join(f'{json.dumps(row)}\n' for row in kept))
        self.writer = TrainingWriter(pathlib.Path(directory) / 'tensorboard', start)
        self.bar = tqdm(total=stop, initial=start, desc='train', unit='it', dynamic_ncols=True)

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
        instance_label = batch['instance_label'][0].cpu() if 'instance_label' in batch else None
        clusters = extras['clusters'][0].cpu() if 'clusters' in extras else None
        self.writer.images(iteration, image=batch['image'][0].cpu(), means=self.means, stds=self.stds,
                           semantic_label=batch['semantic_label'][0].cpu(),
                           instance_label=instance_label, clusters=clusters,
                           embedding=extras['embedding'][0].float().cpu(), num_classes=self.num_classes,
                           color_map=self.color_map)

    def advance(self):
        """Count one iteration."""
        if self.shown:
            self.bar.update()

    def close(self):
        """Flush and release everything."""
        if self.shown:
            self.bar.close()
            self.writer.close()
