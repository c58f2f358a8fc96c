"""What the caller of `tell` reports, as a trial keeps it."""

from eeipu import Float, Pipeline, Tuner

PIPELINE = Pipeline.declare({"prep": {"x": Float(0, 1)}, "fit": {"y": Float(0, 1)}})


def test_told_costs_have_names_that_tables_can_sort_by():
    tuner = Tuner(PIPELINE, budget=100.0, method="random", seed=0)
    tuner.tell(tuner.ask(), 1.0, stage_costs=[None, 2.0])

    attrs = tuner.study.trials[0].user_attrs

    assert (attrs["cost:fit"], attrs["reused:prep"], attrs["charged"]) == (2.0, 1, 2.0)
    assert "cost:prep" not in attrs


def test_a_suggestion_notes_why_it_was_chosen():
    tuner = Tuner(PIPELINE, budget=100.0, n_initial=2, seed=0)
    for _ in range(3):
        tuner.tell(tuner.ask(), 1.0, stage_costs=[1.0, 2.0])

    chosen = [trial.user_attrs["chosen"]["by"] for trial in tuner.study.trials]

    assert chosen[:2] == ["warm-up", "warm-up"]
