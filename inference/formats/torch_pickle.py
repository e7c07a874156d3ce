"""A state dict out of the pickle of torch.save, without running anything.

A pickle is a program that may call whatever it names. This interpreter follows the few
instructions that torch.save emits for a dict of tensors and knows these names, as data:

    collections.OrderedDict              an empty dict, if called without arguments
    torch._utils._rebuild_tensor_v2      a `Tensor`: a view of a storage
    torch.FloatStorage, …                the type of a storage
    BUILD with `_metadata` on a dict     what Module.state_dict() leaves there; dropped

Nothing is imported or looked up. Any other name is an error that says what the file wanted to run,
before its arguments are even read. Operands are decoded by the readers of the standard library's
`pickletools`, which execute nothing; its `genops` is not used, because that decodes an operand
before one can refuse its instruction.

Instructions: Lib/pickletools.py; what torch.save emits: torch/serialization.py, torch/_tensor.py.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["PickleError", "Storage", "Tensor", "read_state_dict"]

MAX_OPCODES: Final = 1_000_000
MAX_TEXT: Final = 1_000
_MAX_DIMENSIONS: Final = 8

# UntypedStorage holds bytes: its dtype is no weight's, but what it is can be said.
_STORAGES: Final = {
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.storage.UntypedStorage": "U8",
}
_DICT: Final = "collections.OrderedDict"
_REBUILD: Final = "torch._utils._rebuild_tensor_v2"
_KNOWN: Final = {_DICT, _REBUILD, *_STORAGES}
_OPCODES: Final = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
# Instructions that name what they run in their operand; said in the error.
_TELLING: Final = ("INST", "EXT1", "EXT2", "EXT4", "PERSID")
# Operands that are lines of text: pickletools would undo escapes in them, which pickle does not.
_LINES: Final = {"GLOBAL": 2, "INST": 2, "PERSID": 1}


class PickleError(ValueError):
    """What the pickle holds or wants to do, in one line without the file's path."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name of `_KNOWN`; nothing else is ever made one."""

    path: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Elements of a type that lie in the member data/`key`."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage; `offset` and `strides` count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(data: bytes) -> dict[str, Tensor]:
    """Returns the tensors of a pickled dict, in its order.

    Raises:
        PickleError: it is damaged, holds something else, or would run code.
    """
    result = _Interpreter(data).run()
    if not isinstance(result, dict):
        raise PickleError("it holds no dict of tensors")
    for name, value in result.items():
        if not isinstance(name, str) or not name.isprintable():
            raise PickleError(f"its entry {_shown(name)} has no name of a tensor")
        if not isinstance(value, Tensor):
            raise PickleError(f"its entry {_shown(name)} is no tensor")
    return result


