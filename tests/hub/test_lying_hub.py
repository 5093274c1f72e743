"""A hub that lies: the token stays at home, what is read of an answer is bounded in bytes and in time, and no file is
written outside the cache."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import time
from pathlib import Path

import pytest

from hub_lies import STUCK, Endless, body, redirect, silent
from hub_server import Handler, Hub
from published import Files, changed_info
from synood_cli.errors import HubError, StoreError, UsageError
from synood_cli.hub.pull import fetch_head
from synood_cli.hub_client.transfer import TIME_LIMIT_VARIABLE
from synood_cli.store.heads import MAX_INFO_BYTES

ANSWER = r"/api/models/user/head/revision/main"
INFO = r"/user/head/resolve/[^/]+/head\.json"
TENSORS = r"/user/head/resolve/[^/]+/head\.safetensors"
ANY = ".*"


@pytest.fixture
def commit(hub: Hub, files: Files) -> str:
    return hub.publish("user/head", files)


def everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def refused(message: str, address: str = "user/head") -> None:
    with pytest.raises(HubError, match=message) as caught:
        fetch_head(address)
    assert caught.value.hint


def test_files_may_come_from_another_host_and_the_token_does_not_go_there(
    hub: Hub, elsewhere: Hub, files: Files, commit: str
) -> None:
    for name in ("head.json", "head.safetensors"):
        elsewhere.lies[f"/cdn/{name}"] = body(files[name])
        hub.lies[rf"/user/head/resolve/[^/]+/{name}"] = redirect(f"{elsewhere.url}/cdn/{name}")
    folder = fetch_head("user/head")
    assert (folder / "head.safetensors").read_bytes() == files["head.safetensors"]
    assert elsewhere.requests == ["GET /cdn/head.json", "GET /cdn/head.safetensors"]
    assert elsewhere.tokens == []
    assert hub.tokens == [f"Bearer {hub.token}"] * 3


def test_a_renamed_repository_is_followed_with_the_token(hub: Hub, files: Files) -> None:
    hub.publish("new/name", files, private=True)
    hub.lies[r"/api/models/user/head/revision/main"] = redirect("/api/models/new/name/revision/main", 307)
    hub.lies[INFO] = lambda handler: redirect(handler.path.replace("user/head", "new/name"), 307)(handler)
    hub.lies[TENSORS] = hub.lies[INFO]
    assert (fetch_head("user/head") / "head.json").read_bytes() == files["head.json"]


def test_the_token_does_not_come_back_by_way_of_another_host(hub: Hub, elsewhere: Hub, commit: str) -> None:
    elsewhere.lies[ANY] = redirect(f"{hub.url.replace('127.0.0.1', 'localhost')}/user/head/resolve/main/head.json")
    hub.lies[ANSWER] = redirect(f"{elsewhere.url}/api")
    refused("user/head")
    assert elsewhere.tokens == []
    assert hub.tokens == [f"Bearer {hub.token}"]  # of the first request; localhost is another name


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,{}", "http:///nowhere", "//", "javascript:1", "\x7f"]
)
@pytest.mark.parametrize("asked", [ANSWER, TENSORS])
def test_a_redirect_to_no_web_address_is_not_followed(hub: Hub, commit: str, asked: str, location: str) -> None:
    hub.lies[asked] = redirect(location)
    refused("user/head")


def test_redirects_in_a_circle_end(hub: Hub, commit: str) -> None:
    hub.lies[ANSWER] = redirect("")
    refused("the hub redirects more than 5 times")
    assert len(hub.requests) == 6


def test_an_answer_without_end_is_cut_off(hub: Hub, commit: str, tmp_path: Path) -> None:
    hub.lies[ANSWER] = endless = Endless()
    refused("the hub sends more than the 8,388,608 bytes that its answer may have")
    assert endless.sent < 2 * 8_388_608 + 2**24  # and what was on its way
    assert everything_below(tmp_path / "hub assets") == set()


def test_head_json_without_end_is_cut_off(hub: Hub, commit: str, tmp_path: Path) -> None:
    hub.lies[INFO] = endless = Endless(Transfer_Encoding="chunked")
    refused(r"more than the 33,554,432 bytes that head\.json may have")
    assert endless.sent < MAX_INFO_BYTES + 2**24
    assert everything_below(tmp_path / "hub assets") == set()


def test_tensors_without_end_are_cut_off_at_their_own_size(hub: Hub, commit: str, files: Files, tmp_path: Path) -> None:
    hub.lies[TENSORS] = endless = Endless(Transfer_Encoding="chunked")
    refused(rf"more than the {len(files['head.safetensors'])} bytes that head\.safetensors may have")
    assert endless.sent < 2**24
    assert everything_below(tmp_path / "hub assets") == set()


@pytest.mark.parametrize(
    ("asked", "size"),
    [(ANSWER, "107374182400"), (INFO, "9" * 30), (TENSORS, "107374182400"), (INFO, "9" * 5000), (TENSORS, "-1")],
)
def test_a_length_that_is_a_lie_reserves_nothing(hub: Hub, commit: str, asked: str, size: str, tmp_path: Path) -> None:
    hub.lies[asked] = body(b"{}", Content_Length=size)
    refused("user/head")
    assert everything_below(tmp_path / "hub assets") == set()


def test_compressed_bodies_are_not_unpacked(hub: Hub, commit: str) -> None:
    hub.lies[INFO] = body(gzip.compress(b" " * 2**26), Content_Encoding="gzip")
    refused(r"the hub sends head\.json compressed, which was not asked for")


@pytest.mark.parametrize(("asked", "status"), [(ANSWER, 429), (INFO, 503), (TENSORS, 500)])
def test_a_day_is_not_waited_for(hub: Hub, commit: str, asked: str, status: int) -> None:
    hub.lies[asked] = lambda handler: handler.answer(status, {}, Retry_After="86400", RateLimit='"api";r=0;t=86400')
    started = time.monotonic()
    refused("too many requests" if status == 429 else f"answers with status {status}")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("asked", [ANSWER, TENSORS])
@pytest.mark.parametrize("stuck", STUCK)
def test_whatever_drips_or_is_silent_ends_in_time(
    hub: Hub, commit: str, asked: str, stuck: str, monkeypatch: pytest.MonkeyPatch, files: Files
) -> None:
    monkeypatch.setenv(TIME_LIMIT_VARIABLE, "0.4")
    padded = {**files, "head.json": files["head.json"] + b" " * 100_000}
    hub.publish("user/head", padded)
    hub.lies[asked] = STUCK[stuck]
    started = time.monotonic()
    with pytest.raises(HubError, match=r"user/head.*(within|more than the .* bytes)"):
        fetch_head("user/head")
    assert time.monotonic() - started < 10


def test_the_time_limit_is_said_and_where_to_set_it(hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIME_LIMIT_VARIABLE, "0.25")
    hub.lies[INFO] = STUCK["a body that drips"]
    with pytest.raises(HubError, match=r"within the time limit of 0\.25 s") as caught:
        fetch_head("user/head")
    assert TIME_LIMIT_VARIABLE in (caught.value.hint or "")
    for wrong in ("soon", "nan", "inf", "0", "-1"):
        monkeypatch.setenv(TIME_LIMIT_VARIABLE, wrong)
        with pytest.raises(UsageError, match=f"{TIME_LIMIT_VARIABLE} must be a number of seconds"):
            fetch_head("user/head")


def test_a_host_that_accepts_and_says_nothing(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv(TIME_LIMIT_VARIABLE, "0.3")
        refused("user/head")


def test_etags_and_commits_that_are_paths_write_nothing_outside(
    hub: Hub, commit: str, files: Files, tmp_path: Path
) -> None:
    before = everything_below(tmp_path)
    for path in (str(tmp_path / "victim"), "../../../../victim", "..", "/tmp/victim\\..", "a/b"):
        paths = {"ETag": f'"{path}"', "X_Linked_Etag": f'"{path}"', "X_Repo_Commit": path, "X_Linked_Size": "5"}
        hub.lies = {INFO: body(files["head.json"], **paths), TENSORS: body(files["head.safetensors"], **paths)}
        folder = fetch_head("user/head", force=True)
        assert folder.name == commit
        assert folder.is_relative_to(tmp_path / "hub assets")
        answer = body(json.dumps({"sha": path, "id": path}).encode())
        hub.lies = {ANSWER: answer}
        refused("the hub names no commit but")
    written = everything_below(tmp_path) - before
    assert {name.partition("/")[0] for name in written} == {"hub assets"}
    assert sorted(Path(name).name for name in written if "refs" not in name) == ["head.json", "head.safetensors"]


@pytest.mark.parametrize(
    "answer",
    [b"", b"[]", b"null", b'{"sha": null}', b'{"sha": 5}', b'{"sha": "main"}', b"[" * 10**6, b"\xff\xfe", b"9" * 5000]
    + [json.dumps({"sha": sha}).encode() for sha in ("A" * 40, "0" * 39, "0" * 40 + "\n", "../" * 13 + "a")],
)
def test_an_answer_that_names_no_commit(hub: Hub, commit: str, answer: bytes) -> None:
    hub.lies[ANSWER] = body(answer)
    refused("user/head: the hub")


@pytest.mark.parametrize("revision", ["refs/pr/1", "v1/../../x", "..", "-", "%2e%2e"])
def test_a_revision_is_one_part_of_the_address_that_is_asked(hub: Hub, commit: str, revision: str) -> None:
    with contextlib.suppress(HubError, UsageError):
        fetch_head(f"user/head@{revision}")
    assert all(asked == f"GET /api/models/user/head/revision/{revision}" for asked in hub.requests)


def test_what_the_hub_says_of_itself_is_no_terminal_command(hub: Hub, commit: str) -> None:
    hub.lies[ANSWER] = lambda handler: handler.answer(418, {}, X_Error_Message="\x9b2Jboo" + "x" * 1000)
    with pytest.raises(HubError) as caught:
        fetch_head("user/head")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300


def test_a_part_of_another_file_is_not_appended(hub: Hub, commit: str, files: Files) -> None:
    content = files["head.json"]

    def lie(handler: Handler) -> None:
        if "Range" in handler.headers:
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 0-{len(content) - 1}/{len(content)}")
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)
        else:
            body(content[:100], Content_Length=str(len(content)))(handler)

    hub.lies[INFO] = lie
    refused("cannot be fetched from the hub")
    hub.lies.clear()
    assert (fetch_head("user/head") / "head.json").read_bytes() == content


def test_a_head_that_was_seen_before_is_used_while_the_hub_does_not_answer(
    hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch_head("user/head")
    monkeypatch.setenv(TIME_LIMIT_VARIABLE, "0.3")
    hub.lies[ANY] = silent
    assert fetch_head("user/head") == folder
    refused("within", "user/head@v2")


def test_a_note_of_a_commit_that_is_a_path_is_no_note(hub: Hub, commit: str, tmp_path: Path) -> None:
    fetch_head("user/head")
    [note] = (tmp_path / "hub assets").rglob("refs/*")
    note.write_text("../../../x")
    assert fetch_head("user/head").name == commit
    assert note.read_text() == commit


def test_sizes_that_head_json_makes_up(hub: Hub, files: Files) -> None:
    hub.publish("user/head", changed_info(files, publication__tensors={"bytes": 2**29, "sha256": "0" * 64}))
    with pytest.raises(StoreError, match="but the labels and width"):
        fetch_head("user/head")
    assert not any("safetensors" in asked for asked in hub.requests)


def test_it_can_be_called_where_an_event_loop_runs(hub: Hub, commit: str) -> None:
    async def notebook() -> Path:
        return fetch_head("user/head")

    assert asyncio.run(notebook()).name == commit


def test_without_a_token_none_is_sent(hub: Hub, commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    fetch_head("user/head")
    assert hub.tokens == []
