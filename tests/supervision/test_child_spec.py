"""Rules A: what a specification may say. Rules C1 to C3: who is restarted."""

import pytest

from callboard.actors.actor import EventActor
from callboard.actors.errors import ConfigurationError
from callboard.supervision.child_spec import ChildSpec, check_child_specs


def test_A2_defaults():
    worker = ChildSpec("w", EventActor)
    assert (worker.restart, worker.child_type, worker.shutdown_seconds, worker.name) == ("permanent", "worker", 5, "w")
    assert ChildSpec("s", EventActor, child_type="supervisor").shutdown_seconds == "infinity"
    assert ChildSpec("s", EventActor, name="elsewhere").name == "elsewhere"


def test_A3_what_is_missing_is_named():
    with pytest.raises(TypeError, match="actor_class"):
        ChildSpec("a")
    with pytest.raises(ConfigurationError, match="child specification 'a': expected a ChildSpec"):
        check_child_specs(["a"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actor_class", str),
        ("actor_class", EventActor.start),
        ("restart", "always"),
        ("child_type", "boss"),
        ("shutdown_seconds", -1),
        ("shutdown_seconds", float("nan")),
        ("shutdown_seconds", float("inf")),
        ("shutdown_seconds", "never"),
        ("shutdown_seconds", True),
    ],
)
def test_A4_a_wrong_value_is_refused_by_name(field, value):
    with pytest.raises(ConfigurationError, match=f"child 'a': {field} .*: expected"):
        ChildSpec(**{"id": "a", "actor_class": EventActor, field: value})


@pytest.mark.parametrize("child_id", ["", None, 7])
def test_A4_an_id_is_a_text(child_id):
    with pytest.raises(ConfigurationError, match=r"child id .*: expected a non-empty string"):
        ChildSpec(child_id, EventActor)


def test_A5_unknown_fields_are_refused():
    with pytest.raises(TypeError, match="silly_flag"):
        ChildSpec("a", EventActor, silly_flag=1)


def test_A6_duplicate_ids_are_refused():
    with pytest.raises(ConfigurationError, match="child id 'a' is given twice"):
        check_child_specs([ChildSpec("a", EventActor), ChildSpec("a", EventActor)])


def test_A8_a_list_can_be_checked_without_starting():
    specs = [ChildSpec("a", EventActor), ChildSpec("b", EventActor)]
    assert check_child_specs(specs) == tuple(specs)
    with pytest.raises(ConfigurationError, match="expected a list of ChildSpec"):
        check_child_specs(7)


@pytest.mark.parametrize(
    ("restart", "after_normal", "after_crash"),
    [("permanent", True, True), ("transient", False, True), ("temporary", False, False)],
)
def test_C1_C2_C3_restart_types(restart, after_normal, after_crash):
    spec = ChildSpec("a", EventActor, restart=restart)
    assert spec.restarts_after(abnormal=False) is after_normal
    assert spec.restarts_after(abnormal=True) is after_crash