class _Interpreter:
    """The stack machine of one pickle; a mark on the stack is remembered by its height."""

    def __init__(self, data: bytes) -> None:
        self._input = io.BytesIO(data)
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            name, argument = self._next()
            if name == "STOP":
                return self._finish()
            _ACTIONS[name](self, argument)
        raise PickleError(f"its pickle has more than {MAX_OPCODES} instructions")

    def _next(self) -> tuple[str, Any]:
        code = self._input.read(1)
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise PickleError("its pickle is damaged" if code else "its pickle is cut off")
        if opcode.name not in _ACTIONS and opcode.name not in _TELLING and opcode.name != "STOP":
            raise PickleError(f"it uses the pickle instruction {opcode.name}, which is not run")
        argument = self._argument(opcode)
        if opcode.name in _TELLING:
            raise PickleError(
                f"it wants to run {_shown(argument)} by the pickle instruction {opcode.name}; "
                "nothing was run"
            )
        return opcode.name, argument

    def _argument(self, opcode: pickletools.OpcodeInfo) -> Any:
        lines = _LINES.get(opcode.name)
        try:
            if lines is not None:
                return ".".join(self._line() for _ in range(lines))
            return opcode.arg.reader(self._input) if opcode.arg is not None else None
        except ValueError as error:
            reason = " ".join(str(error).split())[:100]
            raise PickleError(f"its pickle is cut off or damaged: {reason}") from error

    def _line(self) -> str:
        line = self._input.readline()
        if not line.endswith(b"\n"):
            raise ValueError("a line has no end")
        return line[:-1].decode()

    def _finish(self) -> Any:
        if len(self._stack) != 1 or self._marks or self._input.read(1):
            raise PickleError("its pickle does not end where it stops")
        return self._stack[0]

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise PickleError("its pickle takes more from the stack than is there")
        return self._stack.pop()

    def top(self, kind: type) -> Any:
        value = self.pop()
        if type(value) is not kind:
            raise PickleError(f"its pickle changes {_shown(value)}, which is no {kind.__name__}")
        self._stack.append(value)
        return value

    def mark(self, _: None) -> None:
        self._marks.append(len(self._stack))

    def since_mark(self) -> list[Any]:
        if not self._marks:
            raise PickleError("its pickle has no mark where it goes back to one")
        at = self._marks.pop()
        values = self._stack[at:]
        del self._stack[at:]
        return values

    def put(self, index: int) -> None:
        value = self.pop()
        self._memo[index] = value
        self._stack.append(value)

    def memoize(self, _: None) -> None:
        self.put(len(self._memo))

    def get(self, index: int) -> None:
        if index not in self._memo:
            raise PickleError(f"its pickle asks for the value {index}, which it has not kept")
        self._stack.append(self._memo[index])

    def text(self, value: str) -> None:
        if len(value) > MAX_TEXT:
            raise PickleError(f"its pickle holds a text of {len(value)} characters")
        self._stack.append(value)

    def stacked_name(self, _: None) -> None:
        attribute, module = self.pop(), self.pop()
        if type(attribute) is not str or type(module) is not str:
            raise PickleError("its pickle names something by what is no text; nothing was run")
        self.name(f"{module}.{attribute}")

    def name(self, path: str) -> None:
        if path not in _KNOWN:
            raise PickleError(
                f"it wants to use {_shown(path)}, which no dict of F32, F16 or BF16 tensors needs; "
                "nothing was run"
            )
        self._stack.append(Name(path))

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def set_item(self, _: None) -> None:
        value, key = self.pop(), self.pop()
        self._fill([key, value])

    def set_items(self, _: None) -> None:
        self._fill(self.since_mark())

    def _fill(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            raise PickleError("its pickle gives a dict a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise PickleError(f"its pickle has the key {_shown(key)}, which is no text")
            if key in target:
                raise PickleError(f"it has the entry {_shown(key)} twice")
            target[key] = value

    def persistent(self, _: None) -> None:
        match self.pop():
            case ("storage", Name(path), str(key), str(_device), count) if (
                path in _STORAGES and _is_whole(count)
            ):
                self._stack.append(Storage(key, _STORAGES[path], count))
            case other:
                raise PickleError(f"its pickle refers to {_shown(other)}, which is no storage")

    def reduce(self, _: None) -> None:
        arguments, callee = self.pop(), self.pop()
        if type(callee) is not Name or type(arguments) is not tuple:
            raise PickleError(f"it wants to call {_shown(callee)}; nothing was run")
        if callee.path == _DICT and not arguments:
            self._stack.append({})
        elif callee.path == _REBUILD:
            self._stack.append(_rebuild(arguments))
        else:
            raise PickleError(f"it wants to call {callee.path} with arguments; nothing was run")

    def build(self, _: None) -> None:
        state = self.pop()
        target = self.pop()
        if type(target) is not dict or type(state) is not dict or set(state) != {"_metadata"}:
            raise PickleError(f"it wants to set the state of {_shown(target)}; nothing was run")
        self._stack.append(target)


def _rebuild(arguments: tuple[Any, ...]) -> Tensor:
    """_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks[, metadata])."""
    match arguments:
        case (Storage() as storage, offset, tuple(shape), tuple(strides), bool(), hooks, *rest):
            whole = _is_whole(offset) and all(map(_is_whole, (*shape, *strides)))
            plain = hooks in ({}, None) and rest in ([], [None], [{}])
            if whole and plain and len(shape) == len(strides) <= _MAX_DIMENSIONS:
                return Tensor(storage, offset, shape, strides)
    raise PickleError(f"it calls {_REBUILD} with arguments that make no sense")


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _shown(value: Any) -> str:
    """A short line for an error; what nests is only named, since it may nest without end."""
    if isinstance(value, Name):
        return value.path
    if isinstance(value, str | int | None):
        return ascii(value[:80] if isinstance(value, str) else value)[:100]
    return f"a {type(value).__name__.lower()}"


_Action = Callable[[_Interpreter, Any], None]
_PUSH: Final[_Action] = _Interpreter.push
_ACTIONS: Final[dict[str, _Action]] = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, length: None,
    "NONE": _PUSH,
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "BININT": _PUSH,
    "BININT1": _PUSH,
    "BININT2": _PUSH,
    "LONG1": _PUSH,
    "BINUNICODE": _Interpreter.text,
    "SHORT_BINUNICODE": _Interpreter.text,
    "BINPUT": _Interpreter.put,
    "LONG_BINPUT": _Interpreter.put,
    "MEMOIZE": _Interpreter.memoize,
    "BINGET": _Interpreter.get,
    "LONG_BINGET": _Interpreter.get,
    "MARK": _Interpreter.mark,
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "SETITEM": _Interpreter.set_item,
    "SETITEMS": _Interpreter.set_items,
    "GLOBAL": _Interpreter.name,
    "STACK_GLOBAL": _Interpreter.stacked_name,
    "BINPERSID": _Interpreter.persistent,
    "REDUCE": _Interpreter.reduce,
    "BUILD": _Interpreter.build,
}
