"""Dataclasses that cost next to nothing to define.

The standard library compiles the methods of every class from text, up to Python 3.12 one by one:
about a millisecond a class, which was half of all that a run took before it did anything. Here
methods are closures over the names of the fields. Creating an object takes as long as there, and
half as long where there are hundreds of a class: then one function is compiled after all.

It is a part of `dataclasses`, with the meaning that it has there: always with slots, no fields
inherited from another dataclass. Its functions (`fields`, `asdict`, `is_dataclass`, `replace`)
take these classes too; what they look for is made when they do. `replace` and `as_dict` do without
the library, which loads `inspect`.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, Literal, NoReturn, TypeVar, dataclass_transform, overload

T = TypeVar("T")
_MANY = 300  # objects of a class, from which on compiling a function saves more than it takes
_DEFAULTS = frozenset(["default", "default_factory"])
_COMPARISONS = ("__lt__", "__le__", "__gt__", "__ge__")


class _Field:
    """What `field` says of a field."""

    __slots__ = ("compare", "options", "repr")

    def __init__(self, options: dict[str, Any]) -> None:
        self.repr = options.pop("repr", True)
        self.compare = options.pop("compare", True)
        self.options = options


@overload
def field(*, default: T, repr: bool = ..., compare: bool = ...) -> T: ...
@overload
def field(*, default_factory: Callable[[], T], repr: bool = ..., compare: bool = ...) -> T: ...
@overload
def field(*, repr: bool = ..., compare: bool = ...) -> Any: ...
def field(**options: Any) -> Any:
    """Say more of a field than its type and default, as `dataclasses.field` does."""
    return _Field(options)


@dataclass_transform(field_specifiers=(field,))
def dataclass(
    *,
    slots: Literal[True],
    frozen: bool = False,
    kw_only: bool = False,
    eq: bool = True,
    order: bool = False,
) -> Callable[[type[T]], type[T]]:
    """Make a dataclass of a class, as `dataclasses.dataclass` does."""
    assert slots
    return partial(_made, frozen=frozen, kw_only=kw_only, eq=eq, order=order)


def replace(value: T, /, **changes: Any) -> T:
    """Return a dataclass of this module with other values, as `dataclasses.replace` does.

    Raises TypeError for what is no field.
    """
    cls: Any = type(value)
    kept = {name: getattr(value, name) for name in cls.__slots__ if name not in changes}
    return cls(**kept, **changes)  # type: ignore[no-any-return]


def as_dict(value: object) -> dict[str, Any]:
    """Return what the fields of a dataclass of this module have, by their names."""
    cls: Any = type(value)
    return {name: getattr(value, name) for name in cls.__slots__}


def _made(cls: type[T], *, frozen: bool, kw_only: bool, eq: bool, order: bool) -> type[T]:
    if any(hasattr(base, "__dataclass_fields__") for base in cls.__bases__):
        raise TypeError(f"{cls.__name__}: fields are not inherited here")
    names = tuple(cls.__annotations__)
    body = dict(cls.__dict__)
    given = {name: body.pop(name) for name in names if name in body}
    said = {name: each for name, each in given.items() if isinstance(each, _Field)}
    options = {name: each.options for name, each in said.items()}
    options |= {name: {"default": each} for name, each in given.items() if name not in said}
    if not kw_only:
        _check_order(cls, names, options)
    made: Any = _with_slots(cls, body, names)
    setattr(made, "__match_args__", () if kw_only else names)  # noqa: B010 - mypy protects it
    made.__dataclass_fields__ = _Fields(options)
    made.__init__ = _init(made, names, options, is_positional=not kw_only)
    shown = tuple(name for name in names if name not in said or said[name].repr)
    compared = tuple(name for name in names if name not in said or said[name].compare)
    own: dict[str, Any] = {"__repr__": _repr(shown)}
    if frozen:
        made.__setattr__, made.__delattr__ = _refuse_to("assign to"), _refuse_to("delete")
    if eq:
        own |= _equality(_values(compared), is_hashed=frozen)
    if order:
        own |= {name: _comparison(name, _values(compared)) for name in _COMPARISONS}
    for name, method in own.items():
        if body.get(name) is None:  # a class that defines `__eq__` has a `__hash__` that is None
            setattr(made, name, method)
    return made  # type: ignore[no-any-return]


def _check_order(cls: type, names: tuple[str, ...], options: Mapping[str, Any]) -> None:
    """Refuse a field without a default behind one that has one: places would not tell them."""
    are_there = [not options.get(name, {}).keys().isdisjoint(_DEFAULTS) for name in names]
    for name, is_there, is_before in zip(names[1:], are_there[1:], are_there, strict=False):
        if is_before and not is_there:
            raise TypeError(f"{cls.__name__}: {name!r} needs a default, as the field before it has")


def _with_slots(cls: type, body: dict[str, Any], names: tuple[str, ...]) -> type:
    """Return the class with slots: it has to be made again, as in `dataclasses`."""
    for name in ("__dict__", "__weakref__"):
        body.pop(name, None)
    made = type(cls)(cls.__name__, cls.__bases__, {**body, "__slots__": names})
    made.__qualname__ = cls.__qualname__
    return made


# --- methods ---------------------------------------------------------------------------------


def _init(
    cls: type, names: tuple[str, ...], options: Mapping[str, Any], *, is_positional: bool
) -> Callable[..., None]:
    setters = {name: vars(cls)[name].__set__ for name in names}
    positions = names if is_positional else ()
    by_position = tuple(setters[name] for name in positions)
    defaults = _defaults(cls, setters, options)
    count = len(names)
    is_finished_by_itself = hasattr(cls, "__post_init__")
    left = _MANY

    def __init__(self: Any, /, *args: Any, **given: Any) -> None:  # noqa: N807
        nonlocal left
        left -= 1
        if left == 0:
            setattr(cls, "__init__", _compiled(cls, setters, options, positions))  # noqa: B010
        if args:
            _check_positions(cls, positions, len(args), given)
            for setter, value in zip(by_position, args):  # noqa: B905 - `strict` takes as long again
                setter(self, value)
        try:
            for name, value in given.items():
                setters[name](self, value)
        except KeyError as error:
            raise TypeError(f"{cls.__qualname__} has no field {error}") from None
        if len(args) + len(given) != count:
            _fill(self, defaults[len(args) :], given)
        if is_finished_by_itself:
            self.__post_init__()

    return __init__


def _compiled(
    cls: type, setters: Mapping[str, Any], options: Mapping[str, Any], positions: tuple[str, ...]
) -> Callable[..., None]:
    """Return the same as one function with a parameter for each field."""
    own = "_"  # what begins the names that are no field's
    while any(name.startswith(own) for name in setters):
        own += "_"
    known: dict[str, Any] = {f"{own}missing": object()}
    parameters, lines = [f"{own}self", "/"], [" pass"]
    if setters and not positions:
        parameters.append("*")
    for name, setter in setters.items():
        known[f"{own}set_{name}"] = setter
        found, value = options.get(name, {}), name
        if "default_factory" in found:
            known[f"{own}make_{name}"] = found["default_factory"]
            parameters.append(f"{name}={own}missing")
            value = f"{own}make_{name}() if {name} is {own}missing else {name}"
        elif "default" in found:
            known[f"{own}default_{name}"] = found["default"]
            parameters.append(f"{name}={own}default_{name}")
        else:
            parameters.append(name)
        lines.append(f" {own}set_{name}({own}self, {value})")
    if hasattr(cls, "__post_init__"):
        lines.append(f" {own}self.__post_init__()")
    text = f"def {own}init({', '.join(parameters)}):\n" + "\n".join(lines)
    exec(text, known)  # noqa: S102 - of names of fields alone
    return known[f"{own}init"]  # type: ignore[no-any-return]


def _fill(
    value: Any, defaults: Iterable[tuple[str, Any, Callable[[], Any]]], given: Mapping[str, Any]
) -> None:
    for name, setter, default in defaults:
        if name not in given:
            setter(value, default())


def _check_positions(
    cls: type, positions: tuple[str, ...], count: int, given: Mapping[str, Any]
) -> None:
    """Refuse more values by position than there are, and one that is also given by name."""
    if count > len(positions):
        raise TypeError(f"{cls.__qualname__} takes {len(positions)} values by position: {count}")
    if given and (twice := given.keys() & positions[:count]):
        raise TypeError(f"{cls.__qualname__} is given {min(twice)!r} twice")


def _defaults(
    cls: type, setters: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[tuple[str, Any, Callable[[], Any]], ...]:
    """Return each field with what sets it and what gives its default."""
    return tuple((name, each, _default(cls, name, options)) for name, each in setters.items())


def _default(cls: type, name: str, options: Mapping[str, Any]) -> Callable[[], Any]:
    """Return what gives a field its default, or raises TypeError where it has none."""
    found = options.get(name, {})
    if "default" in found:
        value = found["default"]
        return lambda: value
    return found.get("default_factory", partial(_miss, cls, name))  # type: ignore[no-any-return]


def _miss(cls: type, name: str) -> NoReturn:
    raise TypeError(f"{cls.__qualname__} is not given {name!r}")


def _values(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what gives the values of these fields: an `attrgetter` of one has no tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _repr(names: tuple[str, ...]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:  # noqa: N807
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    return __repr__


def _equality(
    values: Callable[[Any], tuple[Any, ...]], *, is_hashed: bool
) -> dict[str, Callable[..., Any] | None]:
    def __eq__(self: Any, other: object) -> bool:  # noqa: N807
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(values(self))

    return {"__eq__": __eq__, "__hash__": __hash__ if is_hashed else None}


def _comparison(name: str, values: Callable[[Any], tuple[Any, ...]]) -> Callable[..., bool]:
    compare = getattr(tuple, name)

    def compared(self: Any, other: object) -> bool:
        return compare(values(self), values(other)) if type(other) is type(self) else NotImplemented

    return compared


def _refuse_to(verb: str) -> Callable[..., None]:
    def refuse(_self: Any, name: str, *_: Any) -> None:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot {verb} field {name!r}")

    return refuse


class _Fields:
    """What the functions of `dataclasses` look for in a class, made when they first do."""

    __slots__ = ("_made", "_options")

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._made: Mapping[str, Any] | None = None

    def __get__(self, _: object, owner: type) -> Mapping[str, Any]:
        if self._made is None:
            import dataclasses

            # Without a text of its own, one is made from the signature, which takes a tokenizer.
            body: dict[str, Any] = {
                "__annotations__": owner.__annotations__,
                "__doc__": owner.__name__,
            }
            for name, options in self._options.items():
                body[name] = dataclasses.field(**options)
            described: Any = dataclasses.dataclass(
                init=False, repr=False, eq=False, match_args=False, kw_only=True
            )(type(owner.__name__, (), body))
            self._made = described.__dataclass_fields__
        return self._made
