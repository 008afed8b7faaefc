"""The speed benchmark on inputs of a few numbers: that what it compares is right, and what it prints and returns."""
import importlib
import pathlib
import runpy
import sys

import numpy as np
import pytest
import torch

from spml.program import execute

ROOT = pathlib.Path(__file__).parents[2]
CPU = torch.device('cpu')


@pytest.fixture
def scripts(monkeypatch):
    """A function from the name of a module of the benchmark, or of the oracle, to the module."""
    monkeypatch.syspath_prepend(ROOT / 'pyscripts' / 'benchmark' / 'speed')
    monkeypatch.syspath_prepend(ROOT / 'tests' / 'segsort')
    return importlib.import_module


def scene(naive, pixels=25, segments=8):
    """Return float64 vectors, segments of pixels, and labels: two images, consecutive, of five and three segments.

    The first segment is labelled: the mean over labelled pixels is that of none otherwise.
    """
    rng = np.random.default_rng()
    own = torch.from_numpy(np.r_[:segments, rng.integers(0, segments, pixels - segments)])
    return (naive.random_units(pixels, 4).requires_grad_(), own, naive.random_units(segments, 4).requires_grad_(),
            torch.tensor([0, 0, 0, 0, 0, 1, 1, 1]), torch.from_numpy(np.r_[0, rng.integers(0, 3, segments - 1)]),
            torch.from_numpy(rng.random((segments, 5)) < 0.3))


def test_the_direct_relations_are_the_formulas(scripts):
    direct, naive = scripts('direct'), scripts('naive_segsort')
    embeddings, own, prototypes, image, labels, tags = scene(naive)
    annotation, occurrence = direct.relations(embeddings, own, prototypes, labels, tags, (6.0, 8.0), 2)
    sets = [set(row.nonzero()[:, 0].tolist()) for row in tags]
    torch.testing.assert_close(annotation, naive.semantic_annotation(embeddings, own, prototypes, labels, 6.0, 2))
    torch.testing.assert_close(occurrence, naive.sharing(embeddings, own, prototypes, sets, 8.0))
    own = own.sort().values
    similarity = direct.image_similarity(embeddings, own, prototypes, image, labels, 16.0)
    torch.testing.assert_close(similarity, naive.image_similarity(embeddings, own, prototypes, image, labels, 16.0))


def test_direct_clustering_retrieval_and_walk_are_the_formulas(scripts, rng):
    direct, naive = scripts('direct'), scripts('naive_segsort')
    vectors, initial = naive.random_units(2, 30, 4), torch.from_numpy(rng.integers(0, 5, (2, 30)))
    for found, image, labels in zip(direct.kmeans(vectors, initial, 5, 3), vectors.numpy(), initial, strict=True):
        assert found.tolist() == naive.kmeans(image, labels.tolist(), 5, 3)
    queries, bank, labels = naive.random_units(4, 3), naive.random_units(50, 3), rng.integers(0, 6, 50)
    for row, query in zip(direct.retrieval(queries, bank, torch.from_numpy(labels), 6, 7), queries, strict=True):
        nearest = sorted(range(50), key=lambda m: -float((query * bank[m]).sum()))[:7]
        assert row.tolist() == np.bincount(labels[nearest], minlength=6).tolist()
    matrix = rng.random((9, 9)) ** 4
    matrix /= matrix.sum(axis=0)
    scores = rng.random((3, 9))
    np.testing.assert_allclose(direct.random_walk(torch.from_numpy(scores), torch.from_numpy(matrix)).numpy(),
                               scores @ np.linalg.matrix_power(matrix, 64), rtol=1e-9)


@pytest.mark.parametrize('stage', ['relations', 'image_similarity', 'kmeans', 'retrieval', 'random_walk'])
def test_both_versions_of_a_stage_agree_and_a_difference_would_be_told(scripts, stage):
    for on_gpu in (False, True):
        for build, sizes, small, _, _ in scripts('stages').tensor_stages(on_gpu)[stage]:
            assert not set(small) - set(build.__code__.co_varnames)
            assert sizes.keys() <= set(build.__code__.co_varnames)
            case = build(CPU, **small)
            assert case.compare(case.fast(), case.direct()) is None
            wrong = [tensor + 1 for tensor in case.fast()] if isinstance(case.fast(), tuple) else case.fast() + 1
            assert 'differ' in case.compare(wrong, case.direct()) or 'only' in case.compare(wrong, case.direct())
            assert case.work.operations > 0


