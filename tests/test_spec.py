"""What the user says: typed, frozen, and every slip answered with the nearest right word."""

from __future__ import annotations

import pickle

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

import unift
from unift.errors import DataError, LimitError, RunError, UniftError, UsageError
from unift.provider import check_messages, get_provider, providers
from unift.spec import make_spec, typed_options


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    suffix: str = "x"
    retries: int = 1


def test_flat_words_find_their_place() -> None:
    spec = make_spec(
        provider="echo", model="m", data="d", epochs=3, rank=8, usd=5, name="mine", seed=0
    )
    assert spec.hyperparameters.epochs == 3
    assert spec.hyperparameters.seed == 0
    assert spec.lora.rank == 8
    assert spec.budget.usd == 5
    assert spec.name == "mine"


def test_a_spec_cannot_be_changed() -> None:
    spec = make_spec(provider="echo", model="m", data="d")
    with pytest.raises(ValidationError):
        spec.model = "other"  # type: ignore[misc]  # that it is refused is the test


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("epoch", "epochs"),
        ("lr", "learning_rate"),
        ("learningrate", "learning_rate"),
        ("ranks", "rank"),
    ],
)
def test_an_unknown_setting_names_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_spec(provider="echo", model="m", data="d", **{wrong: 1})
    assert right in caught.value.fix


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("epochs", -1), ("rank", 0), ("dropout", 1), ("method", "sfx")],
)
def test_an_impossible_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        make_spec(provider="echo", model="m", data="d", **{field: value})  # type: ignore[arg-type]
    assert field in caught.value.where


def test_options_are_typed_and_name_the_nearest() -> None:
    spec = make_spec(provider="p", model="m", data="d", options={"p": {"suffx": "v2"}})
    with pytest.raises(UsageError, match="suffx") as caught:
        typed_options(Options, "p", spec)
    assert "'suffix'" in caught.value.fix
    good = make_spec(provider="p", model="m", data="d", options={"p": {"retries": 3}})
    assert typed_options(Options, "p", good).retries == 3


def test_an_unknown_provider_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        get_provider("ecko")
    assert "'echo'" in caught.value.fix


def test_installed_providers_are_listed() -> None:
    listed = {info.name: info for info in providers()}
    assert listed["echo"].available
    assert listed["echo"].package == "unift_echo"


@pytest.mark.parametrize(
    "error",
    [
        UniftError("m", code="c", where="w", fix="f"),
        DataError("m", where="a.jsonl:3", findings=["x"]),
        LimitError("m"),
        RunError("m", fix="again"),
    ],
)
def test_errors_cross_process_borders(error: UniftError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert copy.as_dict() == error.as_dict()
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


def test_options_of_nobody_are_a_typo(capitals: str) -> None:
    wanted = {"provider": "echo", "model": "base", "data": capitals}
    assert unift.plan(**wanted, options={"openai": {"suffix": "x"}}).spec.provider == "echo"
    with pytest.raises(UsageError, match="no provider 'opnai'") as caught:
        unift.plan(**wanted, options={"opnai": {"suffix": "x"}})
    assert "openai" in caught.value.fix


def test_a_method_that_a_provider_lacks_names_who_has_it(capitals: str) -> None:
    with pytest.raises(UsageError, match="'dpo'") as caught:
        unift.plan(provider="echo", model="base", data=capitals, method="dpo")
    assert "openai" in caught.value.fix


def test_a_text_is_no_conversation() -> None:
    with pytest.raises(UsageError, match="list of messages"):
        check_messages("hello")
    check_messages([{"role": "user", "content": "hello"}])
