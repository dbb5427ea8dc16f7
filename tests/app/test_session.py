"""A session makes what its choice needs, in order of cost, and stops at once when asked to."""

from __future__ import annotations

import threading
import time

import pytest
import torch

import xaikit
from tests.app.conftest import same, state
from xaikit.app import compiling
from xaikit.app.facts import CONTROLS, offered_methods
from xaikit.app.look import Look
from xaikit.app.session import Failure
from xaikit.app.stopping import StoppableContext, Stopped
from xaikit.app.tasks import LEVELS, CurveTask, MapTask
from xaikit.foundation.errors import BadInput
from xaikit.run.attribution import Attribution

pytestmark = pytest.mark.slow


def test_maps_and_curves_are_those_of_the_library(desk):
    session = desk.open(methods=("occlusion", "grad-cam"), against=None)
    assert session.settle(60)
    classifier, path = desk.classifier(), desk.shelf.pictures()[0].path
    seen = session.look(classifier_name := desk.models.names[0])
    assert isinstance(seen, Look)
    assert seen.classes[0][0] == int(classifier(classifier.read(path)).argmax())
    tasks = session.wanted()
    assert [task.method for task in session.maps(classifier_name)] == ["occlusion", "grad-cam", *CONTROLS]
    maps = [task for task in tasks if isinstance(task, MapTask)]
    assert [task.method for task in maps][-2:] == ["grad-cam", "occlusion"]  # by cost
    for task in tasks:
        result = session.result(task)
        if isinstance(task, MapTask):
            expected = xaikit.attribute(classifier, path, task.target, task.method)
            torch.testing.assert_close(result.values, expected.values)
        elif isinstance(task, CurveTask):
            curve = xaikit.keep_curve(classifier, path, session.result(task.map), levels=LEVELS)
            torch.testing.assert_close(result.o, curve.o)


def test_a_contrast_is_explained_and_a_method_that_cannot_says_so(desk):
    session = desk.open()
    assert session.settle(60)
    session.choose(target=0, against=1, methods=("grad-cam", "eigen-cam", "libra-cam"))
    assert session.settle(60)
    by_name = {task.method: session.result(task) for task in session.maps(desk.models.names[0])}
    expected = xaikit.attribute(desk.classifier(), desk.shelf.pictures()[0].path, xaikit.Contrast(0, 1))
    torch.testing.assert_close(by_name["grad-cam"].values, expected.values)
    failures = [result for result in by_name.values() if isinstance(result, Failure)]
    assert all("\n" not in one.reason and str(desk.cache.folder) not in one.reason for one in failures)


def test_a_method_is_cancelled_within_a_second_and_the_network_comes_back(desk):
    before = state(desk.classifier())
    session = desk.open()
    assert session.settle(60)
    name = desk.models.names[0]
    for method in (
        "partition-shap",
        "extremal-perturbation",
        "meaningful-perturbation",
        "kernel-shap",
        "rise",
        "sobol",
        "smooth-grad",
    ):
        session.choose(methods=(method,))
        _until(lambda method=method: session.running is not None and session.running.task.method == method)
        begin = time.monotonic()
        session.cancel(name, method)
        _until(lambda: session.running is None)
        assert time.monotonic() - begin < 1
        (task,) = [task for task in session.maps(name) if task.method == method]
        assert isinstance(session.result(task), Attribution | Failure)
    assert same(before, state(desk.classifier()))
    session.choose(methods=("extremal-perturbation",))
    assert session.settle(5), "a cancelled method does not begin again"
    session.choose(methods=("smooth-grad",))
    session.again(name, "smooth-grad")
    assert session.settle(60)
    assert isinstance(session.result(session.maps(name)[0]), Attribution)


