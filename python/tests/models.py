"""Small networks for tests, with torch's norms."""
import math

import torch
from torch import nn

from syncnorm.torch import SyncPowerNorm


class Cnn(nn.Module):
    """Images of 1 x 8 x 8; a residual block in the middle."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Tanh(),
                                   nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.tanh(self.stem(x))
        return self.head(torch.tanh(x + self.block(x)).mean((2, 3)))


class Sequences(nn.Module):
    """1-D: (N, 2, 12)."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(2, 6, 3), nn.BatchNorm1d(6), nn.Tanh(), nn.Flatten(),
                                  nn.Linear(60, 10), nn.BatchNorm1d(10), nn.Tanh(), nn.Linear(10, 5))

    def forward(self, x):
        return self.body(x)


class Transformer(nn.Module):
    """One post-norm block over (B, T) tokens with padding; PowerNorm with the paper's semantics."""

    def __init__(self, tokens=11, width=8, classes=5):
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, width))
        self.norms = nn.ModuleList(
            SyncPowerNorm(width, warmup_iters=20, group_num=2, semantics="paper") for _ in range(2))
        self.head = nn.Linear(width, classes)

    def forward(self, tokens, padding):
        x = self.embedding(tokens)
        scores = self.query(x) @ self.key(x).transpose(1, 2) / math.sqrt(x.shape[-1])
        scores = scores.masked_fill(padding.unsqueeze(1), -1e9)
        x = self._norm(0, x + scores.softmax(-1) @ self.value(x), padding)
        x = self._norm(1, x + self.mlp(x), padding)
        return self.head(x)

    def _norm(self, index, x, padding):
        return self.norms[index](x.transpose(0, 1), padding).transpose(0, 1)
