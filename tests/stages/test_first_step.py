"""What a model sets in its first step goes on with it, and what changes later is refused."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eeipu import TrainingError
from eeipu.stages.torch_training.loop import torch_loop

X = torch.arange(24.0).reshape(8, 3) / 24
Y = torch.arange(8) % 2


class Config:
    def __init__(self):
        self.problem, self.is_begun, self.scale = None, False, None


class Deciding(nn.Module):
    """A model that decides by its first batch what it is for, as those of Hugging Face do."""

    def __init__(self, config):
        super().__init__()
        self.net, self.config = nn.Linear(3, 2), config

    def forward(self, x):
        self.decide(x)
        y = self.net(x) * self.config.scale
        return y if self.config.problem == "classes" else y.abs()

    def decide(self, x):
        if self.config.problem is None:
            self.config.problem = "classes" if len(x) < 8 else "numbers"
            self.config.scale, self.first_rows = x.mean().item(), len(x)
            self.config.is_begun = True


def loop(model=lambda: Deciding(Config()), step="batch"):
    def loaders(batch_size=4):
        return DataLoader(TensorDataset(X, Y), batch_size, shuffle=True), [(X, Y)]

    def sgd(parameters):
        return torch.optim.SGD(parameters, lr=0.1)

    return torch_loop(model, sgd, nn.functional.cross_entropy, loaders, step=step)


@pytest.mark.parametrize("step", ["batch", "epoch"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_training_goes_on_with_what_its_first_step_has_set(step, stop):
    kind = loop(step=step)
    whole = kind.advance(kind.init(), 0, 6, {})
    state = kind.load(kind.save(kind.advance(kind.init(), 0, stop, {})))
    assert state.model.config.problem == "classes"
    assert state.model.first_rows == 4
    state = kind.load(kind.save(kind.advance(state, stop, 6, {})))
    assert vars(state.model.config) == vars(whole.model.config)
    assert kind.evaluate(state) == kind.evaluate(whole)


def test_an_evaluation_between_does_not_change_what_is_set():
    kind = loop()
    whole = kind.advance(kind.init(), 0, 6, {})
    state = kind.advance(kind.init(), 0, 1, {})
    kind.evaluate(state)
    state = kind.advance(state, 1, 6, {})
    kind.save(state)
    assert kind.evaluate(state) == kind.evaluate(whole)


class Later(Deciding):
    def decide(self, x):
        super().decide(x)
        self.seen = getattr(self, "seen", 0) + 1


class Counting(Deciding):
    def __init__(self, config):
        super().__init__(config)
        self.config.seen = 0

    def decide(self, x):
        super().decide(x)
        self.config.seen += 1


class InEvaluation(Deciding):
    def decide(self, x):
        super().decide(x)
        if not self.training:
            self.config.mode = "evaluated"


def test_what_changes_again_after_the_first_step_is_refused():
    kind = loop(lambda: Later(Config()))
    state = kind.advance(kind.init(), 0, 2, {})
    with pytest.raises(TrainingError, match=r"'model\.seen' from 1 to 2, and no checkpoint"):
        kind.save(state)


def test_a_counter_is_refused_at_once():
    kind = loop(lambda: Counting(Config()))
    state = kind.advance(kind.init(), 0, 1, {})
    with pytest.raises(TrainingError, match=r"'model\.config\.seen' from 0 to 1"):
        kind.save(state)


def test_what_an_evaluation_sets_is_refused():
    kind = loop(lambda: InEvaluation(Config()))
    state = kind.advance(kind.init(), 0, 1, {})
    kind.evaluate(state)
    with pytest.raises(TrainingError, match=r"'model\.config\.mode'"):
        kind.save(kind.advance(state, 1, 2, {}))


def test_an_object_that_other_trainings_may_have_too_is_refused_with_the_remedy():
    config = Config()
    kind = loop(lambda: Deciding(config))
    state = kind.advance(kind.init(), 0, 1, {})
    with pytest.raises(TrainingError, match=r"config\.problem' from None to 'classes'.*make_model"):
        kind.save(state)


def test_a_model_that_has_no_place_for_it_any_more_is_refused():
    kind = loop()
    saved = kind.save(kind.advance(kind.init(), 0, 1, {}))
    other = loop(lambda: Deciding(None))
    with pytest.raises(TrainingError, match=r"has the value of 'model\.config\.\w+', which is not"):
        other.load(saved)
