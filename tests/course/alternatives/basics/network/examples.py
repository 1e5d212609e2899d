"""Without types: one example after another, outer products added into gradients of zeros, the chain rule in float64."""

import math

import torch

from .tensors import log_softmax, softmax


def spiral(points, arms, *, generator, turns=0.75, noise=0.04):
    arm = torch.arange(arms * points) // points
    noises = torch.randn(2, arms * points, generator=generator) * noise
    radius = 2 - 1.6 * torch.rand(arms * points, generator=generator)
    angle = math.tau * arm / arms + math.pi * turns * radius
    x = torch.cos(angle) * radius + noises[0]
    y = torch.sin(angle) * radius + noises[1]
    return torch.stack((x, y)).T, arm


def check_classes(targets, rows, classes):
    if tuple(targets.shape) != (rows,):
        raise ValueError("wrong shape of the targets: " + str(tuple(targets.shape)))
    wrong = [t for t in targets.tolist() if t < 0 or t >= classes]
    if wrong:
        raise ValueError("with " + str(classes) + " classes there is no " + str(wrong[0]))


def cross_entropy(logits, targets):
    check_classes(targets, logits.shape[0], logits.shape[1])
    total = 0
    for row, target in zip(log_softmax(logits, 1), targets.tolist()):
        total = total - row[target]
    return total / len(targets)


class OneHiddenLayerNetwork:
    NAMES = ["hidden_weight", "hidden_bias", "output_weight", "output_bias"]

    def __init__(self, inputs, hidden, classes, *, generator, dtype=torch.float32, spread=1.0):
        self.hidden_weight = torch.randn((hidden, inputs), generator=generator, dtype=torch.float64)
        self.hidden_weight = (self.hidden_weight * spread / math.sqrt(inputs)).to(dtype)
        self.hidden_bias = torch.zeros(hidden).to(dtype)
        self.output_weight = torch.randn((classes, hidden), generator=generator, dtype=torch.float64)
        self.output_weight = (self.output_weight * spread / math.sqrt(hidden)).to(dtype)
        self.output_bias = torch.zeros(classes).to(dtype)
        self.last_inputs = None

    def parameters(self):
        result = {}
        for name in self.NAMES:
            result[name] = getattr(self, name)
        return result

    def forward(self, inputs):
        wanted = len(self.hidden_weight[0])
        if inputs.dim() != 2 or inputs.shape[1] != wanted:
            raise ValueError("got inputs of " + str(tuple(inputs.shape)) + ", the width is " + str(wanted))
        self.last_inputs = inputs
        self.last_hidden = torch.tanh(torch.matmul(inputs, self.hidden_weight.t()) + self.hidden_bias)
        self.last_logits = torch.matmul(self.last_hidden, self.output_weight.t()) + self.output_bias
        return self.last_logits

    def backward(self, targets):
        if self.last_inputs is None:
            raise RuntimeError("please call forward before backward")
        check_classes(targets, self.last_logits.shape[0], self.last_logits.shape[1])
        exact = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in self.parameters().items()}
        probabilities = softmax(self.last_logits.double(), 1)
        for i in range(len(targets)):
            x = self.last_inputs[i].double()
            h = self.last_hidden[i].double()
            dz = probabilities[i].clone()
            dz[targets[i]] -= 1.0
            dh = self.output_weight.double().t().mv(dz)
            ds = dh - dh * h * h
            exact["output_weight"] += torch.outer(dz, h)
            exact["output_bias"] += dz
            exact["hidden_weight"] += torch.outer(ds, x)
            exact["hidden_bias"] += ds
        return {name: (g / len(targets)).to(getattr(self, name).dtype) for name, g in exact.items()}


def train(network, inputs, targets, *, steps, learning_rate):
    losses = []
    while len(losses) < steps:
        logits = network.forward(inputs)
        losses.append(cross_entropy(logits, targets).item())
        g = network.backward(targets)
        p = network.parameters()
        for name in p:
            p[name] -= learning_rate * g[name]
    return losses
