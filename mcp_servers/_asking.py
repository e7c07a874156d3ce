"""What a run may ask the client that it is for: its model (sampling), and its user (elicitation).

A client that offers neither, or whose connection takes no requests of a server, is not asked: the
run goes on with its other backends, and what would have needed a yes is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp import MCPError
from mcp.server.elicitation import AcceptedElicitation
from mcp.server.mcpserver import Context
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    SamplingMessage,
    TextContent,
)
from pydantic import BaseModel, Field

from ryzanstein.agents.backends.base import Declined
from ryzanstein.errors import ServerUnavailable
from ryzanstein.mcp_servers._rounds import Rounds

if TYPE_CHECKING:
    from ryzanstein.agents.backends.sampling import Question, Sampled, Sampler
    from ryzanstein.agents.running.run import Approve

__all__ = ["Client", "Nobody", "approver", "can_ask", "sampler"]

# As the protocol's specification of sampling has it.
_USER_SAID_NO = -1


class Nobody:
    """Stands in for the client of a run that nobody waits for: it hears nothing and allows nothing.

    Attributes:
        client_capabilities: None.
    """

    client_capabilities = None

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Leaves it at that; the row of the run says how far it is."""


Client = Context[Any, Any] | Rounds | Nobody


class Yes(BaseModel):
    """The answer to whether something may be done."""

    approve: bool = Field(description="Whether it may be done.")


def can_ask(capabilities: ClientCapabilities | None) -> bool:
    """Whether a client can put a form before its user; without a word on forms it can."""
    asking = capabilities.elicitation if capabilities is not None else None
    return asking is not None and (asking.form is not None or asking.url is None)


def approver(context: Client) -> Approve | None:
    """How to ask the client's user; None where the client says it cannot."""
    if isinstance(context, Nobody) or not can_ask(context.client_capabilities):
        return None

    async def ask(message: str) -> bool | None:
        if isinstance(context, Rounds):
            schema = Yes.model_json_schema()
            form = ElicitRequestFormParams(message=message, requested_schema=schema)
            try:
                said = await context.ask(ElicitRequest(params=form))
            except Declined:
                return None
            accepted = isinstance(said, ElicitResult) and said.action == "accept"
            return accepted and (said.content or {}).get("approve") is True
        try:
            answer = await context.elicit(message, Yes)
        except MCPError:
            return None
        except ValueError:  # what was answered is not what was asked
            return False
        return isinstance(answer, AcceptedElicitation) and answer.data.approve

    return ask


def sampler(context: Client) -> Sampler | None:
    """How to ask the client's model; None where the client says it cannot."""
    if isinstance(context, Nobody):
        return None
    capabilities = context.client_capabilities
    if capabilities is None or capabilities.sampling is None:
        return None

    async def ask(question: Question) -> Sampled:
        from ryzanstein.agents.backends.sampling import Sampled

        params = CreateMessageRequestParams(
            messages=[
                SamplingMessage(
                    role="assistant" if one["role"] == "assistant" else "user",
                    content=TextContent(type="text", text=one["content"]),
                )
                for one in question.messages
            ],
            max_tokens=question.max_tokens,
            system_prompt=question.system or None,
            temperature=question.temperature,
            stop_sequences=list(question.stop) or None,
        )
        try:
            found = await _created(context, params)
        except MCPError as error:
            if error.code == _USER_SAID_NO:
                raise Declined(
                    "The client's user did not allow its model to be asked.",
                    hint="Allow it there, or enable another backend.",
                ) from error
            raise ServerUnavailable(f"The client's model did not answer: {error}.") from error
        text = found.content.text if isinstance(found.content, TextContent) else ""
        reason = "length" if found.stop_reason == "maxTokens" else "stop"
        return Sampled(text, found.model, reason)

    return ask


async def _created(
    context: Context[Any, Any] | Rounds, params: CreateMessageRequestParams
) -> CreateMessageResult:
    """The message that the client's model made, asked for as its protocol has it."""
    if isinstance(context, Rounds):
        made = await context.ask(CreateMessageRequest(params=params))
        if not isinstance(made, CreateMessageResult):
            raise Declined("The client answered something else than a message.")
        return made
    # What session.create_message sends, without its warning that sampling leaves the protocol.
    found: CreateMessageResult = await context.session.send_request(
        CreateMessageRequest(params=params),
        CreateMessageResult,
        metadata=ServerMessageMetadata(related_request_id=context.request_id),
    )
    return found
