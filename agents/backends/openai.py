"""Any server that speaks OpenAI's chat completions: Ollama, llama.cpp, vLLM, another Ryzanstein.

    POST {url}/chat/completions, streamed ── lines ── deltas ── text ── Form.read ── Completion
         response_format where the server follows it     not in the form: asked again, twice

Nothing the server sends is trusted: sizes are bounded, what does not parse is an error, redirects
are not followed, and the key goes to no other place than the configured one.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from ryzanstein.agents.backends.base import (
    Completion,
    Message,
    Progress,
    Refused,
    Rubbish,
    estimated_tokens,
    reporting,
)
from ryzanstein.agents.backends.form import Form, Misfit
from ryzanstein.agents.backends.wire import (
    Reply,
    add,
    count,
    retry_after,
    said,
    whole,
    without_thoughts,
)
from ryzanstein.errors import (
    ConfigError,
    ConnectionFailed,
    InferenceError,
    ModelNotFound,
    RyzansteinError,
    ServerUnavailable,
)
from ryzanstein.resilience import Busy, Watch

if TYPE_CHECKING:
    import httpx2

    from ryzanstein.registry import BackendSpec

__all__ = ["OpenAIBackend"]

ASKS = 3
MOST_BYTES = 4 << 20
MOST_LINE = 1 << 20
_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 5.0
_DEFAULT_TOKENS = 512
# A piece of streamed text is one token or a few; so many pieces more than tokens asked for is a
# server that does not stop.
_SPARE_PIECES = 64
_PASSED_ON = ("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty")


class OpenAIBackend:
    """One server.

    Args:
        spec: Its URL, model, key and limits.
    """

    def __init__(self, spec: BackendSpec) -> None:
        self.name = spec.name
        self.seconds = spec.seconds
        self.total_seconds = spec.total_seconds
        self._spec = spec
        self._url = str(spec.url).rstrip("/")
        self._follows_schema = True
        self._model = spec.model

    @property
    def available(self) -> bool:
        """Always: whether it answers is found out by asking."""
        return True

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        watch: Watch,
        progress: Progress | None = None,
        **options: Any,
    ) -> Completion:
        """Continues a conversation; asks again where the answer has not the form it should have.

        Raises:
            ConnectionFailed: It cannot be reached, or went away within its answer.
            ServerUnavailable: It says that it cannot answer now.
            ConfigError: It wants another key.
            ModelNotFound: It has no such model.
            InferenceError: It sent rubbish, or kept answering in another form.
        """
        form = Form.of(options)
        started = monotonic()
        asked = form.asked(messages)
        spent = 0
        fault: Misfit | None = None
        for _ in range(ASKS):
            reply, wrapped = await self._answered(asked, form, options, watch, progress)
            spent += count(reply.usage, "completion_tokens") or estimated_tokens(reply.text)
            try:
                text = form.read(reply.text, wrapped=wrapped)
            except Misfit as error:
                fault = error
                asked = [*asked, {"role": "assistant", "content": reply.text}, _again(error, form)]
                continue
            return self._completion(reply, text, asked, spent, monotonic() - started)
        raise InferenceError(
            f"{self.name} answered {ASKS} times in another form than it was asked for. {fault}",
            hint="Choose a model that follows instructions better, or the local backend.",
        )

    async def count_tokens(self, what: str | Sequence[Message], model: str | None) -> int:
        """An estimate: the API has no call for it."""
        return estimated_tokens(what)

    async def look(self) -> str:
        """Asks for the list of models.

        Raises:
            RyzansteinError: It does not answer, or without a list.
        """
        import httpx2

        try:
            async with self._client(_LOOK_SECONDS) as client:
                answer = await client.get(f"{self._url}/models")
                await self._require_success(answer)
                models = answer.json()["data"]
            names = [str(one["id"]) for one in models]
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(error) from error
        except (ValueError, KeyError, TypeError) as error:
            raise Rubbish(f"{self.name} sent no list of models.") from error
        wanted = self._spec.model
        if wanted and names and wanted not in names and f"{wanted}:latest" not in names:
            raise ModelNotFound(
                f"{self.name} has no model {wanted}; it has {', '.join(names)[:200]}.",
                hint="Correct `model` of the backend in the registry, or get it there.",
            )
        self._model = wanted or (names[0] if names else None)
        return f"{self._model or 'no model'} at {self._url}"

    async def _answered(
        self,
        messages: Sequence[Message],
        form: Form,
        options: Mapping[str, Any],
        watch: Watch,
        progress: Progress | None,
    ) -> tuple[Reply, bool]:
        """One answer, and whether it was asked by a schema, which not every server knows."""
        body = self._body(messages, form, options)
        if form.schema is not None and self._follows_schema:
            try:
                shaped = {**body, "response_format": _response_format(form)}
                return await self._reply(shaped, form, watch, progress), form.json_schema is None
            except Refused:
                self._follows_schema = False
        return await self._reply(body, form, watch, progress), False

    def _body(
        self, messages: Sequence[Message], form: Form, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model or options.get("model") or "default",
            "messages": list(messages),
            "max_tokens": int(options.get("max_tokens") or _DEFAULT_TOKENS),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        body.update({key: options[key] for key in _PASSED_ON if options.get(key) is not None})
        if form.stop and not form.prefix and not form.constrained:
            body["stop"] = list(form.stop)[:4]
        if form.prefix or form.constrained:
            # The prefix, the braces and the quotes are said too.
            body["max_tokens"] += 32 + estimated_tokens(form.prefix)
        return body

    async def _reply(
        self,
        body: Mapping[str, Any],
        form: Form,
        watch: Watch,
        progress: Progress | None,
    ) -> Reply:
        import httpx2

        reply = Reply()
        try:
            async with (
                self._client(self.seconds) as client,
                client.stream("POST", f"{self._url}/chat/completions", json=body) as answer,
            ):
                await self._require_success(answer)
                watch.alive()
                kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
                if kind == "text/event-stream":
                    await self._read_stream(answer, reply, body, form, watch, progress)
                elif kind == "application/json":
                    whole(self.name, await self._bounded(answer, watch), reply)
                else:
                    raise Rubbish(f"{self.name} answered with {kind or 'nothing known'}, no chat.")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(error, bool(reply.text)) from error
        reply.text = without_thoughts(reply.text)
        return reply

    async def _read_stream(
        self,
        answer: httpx2.Response,
        reply: Reply,
        body: Mapping[str, Any],
        form: Form,
        watch: Watch,
        progress: Progress | None,
    ) -> None:
        most, report = int(body["max_tokens"]), reporting(watch, progress)
        async for line in self._lines(answer, watch):
            if not line.startswith("data:"):
                continue
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                return
            add(self.name, data, reply)
            await report(min(reply.pieces, most), most, f"{reply.pieces} tokens")
            if reply.pieces > most + _SPARE_PIECES or form.done(reply.text):
                reply.finish = reply.finish or "length"
                return
        if not reply.finish:
            raise ConnectionFailed(
                f"{self.name} ended its answer in the middle, after {reply.pieces} pieces.",
                hint="Its log may say why.",
            )

    async def _lines(self, answer: httpx2.Response, watch: Watch) -> AsyncIterator[str]:
        """Lines of a stream, none longer than it may be."""
        rest, total = b"", 0
        async for chunk in answer.aiter_bytes():
            watch.alive()
            total += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            if total > MOST_BYTES or len(rest) > MOST_LINE:
                raise Rubbish(f"{self.name} sent more than an answer can have.")
            for line in lines:
                yield line.decode(errors="replace").rstrip("\r")
        if rest:
            yield rest.decode(errors="replace")

    async def _bounded(self, answer: httpx2.Response, watch: Watch | None = None) -> bytes:
        found = b""
        async for chunk in answer.aiter_bytes():
            if watch is not None:
                watch.alive()
            found += chunk
            if len(found) > MOST_BYTES:
                raise Rubbish(f"{self.name} sent more than an answer can have.")
        return found

    async def _require_success(self, answer: httpx2.Response) -> None:
        """Turns a status that is no success into the error it means."""
        status = answer.status_code
        if 200 <= status < 300:
            return
        told = said((await self._bounded(answer))[:4096])
        text = f"{self.name} answered {status}{f': {told}' if told else ''}."
        if status in {401, 403}:
            key = self._spec.api_key_env
            hint = f"Check the key in {key}." if key else "Name its key's variable: api_key_env."
            raise ConfigError(text, hint=hint)
        if status == 404:
            raise ModelNotFound(text, hint="Check `url` and `model` of the backend.")
        if status == 429 or status >= 500:
            seconds = retry_after(answer.headers.get("retry-after", ""))
            raise Busy(text, hint="Try again later, or use another backend.", seconds=seconds)
        if status in {400, 413, 422}:
            raise Refused(text)
        raise ServerUnavailable(text, hint="Check `url` of the backend in the registry.")

    def _client(self, seconds: float) -> httpx2.AsyncClient:
        import httpx2

        timeout = httpx2.Timeout(seconds, connect=min(_CONNECT_SECONDS, seconds))
        # No compression: a few bytes must not unfold into a bomb.
        headers = {"Accept-Encoding": "identity"}
        name = self._spec.api_key_env
        if name is not None:
            key = os.environ.get(name, "").strip()
            if not key:
                raise ConfigError(
                    f"{self.name} needs a key, and {name} is not set.",
                    hint=f"Set {name}, or disable the backend in the registry.",
                )
            headers["Authorization"] = f"Bearer {key}"
        return httpx2.AsyncClient(
            timeout=timeout,
            headers=headers,
            follow_redirects=False,
            # Where nothing is encrypted, certificates need not be loaded, which takes 20 ms.
            verify=self._url.startswith("https:"),
        )

    def _unreachable(self, error: Exception, begun: bool = False) -> RyzansteinError:
        import httpx2

        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        if begun:
            return ConnectionFailed(f"{self.name} went away within its answer: {reason}.")
        if isinstance(error, httpx2.RemoteProtocolError | httpx2.DecodingError):
            return Rubbish(f"{self.name} does not speak HTTP as it should: {reason}.")
        return ConnectionFailed(
            f"{self.name} cannot be reached at {self._url}: {reason}.",
            hint="Start it, or correct `url` of the backend in the registry.",
        )

    def _completion(
        self, reply: Reply, text: str, asked: Sequence[Message], spent: int, seconds: float
    ) -> Completion:
        cached = reply.usage.get("prompt_tokens_details")
        return Completion(
            text=text,
            model=reply.model or self._model or self.name,
            prompt_tokens=count(reply.usage, "prompt_tokens") or estimated_tokens(asked),
            cached_tokens=count(cached, "cached_tokens") if isinstance(cached, Mapping) else 0,
            tokens=spent,
            finish_reason=reply.finish or "stop",
            seconds=round(seconds, 6),
        )


def _again(fault: Misfit, form: Form) -> dict[str, str]:
    text = f"That does not have the form I asked for. {fault}\n\n{form.instruction}"
    return {"role": "user", "content": text}


def _response_format(form: Form) -> dict[str, Any]:
    named = {"name": "answer", "schema": form.schema, "strict": True}
    return {"type": "json_schema", "json_schema": named}
