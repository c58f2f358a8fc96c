"""Batches, networks, training that goes on, and scores."""

import math

import pytest
import torch

pytest.importorskip("transformers")

from eeipu.benchmarks.distillation.batches import IGNORED, Batch, batches
from eeipu.benchmarks.distillation.corpus import docstrings
from eeipu.benchmarks.distillation.networks import Network, tokenizer
from eeipu.benchmarks.distillation.scoring import rouge_l, summaries, validation_loss
from eeipu.benchmarks.distillation.stages import Settings, distil, fine_tune, preprocess
from eeipu.benchmarks.distillation.training import (
    begin,
    distillation_loss,
    go_on,
    label_loss,
    restored,
)
from eeipu.errors import ConfigurationError

TINY = Network(width=16, inner=32, layers=1, heads=2, vocabulary=1024)
SMALL = Network(width=24, inner=48, layers=1, heads=2, vocabulary=1024)


@pytest.fixture(scope="module")
def taught():
    """A teacher that has been trained a little, and a student before its first step."""
    settings = Settings(SMALL, TINY, None, 16, 8, 1, 1, 4)
    return fine_tune(
        preprocess(docstrings(30, 10), settings, batch_size=10), lr=1e-2, weight_decay=0.1
    )


def same(first, second):
    """Whether two states are equal bit for bit."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list):
        return all(same(*pair) for pair in zip(first, second, strict=True))
    return first == second


def test_three_stages_of_equal_hyper_parameters_are_one_long_one(taught):
    hyper_parameters = {"lr": 1e-2, "temperature": 0.5, "weight_decay": 0.1}
    staged = taught
    for _ in range(3):
        staged = distil(staged, **hyper_parameters)

    teacher = restored(SMALL, taught.teacher.weights).eval()
    whole = go_on(
        TINY,
        begin(TINY, seed=0),
        taught.train,
        distillation_loss(teacher, 0.5),
        epochs=3,
        lr=1e-2,
        weight_decay=0.1,
    )

    assert same(staged.student.weights, whole.weights)
    assert same(staged.student.optimizer, whole.optimizer)
    assert same(staged.student.rng, whole.rng)


@pytest.mark.parametrize("forgotten", ["weights", "optimizer", "rng"])
def test_nothing_of_a_checkpoint_could_be_left_out(taught, forgotten):
    hyper_parameters = {"lr": 1e-2, "temperature": 0.5, "weight_decay": 0.1}
    once = distil(taught, **hyper_parameters)
    fresh = getattr(begin(TINY, seed=0), forgotten)
    student = {**vars(once.student), forgotten: fresh}

    other = distil(
        type(once)(**{**vars(once), "student": type(once.student)(**student)}), **hyper_parameters
    )

    assert not same(other.student.weights, distil(once, **hyper_parameters).student.weights)


def test_training_leaves_its_inputs_and_the_process_as_they_were(taught):
    once = distil(taught, lr=1e-2, temperature=1.0, weight_decay=0.1)
    kept = {name: weight.clone() for name, weight in once.student.weights.items()}
    moments = once.student.optimizer["state"][0]["exp_avg"].clone()
    outside = torch.get_rng_state()

    distil(once, lr=1e-2, temperature=1.0, weight_decay=0.1)

    assert same(once.student.weights, kept)
    assert torch.equal(once.student.optimizer["state"][0]["exp_avg"], moments)
    assert torch.equal(torch.get_rng_state(), outside)


def test_the_seed_sets_the_first_weights():
    assert same(begin(TINY, 1).weights, begin(TINY, 1).weights)
    assert not same(begin(TINY, 1).weights, begin(TINY, 2).weights)


def test_training_lowers_the_loss(taught):
    before = begin(TINY, 0)
    after = go_on(TINY, before, taught.train, label_loss, epochs=8, lr=0.03, weight_decay=0.0)
    losses = [validation_loss(restored(TINY, p.weights), taught.train) for p in (before, after)]
    assert losses[1] < losses[0] - 1.0


class Answer:
    """A teacher that always says the same."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, **inputs):
        return self


@pytest.fixture
def batch():
    text = torch.ones(1, 2, dtype=torch.long)
    return Batch(text, text, torch.tensor([[1, 0, IGNORED]]))


@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0])
def test_the_distillation_loss_is_hintons(batch, temperature):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 1, 3, 4, generator=generator, dtype=torch.double)

    loss = distillation_loss(Answer(teacher), temperature)(batch, student)

    hard = soft = 0.0
    for i, label in enumerate([1, 0]):  # the third token is padding
        q = torch.softmax(student[0, i] / temperature, -1)
        p = torch.softmax(teacher[0, i] / temperature, -1)
        hard -= math.log(torch.softmax(student[0, i], -1)[label]) / 2
        soft += torch.special.xlogy(p, p / q).sum().item() / 2
    assert loss.item() == pytest.approx(0.1 * hard + 0.9 * temperature**2 * soft)


