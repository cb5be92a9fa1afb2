"""Data out of a Python pickle without running it: dictionaries, lists, texts, numbers and numpy arrays, nothing else.

A pickle is a program for a stack machine, and one of its instructions calls any function by name. Here the opcodes are
listed by the standard library (which executes nothing) and interpreted by hand; the two functions that rebuild a numpy
array are recognised by name and never looked up.
"""

import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxsci.core.errors import DataError

_RECONSTRUCT = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_NDARRAY, _DTYPE, _ENCODE = "numpy ndarray", "numpy dtype", "_codecs encode"
_NAMES = _RECONSTRUCT | {_NDARRAY, _DTYPE, _ENCODE}


class _Name(str):
    """The name of a function or class, which stays a name."""


class _Array:
    """An array or dtype under construction: filled in by the BUILD that follows."""

    def __init__(self) -> None:
        self.value: Any = None


class _Mark:
    pass


def read_pickle(content: bytes, name: str) -> Any:
    """The object in `content`; byte strings come as `bytes`, texts of Python 2 as `bytes` too.

    Raises `DataError`, with `name` in it, for anything that is not plain data.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "STOP":
                return _value(stack.pop())
            _execute(opcode.name, argument, stack, memo)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:  # a damaged file can fail in any way
        raise DataError(f"{name}: not a readable pickle ({type(error).__name__}: {str(error)[:80]})") from None
    raise DataError(f"{name}: not a complete pickle")


def _execute(operation: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if operation in _PUSH:
        stack.append(_PUSH[operation](argument))
    elif operation in ("PROTO", "FRAME"):
        pass
    elif operation in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[int(argument)] = stack[-1]
    elif operation == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif operation in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[int(argument)])
    elif operation in ("GLOBAL", "STACK_GLOBAL"):
        _push_name(operation, argument, stack)
    elif operation in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(operation[-1])
        stack[-count:] = [tuple(stack[-count:])]
    elif operation == "TUPLE":
        stack.append(tuple(_to_mark(stack)))
    elif operation in ("APPEND", "APPENDS"):
        items = [stack.pop()] if operation == "APPEND" else _to_mark(stack)
        stack[-1].extend(_value(item) for item in items)
    elif operation in ("SETITEM", "SETITEMS"):
        items = [stack.pop(-2), stack.pop()] if operation == "SETITEM" else _to_mark(stack)
        stack[-1].update((key, _value(item)) for key, item in zip(items[::2], items[1::2], strict=True))
    elif operation == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_reduce(function, arguments))
    elif operation == "BUILD":
        state = stack.pop()
        _build(stack[-1], state)
    else:
        raise DataError(f"pickle opcode {operation} is not allowed; expected plain data")


def _text(argument: Any) -> bytes:
    return argument.encode("latin-1") if isinstance(argument, str) else bytes(argument)


_PUSH: dict[str, Callable[[Any], Any]] = {
    "MARK": lambda _: _Mark(),
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    **dict.fromkeys(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"), lambda value: value),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), _text),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _text),
    **dict.fromkeys(("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), lambda value: value),
}


def _to_mark(stack: list[Any]) -> list[Any]:
    items = []
    while not isinstance(stack[-1], _Mark):
        items.append(stack.pop())
    stack.pop()
    return items[::-1]


def _push_name(operation: str, argument: Any, stack: list[Any]) -> None:
    if operation == "STACK_GLOBAL":
        function, module = stack.pop(), stack.pop()
        argument = f"{module} {function}"
    if argument not in _NAMES:
        raise DataError(f"pickle wants to call {str(argument).replace(' ', '.')}, which is not allowed")
    stack.append(_Name(argument))


def _reduce(function: Any, arguments: tuple) -> Any:
    if not isinstance(function, _Name):
        raise DataError("pickle wants to call something that is no function")
    if function in _RECONSTRUCT and arguments[0] == _NDARRAY:
        return _Array()
    if function == _DTYPE:
        made = _Array()
        made.value = _dtype(arguments[0])
        return made
    if function == _ENCODE:  # how Python 3 writes bytes at protocol 2
        return arguments[0].encode("latin-1")
    raise DataError(f"pickle wants to call {function.replace(' ', '.')}, which is not allowed here")


def _dtype(code: Any) -> np.dtype:
    text = code.decode("ascii") if isinstance(code, bytes) else str(code)
    dtype = np.dtype(text)
    if dtype.kind not in "biuf":
        raise DataError(f"expected an array of numbers, got dtype {text}")
    return dtype


def _build(target: Any, state: Any) -> None:
    if not isinstance(target, _Array):
        raise DataError("pickle holds an object that is no array")
    if target.value is not None:  # a dtype: its byte order is the only part of the state that matters
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        target.value = target.value if order in ("|", "=") else target.value.newbyteorder(order)
        return
    _, shape, dtype, fortran, content = state
    array = np.frombuffer(content, dtype=dtype.value)
    target.value = array.reshape(shape, order="F" if fortran else "C")


def _value(item: Any) -> Any:
    return item.value if isinstance(item, _Array) else item
