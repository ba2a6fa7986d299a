"""What every provider promises, as tests.

To hold a provider against it, subclass `ProviderConformance` in a test module and give the two
fixtures ``provider`` (an instance) and ``spec`` (a small spec that can succeed). Override
``unknown_option`` and ``prompt`` where the defaults do not fit. Nothing here waits on a clock of
its own: a job may take as many looks as it needs, up to `patience`.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from unift.errors import UniftError, UsageError
from unift.provider import Capabilities, Event, Handle, Plan, Provider, State, Status
from unift.spec import TrainSpec
from unift.verbs import Pausing

TOKEN = "unift-conformance"


class ProviderConformance:
    patience = 180.0  # seconds that one job may take
    prompt = "Capital of France?"

    @pytest.fixture
    def provider(self) -> Provider:
        raise NotImplementedError("give the provider under test")

    @pytest.fixture
    def spec(self) -> TrainSpec:
        raise NotImplementedError("give a spec that succeeds")

    def until_finished(self, provider: Provider, handle: Handle) -> Status:
        deadline = time.monotonic() + self.patience
        pause = provider.capabilities().poll_seconds
        while not (status := provider.poll(handle)).finished:
            assert time.monotonic() < deadline, f"still {status}"
            time.sleep(min(pause, 1.0))
        return status

    def until_halted(self, provider: Provider, handle: Handle) -> Status:
        deadline = time.monotonic() + self.patience
        while (status := provider.poll(handle)).state is not State.PAUSED and not status.finished:
            assert time.monotonic() < deadline, f"still {status}"
            time.sleep(min(provider.capabilities().poll_seconds, 1.0))
        return status

    # --- planning -----------------------------------------------------------------------------

    def test_is_a_provider(self, provider: Provider) -> None:
        assert isinstance(provider, Provider)
        assert provider.name

    def test_capabilities_are_data(self, provider: Provider, spec: TrainSpec) -> None:
        capabilities = provider.capabilities(spec.model)
        assert Capabilities.model_validate_json(capabilities.model_dump_json()) == capabilities
        assert "sft" in capabilities.methods

    def test_planning_twice_gives_the_same(self, provider: Provider, spec: TrainSpec) -> None:
        assert provider.plan(spec) == provider.plan(spec)

    def test_plan_survives_json(self, provider: Provider, spec: TrainSpec) -> None:
        plan = provider.plan(spec)
        assert Plan.model_validate_json(plan.model_dump_json()) == plan

    def test_every_setting_has_an_origin_and_the_users_are_kept(
        self, provider: Provider, spec: TrainSpec
    ) -> None:
        wanted = spec.model_copy(
            update={"hyperparameters": spec.hyperparameters.model_copy(update={"epochs": 2.0})}
        )
        plan = provider.plan(wanted)
        epochs = next(setting for setting in plan.settings if setting.name == "epochs")
        assert (epochs.value, epochs.origin) == (2, "user")
        decided = [s for s in plan.settings if s.origin != "user"]
        assert all(setting.why for setting in decided), "a decision needs its reason"
        assert len({setting.name for setting in plan.settings}) == len(plan.settings)

    def test_data_is_fingerprinted(self, provider: Provider, spec: TrainSpec) -> None:
        assert provider.plan(spec).fingerprints["data"].startswith("sha256:")

    def test_unknown_option_is_refused(self, provider: Provider, spec: TrainSpec) -> None:
        wrong = spec.model_copy(update={"options": {provider.name: {"no_such_option": 1}}})
        with pytest.raises(UsageError) as caught:
            provider.plan(wrong)
        assert "no_such_option" in str(caught.value)
        assert caught.value.fix

    def test_options_of_others_are_ignored(self, provider: Provider, spec: TrainSpec) -> None:
        other = spec.model_copy(update={"options": {**spec.options, "somebody-else": {"x": 1}}})
        assert provider.plan(other).settings == provider.plan(spec).settings

    def test_unsupported_method_fails_while_planning(
        self, provider: Provider, spec: TrainSpec
    ) -> None:
        able = provider.capabilities(spec.model).methods
        for method in {"sft", "dpo", "rft"} - set(able):
            with pytest.raises(UniftError) as caught:
                provider.plan(TrainSpec.model_validate({**spec.model_dump(), "method": method}))
            assert caught.value.fix

    def test_missing_data_is_a_clear_error(self, provider: Provider, spec: TrainSpec) -> None:
        with pytest.raises((UniftError, FileNotFoundError)) as caught:
            provider.plan(spec.model_copy(update={"data": "/no/such/file.jsonl"}))
        assert "/no/such/file.jsonl" in str(caught.value)

    # --- one whole job ------------------------------------------------------------------------

    def test_a_job_from_token_to_answer(self, provider: Provider, spec: TrainSpec) -> None:
        assert provider.find(TOKEN) is None
        plan = provider.plan(spec)
        handle = provider.submit(plan, TOKEN)
        assert provider.submit(plan, TOKEN).id == handle.id, "one token, one job"
        found = provider.find(TOKEN)
        assert found is not None
        assert found.id == handle.id
        assert Handle.model_validate_json(handle.model_dump_json()) == handle

        status = self.until_finished(provider, handle)
        assert status.state is State.SUCCEEDED, status
        assert provider.poll(handle).state is State.SUCCEEDED, "an end is an end"

        events = list(provider.events(handle))
        self.check_events(provider, handle, events)

        artifact = provider.fetch(handle)
        assert provider.fetch(handle) == artifact
        if provider.capabilities(spec.model).weights_downloadable:
            assert artifact.sha256

        model = provider.model(artifact.reference)
        reply = model.chat([{"role": "user", "content": self.prompt}])
        seen: list[int] = []
        many = model.chat_many(
            [[{"role": "user", "content": self.prompt}]] * 3, on_reply=lambda i, _: seen.append(i)
        )
        assert sorted(seen) == [0, 1, 2]
        assert [answer.text for answer in many] == [reply.text] * 3, "greedy answers repeat"
        model.close()

        provider.cancel(handle)
        assert provider.poll(handle).state is State.SUCCEEDED, "a late cancel changes nothing"

    def check_events(self, provider: Provider, handle: Handle, events: list[Event]) -> None:
        ids = [event.id for event in events]
        assert ids, "a job that says nothing cannot be followed"
        assert len(set(ids)) == len(ids), "ids are unique"
        assert [event.id for event in provider.events(handle)] == ids, "ids are stable"
        middle = ids[len(ids) // 2]
        later = {event.id for event in provider.events(handle, middle)}
        assert set(ids[len(ids) // 2 + 1 :]) <= later, "nothing after the cursor is lost"
        steps: list[Any] = [e.data["step"] for e in events if e.kind == "metrics"]
        assert steps == sorted(steps)

    def test_cancel_and_resume(self, provider: Provider, spec: TrainSpec) -> None:
        handle = provider.submit(provider.plan(spec), TOKEN)
        provider.poll(handle)
        provider.cancel(handle)
        provider.cancel(handle)
        status = self.until_finished(provider, handle)
        assert status.state in (State.CANCELLED, State.SUCCEEDED), status
        if status.state is State.SUCCEEDED:
            pytest.skip("the job was quicker than the cancellation")
        if provider.capabilities(spec.model).resumable:
            assert status.resumable
            resumed = provider.resume(handle)
            assert self.until_finished(provider, resumed).state is State.SUCCEEDED
        else:
            with pytest.raises(UniftError):
                provider.resume(handle)

    def test_pause_and_resume(self, provider: Provider, spec: TrainSpec) -> None:
        pausable = provider.capabilities(spec.model).pausable
        if not pausable:
            pytest.skip("it says that it cannot pause; Run.pause refuses (tests/runs)")
        assert isinstance(provider, Pausing)
        handle = provider.submit(provider.plan(spec), TOKEN)
        provider.poll(handle)
        provider.pause(handle)
        provider.pause(handle)
        status = self.until_halted(provider, handle)
        if status.state is State.SUCCEEDED:
            pytest.skip("the job was quicker than the pause")
        assert (status.state, status.resumable) == (State.PAUSED, True), status
        assert provider.poll(handle).state is State.PAUSED, "a pause lasts"
        provider.pause(handle)
        resumed = provider.resume(handle)
        assert self.until_finished(provider, resumed).state is State.SUCCEEDED
        self.check_events(provider, resumed, list(provider.events(resumed)))
        provider.pause(resumed)
        assert provider.poll(resumed).state is State.SUCCEEDED, "a late pause changes nothing"