def test_a_student_that_agrees_with_its_teacher_learns_from_the_labels_alone(batch):
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    loss = distillation_loss(Answer(logits), 0.5)(batch, logits)
    assert loss.item() == pytest.approx(0.1 * label_loss(batch, logits).item())


def test_the_loss_of_answers_at_random_is_the_logarithm_of_their_number(batch):
    assert label_loss(batch, torch.zeros(1, 3, 4)).item() == pytest.approx(math.log(4))


def test_the_validation_loss_is_the_mean_over_tokens_whatever_the_batches(taught):
    model = restored(TINY, begin(TINY, 0).weights)
    settings, pairs = taught.settings, docstrings(30, 10).validation
    losses = [
        validation_loss(model, batches(pairs, tokenizer(), size, 16, settings.summary_tokens))
        for size in (1, 3, 10)
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_batches_hold_all_pairs_with_like_lengths_together():
    pairs = docstrings(25, 1).train
    numbers = tokenizer()
    found = batches(pairs, numbers, 10, 12, 8)

    assert [len(batch.text) for batch in found] == [10, 10, 5]
    assert all(batch.text.shape[1] <= 12 and batch.labels.shape[1] <= 8 for batch in found)
    texts = [
        numbers.decode(row[mask.bool()], skip_special_tokens=True).strip()
        for batch in batches(pairs, numbers, 10, 999, 99)
        for row, mask in zip(batch.text, batch.mask, strict=True)
    ]
    assert sorted(texts) == sorted(text.lower() for text, _ in pairs)
    lengths = [int(row.sum()) for batch in found for row in batch.mask]
    assert lengths == sorted(lengths)


def test_a_network_answers_what_transformers_computes_from_the_labels():
    model = restored(TINY, begin(TINY, 0).weights).eval()
    (batch,) = batches(docstrings(5, 1).train, tokenizer(), 5, 16, 40)
    assert (batch.labels == IGNORED).any()
    theirs = model(input_ids=batch.text, attention_mask=batch.mask, labels=batch.labels)
    logits = model(**batch.inputs).logits
    assert torch.equal(logits, theirs.logits)
    assert label_loss(batch, logits).item() == pytest.approx(theirs.loss.item())


def test_tokens_end_and_padding_are_t5s():
    numbers = tokenizer()
    assert len(numbers) == 1024
    assert numbers("Return it.")["input_ids"][-1] == numbers.eos_token_id == 1
    assert numbers.pad_token_id == 0


def test_networks_count_their_weights():
    model = TINY.make()
    names = {name: weight.numel() for name, weight in model.named_parameters()}
    encoder = sum(n for name, n in names.items() if "encoder.block" in name and n > 100)
    decoder = sum(n for name, n in names.items() if "decoder.block" in name and n > 100)

    assert TINY.encoder_weights == encoder
    assert TINY.decoder_weights == decoder + names["shared.weight"]


def test_a_network_that_cannot_be_had_is_an_error_with_a_remedy(tmp_path):
    network = Network(16, 32, 1, 2, 1024, pretrained=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError, match="save_pretrained"):
        network.make()
    with pytest.raises(ConfigurationError, match="nowhere"):
        tokenizer(str(tmp_path / "nowhere"))


def test_a_network_with_somebodys_weights_begins_with_them(tmp_path):
    saved = TINY.make()
    saved.save_pretrained(tmp_path)
    found = begin(Network(16, 32, 1, 2, 1024, pretrained=str(tmp_path)), seed=1)
    assert same(found.weights, dict(saved.named_parameters()))


def test_summaries_are_written_for_all_texts(taught):
    model = restored(TINY, begin(TINY, 0).weights)
    written = summaries(model, taught.validation, tokenizer(), 5)
    assert len(written) == 10
    assert all(isinstance(text, str) for text in written)


@pytest.mark.parametrize(
    ("written", "reference", "score"),
    [
        ("return the sum.", "Return the sum.", 1.0),
        ("a b c d", "b x d", 4 / 7),
        ("b a", "a b", 0.5),
        ("", "a", 0.0),
        ("a", "b", 0.0),
    ],
)
def test_rouge_l_is_by_the_longest_common_subsequence(written, reference, score):
    assert rouge_l(written, reference) == pytest.approx(score)
