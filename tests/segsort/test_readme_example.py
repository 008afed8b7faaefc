"""The README's example of the method with any network, run unchanged."""
import pathlib
import re

import torch

README = pathlib.Path(__file__).parents[2] / 'README.md'


def example():
    blocks = re.findall(r'^```python\n(.*?)^```$', README.read_text(encoding='utf-8'), re.MULTILINE | re.DOTALL)
    found = [block for block in blocks if 'from spml import segsort' in block]
    assert len(found) == 1
    return found[0]


def test_the_example_is_short_and_every_relation_in_it_trains_the_network():
    code = example()
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    names = {}
    exec(compile(code, 'README.md', 'exec'), names)
    assert set(names['losses']) == {'sem_ann_loss', 'sem_occ_loss', 'img_sim_loss'}
    weight = names['network'].weight
    for name, loss in names['losses'].items():
        assert torch.isfinite(loss), name
        assert loss > 0, name
    assert torch.isfinite(weight).all()
    assert weight.grad.abs().max() > 0
    # Two earlier steps are remembered, and no two of their images share an id.
    bank = names['bank']
    assert len(bank.steps) == 2
    images = bank.extend(names['segments']).image
    assert len(torch.unique(images)) == 12
