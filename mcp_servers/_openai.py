"""What OpenAI's clients speak, over the engine of this process: /v1/chat/completions and its kin.

A request is checked by pydantic; what the engine cannot do is refused by name rather than ignored.
A client that goes away stops its generation. Without a temperature decoding is greedy.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from time import time
from typing import Annotated, Any, Literal

import anyio
import anyio.from_thread
import anyio.to_thread
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ryzanstein.errors import InvalidRequest, RyzansteinError
from ryzanstein.mcp_servers._inference import Generated, generated
from ryzanstein.mcp_servers._shared import shared
from ryzanstein.mcp_servers._subject import without_places

__all__ = ["routes"]

STATUS = {
    "INVALID_REQUEST": 400,
    "MODEL_NOT_FOUND": 404,
    "SERVER_UNAVAILABLE": 503,
    "TIMEOUT": 504,
}
_REFUSED = ("tools", "functions", "logprobs", "top_logprobs", "audio", "best_of")


class Part(BaseModel):
    """A piece of a message; only text can be read."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None

    def plain(self) -> dict[str, str]:
        """Returns it as the engine takes it."""
        role = "system" if self.role == "developer" else self.role
        content = self.content
        if isinstance(content, list):
            content = "".join(part.text for part in content)
        return {"role": role, "content": content or ""}


class Options(BaseModel):
    """What both kinds of completions share."""

    model: str | None = None
    max_tokens: Annotated[int, Field(ge=1, le=32_768)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=32_768)] | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    n: Literal[1] = 1
    response_format: dict[str, Any] | None = None

    def engine_options(self) -> dict[str, Any]:
        """Returns the fields of an engine's request."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return {
            "model": _model(self.model),
            "max_tokens": self.max_completion_tokens or self.max_tokens or 512,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "seed": self.seed,
            "stop": stop,
            "constraint": _constraint(self.response_format),
        }


class ChatBody(Options):
    """Body of /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]


class CompletionBody(Options):
    """Body of /v1/completions."""

    prompt: str
    suffix: str | None = None


class EmbeddingBody(BaseModel):
    """Body of /v1/embeddings."""

    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]
    model: str | None = None
    encoding_format: Literal["float"] = "float"


def routes() -> list[Route]:
    """Returns the routes below /v1."""
    return [
        Route("/v1/models", _answering(_models)),
        Route("/v1/chat/completions", _answering(_chat), methods=["POST"]),
        Route("/v1/completions", _answering(_completions), methods=["POST"]),
        Route("/v1/embeddings", _answering(_embeddings), methods=["POST"]),
    ]


Endpoint = Callable[[Request], Awaitable[Response]]