def test_waiting_for_what_compiles_can_be_stopped(monkeypatch):
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    monkeypatch.setattr(compiling, "_thread", lambda: thread)
    context = StoppableContext()
    threading.Timer(0.1, context.stop.set).start()
    with pytest.raises(Stopped):
        compiling.wait_until_compiled(context)
    assert thread.is_alive()
    release.set()
    thread.join()
    compiling.wait_until_compiled(StoppableContext())


def test_a_new_choice_stops_what_it_does_not_need(desk):
    session = desk.open(methods=("extremal-perturbation",))
    _until(lambda: session.running is not None and session.running.task.method == "extremal-perturbation")
    begin = time.monotonic()
    session.choose(methods=("grad-cam",))
    assert session.settle(60)
    assert time.monotonic() - begin < 2
    assert isinstance(session.result(session.maps(desk.models.names[0])[0]), Attribution)


def test_sessions_on_one_network_get_the_maps_of_one_alone(desk):
    before = state(desk.classifier())
    methods = ("grad-cam", "lrp", "guided-backprop", "smooth-grad", "libra-cam", "integrated-gradients")
    pictures = [picture.id for picture in desk.shelf.pictures()]
    sessions = [desk.open(picture=picture, methods=methods) for picture in pictures]
    assert all(session.settle(100) for session in sessions)
    for picture, session in zip(desk.shelf.pictures(), sessions, strict=True):
        for task in session.maps(desk.models.names[0]):
            expected = xaikit.attribute(desk.classifier(), picture.path, task.target, task.method)
            torch.testing.assert_close(session.result(task).values, expected.values)
    assert same(before, state(desk.classifier()))


def test_two_networks_are_compared_and_one_that_fails_is_told_in_a_line(desk, monkeypatch):
    session = desk.open(models=tuple(desk.models.names))
    assert session.settle(60)
    maps = {model: session.result(session.maps(model)[0]).values for model in desk.models.names}
    assert not torch.equal(*maps.values())
    session.shelf.get(session.choice.picture).path.write_bytes(b"no picture any more")
    again = desk.open()
    assert again.settle(60)
    failure = again.look(desk.models.names[0])
    assert isinstance(failure, Failure)
    assert "photos" not in failure.reason
    assert "0.png" in failure.reason


@pytest.mark.parametrize(
    "change",
    [
        {"picture": "../../etc/passwd"},
        {"models": ("/etc/passwd",)},
        {"models": ()},
        {"methods": ("captum/saliency",)},
        {"methods": ("edges",)},
        {"target": 3},
        {"target": True},
        {"against": -1},
        {"layer": "conv9"},
        {"mask": "hard"},
        {"fill": "imputed"},
        {"seed": -1},
    ],
    ids=str,
)
def test_what_the_page_does_not_offer_is_refused_and_changes_nothing(desk, change):
    session = desk.open()
    assert session.settle(60)
    before = session.choice
    with pytest.raises(BadInput, match="expected"):
        session.choose(**change)
    assert session.choice == before


def test_maps_come_back_from_the_disk_within_a_bound(desk):
    first = desk.open(methods=("smooth-grad",))
    assert first.settle(60)
    second = desk.open(methods=("smooth-grad",))
    assert second.settle(60)
    one, two = (session.result(session.maps(desk.models.names[0])[0]) for session in (first, second))
    assert torch.equal(one.values, two.values)
    assert two.originals
    assert one.seconds == two.seconds  # it was not computed again
    files = list(desk.cache.folder.iterdir())
    desk.cache.limit = max(file.stat().st_size for file in files)
    second.choose(seed=5)
    assert second.settle(60)
    assert sum(file.stat().st_size for file in desk.cache.folder.iterdir()) <= desk.cache.limit
    with torch.no_grad():
        next(desk.classifier().network.parameters()).add_(0.1)
    third = desk.open(methods=("smooth-grad",))
    assert third.settle(60)
    assert not torch.equal(one.values, third.result(third.maps(desk.models.names[0])[0]).values)


def test_every_method_is_offered():
    assert set(offered_methods()) == set(xaikit.methods())


def _until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)
