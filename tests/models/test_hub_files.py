"""Models from a hub, which may lie: what is fetched, where it is kept, what is checked, and what the messages say."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hub_lies import STUCK, Endless, body, redirect, silent
from hub_server import Handler, Hub, described
from synood_cli.errors import HubError, ModelError
from synood_cli.hub_client.transfer import TIME_LIMIT_VARIABLE
from synood_cli.models.hub_files import MAX_FILE_BYTES, MAX_WEIGHTS_BYTES, fetch_files, known_commit
from synood_cli.models.revisions import hub_commit

FILES = {
    "config.json": b'{"model_type": "llava"}',
    "model-00001-of-00002.safetensors": b"first" * 20_000,
    "model-00002-of-00002.safetensors": b"second" * 20_000,
    "part/config.json": b"{}",
    "pytorch_model.bin": b"a pickle",
    "modeling_evil.py": b"raise SystemExit",
}
PATTERNS = ("config.json", "model-*-of-*.safetensors", "part/config.json", "absent.json")
WANTED = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "part/config.json"]
WEIGHTS = r"/org/model/resolve/[^/]+/model-00002.*"
LISTING = r"/api/models/org/model/revision/.*"


@pytest.fixture
def commit(hub: Hub) -> str:
    return hub.publish("org/model", FILES)


@pytest.fixture
def cache(hub: Hub, tmp_path: Path) -> Path:
    return tmp_path / "hub cache" / "models--org--model"


def fetch(revision: str | None = None) -> Path:
    return fetch_files("org/model", revision, PATTERNS)


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def refused(message: str, revision: str | None = None) -> HubError:
    with pytest.raises(HubError, match=message) as caught:
        fetch(revision)
    assert caught.value.hint
    assert caught.value.message.isprintable()
    return caught.value


def test_the_named_files_are_fetched_once_and_kept_where_huggingface_hub_keeps_them(
    hub: Hub, commit: str, cache: Path
) -> None:
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    folder = fetch()
    assert folder == cache / "snapshots" / commit
    assert below(folder) == WANTED
    assert all((folder / name).read_bytes() == FILES[name] for name in WANTED)
    assert (cache / "refs" / "main").read_text() == commit
    assert not list(cache.rglob("*.incomplete"))
    assert try_to_load_from_cache("org/model", "config.json", cache_dir=cache.parent) == str(folder / "config.json")
    found = snapshot_download("org/model", cache_dir=cache.parent, local_files_only=True, allow_patterns=list(WANTED))
    assert Path(found) == folder
    asked = len(hub.requests)
    hub.publish("org/model", {"config.json": b"changed"})
    assert fetch() == fetch("main") == fetch(commit) == folder
    assert len(hub.requests) == asked


def test_what_huggingface_hub_fetched_is_not_fetched_again(
    hub: Hub, commit: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in WANTED:
        (cache / "snapshots" / commit / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / "snapshots" / commit / name).write_bytes(FILES[name])
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert below(fetch()) == WANTED
    assert hub.requests == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert below(fetch()) == WANTED
    assert hub.requests == ["GET /api/models/org/model/revision/main"]


def test_a_branch_whose_commit_was_asked_for_is_known_when_the_hub_is_away(
    hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub_commit("org/model", None) == commit
    assert known_commit("org/model", None) is None
    folder = fetch(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub_commit("org/model", None) == commit
    assert fetch() == folder


def test_a_file_that_is_missing_later_is_fetched_alone(hub: Hub, commit: str) -> None:
    folder = fetch()
    (folder / "config.json").unlink()
    hub.requests.clear()
    assert below(fetch()) == WANTED
    assert hub.requests == [f"GET /org/model/resolve/{commit}/config.json"]


def test_a_download_that_is_cut_goes_on_where_it_was_in_another_run_too(
    hub: Hub, commit: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.cuts = 100
    hub.repositories["org/model"].commits[commit] = {"config.json": b"{}" * 10_000}
    refused("the model org/model cannot be fetched from the hub, and is not in the cache: peer closed connection")
    [partial] = cache.rglob("*.incomplete")
    have = partial.stat().st_size
    assert have > 10_000
    hub.cuts = 0
    usage = shutil.disk_usage(cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=20_000 - have))
    hub.requests.clear()
    assert (fetch() / "config.json").read_bytes() == b"{}" * 10_000
    assert hub.requests[-1].endswith(f"bytes={have}-")
    assert not list(cache.rglob("*.incomplete"))


def test_files_may_come_from_another_host_and_the_token_does_not_go_there(
    hub: Hub, elsewhere: Hub, commit: str
) -> None:
    name = "model-00002-of-00002.safetensors"
    elsewhere.lies[".*"] = body(FILES[name], X_Xet_Hash="0" * 64, X_Xet_Refresh_Route=f"{elsewhere.url}/token")
    hub.lies[WEIGHTS] = redirect(f"{elsewhere.url}/cdn")
    assert (fetch() / name).read_bytes() == FILES[name]
    assert elsewhere.requests == ["GET /cdn"]
    assert elsewhere.tokens == []
    assert set(hub.tokens) == {f"Bearer {hub.token}"}


def test_nothing_but_the_model_is_asked_for(hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AI_AGENT", "some-agent")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    fetch()
    assert hub.tokens == []
    files = sorted(f"GET /org/model/resolve/{commit}/{name}" for name in WANTED)
    assert sorted(hub.requests) == ["GET /api/models/org/model/revision/main", *files]


def test_the_token_does_not_follow_a_xet_refresh_route(hub: Hub, elsewhere: Hub, commit: str) -> None:
    content = FILES["model-00002-of-00002.safetensors"]
    route = f"{elsewhere.url}/token"
    hub.lies[WEIGHTS] = body(
        content, X_Xet_Hash="0" * 64, X_Xet_Refresh_Route=route, Link=f'<{route}>; rel="xet-auth"', ETag='"a"'
    )
    assert below(fetch()) == WANTED
    assert elsewhere.requests == []


@pytest.mark.parametrize("path", ["{tmp}/victim", "../../../../victim", "..", "a/b"])
def test_etags_and_commits_that_are_paths_write_nothing_outside(
    hub: Hub, commit: str, cache: Path, tmp_path: Path, path: str
) -> None:
    path = path.format(tmp=tmp_path)
    headers = {"ETag": f'"{path}"', "X_Linked_Etag": f'"{path}"', "X_Repo_Commit": path}
    hub.lies[WEIGHTS] = body(FILES["model-00002-of-00002.safetensors"], **headers)
    assert below(fetch()) == WANTED
    written = {name.partition("/")[0] for name in below(tmp_path)}
    assert written == {"hub assets", "hub cache"}
    assert {name.partition("/")[0] for name in below(cache)} <= {"snapshots", "refs", "blobs"}


@pytest.mark.parametrize(
    "name",
    [
        "../../evil/config.json",
        "/tmp/config.json",
        "part/../config.json",
        ".hidden/config.json",
        "part\\config.json",
        "C:/config.json",
        "x" * 300 + "/config.json",
        "part//config.json",
        "a\n/config.json",
    ],
)
def test_a_file_whose_name_is_a_way_out_is_not_asked_for(hub: Hub, commit: str, tmp_path: Path, name: str) -> None:
    listing = [{"rfilename": name, "size": 2, "blobId": "0" * 40}, described("config.json", FILES["config.json"])]
    hub.lies[LISTING] = lambda handler: handler.answer(200, {"sha": commit, "siblings": listing})
    folder = fetch_files("org/model", None, (*PATTERNS, "*/config.json", "*/*/config.json", "*/*/*/config.json"))
    assert below(folder) == ["config.json"]
    assert [asked for asked in hub.requests if "resolve" in asked] == [f"GET /org/model/resolve/{commit}/config.json"]


@pytest.mark.parametrize("name", ["config.json", "model-00001-of-00002.safetensors"])
def test_other_bytes_than_the_hub_lists_are_not_kept(hub: Hub, commit: str, cache: Path, name: str) -> None:
    hub.swapped[name] = bytes(len(FILES[name]))
    refused(f"what the hub sent as {name} is not the file that it lists")
    assert name not in below(cache / "snapshots")
    assert not (cache / "refs").exists()
    hub.swapped.clear()
    assert below(fetch()) == WANTED


def test_a_file_that_is_shorter_than_listed_is_not_kept(hub: Hub, commit: str, cache: Path) -> None:
    hub.lies[WEIGHTS] = body(b"short")
    refused("what the hub sent as model-00002-of-00002.safetensors is not the file that it lists")
    assert not [name for name in below(cache / "snapshots") if "00002-of-00002" in name]


@pytest.mark.parametrize("headers", [{}, {"Transfer_Encoding": "chunked"}])
def test_a_body_without_end_is_cut_off_at_its_size(hub: Hub, commit: str, cache: Path, headers: dict[str, str]) -> None:
    hub.lies[WEIGHTS] = endless = Endless(**headers)
    refused(r"more than the 120,000 bytes that model-00002-of-00002\.safetensors may have")
    assert endless.sent < 2**24
    assert sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) < 10**6


def test_a_listing_without_end_is_cut_off(hub: Hub, commit: str, cache: Path) -> None:
    hub.lies[LISTING] = endless = Endless()
    refused("the hub sends more than the 8,388,608 bytes that its answer may have")
    assert endless.sent < 2**25
    assert not cache.exists()


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("config.json", MAX_FILE_BYTES + 1, r"tells of 67,108,865 bytes in config\.json"),
        ("model-00001-of-00001.safetensors", MAX_WEIGHTS_BYTES + 1, "tells of 68,719,476,737 bytes"),
        ("config.json", None, r"does not tell the size of config\.json"),
        ("config.json", -1, r"does not tell the size of config\.json"),
        ("config.json", 10**4000, "the hub"),
        ("config.json", 1e300, r"does not tell the size of config\.json"),
        ("config.json", "12", r"does not tell the size of config\.json"),
    ],
)
def test_sizes_that_no_file_has(hub: Hub, commit: str, cache: Path, name: str, size: object, message: str) -> None:
    listing = {"sha": commit, "siblings": [{"rfilename": name, "size": size}]}
    hub.lies[LISTING] = lambda handler: handler.answer(200, listing)
    refused(message)
    assert below(cache / "snapshots") == []
    assert not [asked for asked in hub.requests if "resolve" in asked]


def test_more_than_the_disk_has_is_not_begun(hub: Hub, commit: str) -> None:
    names = [f"model-{number:05}-of-90000.safetensors" for number in range(20_000)]  # 1.2 million GB
    listing = {"sha": commit, "siblings": [{"rfilename": name, "size": MAX_WEIGHTS_BYTES} for name in names]}
    hub.lies[LISTING] = lambda handler: handler.answer(200, listing)
    error = refused("1,374,389,534,720,000 bytes of the model org/model are still to come, and .* are free for")
    assert "HF_HOME" in (error.hint or "")
    assert not [asked for asked in hub.requests if "resolve" in asked]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{}",
        b'{"sha": null}',
        b'{"sha": "%s"}' % (b"0" * 40),
        b'{"sha": "%s", "siblings": 5}' % (b"0" * 40),
        b'{"sha": "%s", "siblings": [5]}' % (b"0" * 40),
        b'{"sha": "%s", "siblings": [{"rfilename": "config.json", "size": 1, "lfs": "x"}]}' % (b"0" * 40),
        b'{"sha": "../../x", "siblings": []}',
        b"[" * 10**6,
    ],
)
def test_an_answer_that_lists_no_files(hub: Hub, commit: str, cache: Path, answer: bytes) -> None:
    hub.lies[LISTING] = body(answer)
    refused("the model org/model")
    assert not cache.exists()


def test_a_large_size_buys_no_time_for_a_body_that_drips(
    hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIME_LIMIT_VARIABLE, "0.4")
    large = {"rfilename": "model-00002-of-00002.safetensors", "size": 2**30}
    hub.lies[LISTING] = lambda handler: handler.answer(200, {"sha": commit, "siblings": [large]})
    hub.lies[WEIGHTS] = STUCK["a body that drips"]
    started = time.monotonic()
    refused(r"within the time limit of 0\.4")
    assert time.monotonic() - started < 60  # at 128 KiB/s such a file has two hours


@pytest.mark.parametrize("asked", [LISTING, WEIGHTS])
@pytest.mark.parametrize("stuck", STUCK)
def test_whatever_drips_or_is_silent_ends_in_time(
    hub: Hub, commit: str, cache: Path, asked: str, stuck: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIME_LIMIT_VARIABLE, "0.4")
    hub.lies[asked] = STUCK[stuck]
    started = time.monotonic()
    refused("the model org/model.*(within|more than the .* bytes|hub sent as)")
    assert time.monotonic() - started < 20
    assert "model-00002-of-00002.safetensors" not in [Path(name).name for name in below(cache)]


@pytest.mark.parametrize(("asked", "status"), [(LISTING, 429), (WEIGHTS, 503), (WEIGHTS, 429)])
def test_a_day_is_not_waited_for(hub: Hub, commit: str, asked: str, status: int) -> None:
    hub.lies[asked] = lambda handler: handler.answer(status, {}, Retry_After="86400", RateLimit='"api";r=0;t=86400')
    started = time.monotonic()
    refused("too many requests" if status == 429 else f"answers with status {status}")
    assert time.monotonic() - started < 20


def answers(status: int, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(status, {"error": "no"}, **headers)


@pytest.mark.parametrize(
    ("lie", "message", "hint"),
    [
        (answers(403, X_Error_Code="GatedRepo"), "access to the model org/model must be granted", "hf auth login"),
        (answers(401, X_Error_Code="RepoNotFound"), "the hub has no repository org/model that", "hf auth login"),
        (answers(404, X_Error_Code="RepoNotFound"), "the hub has no repository org/model that", "check the name"),
        (answers(404, X_Error_Code="RevisionNotFound"), "the model org/model: there is no such revision", "a branch"),
        (
            answers(401, X_Error_Message="Invalid credentials in Authorization header"),
            r"the model org/model: the hub refuses the token \(status 401\)",
            "HF_TOKEN",
        ),
        (answers(403), "the hub does not allow this to the token", "hf auth login"),
        (answers(429), "the hub has had too many requests", "wait"),
        (answers(418), "the model org/model: the hub answers with status 418", "later"),
        (silent, "no answer within 0.4 s|within the time limit of 0.4 s", "HF_ENDPOINT|later"),
    ],
)
def test_what_a_hub_does_not_give_reads_as_for_heads(
    hub: Hub, lie: Callable[[Handler], None], message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIME_LIMIT_VARIABLE, "0.4")
    hub.lies[LISTING] = lie
    assert re.search(hint, refused(message).hint or "")


def test_offline_says_so_and_what_to_do(hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = refused("the model org/model is not in the cache on this machine, and HF_HUB_OFFLINE is set")
    assert "hf download org/model" in (error.hint or "")
    assert hub.requests == []


def test_what_is_in_the_cache_is_used_while_the_hub_refuses(hub: Hub, commit: str, cache: Path, tmp_path: Path) -> None:
    folder = fetch()
    for listing in (tmp_path / "hub assets").rglob("*.json"):
        listing.unlink()
    hub.status = 500
    assert fetch() == fetch(commit) == folder


def test_a_damaged_note_of_the_listing_is_asked_for_again(hub: Hub, commit: str, tmp_path: Path) -> None:
    fetch()
    [note] = (tmp_path / "hub assets").rglob("*.json")
    for damage in (b"", b"{}", b"[1]", b'[["config.json", "x", null]]', b"[" * 10**6, b"\xff"):
        note.write_bytes(damage)
        hub.requests.clear()
        assert below(fetch()) == WANTED
        assert len(hub.requests) == (0 if damage == b"{}" else 1)


def test_a_cache_that_cannot_be_written_is_said(hub: Hub, commit: str, cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    error = refused("the model org/model cannot be kept in the cache: .*Not a directory|File exists")
    assert "HF_HOME" in (error.hint or "")


@pytest.mark.parametrize("revision", ["../x", "..", "a/../b", "/etc", "", "a b", "-x", "x\n"])
def test_a_revision_that_is_a_path_is_refused(hub: Hub, revision: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no revision of org/model"):
        fetch(revision)
    assert hub.requests == []
    with contextlib.suppress(ModelError):
        assert hub_commit("org/model", revision) is None


@pytest.mark.parametrize("repository", ["..", "../x", "a/../b", "org/", "/x", "org/x y", "org/x/y", "org/" + "x" * 300])
def test_what_is_no_hub_id(hub: Hub, repository: str) -> None:
    with pytest.raises(ModelError, match="is no hub id"):
        fetch_files(repository, None, PATTERNS)
    assert hub.requests == []


def test_another_commit_than_the_one_that_was_named(hub: Hub, commit: str, cache: Path) -> None:
    hub.lies[LISTING] = lambda handler: handler.answer(200, {"sha": commit, "siblings": []})
    refused(f"the model org/model@111111111111: the hub answers for another commit, {commit}", "1" * 40)
    assert not cache.exists()


def test_a_ref_that_is_no_commit_is_no_ref(hub: Hub, commit: str, cache: Path) -> None:
    fetch()
    (cache / "refs" / "main").write_text("../../../../etc")
    assert known_commit("org/model", None) is None
    assert fetch() == cache / "snapshots" / commit
    assert (cache / "refs" / "main").read_text() == commit


def test_the_commit_of_a_branch_is_not_waited_for_longer_than_a_moment(
    hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub_commit("org/model", "main") == commit
    monkeypatch.setattr("synood_cli.models.revisions.HUB_TIMEOUT", 0.3)
    hub.lies[LISTING] = STUCK["a body that drips"]
    started = time.monotonic()
    assert hub_commit("org/model", "main") is None
    assert time.monotonic() - started < 5
