import collections
import os
import random
import signal

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from raw_files import without_its_middle

from spml.data.datasets import SegmentationDataset
from spml.data.lists import read_list
from spml.data.loader import StreamSampler, build_loader
from spml.errors import DataError, ResourceError


@pytest.fixture
def dataset(tmp_path, rng):
    for number in range(5):
        size = rng.integers(20, 40, 2)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(tmp_path / f'{number}.png')
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(tmp_path / f's{number}.png')
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(tmp_path / f'i{number}.png')
    (tmp_path / 'list.txt').write_text('\n'.join(f'{i}.png s{i}.png i{i}.png' for i in range(5)))
    return SegmentationDataset(read_list(tmp_path / 'list.txt', tmp_path), (24, 24), 21, (0.5,) * 3, (0.25,) * 3,
                               True, True, True, grey_probability=0.3, blur_probability=0.5)


@pytest.mark.parametrize(('length', 'batch', 'world'), [(7, 2, 1), (7, 3, 2), (3, 4, 2), (1, 2, 3), (8, 2, 2)])
def test_unshuffled_stream_follows_the_formula(length, batch, world):
    for rank in range(world):
        sampler = StreamSampler(length, batch, rank, world, num_steps=9)
        assert len(sampler) == 9
        steps = list(sampler)
        assert len(steps) == 9
        for t, step in enumerate(steps):
            positions = [(t * world + rank) * batch + b for b in range(batch)]
            assert step == [(position, position % length) for position in positions]


@pytest.mark.parametrize('world', [1, 2])
def test_shuffled_passes_are_permutations_that_the_ranks_share_out(world):
    length, batch, steps = 11, 3, 40
    stream = {}
    for rank in range(world):
        for step in StreamSampler(length, batch, rank, world, shuffle=True, seed=4, num_steps=steps):
            assert not stream.keys() & {position for position, _ in step}
            stream.update(step)
    assert sorted(stream) == list(range(steps * batch * world))
    passes = [[stream[position] for position in range(first, first + length)]
              for first in range(0, len(stream) - length, length)]
    assert all(sorted(order) == list(range(length)) for order in passes)
    assert len({tuple(order) for order in passes}) > 1


