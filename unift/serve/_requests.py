"""Bodies that the server takes. What it cannot honour is refused, never ignored in silence."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unift.engine import Turn
from unift.provider import Sampling
from unift.serve._errors import ApiError

_DEFAULT_TOKENS = 4_096  # where the request sets no limit; the context sets a lower one


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StreamOptions(_Body):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class _Sampled(_Body):
    """What both kinds of answers take."""

    model: str
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stop: Annotated[str, Field(min_length=1)] | list[str] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logit_bias: None = None
    user: str | None = None  # kept by nobody

    @model_validator(mode="after")
    def _stops(self) -> _Sampled:
        texts = self.stop if isinstance(self.stop, list) else []
        if len(texts) > 4 or any(not text for text in texts):
            raise ValueError("stop takes up to four texts, none of them empty")
        return self

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, limit: int | None) -> Sampling:
        seed = None if self.seed is None else self.seed % 2**63
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            max_tokens=limit or _DEFAULT_TOKENS,
            seed=seed,
        )

    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class TextPart(_Body):
    type: Literal["text"]
    text: str


class Function(_Body):
    name: str
    arguments: str = ""


class ToolCall(_Body):
    id: str
    type: Literal["function"] = "function"
    function: Function


class Message(_Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: None = None

    def plain(self) -> dict[str, Any]:
        """As chat templates know it: text as one string, "developer" as "system"."""
        given = self.model_dump(exclude_none=True)
        if isinstance(self.content, list):
            given["content"] = "".join(part.text for part in self.content)
        elif self.content is None and self.tool_calls is None:
            given["content"] = ""
        if self.role == "developer":
            given["role"] = "system"
        return given


class ResponseFormat(_Body):
    type: Literal["text"]


class ChatBody(_Sampled):
    """``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    metadata: dict[str, str] | None = None  # kept by nobody
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None

    def turn(self, adapter: str | None, takes_tools: bool) -> Turn:
        """The question to the engine.

        Raises:
            ApiError: Tools, and the model's chat template has no place for them.
        """
        tools = [] if self.tool_choice == "none" else self.tools or []
        if tools and not takes_tools:
            raise ApiError(
                400, "The chat template of this model has no tools.", "unsupported_value", "tools"
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs.", "bad_request", "top_logprobs")
        return Turn(
            messages=tuple(message.plain() for message in self.messages),
            tools=tuple(tools),
            adapter=adapter,
            sampling=self.sampling(self.max_completion_tokens or self.max_tokens),
            stop=self.stops(),
            top_logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )


class CompletionBody(_Sampled):
    """``POST /v1/completions``."""

    prompt: str | list[str]
    logprobs: int | None = Field(default=None, ge=0, le=5)
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: None = None

    def turn(self, adapter: str | None) -> Turn:
        """The question to the engine.

        Raises:
            ApiError: More prompts than one.
        """
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if len(prompts) != 1:
            raise ApiError(400, "Give one prompt a request.", "unsupported_value", "prompt")
        return Turn(
            prompt=prompts[0],
            adapter=adapter,
            sampling=self.sampling(self.max_tokens or 16),  # the vendor's default
            stop=self.stops(),
            top_logprobs=self.logprobs,
        )


class Hyper(_Body):
    """Hyperparameters of a job; "auto" leaves it to the plan."""

    n_epochs: Literal["auto"] | Annotated[int, Field(ge=1, le=50)] | None = None
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] | None = None
    learning_rate_multiplier: Literal["auto"] | Annotated[float, Field(gt=0, le=100)] | None = None


class Supervised(_Body):
    hyperparameters: Hyper = Hyper()


class Method(_Body):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised = Supervised()
    dpo: dict[str, Any] | None = None
    reinforcement: dict[str, Any] | None = None


class JobBody(_Body):
    """``POST /v1/fine_tuning/jobs``."""

    model: str
    training_file: str
    validation_file: str | None = None
    suffix: str | None = Field(default=None, max_length=64, pattern=r"^[^:]*$")
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    metadata: (
        dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]] | None
    ) = Field(default=None, max_length=16)
    method: Method | None = None
    hyperparameters: Hyper | None = None  # the older place
    integrations: list[Any] | None = Field(default=None, max_length=0)

    @property
    def hyper(self) -> Hyper:
        return (
            self.method.supervised.hyperparameters
            if self.method
            else (self.hyperparameters or Hyper())
        )