def _answering(endpoint: Endpoint) -> Endpoint:
    """Turns this project's errors into answers."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RyzansteinError as error:
            return _error(error)

    return answer


def _error(error: RyzansteinError) -> JSONResponse:
    status = STATUS.get(error.code, 500)
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"message": str(without_places(error)), "type": kind, "code": error.code, "param": None}
    return JSONResponse({"error": body}, status)


async def _models(request: Request) -> Response:
    found = await anyio.to_thread.run_sync(shared().catalogue.entries)
    data = [
        {"id": one.entry.name, "object": "model", "created": 0, "owned_by": one.entry.family}
        for one in found
        if one.present
    ]
    return JSONResponse({"object": "list", "data": data})


async def _chat(request: Request) -> Response:
    body = await _body(request, ChatBody)
    messages = [message.plain() for message in body.messages]
    return await _complete(request, {"messages": messages, **body.engine_options()}, body)


async def _completions(request: Request) -> Response:
    body = await _body(request, CompletionBody)
    values = {"prompt": body.prompt, "suffix": body.suffix, **body.engine_options()}
    return await _complete(request, values, body)


async def _embeddings(request: Request) -> Response:
    from ryzanstein.memory.embed import get_embedder

    body = await _body(request, EmbeddingBody)
    texts = [body.input] if isinstance(body.input, str) else body.input
    embedder = get_embedder()
    vectors = await anyio.to_thread.run_sync(embedder.embed, texts)
    data = [
        {"object": "embedding", "index": index, "embedding": vector.tolist()}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    return JSONResponse(
        {"object": "list", "data": data, "model": embedder.model_id, "usage": usage}
    )


async def _complete(request: Request, work: Mapping[str, Any], body: Options) -> Response:
    shape = _Shape(isinstance(body, ChatBody))
    if body.stream:
        with_usage = bool((body.stream_options or {}).get("include_usage"))
        return _Stream(work, shape, with_usage)
    result = await _unless_gone(request.receive, work)
    return Response(status_code=499) if result is None else JSONResponse(shape.whole(result))


async def _unless_gone(receive: Receive, work: Mapping[str, Any]) -> Generated | None:
    """Generates, or stops and returns None when the client goes away."""
    result: Generated | None = None
    failure: RyzansteinError | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
        try:
            result = await generated(work)
        except RyzansteinError as error:
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


class _Shape:
    """The JSON of one answer, whole or in chunks."""

    def __init__(self, chat: bool) -> None:
        self._chat = chat
        self._id = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._created = int(time())

    def _around(self, kind: str, model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        name = ("chat.completion" + kind) if self._chat else "text_completion"
        return {
            "id": self._id,
            "object": name,
            "created": self._created,
            "model": model,
            "choices": choices,
        }

    def whole(self, result: Generated) -> dict[str, Any]:
        """The answer in one piece."""
        message = {"role": "assistant", "content": result.text}
        content = {"message": message} if self._chat else {"text": result.text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": result.finish_reason}
        return {**self._around("", result.model, [choice]), "usage": self.usage(result)}

    def chunk(self, text: str, model: str, finish: str | None = None) -> dict[str, Any]:
        """A piece of the answer."""
        delta: dict[str, Any] = {"delta": {"content": text} if text else {}}
        if not self._chat:
            delta = {"text": text}
        return self._around(".chunk", model, [{"index": 0, **delta, "finish_reason": finish}])

    def first(self, model: str) -> dict[str, Any]:
        """The chunk that says who speaks; only conversations have one."""
        delta = {"role": "assistant", "content": ""}
        return self._around(".chunk", model, [{"index": 0, "delta": delta, "finish_reason": None}])

    def last(self, result: Generated) -> dict[str, Any]:
        """The chunk with the usage and no text."""
        return {**self._around(".chunk", result.model, []), "usage": self.usage(result)}

    @property
    def chat(self) -> bool:
        """Whether it is a conversation."""
        return self._chat

    @staticmethod
    def usage(result: Generated) -> dict[str, Any]:
        """Tokens read and written."""
        return {
            "prompt_tokens": result.prompt_tokens,
            "completion_tokens": result.tokens,
            "total_tokens": result.prompt_tokens + result.tokens,
            "prompt_tokens_details": {"cached_tokens": result.cached_tokens},
        }


class _Stream(Response):
    """Server-sent events, one a piece of text; the status waits for the first of them."""

    def __init__(self, work: Mapping[str, Any], shape: _Shape, with_usage: bool) -> None:
        super().__init__()
        self._work = work
        self._shape = shape
        self._with_usage = with_usage
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Generates and sends until the end, or until the client goes away."""
        failure: RyzansteinError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
            try:
                await self._run(send)
            except RyzansteinError as error:
                failure = error
            group.cancel_scope.cancel()
        if failure is None:
            return
        if not self._started:
            await _error(failure)(scope, receive, send)
            return
        await self._event(send, json.loads(bytes(_error(failure).body)))
        await send({"type": "http.response.body", "body": b""})

    async def _run(self, send: Send) -> None:
        model = self._work["model"] or ""

        def on_text(piece: str) -> None:
            anyio.from_thread.run(self._event, send, self._shape.chunk(piece, model))

        result = await generated(self._work, on_text=on_text)
        await self._event(send, self._shape.chunk("", result.model, result.finish_reason))
        if self._with_usage:
            await self._event(send, self._shape.last(result))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _event(self, send: Send, value: dict[str, Any]) -> None:
        if not self._started:
            self._started = True
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if self._shape.chat and "choices" in value:
                await self._event(send, self._shape.first(value["model"]))
        data = f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()
        await send({"type": "http.response.body", "body": data, "more_body": True})


async def _body(request: Request, kind: type[Any]) -> Any:
    try:
        given = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"The body is no JSON: {error}.") from error
    if not isinstance(given, dict):
        raise InvalidRequest("The body is no JSON object.")
    for name in _REFUSED:
        if given.get(name):
            raise InvalidRequest(f"{name} is not supported here.", hint="Leave it out.")
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        faults = (
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise InvalidRequest("; ".join(faults)) from error


def _model(name: str | None) -> str | None:
    return None if name in (None, "", "default") else name


def _constraint(wanted: dict[str, Any] | None) -> dict[str, Any] | None:
    kind = (wanted or {}).get("type", "text")
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        return {"json_schema": {"type": "object"}}
    if kind == "json_schema":
        named = wanted.get("json_schema") or {}
        return {"json_schema": named.get("schema") or {} if isinstance(named, dict) else named}
    raise InvalidRequest(f"response_format {str(kind)[:80]!r} is not supported.")
