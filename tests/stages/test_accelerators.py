"""GPUs in earnest, where there is one: what a stage used, used up, and left behind."""

import pytest
import torch

from eeipu import Pipeline, StageCache, stage

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]

MIB = 2**20


def test_a_stages_peak_is_what_it_had_in_use():
    torch.cuda.init()

    @stage(version="1")
    def take(mebibytes):
        return float(torch.ones(mebibytes * MIB, dtype=torch.uint8, device="cuda").sum())

    run = Pipeline([take]).run({}, 64)
    assert 64 * MIB <= run.peak_gpu_bytes[0] < 80 * MIB


def test_out_of_memory_is_a_failure_that_leaves_the_memory_to_the_next_trial():
    torch.cuda.init()
    free, _ = torch.cuda.mem_get_info()

    @stage(version="1")
    def fill(data):
        half = torch.empty(int(0.6 * free), dtype=torch.uint8, device="cuda")
        return half, torch.empty(int(0.6 * free), dtype=torch.uint8, device="cuda")

    for _ in range(2):
        run = Pipeline([fill]).run({}, 0)
        assert run.error.startswith("out of memory in stage 'fill'")
        assert torch.cuda.memory_allocated() < 0.1 * free


def test_an_output_made_on_a_gpu_comes_back_on_the_loaders_gpu(tmp_path):
    cache = StageCache(tmp_path / "cache")
    cache.put("key", {"weights": torch.ones(3, device="cuda"), "steps": torch.ones(3)})
    loaded = StageCache(tmp_path / "cache").get("key")

    assert loaded["weights"].device == torch.device("cuda", torch.cuda.current_device())
    assert loaded["steps"].device.type == "cpu"
