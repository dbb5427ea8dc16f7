"""The cost of a method or measure in passes through the network."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Passes through the full network for one image; a pass through the tail counts as a fraction."""

    forwards: float = 1
    backwards: float = 0

    def __str__(self) -> str:
        parts = [f"{count:g} {word}" for count, word in ((self.forwards, "f"), (self.backwards, "b")) if count]
        return " + ".join(parts) or "0"
