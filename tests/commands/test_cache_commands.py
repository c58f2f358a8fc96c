"""`eeipu cache`, as a user types it."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eeipu import Float, Pipeline, stage
from eeipu import __main__ as command_line
from eeipu.cache import StageCache

KEYS = ["aa" * 32, "ab" * 32, "cc" * 32]


@pytest.fixture
def location(tmp_path):
    """A cache with three entries; the first was loaded twice."""
    cache = StageCache(tmp_path / "cache")
    for key, name in zip(KEYS, ["features", "train", "train"], strict=True):
        cache.put(key, bytes(2000), cost=90.0, stage=name, params={"lr": 0.1})
    for _ in range(2):
        cache.get(KEYS[0])
    return str(tmp_path / "cache")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `eeipu cache` on some arguments: its exit code, output and error output."""

    def run(*arguments, columns=150):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys, "argv", ["eeipu", "cache", *arguments])
        with pytest.raises(SystemExit) as ended:
            command_line.main()
        return ended.value.code, *capsys.readouterr()

    return run


def objects(output):
    return [json.loads(line) for line in output.splitlines()]


def damage(location):
    path = next((StageCache(location).place.store.root / "entries").glob(f"*/{KEYS[1]}*"))
    path.write_bytes(b"")


def test_ls_lists_what_is_there_and_what_it_saved(run, location):
    code, output, _ = run("ls", location)
    assert code == 0
    (row,) = [line for line in output.splitlines() if KEYS[0][:12] in line]
    cells = re.split(" {2,}", row.strip())
    assert cells[1:4] == ["features", "lr=0.1", "2.6 kB"]
    assert cells[5:] == ["2", "3 min"]
    assert "3 entries" in output
    assert "3 min saved" in output


def test_ls_fits_80_columns_however_many_parameters_there_are(run, location):
    params = {f"a_long_name_{k}": 0.123456789 for k in range(9)}
    StageCache(location).put("dd" * 32, 1, stage="a [b]stage[/b]", params=params)
    lines = run("ls", location, columns=80)[1].splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if "dddddddddddd" in line]
    assert "a [b]stage[/b]" in row
    assert "a_long" in row
    assert len(lines) == 6


def test_ls_gives_json_to_scripts(run, location):
    _, output, _ = run("ls", location, "--json")
    found = {each["key"]: each for each in objects(output)}
    assert found.keys() == set(KEYS)
    assert found[KEYS[0]]["hits"] == 2
    assert found[KEYS[0]]["saved"] == pytest.approx(180.0, abs=0.1)
    assert found[KEYS[1]]["stage"] == "train"
    assert found[KEYS[1]]["params"] == {"lr": 0.1}


def test_ls_says_what_is_kept(run, location):
    StageCache(location).holders.pin("study", [KEYS[2]])
    _, output, _ = run("ls", location, "--json")
    assert {each["key"]: each["is_kept"] for each in objects(output)}[KEYS[2]]
    assert "yes" in run("ls", location)[1]


def test_show_takes_the_beginning_of_a_key(run, location):
    code, output, _ = run("show", location, "cc")
    assert code == 0
    assert KEYS[2] in output
    (shown,) = objects(run("show", location, "cc", "--json")[1])
    assert (shown["key"], shown["cost"]) == (KEYS[2], 90.0)


@pytest.mark.parametrize(("key", "words"), [("a", "2 keys begin"), ("x", "no key begins")])
def test_show_refuses_what_is_not_one_key(run, location, key, words):
    code, _, errors = run("show", location, key)
    assert code == 1
    assert words in errors


@pytest.fixture
def explained(tmp_path):
    """A cache in which a pipeline has run twice, with another learning rate."""

    @stage(space={"lr": Float(0.0, 1.0)}, version="1")
    def train(data, *, lr):
        return lr * data

    now = [1.0e9]
    cache = StageCache(tmp_path / "explained", now=lambda: now[0])
    for lr in (0.5, 0.25):
        now[0] += 60
        Pipeline([train]).run({"train.lr": lr}, 3.0, cache=cache)
    return str(tmp_path / "explained"), list(cache)


