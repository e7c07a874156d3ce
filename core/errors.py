"""The one tree of errors; each carries a wire code and what the caller can do about it.

RyzansteinError                INTERNAL_ERROR
├── ConnectionFailed           CONNECTION_FAILED
├── TimedOut                   TIMEOUT
├── ServerUnavailable          SERVER_UNAVAILABLE
├── InvalidRequest             INVALID_REQUEST
├── ConfigError                INVALID_CONFIG
│   └── ConfigSaveError        CONFIG_SAVE_FAILED
├── StorageError               INTERNAL_ERROR
├── AgentNotFound              AGENT_NOT_FOUND
├── AgentInvocationError       AGENT_INVOCATION_FAILED
├── ToolNotFound               TOOL_NOT_FOUND
├── ToolError                  INVALID_REQUEST
│   └── ApprovalRequired       INVALID_REQUEST
└── InferenceError             INFERENCE_FAILED
    ├── ModelNotFound          MODEL_NOT_FOUND
    ├── ModelLoadError         MODEL_LOAD_FAILED
    ├── QuantizationError      MODEL_LOAD_FAILED
    ├── MemoryLimitError       MODEL_LOAD_FAILED
    ├── DistributionError      INFERENCE_FAILED
    └── ValidationError        INVALID_REQUEST
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "APPROVAL_REQUIRED",
    "ERROR_META",
    "AgentInvocationError",
    "AgentNotFound",
    "ApprovalRequired",
    "ConfigError",
    "ConfigSaveError",
    "ConnectionFailed",
    "DistributionError",
    "InferenceError",
    "InvalidRequest",
    "MemoryLimitError",
    "ModelLoadError",
    "ModelNotFound",
    "QuantizationError",
    "RyzansteinError",
    "ServerUnavailable",
    "StorageError",
    "TimedOut",
    "ToolError",
    "ToolNotFound",
    "ValidationError",
    "from_wire",
]

ERROR_META = "ryzanstein/error"
"""Where a failed tool call carries `to_wire()`, in the `_meta` of its result."""

APPROVAL_REQUIRED = "approval_required"
MEMORY_SHORT = "memory_short"


class RyzansteinError(Exception):
    """Base of every error this project raises on purpose.

    Args:
        message: One line that says what went wrong.
        hint: One line that says what the caller can do; may be empty.

    Attributes:
        answered: A server answered with it, so what failed is what was asked for, not the server.
    """

    code: ClassVar[str] = "INTERNAL_ERROR"
    answered = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        stop = "." if self.hint and self.message[-1:].isalnum() else ""
        return f"{self.message}{stop} {self.hint}".strip()

    def to_wire(self) -> dict[str, str]:
        """Returns the form that crosses a process border: code, message and hint."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class ConnectionFailed(RyzansteinError):
    """A server or a host could not be reached."""

    code = "CONNECTION_FAILED"


class TimedOut(RyzansteinError):
    """Something took longer than its limit."""

    code = "TIMEOUT"


class ServerUnavailable(RyzansteinError):
    """A server answered that it cannot serve now."""

    code = "SERVER_UNAVAILABLE"


class InvalidRequest(RyzansteinError):
    """The caller's arguments cannot be used."""

    code = "INVALID_REQUEST"


class ConfigError(RyzansteinError):
    """A configuration file, variable or registry is wrong."""

    code = "INVALID_CONFIG"


class ConfigSaveError(ConfigError):
    """A configuration file could not be written."""

    code = "CONFIG_SAVE_FAILED"


class StorageError(RyzansteinError):
    """The database or a file of the store cannot be read or written."""


class AgentNotFound(RyzansteinError):
    """No agent has that codename or id."""

    code = "AGENT_NOT_FOUND"


class AgentInvocationError(RyzansteinError):
    """An agent could not finish a run."""

    code = "AGENT_INVOCATION_FAILED"


class ToolNotFound(RyzansteinError):
    """No tool has that name."""

    code = "TOOL_NOT_FOUND"


class ToolError(RyzansteinError):
    """A tool refused or failed; its text is meant for the model that called it."""

    code = "INVALID_REQUEST"


class ApprovalRequired(ToolError):
    """A call needs the user's approval; nothing was done.

    Args:
        message: What would be done.
        hint: What the caller can do.
        grant: What would allow exactly this.
    """

    def __init__(self, message: str, *, hint: str = "", grant: str = "") -> None:
        super().__init__(message, hint=hint)
        self.grant = grant

    def to_wire(self) -> dict[str, str]:
        """Returns the usual form with the reason and the grant."""
        return {**super().to_wire(), "reason": APPROVAL_REQUIRED, "grant": self.grant}


class InferenceError(RyzansteinError):
    """The engine failed while it ran a model."""

    code = "INFERENCE_FAILED"


class ModelNotFound(InferenceError):
    """No model of that name is known, or its file is not there."""

    code = "MODEL_NOT_FOUND"


class ModelLoadError(InferenceError):
    """A model file is damaged, incomplete or of a kind the engine does not run."""

    code = "MODEL_LOAD_FAILED"


class QuantizationError(InferenceError):
    """A tensor cannot be brought into the asked weight form."""

    code = "MODEL_LOAD_FAILED"


class MemoryLimitError(InferenceError):
    """There is not enough memory for what was asked; a smaller model may do."""

    code = "MODEL_LOAD_FAILED"

    def to_wire(self) -> dict[str, str]:
        """Returns the usual form with the reason."""
        return {**super().to_wire(), "reason": MEMORY_SHORT}


class DistributionError(InferenceError):
    """A model spread over several workers failed."""


class ValidationError(InferenceError):
    """The engine was asked for something outside its limits."""

    code = "INVALID_REQUEST"


_BY_CODE: dict[str, type[RyzansteinError]] = {
    kind.code: kind
    for kind in (
        RyzansteinError,
        ConnectionFailed,
        TimedOut,
        ServerUnavailable,
        InvalidRequest,
        ConfigError,
        ConfigSaveError,
        AgentNotFound,
        AgentInvocationError,
        ToolNotFound,
        InferenceError,
        ModelNotFound,
        ModelLoadError,
    )
}


def from_wire(
    code: str, message: str, hint: str = "", *, reason: str = "", grant: str = ""
) -> RyzansteinError:
    """Rebuilds an error from its wire form.

    That is the most general error of the code unless a reason names a special one; an unknown code
    becomes the base class.
    """
    if reason == APPROVAL_REQUIRED:
        return ApprovalRequired(message, hint=hint, grant=grant)
    if reason == MEMORY_SHORT:
        return MemoryLimitError(message, hint=hint)
    return _BY_CODE.get(code, RyzansteinError)(message, hint=hint)