def test_the_stream_is_the_same_for_any_split_into_processes_and_any_seed_has_its_own():
    def stream(world, seed):
        return dict(pair for rank in range(world)
                    for step in StreamSampler(10, 2, rank, world, True, seed, num_steps=12 // world) for pair in step)
    assert stream(1, 3) == stream(2, 3) == stream(3, 3)
    assert stream(1, 3) != stream(1, 4)


@pytest.mark.parametrize('shuffle', [False, True])
def test_resume_gives_the_same_tail(shuffle):
    whole = list(StreamSampler(7, 2, 1, 2, shuffle, 9, num_steps=20))
    for start in (0, 1, 7, 19):
        assert list(StreamSampler(7, 2, 1, 2, shuffle, 9, start_step=start, num_steps=20 - start)) == whole[start:]
    sampler = StreamSampler(7, 2, shuffle=shuffle, num_steps=5)
    assert list(sampler) == list(sampler)


def test_empty_data_set():
    with pytest.raises(DataError, match='empty'):
        StreamSampler(0, 2)


def load(dataset, num_workers, **options):
    sampler = StreamSampler(len(dataset), 2, shuffle=True, seed=1, **options)
    return list(build_loader(dataset, sampler, num_workers))


def test_batches_do_not_depend_on_the_workers_or_on_a_resume(dataset, identical):
    here, there = (load(dataset, workers, num_steps=6) for workers in (0, 2))
    resumed = load(dataset, 2, start_step=4, num_steps=2)
    assert len(here) == 6
    assert identical(here, there)
    assert identical(here[4:], resumed)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_data_error_arrives_as_one_line(dataset, num_workers):
    bad = dataset.entries[3].semantic
    bad.write_bytes(b'junk')
    loader = build_loader(dataset, StreamSampler(5, 1, num_steps=10), num_workers)
    assert len(loader) == 10
    with pytest.raises(DataError, match=rf'^{dataset.entries[3].place}: {bad}: not a PNG.*\Z'):
        collections.deque(loader, maxlen=0)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_loading_leaves_the_global_random_states_alone(dataset, num_workers):
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    load(dataset, num_workers, num_steps=3)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


class Nine(torch.utils.data.Dataset):
    def __len__(self):
        return 9


class Threads(Nine):
    def __getitem__(self, key):
        return {'torch': torch.get_num_threads(), 'cv2': cv2.getNumThreads()}


def test_workers_are_single_threaded():
    batch = next(iter(build_loader(Threads(), StreamSampler(2, 2), num_workers=1)))
    assert batch['torch'].tolist() == batch['cv2'].tolist() == [1, 1]


class Draws(Nine):
    """Draws from the global random states of whichever process asks."""

    def __getitem__(self, key):
        return {'python': random.random(), 'numpy': np.random.rand(), 'torch': torch.rand(1)}  # noqa: NPY002


def draws(seed):
    loader = build_loader(Draws(), StreamSampler(4, 1, num_steps=4), num_workers=2, seed=seed)
    return [{name: value.item() for name, value in batch.items()} for batch in loader]


def test_the_workers_random_states_follow_the_seed():
    one, again, other = draws(3), draws(3), draws(4)
    assert one == again
    for name in ('python', 'numpy', 'torch'):
        values = [batch[name] for batch in one + other]
        assert len(set(values)) == len(values), name


class Deadly(Nine):
    """Its worker is killed by sample 3, and signalled before."""

    def __getitem__(self, key):
        os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C in a terminal does to every process
        if key[1] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return {'index': key[1]}


def test_a_worker_that_dies_is_one_line_where_its_batch_is_asked_for(monkeypatch):
    monkeypatch.setattr(torch.utils.data._utils, 'MP_STATUS_CHECK_INTERVAL', 0.1)
    handler = signal.getsignal(signal.SIGCHLD)
    batches = iter(build_loader(Deadly(), StreamSampler(9, 1, num_steps=9), num_workers=1))
    assert next(batches)['index'].item() == 0
    # A handler of torch's would raise wherever the training happens to be.
    assert signal.getsignal(signal.SIGCHLD) == handler
    with pytest.raises(ResourceError, match=r'num_threads \(now 1'):
        collections.deque(batches, maxlen=0)


class Faulty(Nine):
    def __getitem__(self, key):
        raise ConnectionError('the data set itself') if key[1] else RuntimeError('the data set itself')


@pytest.mark.parametrize('start', [0, 1])
@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_fault_in_a_data_set_is_no_death_of_a_worker(start, num_workers):
    loader = build_loader(Faulty(), StreamSampler(9, 1, start_step=start), num_workers=num_workers)
    with pytest.raises((RuntimeError, ConnectionError), match='the data set itself'):
        next(iter(loader))


@pytest.mark.parametrize('num_workers', [0, 2])
def test_an_image_of_which_the_middle_is_lost_is_told_of_once_and_trained_on(dataset, num_workers, caplog):
    bad = dataset.entries[3].image
    photo = Image.fromarray(np.random.default_rng().integers(0, 256, (*Image.open(bad).size[::-1], 3), np.uint8))
    photo.save(bad, format='JPEG', quality=100, subsampling=0)  # little but pixels
    without_its_middle(bad)
    names = [name for batch in load(dataset, num_workers, num_steps=10) for name in batch['name']]
    assert names.count(dataset.entries[3].name) > 1
    assert 'damage' not in load(dataset, num_workers, num_steps=10)[0]
    assert [record.getMessage().startswith(f'{dataset.entries[3].place}: {bad}: a damaged JPEG')
            for record in caplog.records] == [True]


class Large(Nine):
    """Items of 120 kB, more than the shared memory of the test has."""

    def __getitem__(self, key):
        return {'image': torch.arange(30_000.0) + key[0], 'flag': True, 'index': key[1], 'name': str(key)}


def test_without_shared_memory_batches_arrive_through_pipes(file_size_limit, caplog, identical):
    expected = load(Large(), 0, num_steps=5)
    with file_size_limit(100_000):  # files of shared memory fail to grow as they do where there is no room
        found = load(Large(), 2, num_steps=5)
    assert identical(found, expected)
    told, = [record.getMessage() for record in caplog.records]
    assert '/dev/shm' in told
    assert '--shm-size' in told


def test_workers_that_cannot_be_started_are_one_line(monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('multiprocessing.synchronize.Lock', refuse)
    with pytest.raises(ResourceError, match=r'/dev/shm.*num_threads=0'):
        load(Large(), 2, num_steps=1)