DIFFERENCE = "the hyper-parameter lr (0.5 there, 0.25 here)"


def test_why_names_what_differs_from_the_nearest_entry(run, explained):
    location, (first, second) = explained
    code, output, _ = run("why", location)
    assert code == 0
    assert output.startswith(
        f"train {second[:12]} was made; the nearest entry, {first[:12]} of 2001"
    )
    assert output.endswith(f"differs in {DIFFERENCE}\n")
    assert run("why", location, second[:9])[1] == output
    assert "there is no entry of train" in run("why", location, first)[1]


def test_why_gives_json_to_scripts(run, explained):
    location, (first, second) = explained
    (said,) = objects(run("why", location, "--json")[1])
    assert (said["stage"], said["key"], said["nearest"]["key"]) == ("train", second, first)
    assert said["nearest"]["differences"] == [DIFFERENCE]
    (shown,) = objects(run("show", location, second, "--json")[1])
    assert shown["parts"]["version"] == "1"


def test_why_of_entries_without_parts_and_of_unknown_keys(run, location):
    code, output, _ = run("why", location)
    assert (code, output.count("without the parts of its key")) == (0, 2)
    code, _, errors = run("why", location, "x")
    assert (code, "no key begins" in errors) == (1, True)


def test_what_the_system_refuses_is_one_line(run, location, monkeypatch):
    def refuse(*arguments):
        raise PermissionError("not yours")

    monkeypatch.setattr("eeipu.caching.directory_store.DirectoryStore.uses", refuse)
    assert run("ls", location)[::2] == (1, "eeipu: error: not yours\n")


def test_verify_finds_damage_and_says_so_to_scripts(run, location):
    assert run("verify", location)[:2] == (0, "0 of 3 entries are damaged\n")
    damage(location)
    code, output, _ = run("verify", location)
    assert code == 1
    assert f"damaged: {KEYS[1]}" in output
    assert objects(run("verify", location, "--json")[1]) == [{"damaged": KEYS[1]}]


def test_gc_leaves_what_is_wanted(run, location):
    StageCache(location).holders.pin("study", [KEYS[1]])
    code, output, _ = run("gc", location)
    assert (code, output) == (0, "removed 0; 3 entries (7.9 kB) are left\n")
    (said,) = objects(run("gc", location, "--max-bytes", "6000", "--json")[1])
    assert (said["removed"], said["entries"]) == (1, 2)
    assert run("gc", location, "--idle-days", "0")[0] == 0
    assert list(StageCache(location)) == [KEYS[1]]


def test_clear_asks_first(run, location, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert run("clear", location)[0] == 1
    assert StageCache(location).stats().entries == 3


def test_clear_drops_everything(run, location):
    StageCache(location).holders.pin("study", [KEYS[1]])
    code, output, _ = run("clear", location, "--yes")
    assert (code, output) == (0, "removed 3; 0 entries (0 bytes) are left\n")


def test_a_directory_that_others_can_write_to_is_refused_in_one_line(run, location):
    Path(location).chmod(0o777)
    code, _, errors = run("ls", location)
    assert (code, errors.count("\n")) == (1, 1)
    assert "shared=True" in errors
    assert run("ls", location, "--shared")[0] == 0


def test_the_commands_start_without_torch(location):
    code = (
        "import sys; from eeipu.__main__ import app; "
        f"app(['cache', 'ls', {location!r}], standalone_mode=False); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True, capture_output=True)


@pytest.mark.parametrize("command", [["ls"], ["verify"], ["gc"], ["clear", "--yes"], ["show"]])
def test_a_place_without_a_cache_is_refused_and_not_made(run, tmp_path, command):
    name, *options = command
    arguments = [str(tmp_path / "typo"), *(["key"] if name == "show" else []), *options]
    code, _, errors = run(name, *arguments)
    assert code == 1
    assert "there is no cache" in errors
    assert not (tmp_path / "typo").exists()
