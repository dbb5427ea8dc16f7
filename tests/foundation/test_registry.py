"""Registries: names, refusals, discovery, plug-ins."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint

import pytest

from xaikit.foundation import registry
from xaikit.foundation.errors import BadInput, MissingExtra, UnknownName, XaikitWarning
from xaikit.foundation.registry import Registry, load_plugin


def thing(label, **attributes):
    return type(label, (), {"name": label, **attributes})


@pytest.fixture
def things(tmp_path, monkeypatch):
    """A registry whose home package has one module, that registers one class."""
    home = tmp_path / "home_of_things"
    (home / "inner").mkdir(parents=True)
    (home / "__init__.py").write_text("LOADED = []\n")
    (home / "inner" / "__init__.py").write_text("")
    (home / "inner" / "leaf.py").write_text("import home_of_things\nhome_of_things.LOADED.append(1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield Registry("thing", "home_of_things")
    for name in [name for name in sys.modules if name.startswith("home_of_things")]:
        del sys.modules[name]


def test_get_names_and_filter(things):
    first, second = thing("b-thing", big=True), thing("a-thing", big=False)
    assert things.register(first) is first
    things.register(second)
    assert things.names() == ["a-thing", "b-thing"]
    assert things.names(lambda entry: entry.big) == ["b-thing"]
    assert things.get("b-thing") is first


def test_home_is_imported_on_the_first_question_alone(things):
    assert "home_of_things" not in sys.modules
    assert things.names() == []
    assert things.names() == []
    assert sys.modules["home_of_things"].LOADED == [1]


def test_a_home_that_cannot_be_imported_fails_every_time():
    broken = Registry("thing", "no_such_home_of_things")
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError):
            broken.names()


def test_unknown_name_has_near_names_and_the_command(things):
    things.register(thing("grad-cam"))
    with pytest.raises(UnknownName, match=r"unknown thing 'grad-can'; did you mean grad-cam\?"):
        things.get("grad-can")
    with pytest.raises(UnknownName, match="`xaikit list things` shows them"):
        things.get("zzz")


def test_duplicate_is_refused_but_a_second_definition_of_one_class_is_not(things):
    things.register(thing("one"))
    things.register(thing("one"))
    other = type("Other", (), {"name": "one"})
    with pytest.raises(BadInput, match="thing 'one': expected a new name"):
        things.register(other)


@pytest.mark.parametrize("attributes", [{}, {"name": ""}, {"name": 3}])
def test_a_class_without_a_name_is_refused(things, attributes):
    with pytest.raises(BadInput, match="set `name`"):
        things.register(type("Nameless", (), attributes))


def test_plugin_file_registers(things, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "THINGS", things, raising=False)
    text = "from xaikit.foundation import registry\n@registry.THINGS.register\nclass Mine:\n    name = 'mine'\n"
    (tmp_path / "mine.py").write_text(text)
    module = load_plugin(tmp_path / "mine.py")
    assert things.get("mine") is module.Mine
    load_plugin(tmp_path / "mine.py")
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.py").write_text(text)
    with pytest.raises(BadInput, match="expected a new name"):
        load_plugin(other / "mine.py")


@pytest.mark.parametrize(
    "text",
    [
        "def f(:",
        "import no_such_package_anywhere",
        "undefined_name",
        "1 / 0",
        "raise RuntimeError",
        "raise SystemExit(0)",
        "import sys; sys.exit(3)",
        "assert False, 'one\\ntwo'",
        "{}['missing']",
        "import json; json.loads('{')",
        "from xaikit.foundation.errors import BadInput; raise BadInput('layers: expected 3')",
    ],
)
def test_plugin_that_cannot_be_imported(tmp_path, text):
    (tmp_path / "bad.py").write_text(text)
    before = set(sys.modules)
    with pytest.raises(BadInput, match=r"bad\.py: expected a Python file that can be imported") as caught:
        load_plugin(tmp_path / "bad.py")
    assert set(sys.modules) == before
    assert "\n" not in str(caught.value)


def test_plugin_that_is_no_python_file(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for name in ("notes.txt", "missing.py"):
        with pytest.raises(BadInput, match=r"give the path of a \.py file"):
            load_plugin(tmp_path / name)


def test_entry_points_are_loaded_and_a_broken_one_is_left_out(things, monkeypatch):
    points = [
        EntryPoint("gone", "no_such_package_anywhere:Thing", "home_of_things"),
        EntryPoint("good", "home_of_things.inner.leaf", "home_of_things"),
    ]
    loaded = []
    monkeypatch.setattr(registry, "entry_points", lambda group: loaded.append(group) or points)
    things.register(thing("one"))
    with pytest.warns(XaikitWarning, match="no_such_package_anywhere:Thing") as caught:
        assert things.names() == ["one"]
    assert loaded == ["home_of_things"]
    assert len(caught) == 1


@pytest.mark.parametrize(
    "ending",
    [
        "raise SystemExit(0)",
        "1 / 0",
        "raise MemoryError",
        "import no_such_package_anywhere",
        "import sys; sys.exit()",
        "x[",
    ],
)
def test_an_installed_plugin_that_fails_disables_nothing(things, monkeypatch, tmp_path, ending):
    """Whatever it raises, the names of other plug-ins and of the package stay, and those it had registered go."""
    monkeypatch.setattr(registry, "THINGS", things, raising=False)
    for name, end in (("fails_in_the_end", ending), ("works_well", "")):
        text = "from xaikit.foundation import registry\n@registry.THINGS.register\nclass Mine:\n"
        (tmp_path / f"{name}.py").write_text(f"{text}    name = '{name}'\n{end}\n")
        monkeypatch.delitem(sys.modules, name, raising=False)
    points = [EntryPoint(name, name, "home_of_things") for name in ("fails_in_the_end", "works_well")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    things.register(thing("one"))
    with pytest.warns(XaikitWarning, match="'fails_in_the_end' cannot be loaded") as caught:
        assert things.names() == ["one", "works_well"]
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    monkeypatch.delitem(sys.modules, "works_well")


def test_an_installed_plugin_with_a_name_that_xaikit_has_is_left_out(things, monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "THINGS", things, raising=False)
    (tmp_path / "of_last_year.py").write_text(
        "from xaikit.foundation import registry\n@registry.THINGS.register\nclass Mine:\n    name = 'one'\n"
    )
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("old", "of_last_year", group)])
    one = things.register(thing("one"))
    with pytest.warns(XaikitWarning, match=r"'old' cannot be loaded .*expected a new name"):
        assert things.get("one") is one


@pytest.fixture
def guests(things, tmp_path):
    """The registry of things with a package of guests: one that is installed and one that is not."""
    house = tmp_path / "house_of_guests"
    house.mkdir()
    (house / "__init__.py").write_text("")
    (house / "two_words.py").write_text(
        "from home_of_things import REGISTRY\nREGISTRY.register(type('Guest', (), {'name': 'two-words/guest'}))\n"
    )
    (house / "missing.py").write_text(
        "from xaikit.foundation.errors import MissingExtra\nraise MissingExtra('missing', 'backends')\n"
    )
    registry = Registry("thing", "home_of_things", guests="house_of_guests")
    registry.register(thing("native"))
    registry.names()
    sys.modules["home_of_things"].REGISTRY = registry
    yield registry
    for name in [name for name in sys.modules if name.startswith("house_of_guests")]:
        del sys.modules[name]


def test_guests_come_when_a_name_with_a_slash_is_asked_for(guests):
    assert guests.names() == ["native"]
    guests.get("native")
    assert "house_of_guests.two_words" not in sys.modules
    assert guests.get("two-words/guest").name == "two-words/guest"
    assert guests.names() == ["native"]


def test_guests_are_listed_when_asked_and_those_not_installed_left_out(guests):
    assert guests.names(guests=True) == ["native", "two-words/guest"]
    assert guests.names(lambda entry: entry.name != "native", guests=True) == ["two-words/guest"]


def test_a_guest_that_is_not_there(guests):
    with pytest.raises(MissingExtra, match=r"pip install 'xaikit\[backends\]'"):
        guests.get("missing/guest")
    with pytest.raises(UnknownName, match=r"unknown thing 'two-words/gest'; did you mean two-words/guest\?"):
        guests.get("two-words/gest")
    with pytest.raises(UnknownName, match="nobody/guest"):
        guests.get("nobody/guest")
