"""Rules A: what a specification may say. Rules C1 to C3: who is restarted."""

import pytest

from callboard.actors.actor import EventActor
from callboard.actors.errors import ConfigurationError, InvalidSpecification
from callboard.supervision.child_spec import ChildSpec, check_child_specs


def test_A2_defaults():
    worker = ChildSpec("w", EventActor)
    assert (worker.restart, worker.child_type, worker.shutdown_seconds, worker.name) == ("permanent", "worker", 5, "w")
    assert ChildSpec("s", EventActor, child_type="supervisor").shutdown_seconds == "infinity"
    assert ChildSpec("s", EventActor, name="elsewhere").name == "elsewhere"


def test_A3_what_is_missing_is_named():
    with pytest.raises(TypeError, match="actor_class"):
        ChildSpec("a")
    for given, reason in (
        ({"actor_class": EventActor}, "missing_id"),
        ({"id": "a"}, "missing_start"),
        ("a", "invalid_child_spec"),
    ):
        with pytest.raises(InvalidSpecification, match=r"child specification .*: expected") as refused:
            check_child_specs([given])
        assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("actor_class", str, "invalid_start"),
        ("actor_class", EventActor.start, "invalid_start"),
        ("restart", "always", "invalid_restart_type"),
        ("child_type", "boss", "invalid_child_type"),
        ("significant", "yes", "invalid_significant"),
        ("shutdown_seconds", -1, "invalid_shutdown"),
        ("shutdown_seconds", float("nan"), "invalid_shutdown"),
        ("shutdown_seconds", float("inf"), "invalid_shutdown"),
        ("shutdown_seconds", "never", "invalid_shutdown"),
        ("shutdown_seconds", True, "invalid_shutdown"),
    ],
)
def test_A4_a_wrong_value_is_refused_by_name(field, value, reason):
    with pytest.raises(InvalidSpecification, match=f"child 'a': {field} .*: expected") as refused:
        ChildSpec(**{"id": "a", "actor_class": EventActor, field: value})
    assert refused.value.reason == reason


@pytest.mark.parametrize("child_id", ["", None, 7])
def test_A4_an_id_is_a_text(child_id):
    with pytest.raises(ConfigurationError, match=r"child id .*: expected a text that is not empty"):
        ChildSpec(child_id, EventActor)


def test_A5_unknown_fields_are_refused():
    with pytest.raises(TypeError, match="silly_flag"):
        ChildSpec("a", EventActor, silly_flag=1)
    with pytest.raises(InvalidSpecification, match="field 'silly_flag': expected one of actor_class, args"):
        check_child_specs([{"id": "a", "actor_class": EventActor, "silly_flag": 1}])


def test_A7_a_permanent_child_cannot_be_significant():
    with pytest.raises(InvalidSpecification, match="significant and permanent") as refused:
        ChildSpec("a", EventActor, significant=True)
    assert refused.value.reason == "bad_combination"


def test_A7_nor_one_whose_supervisor_never_ends_by_itself():
    significant = ChildSpec("a", EventActor, restart="transient", significant=True)
    assert check_child_specs([significant]) == check_child_specs([significant], "any_significant") == (significant,)
    with pytest.raises(InvalidSpecification, match="auto_shutdown is 'never'") as refused:
        check_child_specs([significant], "never")
    assert refused.value.reason == "bad_combination"


def test_A6_duplicate_ids_are_refused():
    with pytest.raises(ConfigurationError, match="child id 'a' is given twice"):
        check_child_specs([ChildSpec("a", EventActor), ChildSpec("a", EventActor)])


def test_A8_a_list_can_be_checked_without_starting():
    specs = [ChildSpec("a", EventActor), ChildSpec("b", EventActor)]
    assert check_child_specs(specs) == tuple(specs)
    assert check_child_specs([{"id": "a", "actor_class": EventActor}, specs[1]]) == tuple(specs)
    with pytest.raises(ConfigurationError, match="expected a list of ChildSpec"):
        check_child_specs(7)
