"""Which channels of the tensors of a network belong together."""


class Channels:
    """Channels that are tied to those of other tensors, because they are added, multiplied or pooled.

    Attributes:
        count: how many.
        fixed: whether they have to stay as they are.
    """

    def __init__(self, count: int, fixed: bool = False) -> None:
        self.count, self.fixed = count, fixed
        self._joined: Channels | None = None

    def find(self) -> "Channels":
        """The one of all that are joined which stands for them."""
        return self if self._joined is None else self._joined.find()

    def join(self, other: "Channels") -> None:
        """Ties two and all that each is tied to."""
        mine, other = self.find(), other.find()
        if mine is not other:
            other._joined = mine
            mine.fixed = mine.fixed or other.fixed
