"""Nothing is ordered twice, nothing that was ordered is lost, nothing is uploaded again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unift_google.conftest import BUCKET, OPEN
from tests.vendors.clock import Clock
from tests.vendors.google_books import PROJECT
from tests.vendors.google_vendor import Vendor
from unift import start
from unift.errors import LostError, ProviderError, UsageError
from unift.provider import Provider, State, get_provider
from unift.runs import reconcile
from unift.spec import TrainSpec

Make = Callable[..., TrainSpec]


@pytest.mark.parametrize("fault", ["cut after", "garbage"])
def test_an_answer_that_is_lost_is_found_again_by_its_label(
    vendor: Vendor, google: Provider, spec: Make, fault: str
) -> None:
    vendor.fault("create", fault)
    handle = google.submit(google.plan(spec()), "t1")
    assert [job["name"] for job in vendor.jobs_with("t1")] == [handle.id]
    assert vendor.calls.count("create") == 1


def test_a_job_that_is_listed_late_is_lost_first_and_found_later(
    vendor: Vendor, google: Provider, spec: Make, clock: Clock
) -> None:
    vendor.habits.lag = 60
    vendor.fault("create", "cut after")
    with pytest.raises(LostError) as caught:
        start(google.plan(spec()))
    assert "reconcile" in caught.value.fix
    (lost, trouble), *_ = reconcile()
    assert (lost.state, type(trouble)) == (State.LOST, ProviderError), "too early to be certain"
    clock.sleep(200)
    (found, trouble), *_ = reconcile()
    assert (found.state, trouble) == (State.QUEUED, None)
    found.wait()
    assert len(vendor.books.jobs) == 1
    assert vendor.calls.count("create") == 1


def test_an_order_that_never_arrived_may_be_given_again_once_that_is_certain(
    vendor: Vendor, google: Provider, spec: Make, clock: Clock
) -> None:
    vendor.fault("create", "cut before")
    with pytest.raises(LostError):
        start(google.plan(spec()))
    (lost, _), *_ = reconcile()
    with pytest.raises(LostError) as caught:
        google.submit(lost.plan, f"unift-{lost.id}")
    assert caught.value.code == "create_unanswered"
    clock.sleep(200)
    (back, _), *_ = reconcile()
    assert (back.state, back.failure) == (State.PLANNED, None)
    assert back.resume().wait().state is State.SUCCEEDED
    assert len(vendor.books.jobs) == 1


def test_a_token_with_other_letters_is_found_by_its_hash(
    vendor: Vendor, google: Provider, spec: Make
) -> None:
    token = "Run Nummer Eins!"
    handle = google.submit(google.plan(spec()), token)
    (sent,) = (body["labels"]["unift_token"] for body in vendor.bodies)
    assert sent != token
    found = google.find(token)
    assert found is not None
    assert found.id == handle.id
    assert google.find("Run Nummer Zwei!") is None


def test_another_machine_finds_the_job_wherever_it_is(
    vendor: Vendor,
    google: Provider,
    spec: Make,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    wanted = spec(model="gemini-3.5-flash", options={"location": "europe-west4"})
    handle = google.submit(google.plan(wanted), "t1")
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path / "elsewhere"))
    found = google.find("t1")
    assert found is not None
    assert found.id == handle.id
    assert "/europe-west4/" in found.id


def test_a_busy_vendor_is_waited_for_as_asked(
    vendor: Vendor, google: Provider, spec: Make, clock: Clock
) -> None:
    vendor.fault("create", "429 7", "429 11")
    vendor.fault("upload", "429 3")
    google.submit(google.plan(spec()), "t1")
    assert len(vendor.books.jobs) == 1
    assert {3.0, 7.0, 11.0} <= set(clock.slept)


def test_a_quota_that_stays_used_up_is_a_refusal(
    vendor: Vendor, google: Provider, spec: Make
) -> None:
    vendor.fault("create", *["429"] * 20)
    with pytest.raises(ProviderError) as caught:
        google.submit(google.plan(spec()), "t1")
    assert caught.value.code == "resource_exhausted"
    assert "Nothing was started or paid" in caught.value.message
    assert "quota" in caught.value.fix
    assert not vendor.books.jobs
    assert google.find("t1") is None


def test_no_access_says_which_roles(vendor: Vendor, google: Provider, spec: Make) -> None:
    vendor.fault("create", "403")
    with pytest.raises(ProviderError) as caught:
        google.submit(google.plan(spec()), "t1")
    assert caught.value.exit_status == 5
    assert "Vertex AI User" in caught.value.fix
    assert vendor.calls.count("create") == 1


def test_the_same_rows_are_uploaded_once(vendor: Vendor, google: Provider, spec: Make) -> None:
    google.submit(google.plan(spec()), "t1")
    google.submit(google.plan(spec(epochs=5)), "t2")
    assert vendor.calls.count("upload") == 1
    names = vendor.books.objects.names("loopback-bucket")
    assert len(names) == 1
    assert names[0].startswith("unift/data/")


def test_an_upload_is_tried_again_and_never_doubled(
    vendor: Vendor, google: Provider, spec: Make
) -> None:
    vendor.fault("upload", "500", "cut after", "cut before")
    google.submit(google.plan(spec()), "t1")
    assert len(vendor.books.objects.names("loopback-bucket")) == 1


def test_large_files_go_up_in_pieces(
    vendor: Vendor, google: Provider, spec: Make, chat_file: Callable[..., str]
) -> None:
    long = "All work and no play. " * 40_000
    rows = chat_file([(f"Question {n}?", f"{n} {long}") for n in range(11)], name="long.jsonl")
    vendor.fault("piece", "fine", "500")
    google.submit(google.plan(spec(model=OPEN, data=rows)), "t1")
    assert vendor.calls.count("resumable") == 2, "the second attempt began anew"
    uri = vendor.bodies[-1]["supervisedTuningSpec"]["trainingDatasetUri"]
    assert vendor.books.objects.at(uri) == Path(rows).read_bytes()


def test_somebody_elses_content_under_our_name_is_replaced(
    vendor: Vendor, google: Provider, spec: Make
) -> None:
    google.submit(google.plan(spec()), "t1")
    (name,) = vendor.books.objects.names("loopback-bucket")
    vendor.books.objects.put("loopback-bucket", name, b"something else")
    google.submit(google.plan(spec()), "t2")
    assert vendor.books.objects.content["loopback-bucket", name] != b"something else"


def test_data_that_changed_since_it_was_planned_is_not_sent(
    vendor: Vendor, google: Provider, spec: Make, rows: str
) -> None:
    plans = [google.plan(spec()), google.plan(spec(model=OPEN))]
    Path(rows).write_text(Path(rows).read_text().replace("City 3", "Town 3"))
    for number, plan in enumerate(plans):
        with pytest.raises(UsageError, match="changed"):
            google.submit(plan, f"t{number}")
    assert "create" not in vendor.calls


@pytest.mark.parametrize(
    ("variable", "code", "fix"),
    [
        ("GOOGLE_APPLICATION_CREDENTIALS", "no_credentials", "gcloud auth"),
        ("UNIFT_GOOGLE_BUCKET", "no_bucket", "export UNIFT_GOOGLE_BUCKET"),
    ],
)
def test_what_is_not_set_is_named_before_anything_is_sent(
    vendor: Vendor,
    google: Provider,
    spec: Make,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    code: str,
    fix: str,
) -> None:
    monkeypatch.delenv(variable)
    plan = google.plan(spec())
    with pytest.raises(ProviderError) as caught:
        google.submit(plan, "t1")
    assert caught.value.code == code
    assert fix in caught.value.fix
    assert not vendor.calls


def test_credentials_that_google_refuses(vendor: Vendor, google: Provider, spec: Make) -> None:
    vendor.fault("token", "refused")
    with pytest.raises(ProviderError) as caught:
        google.submit(google.plan(spec()), "t1")
    assert caught.value.code == "bad_credentials"
    assert "PRIVATE KEY" not in str(caught.value)
    assert not vendor.books.jobs


def test_a_platform_that_is_not_there_is_a_refusal_not_a_doubt(
    vendor: Vendor,
    google: Provider,
    spec: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = google.plan(spec())
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(ProviderError) as caught:
        google.submit(plan, "t1")
    assert caught.value.code == "unreachable"


def test_another_project_is_refused_by_name(vendor: Vendor, google: Provider, spec: Make) -> None:
    plan = google.plan(spec(options={"project": "of-somebody-else"}))
    with pytest.raises(ProviderError) as caught:
        google.submit(plan, "t1")
    assert "of-somebody-else" in caught.value.message
    assert caught.value.code == "permission_denied"


def test_the_checks_of_doctor_name_what_to_set(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checks() -> dict[str, tuple[bool | None, str, str]]:
        found = get_provider("google").checks()  # type: ignore[attr-defined]
        return {one.name: (one.ok, one.detail, one.fix) for one in found}

    ready = checks()
    assert [ready[f"google {name}"][0] for name in ("credentials", "project", "bucket")] == [
        True
    ] * 3
    assert ready["google project"][1] == PROJECT
    assert ready["google bucket"][1] == BUCKET
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.delenv("UNIFT_GOOGLE_BUCKET")
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaSecretSecret")
    bare = checks()
    assert bare["google credentials"][0] is False
    assert "AI Studio" in bare["google credentials"][1]
    assert "gcloud auth application-default login" in bare["google credentials"][2]
    assert "GOOGLE_CLOUD_PROJECT" in bare["google project"][2]
    assert "UNIFT_GOOGLE_BUCKET" in bare["google bucket"][2]
    assert "AIza" not in str(bare)
    monkeypatch.delenv("GEMINI_API_KEY")
    assert {one[0] for one in checks().values()} == {None}, "nobody's business without Google"
