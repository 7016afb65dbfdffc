"""How a matrix is cut into even blocks, padded with zeros to one size, that batched products take together."""

from dataclasses import dataclass

from torch import Size, Tensor
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix of ``rows`` × ``columns`` as blocks of ``height`` × ``width``, the last ones padded.

    Args:
        rows: Of the matrix.
        columns: Of the matrix.
        height: Rows of a block.
        width: Columns of a block.
    """

    rows: int
    columns: int
    height: int
    width: int

    @classmethod
    def of(cls, shape: Size, block_size: int) -> "Blocks":
        """Return the blocks of a tensor of two dimensions or more, taken as a matrix ``[first, product of the rest]``.

        Args:
            shape: Of the tensor.
            block_size: A side has this many entries at least, and fewer than twice as many, unless the matrix is
                smaller.

        Returns:
            The blocks.
        """
        rows, columns = shape[0], shape[1:].numel()
        return cls(rows, columns, _side(rows, block_size), _side(columns, block_size))

    @property
    def down(self) -> int:
        """Number of blocks over the rows."""
        return -(-self.rows // self.height)

    @property
    def across(self) -> int:
        """Number of blocks over the columns."""
        return -(-self.columns // self.width)

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return self.down * self.across

    def cut(self, tensor: Tensor) -> Tensor:
        """Return the blocks of a tensor.

        Args:
            tensor: With ``rows * columns`` entries.

        Returns:
            Shape ``[down, across, height, width]``; a view where one is possible.
        """
        matrix = tensor.reshape(self.rows, self.columns)
        below, beside = self.down * self.height - self.rows, self.across * self.width - self.columns
        if below or beside:
            matrix = F.pad(matrix, (0, beside, 0, below))
        return matrix.view(self.down, self.height, self.across, self.width).transpose(1, 2)

    def join(self, blocks: Tensor) -> Tensor:
        """Return the matrix of blocks, without their padding.

        Args:
            blocks: With the entries of ``[down, across, height, width]``, contiguous.

        Returns:
            Shape ``[rows, columns]``; a view where one is possible.
        """
        parts = blocks.view(self.down, self.across, self.height, self.width).transpose(1, 2)
        return parts.reshape(self.down * self.height, self.across * self.width)[: self.rows, : self.columns]


def _side(size: int, block_size: int) -> int:
    return max(1, -(-size // max(1, size // block_size)))
