"""The server that the official conformance suite wants, with tools and resources of fixed names.

Made by the factory of the real servers and served by the same application, so what passes here is
what they do.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import Annotated, Any

from mcp.server import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    SetLevelRequestParams,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

from ryzanstein.mcp_servers._factory import make_server
from ryzanstein.mcp_servers._tasks import Tasks

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIA"
    "X8jx0gAAAABJRU5ErkJggg=="
)
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
TASKS = Tasks(
    (
        "slow_compute",
        "failing_job",
        "protocol_error_job",
        "confirm_delete",
        "multi_input",
        "test_tool_with_task",
    ),
    only=("failing_job", "test_tool_with_task"),
    first=("test_tool_with_task",),
)
mcp = make_server("everything", "Everything", "For the conformance suite.", extensions=[TASKS])


def _text(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def _embedded(uri: str, mime_type: str, text: str) -> EmbeddedResource:
    resource = TextResourceContents(uri=uri, mime_type=mime_type, text=text)
    return EmbeddedResource(type="resource", resource=resource)


# Content


@mcp.tool()
def test_simple_text() -> str:
    """Answer with a text."""
    return "This is a simple text response for testing."


@mcp.tool()
def test_image_content() -> list[ImageContent]:
    """Answer with an image."""
    return [ImageContent(type="image", data=PNG, mime_type="image/png")]


@mcp.tool()
def test_audio_content() -> list[AudioContent]:
    """Answer with a sound."""
    return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


@mcp.tool()
def test_embedded_resource() -> list[EmbeddedResource]:
    """Answer with a resource."""
    text = "This is an embedded resource content."
    return [_embedded("test://embedded-resource", "text/plain", text)]


@mcp.tool()
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Answer with a text, an image and a resource."""
    data = json.dumps({"test": "data", "value": 123})
    return [
        _text("Multiple content types test:"),
        ImageContent(type="image", data=PNG, mime_type="image/png"),
        _embedded("test://mixed-content-resource", "application/json", data),
    ]


@mcp.tool()
def test_error_handling() -> str:
    """Fail."""
    raise ToolError("This tool intentionally returns an error for testing")


@mcp.tool()
async def test_tool_with_logging(ctx: Context[Any, Any]) -> str:
    """Log while it works."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(message)
        await asyncio.sleep(0.05)
    return "Tool with logging executed successfully"


@mcp.tool()
async def test_tool_with_progress(ctx: Context[Any, Any]) -> str:
    """Report progress while it works."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        await asyncio.sleep(0.05)
    return "Done."


@mcp.tool()
def test_x_mcp_header(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})] = "<none>",
) -> str:
    """Take an argument that is said in a header as well."""
    return f"region={region}"


@mcp.tool()
def name_of_bytes() -> str:
    """Answer with the name of a file that is no UTF-8."""
    return os.fsdecode(b"caf\xe9.txt")


# What a server asks its client, in the protocol of 2025


class Answer(BaseModel):
    """Of test_elicitation."""

    response: str = Field(description="User's response")


