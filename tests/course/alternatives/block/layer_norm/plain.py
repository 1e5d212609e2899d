"""Without types: torch.var of the widened tokens, square roots and divisions, everything checked where it is used."""

import torch


class LayerNorm(torch.nn.Module):
    def __init__(self, embed_dim, eps=1e-5, bias=True):
        torch.nn.Module.__init__(self)
        if embed_dim <= 0:
            raise ValueError("embed_dim = " + str(embed_dim) + " is too small")
        if eps != eps or eps < 0:
            raise ValueError("eps = " + str(eps) + " does not make sense")
        self.width = embed_dim
        self.epsilon = eps
        self.weight = torch.nn.Parameter(torch.full((embed_dim,), 1.0))
        if bias:
            self.bias = torch.nn.Parameter(torch.full((embed_dim,), 0.0))
        else:
            self.register_parameter("bias", None)

    def forward(self, x):
        if list(x.shape[-1:]) != [self.width]:
            raise ValueError("expected tokens of width " + str(self.width) + " but the shape is " + str(x.shape))
        before = x.dtype
        if before == torch.float16 or before == torch.bfloat16:
            x = x.float()
        mean = torch.mean(x, -1, keepdim=True)
        variance = torch.var(x, dim=-1, correction=0, keepdim=True)
        y = (x - mean) / torch.sqrt(variance + self.epsilon)
        y = self.weight * y
        if self.bias is not None:
            y = y + self.bias
        return y.to(before)


class RMSNorm(torch.nn.Module):
    def __init__(self, embed_dim, eps=1e-5):
        torch.nn.Module.__init__(self)
        if embed_dim <= 0:
            raise ValueError("embed_dim = " + str(embed_dim) + " is too small")
        if eps != eps or eps < 0:
            raise ValueError("eps = " + str(eps) + " does not make sense")
        self.width = embed_dim
        self.epsilon = eps
        self.weight = torch.nn.Parameter(torch.full((embed_dim,), 1.0))

    def forward(self, x):
        if list(x.shape[-1:]) != [self.width]:
            raise ValueError("expected tokens of width " + str(self.width) + " but the shape is " + str(x.shape))
        before = x.dtype
        if before == torch.float16 or before == torch.bfloat16:
            x = x.float()
        square = torch.sum(x * x, -1, keepdim=True) / self.width
        return (x / torch.sqrt(square + self.epsilon) * self.weight).to(before)
