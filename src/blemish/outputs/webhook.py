"""Verdicts and events by HTTP: each is sent as JSON in a POST."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blemish.outputs.base import Away, Deliveries, needed
from blemish.record.rows import Message

TIMEOUT_S = 10.0
BUSY = (408, 425, 429, 502, 503, 504)
"""Answers of a receiver that cannot take anything now."""
MOST_FAILURES = 5
"""After so many other answers of 500 and more to the same message in a row, that message is what is wrong."""
MOST_PAUSE_S = 300.0


class Webhook:
    """Posts each message to a URL.

    A message is delivered when the answer is 2xx. Redirections are not followed: they count as a refusal.

    Parameters
    ----------
    name : of the output.
    url : with user and password, if the receiver asks for them.
    address : the URL without them.
    timeout_s : for the connection, and between two parts of the answer.
    """

    is_live = False

    def __init__(self, name: str, url: str, address: str, timeout_s: float = TIMEOUT_S) -> None:
        self.name, self.url, self.address, self.timeout_s = name, url, address, timeout_s
        self._client: Any = None
        self._failing: tuple[int, int] = (-1, 0)

    def open(self) -> None:
        httpx = needed("httpx", "httpx", self.address)
        self._client = httpx.Client(timeout=self.timeout_s, headers={"user-agent": "blemish"})

    def deliver(self, messages: Sequence[Message]) -> Deliveries:
        for message in messages:
            yield message, self._refusal(message)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()

    def _refusal(self, message: Message) -> str | None:
        """Post a message; why the receiver refuses it, None if it takes it."""
        import httpx

        try:
            answer = self._client.post(self.url, json=message.payload, headers={"x-blemish-kind": message.kind})
        except httpx.TimeoutException:
            raise Away(f"{self.address}: no answer within {self.timeout_s:g} s") from None
        except (httpx.HTTPError, OSError) as error:
            raise Away(f"{self.address}: {_reason(error)}") from None
        if answer.is_success:
            return None
        said = f"HTTP {answer.status_code} {answer.reason_phrase}".rstrip()
        if answer.status_code in BUSY:
            raise Away(f"{self.address}: {said}", _pause_s(answer.headers.get("retry-after")))
        if answer.status_code >= 500:
            of_message, n = self._failing
            self._failing = message.id, n + 1 if of_message == message.id else 1
            if self._failing[1] < MOST_FAILURES:
                raise Away(f"{self.address}: {said}")
        return said


def _pause_s(text: str | None) -> float | None:
    """The seconds of a Retry-After; None if it has none."""
    return min(float(text), MOST_PAUSE_S) if text is not None and text.strip().isdecimal() else None


def _reason(error: BaseException) -> str:
    """What is wrong with a connection, in one line; the URL may hold a password, and is not in these texts."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return (str(error) or type(error).__name__).splitlines()[0]