class Defaults(BaseModel):
    """A default of each primitive type, SEP-1034."""

    name: str = Field("John Doe", description="User name")
    age: int = Field(30, description="User age")
    score: float = Field(95.5, description="User score")
    status: str = Field("active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = Field(True, description="Verification status")


def _titled(**titles: str) -> list[dict[str, str]]:
    return [{"const": const, "title": title} for const, title in titles.items()]


class Enums(BaseModel):
    """Every way to say a choice, SEP-1330."""

    untitledSingle: str = Field(json_schema_extra={"enum": ["active", "inactive", "pending"]})
    titledSingle: str = Field(
        json_schema_extra={"oneOf": _titled(low="Low Priority", high="High Priority")}  # type: ignore[dict-item]
    )
    untitledMulti: list[str] = Field(
        json_schema_extra={"items": {"type": "string", "enum": ["read", "write", "execute"]}}
    )
    titledMulti: list[str] = Field(
        json_schema_extra={"items": {"anyOf": _titled(feature="New Feature", bug="Bug Fix")}}  # type: ignore[dict-item]
    )
    legacyEnum: str = Field(
        json_schema_extra={
            "enum": ["small", "medium", "large"],
            "enumNames": ["Small Size", "Medium Size", "Large Size"],
        }
    )


async def _elicited(ctx: Context[Any, Any], message: str, schema: type[BaseModel]) -> str:
    found = await ctx.elicit(message=message, schema=schema)
    content = found.data.model_dump_json() if found.action == "accept" else "{}"
    return f"action={found.action}, content={content}"


@mcp.tool()
async def test_elicitation(message: str, ctx: Context[Any, Any]) -> str:
    """Ask the user."""
    return f"User response: {await _elicited(ctx, message, Answer)}"


@mcp.tool()
async def test_elicitation_sep1034_defaults(ctx: Context[Any, Any]) -> str:
    """Ask the user, with defaults."""
    return f"Elicitation completed: {await _elicited(ctx, 'Who are you?', Defaults)}"


@mcp.tool()
async def test_elicitation_sep1330_enums(ctx: Context[Any, Any]) -> str:
    """Ask the user for choices."""
    return f"Elicitation completed: {await _elicited(ctx, 'Please select.', Enums)}"


@mcp.tool()
async def test_sampling(prompt: str, ctx: Context[Any, Any]) -> str:
    """Ask the client's model."""
    found = await ctx.session.create_message(
        messages=[SamplingMessage(role="user", content=_text(prompt))],
        max_tokens=100,
        related_request_id=ctx.request_id,
    )
    return f"LLM response: {getattr(found.content, 'text', 'No response')}"


# The same in rounds, as since 2026-07-28


def _form(message: str, field: str, kind: str = "string") -> ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _question(text: str) -> CreateMessageRequest:
    messages = [SamplingMessage(role="user", content=_text(text))]
    params = CreateMessageRequestParams(messages=messages, max_tokens=100)
    return CreateMessageRequest(params=params)


def _given(ctx: Context[Any, Any], name: str) -> Any:
    """The client's answer of that name, None where there is none yet."""
    return (ctx.input_responses or {}).get(name)


def _field(ctx: Context[Any, Any], name: str, field: str) -> Any:
    return (getattr(_given(ctx, name), "content", None) or {}).get(field, "?")


@mcp.tool()
async def test_input_required_result_elicitation(
    ctx: Context[Any, Any],
) -> str | InputRequiredResult:
    """Ask for a name."""
    if _given(ctx, "user_name"):
        return f"Hello, {_field(ctx, 'user_name', 'name')}!"
    return InputRequiredResult(input_requests={"user_name": _form("What is your name?", "name")})


@mcp.tool()
async def test_input_required_result_sampling(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Ask the client's model."""
    if answer := _given(ctx, "capital_question"):
        return f"Model said: {answer.content.text}"
    question = _question("What is the capital of France?")
    return InputRequiredResult(input_requests={"capital_question": question})


@mcp.tool()
async def test_input_required_result_list_roots(
    ctx: Context[Any, Any],
) -> str | InputRequiredResult:
    """Ask for the client's roots."""
    if answer := _given(ctx, "client_roots"):
        return f"Client exposed {len(answer.roots)} root(s)."
    return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})


@mcp.tool()
async def test_input_required_result_request_state(
    ctx: Context[Any, Any],
) -> str | InputRequiredResult:
    """Ask, with a state."""
    if _given(ctx, "confirm") and ctx.request_state == "nonce":
        return "state-ok: confirmation received"
    confirm = _form("Please confirm", "ok", "boolean")
    return InputRequiredResult(input_requests={"confirm": confirm}, request_state="nonce")


