"""Models whose tensors are stored as they are, in float16."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class StoredInHalf(nn.Module):
    """A model without a stored form of its own."""

    def exported(self) -> Mapping[str, Tensor]:
        """Tensors as they are stored, by their published names."""
        return {name: tensor.to(torch.float16) for name, tensor in self.state_dict().items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes over what `exported` gave, so that the stored model can be scored."""
        self.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
