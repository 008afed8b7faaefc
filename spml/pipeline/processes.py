"""How many processes run the network: GPUS and PROCESSES of the pipeline, or the key `gpus` of the configuration."""
import os
import subprocess
import sys

from spml.errors import SpmlError
from spml.pipeline.settings import embedding_keys


def count_processes(settings, configs):
    """Return the number of processes.

    Args:
        settings: dict of the pipeline's settings.
        configs: dict from a stage's name to its configuration or None; the first one's `gpus` counts.

    Raises:
        SpmlError: GPUS or PROCESSES ask for more GPUs than can be used.
    """
    config = next((config for config in configs.values() if config is not None), None)
    gpus = (settings.get('GPUS') if 'gpus' not in embedding_keys(settings) else '') or (config.gpus if config else '0')
    asked = bool(settings.get('GPUS') or settings.get('PROCESSES'))
    wanted = int(settings.get('PROCESSES') or len(gpus.split(',')))
    if wanted == 1 and not settings.get('GPUS'):
        return 1
    visible = _visible_gpus(settings.get('GPUS'))
    if visible == 0:
        return int(settings.get('PROCESSES') or 1)
    if visible < wanted and asked:
        raise SpmlError(f'GPUS={gpus}: only {visible} of these GPUs can be used, but {wanted} processes are to run; '
                        'name others')
    if visible < wanted:
        print(f'note: gpus={gpus}, but {visible} can be used here: {visible} '
              f'{"process works" if visible == 1 else "processes work"}')
    return min(visible, wanted)


def _visible_gpus(gpus):
    """Return how many GPUs PyTorch can use, asked in a separate process: this one does not import torch."""
    environment = {**os.environ, **({'CUDA_VISIBLE_DEVICES': gpus} if gpus else {})}
    found = subprocess.run([sys.executable, '-c', 'import torch; print(torch.cuda.device_count())'], env=environment,
                           capture_output=True, text=True, check=False)
    return int(found.stdout) if found.returncode == 0 else 0