@mcp.tool()
async def test_input_required_result_multiple_inputs(
    ctx: Context[Any, Any],
) -> str | InputRequiredResult:
    """Ask for three things at once."""
    asked = {
        "user_name": _form("What is your name?", "name"),
        "greeting": _question("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    if all(_given(ctx, name) for name in asked):
        return "All inputs received."
    return InputRequiredResult(input_requests=asked, request_state="multiple-inputs")


@mcp.tool()
async def test_input_required_result_multi_round(
    ctx: Context[Any, Any],
) -> str | InputRequiredResult:
    """Ask twice."""
    state = json.loads(ctx.request_state) if ctx.request_state else {"round": 0}
    if state["round"] == 1 and _given(ctx, "step1"):
        state = {"round": 2, "name": _field(ctx, "step1", "name")}
        asked = {"step2": _form("Step 2: What is your favorite color?", "color")}
    elif state["round"] == 2 and _given(ctx, "step2"):
        return f"{state['name']} likes {_field(ctx, 'step2', 'color')}."
    else:
        state, asked = {"round": 1}, {"step1": _form("Step 1: What is your name?", "name")}
    return InputRequiredResult(input_requests=asked, request_state=json.dumps(state))


@mcp.tool()
async def test_input_required_result_tampered_state(
    ctx: Context[Any, Any],
) -> str | InputRequiredResult:
    """Take back nothing but the state it gave."""
    if ctx.request_state is not None:
        return f"state-ok: {ctx.request_state}"
    confirm = _form("Please confirm", "ok", "boolean")
    return InputRequiredResult(input_requests={"confirm": confirm}, request_state="round-1")


@mcp.tool()
async def test_input_required_result_capabilities(ctx: Context[Any, Any]) -> InputRequiredResult:
    """Ask only for what the client can do."""
    can = ctx.client_capabilities
    asked: dict[str, Any] = {}
    if can is None or can.sampling is not None:
        asked["sample"] = _question("Say hello")
    if can is None or can.elicitation is not None:
        asked["ask"] = _form("What is your name?", "name")
    return InputRequiredResult(input_requests=asked, request_state="capability-gated")


@mcp.tool()
async def test_missing_capability(ctx: Context[Any, Any]) -> str:
    """Refuse a client that has no model."""
    can = ctx.client_capabilities
    if can is None or can.sampling is None:
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            "This tool requires the client 'sampling' capability",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return "Client declared sampling capability; proceeding."


@mcp.tool()
async def test_trigger_tool_change(ctx: Context[Any, Any]) -> str:
    """Say that the tools have changed."""
    await ctx.notify_tools_changed()
    return "tool list changed"


@mcp.tool()
async def test_trigger_prompt_change(ctx: Context[Any, Any]) -> str:
    """Say that the prompts have changed."""
    await ctx.notify_prompts_changed()
    return "prompt list changed"


# The Tasks extension


@mcp.tool()
def greet(name: str = "you") -> str:
    """Greet, at once."""
    return f"Hello, {name}!"


@mcp.tool()
async def slow_compute(seconds: float = 0, label: str = "") -> str:
    """Take its time."""
    # A task also where nothing is to be done: else there is none to look at.
    await asyncio.sleep(seconds or 0.5)
    return f"computed {label}"


@mcp.tool()
async def failing_job() -> str:
    """Fail after a while."""
    await asyncio.sleep(1)
    raise ToolError("The job failed.")


@mcp.tool()
async def protocol_error_job() -> str:
    """End in an error of the protocol."""
    await asyncio.sleep(0.5)
    raise MCPError(INTERNAL_ERROR, "The job broke.")


@mcp.tool()
async def confirm_delete(ctx: Context[Any, Any], filename: str = "it") -> str | InputRequiredResult:
    """Ask before it deletes."""
    if _given(ctx, "confirm"):
        return f"deleted {filename}"
    confirm = _form(f"Delete {filename}?", "confirm", "boolean")
    return InputRequiredResult(input_requests={"confirm": confirm})


@mcp.tool()
async def multi_input(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Ask for two things at once."""
    if _given(ctx, "name") and _given(ctx, "age"):
        return "Both were given."
    asked = {"name": _form("Name?", "name"), "age": _form("Age?", "age", "integer")}
    return InputRequiredResult(input_requests=asked)


@mcp.tool()
async def test_tool_with_task(ctx: Context[Any, Any]) -> str | InputRequiredResult:
    """Ask for a name, then take its time."""
    if not _given(ctx, "user_name"):
        return InputRequiredResult(input_requests={"user_name": _form("Name?", "name")})
    await asyncio.sleep(0.5)
    return f"Hello, {_field(ctx, 'user_name', 'name')}!"


# Resources and prompts


@mcp.resource("test://static-text")
def static_text() -> str:
    """A text."""
    return "This is the content of the static text resource."


@mcp.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image."""
    return base64.b64decode(PNG)


@mcp.resource("test://watched-resource")
def watched() -> str:
    """A text that clients subscribe to."""
    return "Watched resource content"


@mcp.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    """A text by id."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@mcp.prompt()
def test_simple_prompt() -> list[UserMessage]:
    """A text."""
    return [UserMessage(_text("This is a simple prompt for testing."))]


@mcp.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
    """A text with arguments."""
    return [UserMessage(_text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]


@mcp.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    """A resource and a text."""
    text = "Embedded resource content for testing."
    return [
        UserMessage(_embedded(resourceUri, "text/plain", text)),
        UserMessage(_text("Please process the embedded resource above.")),
    ]


@mcp.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """An image and a text."""
    image = ImageContent(type="image", data=PNG, mime_type="image/png")
    return [UserMessage(image), UserMessage(_text("Please analyze the image above."))]


@mcp.prompt()
async def test_input_required_result_prompt(
    ctx: Context[Any, Any],
) -> list[UserMessage] | InputRequiredResult:
    """Ask before it answers."""
    if _given(ctx, "user_context"):
        return [UserMessage(_text(f"Use this: {_field(ctx, 'user_context', 'context')}"))]
    asked = {"user_context": _form("What context should the prompt use?", "context")}
    return InputRequiredResult(input_requests=asked)


async def _set_level(
    ctx: ServerRequestContext[Any, Any], params: SetLevelRequestParams
) -> EmptyResult:
    return EmptyResult()


mcp._lowlevel_server.add_request_handler("logging/setLevel", SetLevelRequestParams, _set_level)
