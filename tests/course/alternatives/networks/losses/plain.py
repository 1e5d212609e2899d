"""Plain: logsumexp less the right logit, of the rows that count alone; torch.where for the Huber loss; no type hints."""

import torch


def check_inputs(logits, targets, ignore_index):
    if not torch.is_floating_point(logits):
        raise TypeError("logits must be floating, not " + str(logits.dtype))
    if targets.dtype not in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        raise TypeError("targets must be integers, not " + str(targets.dtype))
    if tuple(logits.shape[:-1]) != tuple(targets.shape):
        raise ValueError("targets of shape %s for logits of shape %s" % (tuple(targets.shape), tuple(logits.shape)))
    c = logits.shape[-1]
    rows = logits.reshape(-1, c) if targets.numel() > 0 else logits.reshape(0, c)
    wanted = targets.to(torch.int64).reshape(-1)
    counts = wanted != ignore_index
    for t in wanted[counts].unique().tolist():
        if t < 0 or t >= c:
            raise ValueError("target %d, but there are %d classes" % (t, c))
    return rows, wanted, counts


def finish(losses, counts, shape, reduction):
    # losses has an entry for each row that counts
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        n = len(losses)
        if n == 0:
            return losses.sum()
        return losses.sum() / n
    if reduction == "none":
        everything = losses.new_zeros(counts.shape)
        everything[counts] = losses
        return everything.reshape(shape)
    raise ValueError("unknown reduction: " + repr(reduction))


def cross_entropy(logits, targets, *, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    if not (label_smoothing >= 0 and label_smoothing <= 1):
        raise ValueError("label_smoothing is " + str(label_smoothing))
    rows, wanted, counts = check_inputs(logits, targets, ignore_index)
    rows = rows[counts]
    wanted = wanted[counts]
    lse = torch.logsumexp(rows, 1)
    right = rows[torch.arange(len(wanted)), wanted]
    losses = (1 - label_smoothing) * (lse - right) + label_smoothing * (lse - rows.mean(1))
    return finish(losses, counts, targets.shape, reduction)


def focal_loss(logits, targets, *, gamma=2.0, alpha=None, ignore_index=-100, reduction="mean"):
    if gamma < 0 or gamma != gamma:
        raise ValueError("gamma is " + str(gamma))
    if alpha is not None and (alpha.dim() != 1 or len(alpha) != logits.shape[-1]):
        raise ValueError("alpha has the shape " + str(tuple(alpha.shape)))
    rows, wanted, counts = check_inputs(logits, targets, ignore_index)
    rows = rows[counts]
    wanted = wanted[counts]
    log_p = torch.log_softmax(rows, 1)[torch.arange(len(wanted)), wanted]
    rest = (1 - torch.exp(log_p)).clamp(min=1e-30)
    losses = -(rest**gamma) * log_p
    if alpha is not None:
        losses = alpha[wanted] * losses
    return finish(losses, counts, targets.shape, reduction)


def huber_loss(prediction, target, *, delta=1.0, reduction="mean"):
    if list(prediction.shape) != list(target.shape):
        raise ValueError("shapes " + str(tuple(prediction.shape)) + " and " + str(tuple(target.shape)))
    if not delta > 0:
        raise ValueError("delta is " + str(delta))
    error = prediction - target
    losses = torch.where(error.abs() <= delta, error**2 / 2, delta * (error.abs() - delta / 2))
    if reduction == "none":
        return losses
    elif reduction == "sum":
        return losses.sum()
    elif reduction == "mean":
        return losses.mean()
    else:
        raise ValueError("unknown reduction: " + repr(reduction))
