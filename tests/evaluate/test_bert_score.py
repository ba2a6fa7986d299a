"""BERTScore with the embedded model as the encoder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from tests.evaluate.fakes import Fake, knows, question
from unift.demo import model_path
from unift.errors import MissingDependency, UsageError
from unift.evaluate import Metric, evaluate, get_metric

WANTED = f"bertscore:{model_path()}#4"


@pytest.fixture(scope="module")
def metric() -> Metric:
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("HF_HUB_OFFLINE", "1")  # read once, when the hub's package is imported
        pytest.importorskip("torchmetrics", reason="pip install 'unift[bertscore]'")
        return get_metric(WANTED)


def by_hand(answer: str, target: str) -> float:
    """F1 of the greatest cosines, equations 1 to 3 of the paper, from the hidden states."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model_path())
    model: Any = AutoModel.from_pretrained(model_path(), dtype=torch.float32).eval()
    mark, sides = tokenizer.eos_token, []
    for text in (answer, target):
        tokens = tokenizer(mark + text + mark, return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens, output_hidden_states=True).hidden_states[4][0, 1:-1]
        sides.append(torch.nn.functional.normalize(states, dim=-1))
    near = sides[0] @ sides[1].T
    precision, recall = near.max(1).values.mean(), near.max(0).values.mean()
    return float(2 * precision * recall / (precision + recall))


def test_it_is_the_f1_of_the_nearest_words(metric: Metric) -> None:
    pairs = [
        ("the parcel came late because of the snow", "the snow held the parcel up"),
        ("no", "the order was paid by card on Monday and sent on Tuesday"),
    ]
    for answer, target in pairs:
        assert metric.rate(answer, target) == pytest.approx(by_hand(answer, target), abs=1e-5)
        assert metric.rate(target, answer) == pytest.approx(by_hand(target, answer), abs=1e-5)
    assert metric.rate("as it is", "as it is") == pytest.approx(1.0, abs=1e-6)
    assert (metric.rate("", "x"), metric.rate(" ", "")) == (0.0, 1.0)
    assert 0 < metric.rate("word " * 3000, "word word") < 1, "cut, not refused"


def test_it_decides_where_it_is_asked_for_and_nowhere_else(
    metric: Metric, chat_file: Callable[..., str]
) -> None:
    truth = {f"Why {i}?": f"because the lamp number {i} came late, sorry" for i in range(30)}
    rows = chat_file(list(truth.items()))
    good = Fake("fake:good", lambda m: f"{truth[question(m)]} indeed")
    poor = Fake("fake:poor", knows(truth, 3))
    usual = evaluate(good, rows, against=[poor], report=False)
    assert "bertscore" not in usual.candidates[0].metrics
    found = evaluate(good, rows, against=[poor], metric=WANTED, report=False)
    assert found.metrics[0].name == "bertscore"
    assert "layer 4" in found.metrics[0].about
    assert found.verdict.code == "better"
    assert "BERTScore" in str(found.verdict)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("bertscore", "no_metric_model"),  # no hub can be reached
        ("bertscore:/no/such/folder", "no_metric_model"),
        ("bertscore:MODEL#99", "bad_layer"),
        ("bertscore:MODEL#last", "bad_layer"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_asked(
    metric: Metric, capitals: str, wanted: str, code: str
) -> None:
    fake, wanted = Fake("fake:x", lambda m: "x"), wanted.replace("MODEL", str(model_path()))
    with pytest.raises(UsageError) as caught:
        evaluate(fake, capitals, against=[], metric=wanted, report=False)
    assert (caught.value.code, fake.asked) == (code, [])


def test_without_the_package_the_fix_installs_it(
    capitals: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchmetrics.functional.text.bert", None)
    with pytest.raises(MissingDependency, match="torchmetrics") as caught:
        evaluate(Fake("fake:x", lambda m: "x"), capitals, metric="bertscore", against=[])
    assert "unift[bertscore]" in caught.value.fix
