"""Arguments and results of a job, validated and serialized by pydantic from the function's signature."""

from __future__ import annotations

import inspect
import typing
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NotRequired, Required

import pydantic
from pydantic import ConfigDict, TypeAdapter
from pydantic_core import CoreConfig, PydanticSerializationError, SchemaSerializer
from typing_extensions import TypedDict

from callboard.actors.errors import InvalidArguments, JobDefinitionError

from .context import JobContext

_JSON: Final = CoreConfig(ser_json_inf_nan="strings")
"""NaN and the infinities come back as they were sent. Pydantic's default writes null, which no float accepts.
(Inside models and dataclasses their own configuration decides.)"""

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class JobSignature:
    """How to turn a call of the function into JSON text, and back.

    The parameter annotated ``JobContext`` (if any) is left out: the worker supplies it.

    Attributes:
        names: the names of the other parameters.
        context_parameter: the name of that one, or None.

    Raises:
        JobDefinitionError: an annotation cannot be resolved, or pydantic has no schema for it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = function.__qualname__
        hints = _type_hints(function)
        parameters = list(inspect.signature(function).parameters.values())
        self.context_parameter = next((p.name for p in parameters if _is_context(hints.get(p.name))), None)
        self._parameters = [p for p in parameters if p.name != self.context_parameter]
        self.names = frozenset(p.name for p in self._parameters)
        self._signature = inspect.Signature(self._parameters)
        self._full_signature = inspect.Signature(parameters)
        self._positional = [p.name for p in self._parameters if p.kind in _POSITIONAL]
        self._spread = any(p.kind not in (*_POSITIONAL[1:], p.KEYWORD_ONLY) for p in parameters)
        self._required = sum(p.kind in _POSITIONAL and p.default is p.empty for p in self._parameters)
        self._only_positional = len(self._positional) == len(self._parameters)
        arguments = self._adapter(_arguments_type(self._name, self._parameters, hints), "its arguments")
        self._arguments = arguments.validator  # the adapter's own methods are a layer that costs as much as the work
        self._arguments_writer = SchemaSerializer(arguments.core_schema, _JSON)
        returned = hints.get("return", Any)
        result = self._adapter(Any if returned is None else returned, "its result")
        self._result = result.validator
        self._result_writer = SchemaSerializer(result.core_schema, _JSON)
        self._typed_result = returned is not Any

    def _adapter(self, type_: Any, what: str) -> TypeAdapter[Any]:
        try:
            adapter = TypeAdapter(type_)
        except pydantic.PydanticUserError as error:
            raise JobDefinitionError(
                f"job {self._name}: {what} cannot be described by pydantic ({error.message.splitlines()[0]}); "
                f"annotate with types that pydantic can validate and serialize as JSON, and the context with "
                f"exactly JobContext, once"
            ) from error
        if not adapter.pydantic_complete:
            raise JobDefinitionError(
                f"job {self._name}: {what} contain a class with an annotation that is not defined where the class is; "
                f"import it at run time (not only under TYPE_CHECKING), and define it before the job"
            )
        return adapter

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Validate a call's arguments and return them as JSON text.

        Raises:
            InvalidArguments: they do not fit; names the argument, the type that came and what was expected.
        """
        if not kwargs and self._only_positional and self._required <= len(args) <= len(self._positional):
            named: dict[str, Any] = dict(zip(self._positional, args, strict=False))
        else:
            try:
                named = self._signature.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise InvalidArguments(
                    f"{self._name}{self._signature}: {error}; pass what the signature names"
                ) from error
        try:
            return self._arguments_writer.to_json(self._arguments.validate_python(named)).decode()
        except pydantic.ValidationError as error:
            raise InvalidArguments(self._explain(error)) from error
        except (PydanticSerializationError, UnicodeEncodeError) as error:
            raise InvalidArguments(f"{self._name}{self._signature}: not serializable as JSON: {error}") from error

    def decode(self, text: str, context: JobContext) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return ``(args, kwargs)`` for the function from stored JSON text, the context among them if it wants one.

        Raises:
            InvalidArguments: the text does not fit the signature (any more).
        """
        try:
            named = self._arguments.validate_json(text)
        except pydantic.ValidationError as error:
            raise InvalidArguments(
                f"{self._explain(error)}. The job was spawned with arguments that this version of the "
                f"function does not accept"
            ) from error
        if self.context_parameter is not None:
            named[self.context_parameter] = context
        if not self._spread:
            return (), named
        bound = inspect.BoundArguments(self._full_signature, OrderedDict(named))
        bound.apply_defaults()  # a default left out would turn the positional-only parameters after it into keywords
        return bound.args, bound.kwargs

    def encode_result(self, value: Any) -> str | None:
        """Validate a return value and return it as JSON text; None for None.

        Raises:
            pydantic.ValidationError: it is not what the function's annotation says.
            PydanticSerializationError: it cannot be written as JSON.
        """
        if self._typed_result:
            value = self._result.validate_python(value)
        return None if value is None else self._result_writer.to_json(value, warnings="error").decode()

    def decode_result(self, text: str | None) -> Any:
        """Return the value of a stored result."""
        return None if text is None else self._result.validate_json(text)

    def _explain(self, error: pydantic.ValidationError) -> str:
        details = [
            f"{'.'.join(map(str, detail['loc']))}: got {type(detail['input']).__name__}, {detail['msg']}"
            for detail in error.errors(include_url=False)
        ]
        return f"{self._name}{self._signature}: {'; '.join(details)}"


def _type_hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise JobDefinitionError(
            f"job {function.__qualname__}: annotation {error.name!r} is not defined where the function is; "
            f"import it at run time (not only under TYPE_CHECKING)"
        ) from error
    except Exception as error:  # annotations are code: evaluating them may raise anything
        raise JobDefinitionError(
            f"job {function.__qualname__}: an annotation cannot be evaluated: {type(error).__name__}: {error}; "
            f"write a type that exists at run time"
        ) from error


def _is_context(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, JobContext)


def _arguments_type(name: str, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> Any:
    """Describe the arguments as a TypedDict: unlike a model's, its keys may have any name.

    (``typing_extensions``, because pydantic refuses Python 3.11's own.)
    """
    fields: dict[str, Any] = {}
    for parameter in parameters:
        hint: Any = hints.get(parameter.name, Any)
        if parameter.kind is parameter.VAR_POSITIONAL:
            fields[parameter.name] = NotRequired[tuple[hint, ...]]
        elif parameter.kind is parameter.VAR_KEYWORD:
            fields[parameter.name] = NotRequired[dict[str, hint]]
        else:
            fields[parameter.name] = Required[hint] if parameter.default is parameter.empty else NotRequired[hint]
    described = TypedDict(f"{name}Arguments", fields)  # type: ignore[misc]
    described.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
    return described
