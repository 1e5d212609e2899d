"""Two passes over the keys: first each row's log-sum-exp, then the values; nothing is written in place, no types."""

import torch


class _TwoPasses(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value, mask, causal, scale, chunk):
        ctx.save_for_backward(query, key, value, mask)
        ctx.rest = causal, scale, chunk
        norm = torch.full_like(query[..., :1], -torch.inf)
        for start in range(0, key.size(-2), chunk):
            scores = _scores(query, key, mask, causal, scale, start, chunk)
            norm = torch.logaddexp(norm, torch.logsumexp(scores, -1, keepdim=True))
        norm = torch.where(norm == -torch.inf, 0.0, norm)
        result = 0
        for start in range(0, key.size(-2), chunk):
            weights = torch.exp(_scores(query, key, mask, causal, scale, start, chunk) - norm)
            result = result + weights @ value[..., start : start + chunk, :]
        ctx.norm, ctx.result = norm, result.detach()
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        query, key, value, mask = ctx.saved_tensors
        causal, scale, chunk = ctx.rest
        along = (grad * ctx.result).sum(-1, keepdim=True)
        for_query, for_key, for_value = 0, [], []
        for start in range(0, key.size(-2), chunk):
            keys, values = key[..., start : start + chunk, :], value[..., start : start + chunk, :]
            weights = torch.exp(_scores(query, key, mask, causal, scale, start, chunk) - ctx.norm)
            for_value.append(torch.einsum("...ts,...tv->...sv", weights, grad))
            for_scores = scale * weights * (torch.einsum("...tv,...sv->...ts", grad, values) - along)
            for_query = for_query + for_scores @ keys
            for_key.append(for_scores.transpose(-1, -2) @ query)
        return for_query, torch.cat(for_key, -2), torch.cat(for_value, -2), None, None, None, None


def _scores(query, key, mask, causal, scale, start, chunk):
    length, keys = query.size(-2), key.size(-2)
    stop = min(start + chunk, keys)
    scores = torch.einsum("...td,...sd->...ts", query, key[..., start:stop, :]) * scale
    if mask is not None:
        scores = torch.where(mask[..., start:stop], scores, -torch.inf)
    if causal:
        rows = torch.arange(keys - length, keys, device=key.device).reshape(-1, 1)
        scores = torch.where(torch.arange(start, stop, device=key.device) <= rows, scores, -torch.inf)
    return scores


def chunked_attention(query, key, value, mask=None, *, causal=False, scale=None, chunk=128):
    if chunk <= 0:
        raise ValueError(f"chunk={chunk}")
    if query.size(-1) != key.size(-1) or key.size(-2) != value.size(-2):
        raise ValueError(f"shapes: {tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}")
    T, S = query.size(-2), key.size(-2)
    if causal and T > S:
        raise ValueError(f"{T} queries are too many for {S} keys")
    lead = torch.broadcast_tensors(query[..., 0, 0], key[..., 0, 0], value[..., 0, 0])[2].shape
    if mask is not None:
        if mask.dtype != torch.bool:
            raise TypeError(f"{mask.dtype} is not bool")
        if mask.dim() > len(lead) + 2:
            raise ValueError(f"{tuple(mask.shape)} has more axes than {(*lead, T, S)}")
        try:
            mask = mask.broadcast_to((*lead, T, S))
        except RuntimeError:
            raise ValueError(f"{tuple(mask.shape)} does not become {(*lead, T, S)}")
    q, k, v = (tensor.broadcast_to((*lead, *tensor.shape[-2:])) for tensor in (query, key, value))
    return _TwoPasses.apply(q, k, v, mask, causal, q.size(-1) ** -0.5 if scale is None else scale, chunk)


class KVCache:
    def __init__(self, batch_size, num_kv_heads, capacity, head_dim, *, dtype=torch.float32, device=None):
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size}")
        if num_kv_heads < 1:
            raise ValueError(f"num_kv_heads {num_kv_heads}")
        if capacity < 1:
            raise ValueError(f"capacity {capacity}")
        if head_dim < 1:
            raise ValueError(f"head_dim {head_dim}")
        self.length = 0
        self.capacity = capacity
        self.both = torch.zeros(2, batch_size, num_kv_heads, capacity, head_dim, dtype=dtype, device=device)

    def update(self, key, value):
        b, g, _, d = self.both[0].shape
        for name, t in [("key", key), ("value", value)]:
            if t.dim() != 4 or t.size(0) != b or t.size(1) != g or t.size(3) != d:
                raise ValueError(f"{name} of shape {tuple(t.shape)}, wanted ({b}, {g}, any, {d})")
            if t.device != self.both.device:
                raise ValueError(f"{name} is on {t.device}, the cache on {self.both.device}")
            if t.dtype != self.both.dtype:
                raise TypeError(f"{name} is {t.dtype}, the cache {self.both.dtype}")
        if key.size(2) != value.size(2):
            raise ValueError(f"{tuple(key.shape)} against {tuple(value.shape)}")
        new = key.size(2)
        if self.length + new > self.capacity:
            raise ValueError(f"no room for {new} more: {self.length} of {self.capacity} taken")
        self.both[0].narrow(2, self.length, new).copy_(key.detach())
        self.both[1].narrow(2, self.length, new).copy_(value.detach())
        self.length += new
        return self.both[0, :, :, : self.length], self.both[1, :, :, : self.length]

    def reset(self):
        self.length = 0

    def reorder(self, rows):
        if rows.ndim != 1 or rows.numel() == 0:
            raise ValueError(f"rows of shape {tuple(rows.shape)}")
        for row in rows.tolist():
            if row not in range(self.both.size(1)):
                raise IndexError(f"row {row}, but there are {self.both.size(1)}")
        self.both = self.both.index_select(1, rows)
