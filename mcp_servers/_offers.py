"""What a server offers beside its tools: resources, prompts, completion and change notices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import anyio.to_thread
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CompleteRequestParams,
    CompleteResult,
    EmptyResult,
    GetPromptResult,
    InputRequiredResult,
    NotificationParams,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)
from mcp_types import Resource as WireResource

from ryzanstein.errors import InvalidRequest, RyzansteinError
from ryzanstein.mcp_servers._completions import Completer, Completions
from ryzanstein.mcp_servers._notices import Bus, Subscriber
from ryzanstein.nearest import did_you_mean

__all__ = ["Offers"]

log = logging.getLogger("ryzanstein.mcp_servers")

MAX_PROMPT_ARGUMENT = 100_000
MAX_URI = 2000
_SUBSCRIBER = "ryzanstein.subscriber"
_KEPT = ("run://", "memory://", "experience://", "analytics://")

ServerContext = ServerRequestContext[Any, Any]


class Offers(MCPServer[Any]):
    """An MCP server with resources that depend on data, completion and subscriptions.

    Args:
        name: `ryzanstein-` and what notices call it.
        options: Those of MCPServer.
    """

    def __init__(self, name: str, **options: Any) -> None:
        self._listers: list[Callable[[], Sequence[WireResource]]] = []
        self._completions = Completions()
        self._notices = Bus(name.removeprefix("ryzanstein-"))
        super().__init__(name, subscriptions=self._notices, **options)
        self._listening = ListenHandler(self._notices)
        server = self._lowlevel_server
        server.add_request_handler(
            "subscriptions/listen", SubscriptionsListenRequestParams, self._listen
        )
        server.add_request_handler("completion/complete", CompleteRequestParams, self._complete)
        server.add_request_handler("resources/subscribe", SubscribeRequestParams, self._subscribe)
        server.add_request_handler(
            "resources/unsubscribe", UnsubscribeRequestParams, self._unsubscribe
        )
        server.add_notification_handler(
            "notifications/initialized", NotificationParams, self._initialized
        )
        # The SDK tells 2025 clients of no list changes unless it is asked to in every transport.
        options_of = server.create_initialization_options
        changes = NotificationOptions(resources_changed=True)
        server.create_initialization_options = (  # type: ignore[method-assign]
            lambda given=None, *args, **named: options_of(given or changes, *args, **named)
        )

    def lists(
        self, make: Callable[[], Sequence[WireResource]]
    ) -> Callable[[], Sequence[WireResource]]:
        """Adds to the list of resources what `make` returns, which runs in a thread."""
        self._listers.append(make)
        return make

    def completes(self, ref: str, argument: str, complete: Completer) -> None:
        """Completes an argument of a template, by its URI, or of every prompt, as ANY_PROMPT."""
        self._completions.add(ref, argument, complete)

    def end_streams(self) -> None:
        """Ends every stream of change notices as the protocol does, when the server stops."""
        self._listening.close()

    async def list_resources(self) -> list[WireResource]:
        """Lists the fixed resources, then those that there are at the moment."""
        found = await super().list_resources()
        for make in self._listers:
            try:
                found += await anyio.to_thread.run_sync(make)
            except RyzansteinError as error:
                # A client asks for every list when it connects; one failure must not undo that.
                log.warning("%s lists fewer resources: %s", self.name, error)
        return found

    async def get_prompt(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        context: Context[Any, Any] | None = None,
    ) -> GetPromptResult | InputRequiredResult:
        """Renders a prompt.

        Raises:
            MCPError: -32602 where there is no such prompt, or an argument is none of its own.
        """
        self._check_prompt(name, arguments or {})
        try:
            return await super().get_prompt(name, arguments, context)
        except ValueError as error:
            log.error("The prompt %s failed.", name, exc_info=error)
            raise MCPError(INTERNAL_ERROR, f"The prompt {name} failed.") from error

    def _check_prompt(self, name: str, arguments: dict[str, Any]) -> None:
        prompts = {one.name: one for one in self._prompt_manager.list_prompts()}
        if name not in prompts:
            near = did_you_mean(name, list(prompts))
            raise MCPError(INVALID_PARAMS, f"No prompt is called {name[:80]!r}. {near}".strip())
        known = {one.name: one for one in prompts[name].arguments or ()}
        for argument, value in arguments.items():
            if argument not in known:
                names = ", ".join(known) or "no argument"
                fault = f"no argument is called {argument[:80]!r}; it takes {names}."
                raise MCPError(INVALID_PARAMS, f"{name}: {fault}")
            if len(str(value)) > MAX_PROMPT_ARGUMENT:
                fault = f"{argument} has more than {MAX_PROMPT_ARGUMENT} characters."
                raise MCPError(INVALID_PARAMS, f"{name}: {fault}")
        missing = [one.name for one in known.values() if one.required and one.name not in arguments]
        if missing:
            raise MCPError(INVALID_PARAMS, f"{name}: {', '.join(missing)} is required.")

    async def _complete(self, ctx: ServerContext, params: CompleteRequestParams) -> CompleteResult:
        found = await anyio.to_thread.run_sync(self._completions.complete, params)
        return CompleteResult(completion=found)

    async def _listen(
        self, ctx: ServerContext, params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        await _watch_kept(params.notifications.resource_subscriptions or ())
        return await self._listening(ctx, params)

    async def _initialized(self, ctx: ServerContext, params: NotificationParams) -> None:
        self._subscriber(ctx)

    async def _subscribe(self, ctx: ServerContext, params: SubscribeRequestParams) -> EmptyResult:
        if len(params.uri) > MAX_URI:
            raise InvalidRequest(f"A URI has at most {MAX_URI} characters.")
        await _watch_kept([params.uri])
        self._subscriber(ctx).add(params.uri)
        return EmptyResult()

    async def _unsubscribe(
        self, ctx: ServerContext, params: UnsubscribeRequestParams
    ) -> EmptyResult:
        self._subscriber(ctx).remove(params.uri)
        return EmptyResult()

    def _subscriber(self, ctx: ServerContext) -> Subscriber:
        """The session's own; it ends with its connection, which the SDK keeps to itself."""
        connection = ctx.session._connection
        found: Subscriber | None = connection.state.get(_SUBSCRIBER)
        if found is None:
            found = connection.state[_SUBSCRIBER] = Subscriber(self._notices, ctx.session)
            connection.exit_stack.callback(found.close)
        return found


async def _watch_kept(uris: Sequence[str]) -> None:
    """Looks after the store where other processes may change what is subscribed to."""
    if not any(uri.startswith(_KEPT) for uri in uris):
        return
    from ryzanstein.mcp_servers import _watch

    try:
        await anyio.to_thread.run_sync(_watch.begin)
    except RyzansteinError as error:
        log.warning("What other processes change is not looked at: %s", error)
