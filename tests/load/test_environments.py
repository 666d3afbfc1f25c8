"""Connectors are installed from a lock file, each into an environment of its own, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import smoll
from smoll.connectors.environment import Program, find_program
from smoll.errors import LoadError
from smoll.project import ProgramBase
from support import MakeProject, reopen
from wheels import MUTE_TAP, SOURCE, TAP, build_wheel

MINE = f"{sys.version_info.major}.{sys.version_info.minor}"


def tap_yml(tap: str = "tap-tiny", name: str = "tiny", **options: str) -> str:
    return f"sources: {json.dumps({name: {'kind': 'singer', 'tap': tap, **options}})}\n"


def find(project: smoll.Project, name: str = "tiny", said: list[str] | None = None) -> Program:
    source = project.config.sources[name]
    assert isinstance(source, ProgramBase)
    return find_program(name, source, project.config.root, (said if said is not None else []).append)


def ask(program: Program, *words: str) -> str:
    done = subprocess.run([*program.command, *words], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def lock_of(project: smoll.Project, name: str = "tiny") -> str:
    return (project.config.root / f"connectors/{name}.lock").read_text(encoding="utf-8")


def environments(project: smoll.Project) -> list[str]:
    return sorted(path.name for path in (project.config.root / ".smoll/connectors").iterdir() if path.is_dir())


def packages_of_smoll() -> set[str]:
    return {path.name for path in Path(smoll.__file__).parents[2].glob(".venv/lib/python*/site-packages/*")}


def test_a_package_is_locked_installed_and_found_again(make_project: MakeProject, wheels: Path) -> None:
    project, said, own = make_project(tap_yml()), list[str](), packages_of_smoll()
    program = find(project, said=said)
    assert ask(program, "--version") == "1.0"
    assert program.label == "tap-tiny 1.0"
    assert program.cache.is_dir() and program.cache.is_relative_to(project.config.root / ".smoll/connectors")
    assert program.manifest is None
    assert said == ["tiny: resolving tap-tiny", "tiny: installing tap-tiny into an environment of its own"]
    assert packages_of_smoll() == own
    assert not (project.config.root / ".smoll/lock").exists()

    shutil.rmtree(wheels)
    shutil.rmtree(os.environ["UV_CACHE_DIR"])
    again = list[str]()
    assert find(project, said=again) == program
    assert again == []


def test_the_lock_says_what_it_is_and_names_no_host_and_no_path(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(tap_yml())
    find(project)
    text = lock_of(project)
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert "smoll connectors install tiny --upgrade" in text
    assert head[-2:] == ["# requirement: tap-tiny", f"# python: {MINE}"]
    packages = re.findall(r"^([a-z-]+==\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert packages == ["tap-tiny==1.0", "tiny-dependency==1.0"]
    assert len(text.splitlines()) == len(head) + 4
    assert str(wheels) not in text and "://" not in text and str(project.config.root) not in text


def test_a_clone_gets_what_the_lock_says_though_there_is_something_newer(
    make_project: MakeProject, wheels: Path
) -> None:
    project = make_project(tap_yml())
    first = find(project)
    before = lock_of(project)
    build_wheel(wheels, "tap-tiny", "2.0", TAP)
    shutil.rmtree(project.config.root / ".smoll")
    said = list[str]()
    program = find(project, said=said)
    assert program == first and ask(program, "--version") == "1.0"
    assert lock_of(project) == before
    assert said == ["tiny: installing tap-tiny into an environment of its own"]


def test_upgrade_looks_for_newer_versions_and_a_change_of_smoll_yml_resolves_anew(
    make_project: MakeProject, wheels: Path
) -> None:
    project = make_project(tap_yml())
    old = find(project)
    build_wheel(wheels, "tap-tiny", "2.0", TAP)
    build_wheel(wheels, "tiny-dependency", "3.0", scripts=[])
    result = project.install_connectors()
    assert [(each.status, each.version) for each in result.connectors] == [("unchanged", "1.0")]
    result = project.install_connectors("tiny", upgrade=True)
    assert [(each.status, each.before, each.version) for each in result.connectors] == [("upgraded", "1.0", "2.0")]
    assert "tiny-dependency==3.0" not in lock_of(project)  # tap-tiny 2.0 does not need it any more
    new = find(project)
    assert ask(new, "--version") == "2.0" and new.identity != old.identity

    project, said = reopen(project, tap_yml("tap-tiny<2")), list[str]()
    assert ask(find(project, said=said), "--version") == "1.0"
    assert said[0] == "tiny: connectors/tiny.lock was made from tap-tiny; resolving tap-tiny<2"
    # What else is locked stays as it is, as far as it fits: 1.0 of the dependency was let go by 2.0 of the tap.
    assert "tiny-dependency==3.0" in lock_of(project)
    find(reopen(project, tap_yml("tap-tiny==1.0")))
    assert len(environments(project)) == 3


def test_what_is_locked_stays_where_the_requirement_changes(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(tap_yml("tap-tiny==1.0"))
    find(project)
    build_wheel(wheels, "tiny-dependency", "3.0", scripts=[])
    find(reopen(project, tap_yml("tap-tiny<2")))
    assert "tiny-dependency==1.0" in lock_of(project)


def test_sources_with_the_same_lock_share_an_environment(make_project: MakeProject, wheels: Path) -> None:
    spec = {"kind": "singer", "tap": "tap-tiny"}
    project = make_project(f"sources: {json.dumps({'a': spec, 'b': spec})}\n")
    assert find(project, "a") == find(project, "b")
    assert sorted(path.name for path in (project.config.root / "connectors").iterdir()) == ["a.lock", "b.lock"]
    assert len(environments(project)) == 1


def test_a_changed_package_of_the_same_version_is_refused(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(tap_yml())
    find(project)
    build_wheel(wheels, "tap-tiny", "1.0", "def main(): print('evil')\n")
    shutil.rmtree(project.config.root / ".smoll")
    shutil.rmtree(os.environ["UV_CACHE_DIR"])
    with pytest.raises(LoadError, match=r"tiny: tap-tiny cannot be installed .*[Hh]ash"):
        find(project)
    assert environments(project) == []


def test_a_moved_project_and_a_broken_environment_go_on(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(tap_yml())
    find(project)
    moved = project.config.root.with_name("moved")
    project.config.root.rename(moved)
    project = smoll.open_project(moved)
    said = list[str]()
    program = find(project, said=said)
    assert ask(program, "--version") == "1.0" and said == []
    script = Path(program.command[-1])
    assert subprocess.run([script, "--version"], capture_output=True, text=True).stdout == "1.0\n"

    (script.parent / "python").unlink()
    (script.parent / "python").symlink_to("/nowhere/python")  # the Python that it was made with was removed
    assert ask(find(project, said=said), "--version") == "1.0"
    assert said == ["tiny: installing tap-tiny into an environment of its own"]


INSTALL = """
    import sys
    from pathlib import Path
    import smoll
    project = smoll.open_project(sys.argv[1])
    print("begin", flush=True)
    print(project.install_connectors().connectors[0].version)
