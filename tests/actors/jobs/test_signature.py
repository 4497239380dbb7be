"""Arguments and results through JSON and back, for every shape of signature."""

import dataclasses
import datetime as dt
import enum
import math
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticSerializationError

from callboard.actors.errors import InvalidArguments, JobDefinitionError
from callboard.actors.jobs.context import JobContext
from callboard.actors.jobs.signature import JobSignature
from tests.actors.jobs.builders import Services, claimed

CONTEXT = JobContext(claimed(), Services())


def sent(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the function as a worker does: with what is left of the arguments after the database."""
    signature = JobSignature(function)
    received_args, received_kwargs = signature.decode(signature.encode(args, kwargs), CONTEXT)
    return function(*received_args, **received_kwargs)


# Every kind of parameter


def plain(a: int, b: int = 2) -> Any:
    return a, b


def positional_only(a: int, b: int = 2, /) -> Any:
    return a, b


def keyword_only(*, a: int, b: int = 2) -> Any:
    return a, b


def rest(a: int, *more: int) -> Any:
    return a, more


def extra(a: int, **more: int) -> Any:
    return a, more


def everything(a: int, /, b: int = 2, *more: int, c: int, d: int = 4, **named: int) -> Any:
    return a, b, more, c, d, named


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "got"),
    [
        (plain, (1,), {}, (1, 2)),
        (plain, (1, 5), {}, (1, 5)),
        (plain, (), {"b": 5, "a": 1}, (1, 5)),
        (positional_only, (1,), {}, (1, 2)),
        (positional_only, (1, 5), {}, (1, 5)),
        (keyword_only, (), {"a": 1}, (1, 2)),
        (keyword_only, (), {"a": 1, "b": 5}, (1, 5)),
        (rest, (1,), {}, (1, ())),
        (rest, (1, 5, 6), {}, (1, (5, 6))),
        (extra, (1,), {}, (1, {})),
        (extra, (1,), {"x": 5, "more": 6}, (1, {"x": 5, "more": 6})),
        (everything, (1,), {"c": 3}, (1, 2, (), 3, 4, {})),
        (everything, (1, 7, 8, 9), {"c": 3, "d": 5, "a": 6}, (1, 7, (8, 9), 3, 5, {"a": 6})),
    ],
)
def test_every_kind_of_parameter_arrives(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], got: Any
) -> None:
    assert sent(function, *args, **kwargs) == got


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (plain, (), {}),
        (plain, (1, 2, 3), {}),
        (plain, (1,), {"a": 1}),
        (plain, (1,), {"c": 1}),
        (positional_only, (), {"a": 1}),
        (keyword_only, (1,), {}),
        (rest, (), {}),
        (everything, (1,), {}),
    ],
)
def test_a_call_that_does_not_fit_the_signature_is_refused(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArguments, match=rf"^{function.__name__}\(.*pass what the signature names"):
        JobSignature(function).encode(args, kwargs)


# The context, anywhere


def context_first(ctx: JobContext, a: int, b: int = 2) -> Any:
    return ctx, a, b


def context_last(a: int, b: int = 2, *, ctx: JobContext) -> Any:
    return ctx, a, b


def context_between(a: int, ctx: JobContext, b: int = 2) -> Any:
    return ctx, a, b


def context_positional_only(ctx: JobContext, /, a: int, b: int = 2) -> Any:
    return ctx, a, b


def context_after_a_default(b: int = 2, ctx: JobContext = CONTEXT, /, *, a: int) -> Any:
    return ctx, a, b


def context_before_the_rest(ctx: JobContext, *more: int) -> Any:
    return ctx, *more


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (context_first, (1,), {}),
        (context_last, (1,), {}),
        (context_between, (1,), {}),
        (context_positional_only, (1,), {}),
        (context_after_a_default, (), {"a": 1}),
        (context_before_the_rest, (1, 2), {}),
    ],
)
def test_the_context_is_supplied_wherever_it_stands(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    assert sent(function, *args, **kwargs) == (CONTEXT, 1, 2)


def test_the_context_is_no_argument() -> None:
    signature = JobSignature(context_first)
    assert signature.context_parameter == "ctx"
    assert signature.names == {"a", "b"}
    with pytest.raises(InvalidArguments):
        signature.encode((), {"ctx": 1, "a": 1})


def test_a_subclass_of_the_context_is_a_context() -> None:
    class MyContext(JobContext):
        pass

    def function(mine: MyContext) -> None: ...

    assert JobSignature(function).context_parameter == "mine"


@pytest.mark.parametrize(
    "annotations",
    [{"a": JobContext | None}, {"a": Annotated[JobContext, 1]}, {"a": JobContext, "b": JobContext}],
    ids=["optional", "annotated", "two"],
)
def test_a_context_that_is_not_plainly_one_is_refused(annotations: dict[str, Any]) -> None:
    def function(a: Any, b: Any = None) -> None: ...

    function.__annotations__ = annotations
    with pytest.raises(JobDefinitionError, match="exactly JobContext, once"):
        JobSignature(function)


# Types


class Point(pydantic.BaseModel):
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Box:
    corner: Point
    names: list[str]


class Colour(enum.Enum):
    RED = "red"


MOMENT = dt.datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))

VALUES: list[tuple[Any, Any]] = [
    (Point, Point(x=1)),
    (Box, Box(Point(x=1, y=2.5), ["a", "ä"])),
    (list[Box], [Box(Point(x=1), [])]),
    (Path, Path("/tmp/ä/../b")),
    (dt.datetime, MOMENT),
    (dt.date, MOMENT.date()),
    (dt.timedelta, dt.timedelta(days=-1, microseconds=1)),
    (bytes, b"utf-8 only: \xc3\xa4"),
    (UUID, UUID(int=7)),
    (Colour, Colour.RED),
    (Literal["a", 1], 1),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (tuple[int, str], (1, "a")),
    (dict[int, float], {1: 0.1}),
    (int | str | None, None),
    (int, 2**63),
    (complex, 1 - 2j),
    (Any, {"a": [1, None, True, "x"]}),
    (str, "\0 \u200f \U0001f469\u200d\U0001f680 \ufeff e\u0301 \u2028"),
    (float, 5e-324),
    (float, math.inf),
    (float, -math.inf),
]


@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=repr)
def test_a_value_comes_back_as_it_was_sent(annotation: Any, value: Any) -> None:
    def function(value: Any) -> Any: ...

    function.__annotations__ = {"value": annotation, "return": annotation}
    signature = JobSignature(function)
    _, arguments = signature.decode(signature.encode((value,), {}), CONTEXT)
    result = signature.decode_result(signature.encode_result(value))
    assert arguments == {"value": value}
    assert result == value
    assert type(arguments["value"]) is type(result) is type(value)


def test_not_a_number_comes_back_too() -> None:
    def function(value: float) -> float:
        return value

    signature = JobSignature(function)
    assert math.isnan(sent(function, math.nan))
    assert math.isnan(signature.decode_result(signature.encode_result(math.nan)))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=12,
)


def untyped(value, /, *more, **named):  # type: ignore[no-untyped-def]
    return value, more, named


@given(
    json_values,
    st.lists(json_values, max_size=3),
    st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, max_size=3),
)
def test_whatever_json_can_hold_survives(value: Any, more: list[Any], named: dict[str, Any]) -> None:
    assert sent(untyped, value, *more, **named) == (value, tuple(more), named)


def test_values_are_converted_as_pydantic_does_and_defaults_stay_the_functions() -> None:
    marker = object()

    def function(a: int, b: Any = marker) -> Any:
        return a, b

    assert sent(function, "12") == (12, marker)


@pytest.mark.parametrize(
    ("annotation", "value", "substance"),
    [
        (int, "many", r"value: got str, Input should be a valid integer"),
        (Point, {"y": 1}, r"value\.x: got dict, Field required"),
        (dt.datetime, "tomorrow", r"value: got str, Input should be a valid datetime"),
        (list[int], [1, None], r"value\.1: got NoneType"),
        (Any, threading.Lock(), r"not serializable as JSON: .*lock"),
        (Any, object(), r"not serializable as JSON: .*object"),
        (str, "\ud800", r"not serializable as JSON: .*surrogates not allowed"),
        (bytes, b"\xff", r"not serializable as JSON: .*utf-8"),
    ],
)
def test_an_argument_that_does_not_fit_is_named_with_its_type(annotation: Any, value: Any, substance: str) -> None:
    def function(value: Any) -> None: ...

    function.__annotations__ = {"value": annotation}
    with pytest.raises(InvalidArguments, match=substance):
        JobSignature(function).encode((value,), {})


def test_a_socket_is_not_serializable() -> None:
    def function(value) -> None: ...  # type: ignore[no-untyped-def]

    with socket.socket() as connection, pytest.raises(InvalidArguments, match="socket"):
        JobSignature(function).encode((connection,), {})


def endless() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def too_deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("make", "substance"), [(endless, "Circular reference"), (too_deep, "Maximum serialization depth")]
)
def test_structures_without_an_end_are_refused(make: Callable[[], Any], substance: str) -> None:
    def function(value): ...  # type: ignore[no-untyped-def]

    signature = JobSignature(function)
    with pytest.raises(InvalidArguments, match=substance):
        signature.encode((make(),), {})
    with pytest.raises(PydanticSerializationError, match=substance):
        signature.encode_result(make())


@pytest.mark.parametrize("text", ['{"a": "x"}', '{"a": 1, "new": 2}', "{}", "[]", "", '{"a": 1', "null"])
def test_stored_arguments_that_this_version_does_not_accept_say_so(text: str) -> None:
    with pytest.raises(InvalidArguments, match="this version of the function does not accept"):
        JobSignature(plain).decode(text, CONTEXT)


# Annotations


class Unfinished(pydantic.BaseModel):
    field: "NowhereDefined"  # type: ignore[name-defined]  # noqa: F821


@dataclasses.dataclass
class UnfinishedData:
    field: "NowhereDefined"  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("annotation", "substance"),
    [
        ("NowhereDefined", r"annotation 'NowhereDefined' is not defined .* import it at run time"),
        ("list[NowhereDefined]", r"annotation 'NowhereDefined' is not defined"),
        ("1 +", r"cannot be evaluated: SyntaxError"),
        ("dt.nothing", r"cannot be evaluated: AttributeError"),
        (Unfinished, r"not defined where the class is"),
        (list[UnfinishedData], r"not defined where the class is"),
        (threading.Event, r"cannot be described by pydantic .*Event"),
        (socket.socket, r"cannot be described by pydantic .*socket"),
        (5, r"cannot be described by pydantic"),
    ],
)
@pytest.mark.parametrize("where", ["value", "return"])
def test_annotations_that_do_not_work_are_refused_where_the_job_is_defined(
    annotation: Any, substance: str, where: str
) -> None:
    def function(value: Any = None) -> None: ...

    function.__annotations__ = {where: annotation}
    with pytest.raises(JobDefinitionError, match=substance) as refused:
        JobSignature(function)
    assert "function" in str(refused.value)


# Results


@pytest.mark.parametrize(
    ("annotation", "value"), [(int, "x"), (None, 3), (Point, {"x": "a"}), (list[int], 5), (int, None)]
)
def test_a_result_that_is_not_what_the_annotation_says_is_refused(annotation: Any, value: Any) -> None:
    def function() -> Any: ...

    function.__annotations__ = {"return": annotation}
    with pytest.raises(pydantic.ValidationError):
        JobSignature(function).encode_result(value)


@pytest.mark.parametrize("value", [threading.Lock(), object(), int, "\ud800", b"\xff", [1, {2: threading.Event()}]])
def test_a_result_that_json_cannot_hold_is_refused(value: Any) -> None:
    def function(): ...  # type: ignore[no-untyped-def]

    with pytest.raises(PydanticSerializationError):
        JobSignature(function).encode_result(value)


def test_nothing_is_stored_for_none() -> None:
    def function() -> int | None: ...

    signature = JobSignature(function)
    assert signature.encode_result(None) is None
    assert signature.decode_result(None) is None
