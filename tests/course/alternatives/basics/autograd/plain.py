"""Without types: flat loops and Python numbers, cases chosen by where, a sigmoid made of tanh, sums kept as they come."""

import torch
from torch.nn.functional import mse_loss


def numerical_gradient(function, point, step=1e-5):
    if step > 0:
        pass
    else:
        raise ValueError("the step should be positive and is " + str(step))

    def call(flat):
        with torch.no_grad():
            result = function(flat.reshape(point.shape))
        if result.numel() != 1:
            raise ValueError("the function gave a tensor of shape " + str(tuple(result.shape)))
        return result.item()

    x = point.detach().double().flatten().clone()
    slopes = []
    for i in range(len(x)):
        middle = x[i].item()
        x[i] = middle + step
        up = call(x)
        x[i] = middle - step
        down = call(x)
        x[i] = middle
        slopes.append((up - down) / step / 2)
    return torch.tensor(slopes, dtype=torch.float64).reshape(point.shape)


class BinaryCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, targets):
        if list(logits.shape) != list(targets.shape):
            raise ValueError("shapes " + str(tuple(logits.shape)) + " and " + str(tuple(targets.shape)))
        ctx.save_for_backward(logits, targets)
        if_positive = (1 - targets) * logits + torch.log1p(torch.exp(-logits))
        if_negative = -targets * logits + torch.log1p(torch.exp(logits))
        return torch.where(logits > 0, if_positive, if_negative)

    @staticmethod
    def backward(ctx, grad_output):
        logits, targets = ctx.saved_tensors
        first = second = None
        if ctx.needs_input_grad[0]:
            probability = (1 + torch.tanh(logits / 2)) / 2
            first = (probability - targets) * grad_output
        if ctx.needs_input_grad[1]:
            second = -(logits * grad_output)
        return first, second


def accumulate_gradients(model, loss_function, micro_batches):
    if len(micro_batches) == 0:
        raise ValueError("nothing to learn from")
    examples = 0
    for i in range(len(micro_batches)):
        if micro_batches[i][0].shape[0] == 0:
            raise ValueError("number " + str(i) + " is empty")
        examples = examples + micro_batches[i][0].shape[0]
    total = 0
    for inputs, targets in micro_batches:
        outputs = model(inputs)
        loss = loss_function(outputs, targets) * inputs.shape[0]
        (loss / examples).backward()
        total = total + loss.detach()
    return total / examples


def straight_through_round(values):
    rounded = torch.round(values).detach()
    return rounded + (values - values.detach())


def consistency_loss(online, target):
    if online.shape != target.shape:
        raise ValueError(str(tuple(online.shape)) + " is not " + str(tuple(target.shape)))
    return mse_loss(online, target.detach())
