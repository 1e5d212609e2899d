"""Plain: uniform numbers and torch.where for the mask, (N, C, L) laid out as rows of C numbers, buffers assigned anew."""

import torch
from torch import nn


class Dropout(nn.Module):
    def __init__(self, p=0.5, *, generator=None):
        if not (p >= 0 and p < 1):
            raise ValueError("the probability p must lie in [0, 1), but is " + str(p))
        super().__init__()
        self.p = p
        self.generator = generator

    def forward(self, x):
        if self.training and self.p > 0:
            random = torch.rand(x.shape, generator=self.generator)
            return torch.where(random < self.p, torch.zeros_like(x), x / (1 - self.p))
        return x.clone()


class BatchNorm1d(nn.Module):
    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        if affine:
            self.weight = nn.Parameter(torch.full((num_features,), 1.0))
            self.bias = nn.Parameter(torch.full((num_features,), 0.0))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)
        self.register_buffer("running_mean", torch.full((num_features,), 0.0))
        self.register_buffer("running_var", torch.full((num_features,), 1.0))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        shape = tuple(x.shape)
        if len(shape) != 2 and len(shape) != 3:
            raise ValueError(f"need 2 or 3 axes, got {shape}")
        if shape[1] != self.num_features:
            raise ValueError(f"need {self.num_features} channels, got {shape}")
        rows = x
        if len(shape) == 3:
            rows = x.permute(0, 2, 1).reshape(-1, self.num_features)
        if self.training:
            n = rows.shape[0]
            if n <= 1:
                raise ValueError(f"cannot take the variance of {n} numbers, got {shape}")
            mean = rows.sum(0) / n
            var = ((rows - mean) ** 2).sum(0) / n
            self.num_batches_tracked = self.num_batches_tracked + 1
            m = self.momentum
            if m is None:
                m = 1 / int(self.num_batches_tracked)
            self.running_mean = (1 - m) * self.running_mean + m * mean.detach()
            self.running_var = (1 - m) * self.running_var + m * (var.detach() * n / (n - 1))
        else:
            mean = self.running_mean
            var = self.running_var
        rows = (rows - mean) / torch.sqrt(var + self.eps)
        if self.weight is not None:
            rows = rows * self.weight + self.bias
        if len(shape) == 3:
            rows = rows.reshape(shape[0], shape[2], shape[1]).permute(0, 2, 1)
        return rows
