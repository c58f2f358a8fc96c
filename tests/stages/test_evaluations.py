"""Whether an evaluation has changed the state."""

import torch

from eeipu.stages.running.evaluations import digest_of_saved


def copied(state):
    return {name: each.detach().clone() for name, each in state.state_dict().items()}


def test_copies_made_anew_are_no_change():
    model, kept = torch.nn.Linear(3, 2), []
    before = digest_of_saved(lambda state: kept.append(copied(state)) or kept[-1], model)
    assert before is not None
    assert digest_of_saved(copied, model) == before


def test_a_change_of_a_weight_is_one():
    model = torch.nn.Linear(3, 2)
    before = digest_of_saved(copied, model)
    with torch.no_grad():
        model.weight[0, 0] += 1.0
    assert digest_of_saved(copied, model) != before


def test_what_cannot_be_pickled_has_no_digest():
    assert digest_of_saved(lambda state: state, lambda: None) is None
