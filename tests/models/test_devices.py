"""Where models are fitted."""

import optuna
import pytest
import torch
from toys import Toy

from eeipu import ConfigurationError, EEIPUSampler, Tuner
from eeipu.models import fitting
from eeipu.models.devices import CPU, GPU_FROM, checked_device, fitting_device
from eeipu.models.gaussian_process import ExactGPs

GPU = torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def see_gpus(monkeypatch, count, *, is_in_use=True):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: is_in_use)


def fitted(n=40, device=None):
    X = torch.rand(n, 3, dtype=torch.double, generator=torch.manual_seed(0))
    Y = torch.stack([(4.0 * X).sin().sum(-1), X.prod(-1)])
    Y[1, ::4] = float("nan")
    active = torch.tensor([[[1, 1, 1], [1, 0, 0]]] * 2, dtype=torch.bool)
    return X, ExactGPs(X, Y, active, categorical=[2], device=device)


# --- which device


@pytest.mark.parametrize("device", ["meta", "mps", "gpu", "", 3.5])
def test_a_device_that_is_none_is_refused_before_work_starts(device):
    for make in (Tuner, EEIPUSampler):
        with pytest.raises(ConfigurationError, match=r"device.*but got|but got.*device"):
            make(Toy().pipeline, budget=10.0, device=device)


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0), ("cuda:2", 2)])
def test_a_gpu_that_is_not_there_is_refused(device, gpus, monkeypatch):
    see_gpus(monkeypatch, gpus)
    with pytest.raises(ConfigurationError, match=f"torch sees {gpus} CUDA devices"):
        checked_device(device)


def test_a_gpu_that_is_there_is_taken(monkeypatch):
    see_gpus(monkeypatch, 2)
    assert checked_device("cuda:1") == torch.device("cuda", 1)
    assert checked_device(GPU) == GPU
    assert checked_device(None) is None


def test_a_sampler_of_another_kind_takes_no_device():
    with pytest.raises(ConfigurationError, match=r"RandomSampler.*device='cpu'"):
        Tuner(
            Toy().pipeline, budget=10.0, device="cpu", method=optuna.samplers.RandomSampler(seed=0)
        )


def test_a_gpu_in_use_fits_many_trials_and_one_that_is_not_is_left_alone(monkeypatch):
    see_gpus(monkeypatch, 1)
    assert fitting_device(None, GPU_FROM) == GPU
    assert fitting_device(None, GPU_FROM - 1) == CPU
    see_gpus(monkeypatch, 1, is_in_use=False)
    assert fitting_device(None, GPU_FROM) == CPU
    see_gpus(monkeypatch, 0)
    assert fitting_device(None, GPU_FROM) == CPU


def test_a_named_device_is_used_for_any_number(monkeypatch):
    see_gpus(monkeypatch, 1)
    assert fitting_device(GPU, 1) == GPU
    assert fitting_device(CPU, 10 * GPU_FROM) == CPU


def test_the_device_reaches_every_model(monkeypatch):
    asked = []

    def note(device, n):
        asked.append(device)
        return CPU

    monkeypatch.setattr("eeipu.models.gaussian_process.fitting_device", note)
    for method in ("eeipu", "carbo", "ms-bo"):
        asked.clear()
        tuner = Tuner(Toy().pipeline, budget=100.0, n_initial=3, method=method, device="cpu")
        tuner.run(1.0, max_trials=5, progress=False)
        assert len(asked) >= 2
        assert set(asked) == {CPU}


# --- fits


def test_the_processor_gives_what_nobody_named_gives():
    X, default = fitted()
    _, named = fitted(device=CPU)
    assert torch.equal(default.hyperparameters, named.hyperparameters)
    assert torch.equal(default.posterior(X)[1], named.posterior(X)[1])


def test_a_gpu_that_is_full_leaves_the_fit_to_the_processor(monkeypatch):
    X, expected = fitted()
    tried = []

    def full(observations, kernel, *, device, **options):
        tried.append(device)
        if device != CPU:
            raise torch.cuda.OutOfMemoryError
        return fitting.fitted(observations, kernel, device=device, **options)

    monkeypatch.setattr("eeipu.models.gaussian_process.fitted", full)
    _, gps = fitted(device=GPU)

    assert tried == [GPU, CPU]
    assert torch.equal(gps.posterior(X)[0], expected.posterior(X)[0])


def test_a_processor_without_memory_says_so(monkeypatch):
    def full(observations, kernel, *, device, **options):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr("eeipu.models.gaussian_process.fitted", full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        fitted(device=CPU)


@pytest.mark.gpu
@needs_gpu
def test_a_gpu_fits_what_the_processor_fits():
    X, on_cpu = fitted()
    _, on_gpu = fitted(device=GPU)
    for moments in zip(on_cpu.posterior(X), on_gpu.posterior(X), strict=True):
        assert torch.allclose(*moments, rtol=1e-3, atol=1e-4)
    points = X[:2]
    assert on_gpu.believing(points).posterior(points)[0].device == CPU
    assert on_gpu.hyperparameters.device == CPU


@pytest.mark.gpu
@needs_gpu
def test_a_study_is_tuned_with_its_models_on_a_gpu():
    study = Tuner(Toy().pipeline, budget=60.0, n_initial=3, seed=0, device="cuda").run(1.0)
    assert study.best_value > -0.3