def test_growth_doubles_one_size_after_the_other(scripts, monkeypatch):
    suite = scripts('suite')
    monkeypatch.setattr(suite, 'peak_memory', lambda build, arguments, *_: 100 * arguments['height'])
    rows = suite.growth(scripts('stages').walk_case, {'height': 3, 'width': 4}, CPU)
    assert [row['doubled'] for row in rows] == [None, 'height', 'width']
    assert ['6 x 4' in rows[1]['title'], '3 x 8' in rows[2]['title']] == [True, True]
    assert [row['memory_growth'] for row in rows] == [1, 2, 1]
    assert rows[0]['time_growth'] == 1


def test_the_slowest_kind_of_inputs_is_held_against_the_first(scripts, monkeypatch):
    suite, stages = scripts('suite'), scripts('stages')
    seconds = dict(zip(stages.INPUTS, (2.0, 8.0, 1.0), strict=True))
    monkeypatch.setattr(suite, 'run_in_turn', lambda functions, *_: ({name: seconds[name] for name in functions}, {}))
    for build, sizes in ((stages.walk_case, {'height': 3, 'width': 4}), (stages.relation_case, {'pixels': 60,
                         'segments': 50}), (stages.kmeans_case, {'images': 1, 'height': 4, 'width': 5, 'grid': (2, 2)}),
                         (stages.retrieval_case, {'queries': 3, 'prototypes': 99}),
                         (stages.image_similarity_case, {'images': 2, 'pixels': 64, 'segments': 9})):
        row = suite.slowest_inputs(build, sizes, CPU, 1)
        assert (row['fast'], row['direct'], row['ratio']) == (8, 2, 0.25)
        assert row['title'].endswith(f': {stages.INPUTS[1]}')
        assert not row['bar'].met(row)
        for inputs in stages.INPUTS:
            case = build(CPU, **sizes, inputs=inputs)
            assert case.compare(case.fast(), case.direct()) is None


@pytest.mark.parametrize(('met', 'status'), [(True, 0), (False, 1)])
def test_a_missed_bar_is_named_and_ends_with_status_1(scripts, monkeypatch, tmp_path, capsys, met, status):
    script, suite = runpy.run_path(str(ROOT / 'pyscripts' / 'benchmark' / 'speed')), scripts('suite')
    monkeypatch.setattr(suite, 'run', lambda device, names: {'stages': [{'title': f'{device} {names}', 'met': met}]})
    monkeypatch.setattr(sys, 'argv', ['x', '--device', 'cpu', '--stage', 'kmeans', '--json', str(tmp_path / 'a.json')])
    with pytest.raises(SystemExit) as caught:
        execute(script['main'])
    assert caught.value.code == status
    assert capsys.readouterr().err == ('' if met else "missed: cpu ['kmeans']\n")
    assert '"stages"' in (tmp_path / 'a.json').read_text()


@pytest.mark.slow
def test_the_parts_of_the_program_run(scripts, capsys):
    runs, suite, speed = scripts('runs'), scripts('suite'), scripts('measure')
    rates = speed.Rates(1e9, 1e9, 1e9)
    rows = [runs.crf_row(CPU, rates, maps=2, size=(20, 30), repeats=(1, 1)),
            runs.step_row(CPU, rates, 1, 64, depth=14, repeats=(1, 1)),
            runs.overlap_row(CPU, images=1, size=(30, 40), depth=14, crop=32, num_workers=1),
            *runs.pipeline_rows(CPU, size=(30, 40), depth=14, crop=32),
            *runs.loader_rows(1.0, images=4, size=(30, 40), crop=32)]
    for row in suite.print_table(suite.STAGE_HEADER, map(speed.judge, rows), suite.stage_line):
        assert row['difference'] is None
        assert min(row['fast'], row['direct']) > 0
    rows_of_precision = runs.precision_rows(CPU, 1, 64, depth=14, repeats=1)
    precisions = suite.print_table(['x'] * 6, rows_of_precision, suite.precision_line)
    assert capsys.readouterr().out.count('\n|') == 2 * 2 + len(rows) + 4
    names = ['fp32', 'fp32, images rounded to bfloat16', 'tf32', 'bf16']
    assert [row['precision'] for row in precisions] == names
    cosines = [row['embedding_cosine'] for row in precisions]
    # tf32 changes nothing on a CPU.
    assert cosines[0] == pytest.approx(1)
    assert cosines[2] == pytest.approx(1)
    assert 0.9 < cosines[1] < 1
    assert 0.9 < cosines[3] < 1