"""


def _install(project: smoll.Project) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(INSTALL), str(project.config.root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_two_processes_at_once_make_one_environment(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(tap_yml())
    processes = [_install(project) for _ in range(3)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.split() == ["begin", "1.0"]
    assert len(environments(project)) == 1
    assert ask(find(project), "--version") == "1.0"


@pytest.mark.parametrize("delay", [0.05, 0.15, 0.3, 0.5])
def test_killed_half_way_it_is_made_anew(make_project: MakeProject, wheels: Path, delay: float) -> None:
    project = make_project(tap_yml())
    process = _install(project)
    assert process.stdout is not None and process.stdout.readline() == "begin\n"
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    program = find(project)
    assert ask(program, "--version") == "1.0"
    assert environments(project) == [program.cache.parent.name]


def test_interrupted_it_leaves_nothing(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(tap_yml())
    process = _install(project)
    assert process.stdout is not None and process.stdout.readline() == "begin\n"
    folder = project.config.root / ".smoll/connectors"
    while process.poll() is None and not list(folder.glob(".making-*/venv")):
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert list(folder.glob(".making-*")) == []
    assert ask(find(project), "--version") == "1.0"


def test_which_program_of_a_package_is_the_connector(make_project: MakeProject, wheels: Path) -> None:
    build_wheel(wheels, "tap_other.name", "1.0", TAP, scripts=["tap-other-name", "tap-else"])
    build_wheel(wheels, "vendor-things", "1.0", TAP, scripts=["vendor-cli", "tap-things"])
    build_wheel(wheels, "only-one", "1.0", TAP, scripts=["extract"])
    build_wheel(wheels, "two-taps", "1.0", TAP, scripts=["tap-a", "tap-b"])
    build_wheel(wheels, "library", "1.0", scripts=[], requires=["tap-tiny"])
    taps = {
        name: {"kind": "singer", "tap": tap}
        for name, tap in {
            "other": "tap.other_name",
            "vendor": "vendor-things",
            "only": "only-one",
            "two": "two-taps",
            "lib": "library",
        }.items()
    }
    taps |= {"chosen": {"kind": "singer", "tap": "two-taps", "executable": "tap-b"}}
    taps |= {"absent": {"kind": "singer", "tap": "two-taps", "executable": "tap-c"}}
    project = make_project(f"sources: {json.dumps(taps)}\n")
    found = {name: Path(find(project, name).command[-1]).name for name in list(taps)[:3]}
    assert found == {"other": "tap-other-name", "vendor": "tap-things", "only": "extract"}
    assert Path(find(project, "chosen").command[-1]).name == "tap-b"
    for name, words in {
        "two": r"two-taps has several programs.*\n.*`executable` to one of tap-a, tap-b",
        "lib": "library has no program",
        "absent": r"two-taps has no program 'tap-c'.\n.*tap-a, tap-b",
    }.items():
        with pytest.raises(LoadError, match=words):
            find(project, name)


def test_programs_of_the_project(make_project: MakeProject) -> None:
    script = f"#!/bin/sh\nexec '{sys.executable}' -c 'print(1.5)'\n"
    files = {"taps/run": script, "taps/tap.py": "print('from Python')\n", "taps/notes.txt": "no program\n"}
    paths = ["./taps/run", "taps/tap.py", "taps/notes.txt", "taps/absent.py", "tap.py"]
    sources = {f"s{number}": {"kind": "singer", "tap": path} for number, path in enumerate(paths)}
    project = make_project(f"sources: {json.dumps(sources)}\n", files)
    (project.config.root / "taps/run").chmod(0o755)
    first = find(project, "s0")
    assert (ask(first), first.label) == ("1.5", "./taps/run")
    python = find(project, "s1")
    assert python.command[0] == sys.executable and ask(python) == "from Python"
    assert first.cache != python.cache and first.cache.is_dir()
    (project.config.root / "taps/tap.py").write_text("print('changed')\n")
    changed = find(project, "s1")
    assert changed.identity != python.identity and changed.cache == python.cache
    for name, words in {
        "s2": r"s2: taps/notes.txt is no program.\n.*chmod \+x",
        "s3": "s3: there is no file taps/absent.py",
        "s4": r"s4: tap.py is no package.\n.*\./my_tap.py",
    }.items():
        with pytest.raises(LoadError, match=words):
            find(project, name)


def test_a_manifest_is_run_by_the_program_of_its_package(make_project: MakeProject, wheels: Path) -> None:
    build_wheel(wheels, "airbyte-cdk", "7.0", SOURCE, scripts=["airbyte-cdk", "source-declarative-manifest"])
    spec = {"kind": "airbyte", "connector": "./connectors/weather.yaml"}
    project = make_project(
        f"sources: {json.dumps({'weather': spec})}\n", {"connectors/weather.yaml": "version: 7.0.0\n"}
    )
    program = find(project, "weather")
    assert program.manifest == project.config.root / "connectors/weather.yaml"
    assert Path(program.command[-1]).name == "source-declarative-manifest"
    assert program.label == "./connectors/weather.yaml"
    assert "# requirement: airbyte-cdk" in lock_of(project, "weather")
    program.manifest.write_text("version: 7.1.0 # changed\n")
    assert find(project, "weather").identity != program.identity
    program.manifest.unlink()
    with pytest.raises(LoadError, match=r"weather: there is no file ./connectors/weather.yaml"):
        find(project, "weather")


def test_what_cannot_be_resolved_is_told_in_one_line(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(tap_yml("tap-nowhere"))
    with pytest.raises(LoadError) as caught:
        find(project)
    assert "tiny: tap-nowhere cannot be resolved" in caught.value.message and "\n" not in caught.value.message
    assert not (project.config.root / "connectors").exists()
    with pytest.raises(LoadError, match=r"tiny: tap-tiny>=9 cannot be resolved"):
        find(reopen(project, tap_yml("tap-tiny>=9")))


def test_a_failed_upgrade_leaves_everything_as_it_was(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(tap_yml())
    program, before = find(project), lock_of(project)
    wheel = build_wheel(wheels, "tap-tiny", "2.0", TAP)
    damaged = wheel.read_bytes().replace(b"WHEEL", b"WHEEX")
    wheel.write_bytes(damaged)
    with pytest.raises(LoadError):
        project.install_connectors(upgrade=True)
    assert lock_of(project) == before and find(project) == program


@pytest.mark.parametrize("tap", ["git+https://example.com/tap.git", "https://example.com/tap.zip", "-e .", "@"])
def test_what_names_no_package_is_refused(make_project: MakeProject, tap: str) -> None:
    with pytest.raises(LoadError, match=r"is no package.\n.*NAME @ URL"):
        find(make_project(tap_yml(tap)))


def test_no_password_gets_into_a_lock_or_a_message(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(tap_yml("tap-x @ git+https://me:s3cr3tpass@localhost:9/x.git"))
    with pytest.raises(LoadError, match="the URL of tap-x holds a login") as caught:
        find(project)
    assert "s3cr3tpass" not in str(caught.value)
    with pytest.raises(LoadError) as caught:
        find(reopen(project, tap_yml("https://me:s3cr3tpass@localhost:9/x.git")))
    assert "s3cr3tpass" not in str(caught.value)


def test_an_index_with_a_password_is_not_told(
    make_project: MakeProject, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_OFFLINE")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://me:s3cr3tpass@127.0.0.1:9/simple")
    with pytest.raises(LoadError, match="tap-nowhere cannot be resolved") as caught:
        find(make_project(tap_yml("tap-nowhere")))
    assert "s3cr3tpass" not in str(caught.value)


def test_another_python(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(tap_yml(python=MINE))
    program = find(project)
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    assert ask(Program((program.command[0], "-c", version), "", "", program.cache)) == MINE
    with pytest.raises(LoadError, match=r"tap-tiny cannot be installed with Python 3\.77") as caught:
        find(reopen(project, tap_yml(python="3.77")))
    assert "Install Python 3.77" in caught.value.hint


def test_a_lock_for_a_newer_python_is_resolved_anew_with_its_versions(make_project: MakeProject, wheels: Path) -> None:
    project = make_project(tap_yml("tap-tiny"))
    find(project)
    build_wheel(wheels, "tap-tiny", "2.0", TAP)
    file = project.config.root / "connectors/tiny.lock"
    file.write_text(lock_of(project).replace(f"# python: {MINE}", "# python: 3.13.99"))
    said = list[str]()
    assert ask(find(project, said=said), "--version") == "1.0"
    assert "was made for Python 3.13.99 and newer" in said[0]
    assert f"# python: {MINE}\n" in lock_of(project)


@pytest.mark.parametrize("text", ["", "nonsense\n", "tap-tiny==1.0\n", "\xff"])
def test_a_lock_that_is_none_is_written_anew(make_project: MakeProject, wheels: Path, text: str) -> None:
    project = make_project(tap_yml(), {"connectors/tiny.lock": text.encode("latin-1")})
    assert ask(find(project), "--version") == "1.0"
    assert "# requirement: tap-tiny\n" in lock_of(project)


def test_without_uv_the_error_says_how_to_get_it(
    make_project: MakeProject, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LoadError, match=r'uv is needed .*\n.*pip install "smoll\[connectors\]"'):
        find(make_project(tap_yml()))


def test_the_environment_of_smoll_does_not_reach_it(
    make_project: MakeProject, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "other"))
    monkeypatch.setenv("UV_SYSTEM_PYTHON", "1")
    monkeypatch.setenv("UV_PYTHON", "3.99")
    build_wheel(wheels, "tap-mute", "1.0", MUTE_TAP)
    assert find(make_project(tap_yml("tap-mute"))).label == "tap-mute 1.0"


@pytest.mark.index
@pytest.mark.parametrize(
    ("kind", "key", "requirement", "script"),
    [
        ("singer", "tap", "meltanolabs-tap-postgres==0.10.0", "tap-postgres"),
        ("airbyte", "connector", "airbyte-source-faker==7.2.1", "source-faker"),
    ],
)
def test_connectors_of_the_index(make_project: MakeProject, kind: str, key: str, requirement: str, script: str) -> None:
    project = make_project(f"sources: {json.dumps({'real': {'kind': kind, key: requirement}})}\n")
    program = find(project, "real")
    assert Path(program.command[-1]).name == script
    assert "--hash=sha256:" in lock_of(project, "real") and "://" not in lock_of(project, "real")
    assert ask(program, *(["--about", "--format=json"] if kind == "singer" else ["spec"])).startswith("{")
