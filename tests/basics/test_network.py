"""Grades basics/network.

The oracle is the same network written once more with torch's own functions, and differentiated by autograd.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from checkpoints.checks import Answer, Check, Draw, Stop, Workload
from checkpoints.comparison import describe
from checkpoints.misconceptions import Misconception
from exercises.basics.network import OneHiddenLayerNetwork, cross_entropy, spiral, train

MISCONCEPTIONS = [
    # Where two explain a wrong answer equally well, the first is named: what is wrong in `train` alone stands first.
    Misconception("steps up the gradient, away from the minimum", ("alpha=learning_rate", "alpha=-learning_rate")),
    Misconception(
        "new tensors made and dropped: the parameters never change",
        (
            "parameter.sub_(gradients[name], alpha=learning_rate)",
            "parameter = parameter - learning_rate * gradients[name]",
        ),
    ),
    Misconception(
        "the gradients of the loss summed over the batch, not averaged",
        ("(softmax(logits, -1) - right) / len(targets)", "softmax(logits, -1) - right"),
    ),
    Misconception(
        "a backward pass that forgets the slope of tanh", ("hidden_gradient * (1 - hidden**2)", "hidden_gradient")
    ),
    Misconception(
        "the slope of tanh taken at the sum before it, where its value belongs: 1 - sum ** 2 is no slope",
        (
            "self._kept = inputs, hidden, logits",
            "self._kept = inputs, hidden, logits\nself._sums = inputs @ self.hidden_weight.T + self.hidden_bias",
        ),
        ("(1 - hidden**2)", "(1 - self._sums**2)"),
    ),
    Misconception(
        "the gradient of the output weights made with the sums before the tanh, not with the hidden values",
        (
            "self._kept = inputs, hidden, logits",
            "self._kept = inputs, hidden, logits\nself._sums = inputs @ self.hidden_weight.T + self.hidden_bias",
        ),
        ("logits_gradient.T @ hidden,", "logits_gradient.T @ self._sums,"),
    ),
    Misconception("tanh applied once more in the backward pass", ("(1 - hidden**2)", "(1 - hidden.tanh() ** 2)")),
    Misconception(
        "a bias gradient for each example, not yet added up over the batch",
        ("sums_gradient.sum(dim=0)", "sums_gradient"),
        ("logits_gradient.sum(dim=0)", "logits_gradient"),
    ),
    Misconception(
        "bias gradients divided by the batch a second time",
        ("sums_gradient.sum(dim=0)", "sums_gradient.mean(dim=0)"),
        ("logits_gradient.sum(dim=0)", "logits_gradient.mean(dim=0)"),
    ),
    Misconception(
        "the softmax itself as the gradient: the targets are never subtracted",
        ("(softmax(logits, -1) - right)", "softmax(logits, -1)"),
    ),
    Misconception(
        "logits minus targets: the softmax is forgotten in the backward pass",
        ("(softmax(logits, -1) - right)", "(logits - right)"),
    ),
    Misconception(
        "gradients of the opposite sign: targets minus softmax",
        ("(softmax(logits, -1) - right)", "(right - softmax(logits, -1))"),
    ),
    Misconception("a softmax over the batch", ("(softmax(logits, -1) - right)", "(softmax(logits, 0) - right)")),
    Misconception(
        "the weight gradients transposed",
        ("sums_gradient.T @ inputs", "inputs.T @ sums_gradient"),
        ("logits_gradient.T @ hidden,", "hidden.T @ logits_gradient,"),
    ),
    Misconception(
        "gradients added to those of the call before",
        (
            "class OneHiddenLayerNetwork:",
            """
            def _adding_up(backward):
                def adding(self, targets):
                    before = self.__dict__.setdefault("_before", {})
                    for name, gradient in backward(self, targets).items():
                        before[name] = before.get(name, 0) + gradient
                    return dict(before)

                return adding


            class OneHiddenLayerNetwork:
            """,
        ),
        ("def backward(self, targets", "@_adding_up\ndef backward(self, targets"),
    ),
    Misconception(
        "a network without the tanh",
        (
            "hidden = torch.tanh(inputs @ self.hidden_weight.T + self.hidden_bias)",
            "hidden = inputs @ self.hidden_weight.T + self.hidden_bias",
        ),
    ),
    Misconception(
        "a network that leaves out its biases",
        ("(inputs @ self.hidden_weight.T + self.hidden_bias)", "(inputs @ self.hidden_weight.T)"),
        ("hidden @ self.output_weight.T + self.output_bias", "hidden @ self.output_weight.T"),
    ),
    Misconception("probabilities returned in the place of logits", ("return logits\n", "return softmax(logits, -1)\n")),
    Misconception("the loss summed over the batch, not averaged", ("-chosen.mean()", "-chosen.sum()")),
    Misconception(
        "the logarithm of a softmax that has already rounded to 0: an infinite loss",
        ("log_softmax(logits, -1)", "torch.log(softmax(logits, -1))"),
    ),
    Misconception(
        "all weights begin at 0: every hidden unit is the same",
        (
            "torch.randn(rows, fan_in, generator=generator, dtype=dtype) / math.sqrt(fan_in)",
            "torch.zeros(rows, fan_in, dtype=dtype)",
        ),
    ),
    Misconception("weights of standard deviation 1, whatever the fan-in", (" / math.sqrt(fan_in)\n", "\n")),
    Misconception(
        "weights scaled by the number of units, not by how many numbers each adds up",
        ("math.sqrt(fan_in)\n", "math.sqrt(rows)\n"),
    ),
    Misconception(
        "weights drawn from torch's global generator",
        ("torch.randn(rows, fan_in, generator=generator, dtype=dtype)", "torch.randn(rows, fan_in, dtype=dtype)"),
    ),
    Misconception(
        "copies of the parameters: training changes them and not the network",
        ('"hidden_weight": self.hidden_weight,', '"hidden_weight": self.hidden_weight.clone(),'),
        ('"hidden_bias": self.hidden_bias,', '"hidden_bias": self.hidden_bias.clone(),'),
        ('"output_weight": self.output_weight,', '"output_weight": self.output_weight.clone(),'),
        ('"output_bias": self.output_bias,', '"output_bias": self.output_bias.clone(),'),
    ),
    Misconception(
        "every parameter's gradient taken after the one before it has moved",
        ("gradients = network.backward(targets)", "pass"),
        (
            "parameter.sub_(gradients[name], alpha=learning_rate)",
            "network.forward(inputs)\nparameter.sub_(network.backward(targets)[name], alpha=learning_rate)",
        ),
    ),
    Misconception(
        "the gradients of the first step used at every step",
        (
            "losses = []\n",
            "losses: list[float] = []\n    network.forward(inputs)\n    gradients = network.backward(targets)\n",
        ),
        (
            "gradients = network.backward(targets)\nfor name, parameter in network.parameters().items():",
            "for name, parameter in network.parameters().items():",
        ),
    ),
    Misconception(
        "the loss after each step, not before it",
        ("losses.append(cross_entropy(network.forward(inputs), targets).item())\n", "network.forward(inputs)\n"),
        (
            "parameter.sub_(gradients[name], alpha=learning_rate)\n",
            "parameter.sub_(gradients[name], alpha=learning_rate)\n        losses.append(cross_entropy(network.forward(inputs), targets).item())\n",
        ),
    ),
]

NAMES = ("hidden_weight", "hidden_bias", "output_weight", "output_bias")


def workload(task: Any, draw: Draw) -> list[Workload]:
    """Typical calls, for `compare`."""
    inputs, targets = draw.normal(256, 32), draw.integers(0, 10, 256)
    weights = _weights(draw, 32, 128, 10)

    def network() -> Any:
        made = task.OneHiddenLayerNetwork(32, 128, 10, generator=torch.Generator().manual_seed(0))
        for name, weight in weights.items():
            getattr(made, name).copy_(weight)
        return made

    def forward_and_backward() -> dict[str, Tensor]:
        one = network()
        one.forward(inputs)
        return dict(one.backward(targets))

    def training() -> list[float]:
        return list(task.train(network(), inputs, targets, steps=10, learning_rate=0.1))

    return [
        Workload("network.forward(inputs)", network().forward, (inputs,)),
        Workload("network.forward(inputs); network.backward(targets)", forward_and_backward),
        Workload("cross_entropy(logits, targets)", task.cross_entropy, (draw.normal(256, 1000), targets)),
        Workload("train(network, inputs, targets, steps=10, learning_rate=0.1)", training),
    ]


def _weights(
    draw: Draw, inputs: int, hidden: int, classes: int, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Normal numbers for all four parameters, with sums of about 1 at every unit."""
    return {
        "hidden_weight": draw.normal(hidden, inputs, dtype=dtype, scale=inputs**-0.5),
        "hidden_bias": draw.normal(hidden, dtype=dtype, scale=0.5),
        "output_weight": draw.normal(classes, hidden, dtype=dtype, scale=hidden**-0.5),
        "output_bias": draw.normal(classes, dtype=dtype, scale=0.5),
    }


def _network(check: Check, weights: dict[str, Tensor]) -> Any:
    """The learner's network with these weights copied in."""
    (hidden, inputs), classes = weights["hidden_weight"].shape, len(weights["output_bias"])
    dtype = weights["hidden_weight"].dtype
    generator = torch.Generator().manual_seed(
        0
    )  # not the check's own: how much is drawn from it is the learner's affair
    network = check.build(OneHiddenLayerNetwork, inputs, hidden, classes, generator=generator, dtype=dtype)
    for name, weight in weights.items():
        own = _parameter(check, network, name).has(shape=weight.shape, dtype=dtype).value
        with torch.no_grad():
            own.copy_(weight)
    return network


def _parameter(check: Check, network: Any, name: str, when: str = "") -> Answer:
    return check.run(f"the network's {name}{when}", lambda: getattr(network, name))


def _oracle(weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """The logits, with torch's own layers."""
    hidden = functional.linear(inputs, weights["hidden_weight"], weights["hidden_bias"]).tanh()
    return functional.linear(hidden, weights["output_weight"], weights["output_bias"])


def _oracle_gradients(weights: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The gradients of the mean loss, by autograd."""
    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    loss = functional.cross_entropy(_oracle(leaves, inputs), targets)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


def _gradients(check: Check, network: Any, inputs: Tensor, targets: Tensor) -> dict[str, Answer]:
    """What forward and then backward give, by name; in inference mode, where autograd can record nothing."""
    with torch.inference_mode():
        check(network.forward, inputs)
        answer = check(network.backward, targets)
    gradients = answer.value
    named = type(gradients) is dict and set(gradients) == set(NAMES)
    got = f"keys {list(gradients)}" if type(gradients) is dict else f"a {type(gradients).__name__}"
    answer.satisfies(named, got=got, expected=f"a dict with the keys {list(NAMES)}")
    if not named:
        raise Stop
    return {name: check.run(f"{answer.call}[{name!r}]", partial(gradients.get, name)) for name in NAMES}


# Inputs 0 and 1 make sums of -ln(3)/2 and +ln(3)/2 in the only hidden unit, whose tanh is -1/2 and +1/2. The second
# logit is 2 ln 3 times that above the first, so the softmax gives (3/4, 1/4) and (1/4, 3/4).
LN3 = math.log(3)
BY_HAND = {
    "hidden_weight": torch.tensor([[LN3]]),
    "hidden_bias": torch.tensor([-LN3 / 2]),
    "output_weight": torch.tensor([[0.0], [2 * LN3]]),
    "output_bias": torch.tensor([1.0, 1.0]),
}


def test_forward_by_hand(check: Check) -> None:
    """One hidden unit of values -1/2 and 1/2: the logits are 1 and 1 - ln 3, then 1 and 1 + ln 3."""
    network = _network(check, BY_HAND)
    check(network.forward, torch.tensor([[0.0], [1.0]])).equals(torch.tensor([[1.0, 1 - LN3], [1.0, 1 + LN3]]))


def test_forward_against_torch(check: Check) -> None:
    """Any sizes, float64, inputs that are not contiguous, a batch of one: as torch's own layers have it."""
    width, hidden, classes = check.draw.size(), check.draw.size(), check.draw.size()
    weights = _weights(check.draw, width, hidden, classes, torch.float64)
    network = _network(check, weights)
    for batch in (check.draw.size(), 1):
        inputs = check.draw.strided(batch, width, dtype=torch.float64)
        check(network.forward, inputs).equals(_oracle(weights, inputs))


def test_loss(check: Check) -> None:
    """The loss by hand, the mean of ln 4 and ln 4/3; and against torch, up to logits of 1e4."""
    logits = torch.tensor([[1.0, 1 - LN3], [1.0, 1 + LN3]])
    mean = torch.tensor((math.log(4) + math.log(4 / 3)) / 2)
    check(cross_entropy, logits, torch.tensor([1, 1])).equals(mean, note="the mean of ln 4 and ln 4/3")
    batch, classes = check.draw.size(), check.draw.size()
    targets = check.draw.integers(0, classes, batch)
    logits = check.draw.strided(batch, classes, dtype=torch.float64)
    check(cross_entropy, logits, targets).equals(functional.cross_entropy(logits, targets))
    extreme = torch.tensor([[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4]])
    check(cross_entropy, extreme, torch.tensor([1, 2])).equals(torch.tensor(5e3), note="the mean of 1e4 and 0")


def test_backward_by_hand(check: Check) -> None:
    """The same two examples, both of class 1: every gradient on paper."""
    gradients = _gradients(check, _network(check, BY_HAND), torch.tensor([[0.0], [1.0]]), torch.tensor([1, 1]))
    # predicted - right, over 2: (3/8, -3/8) and (1/8, -1/8); times the output weights: -3/4 ln 3 and -1/4 ln 3 for the
    # hidden values; times the slope 1 - 1/4: -9/16 ln 3 and -3/16 ln 3 for the sums, of which only the second has an
    # input that is not 0.
    gradients["output_bias"].equals(torch.tensor([1 / 2, -1 / 2]), note="the sum of (3/8, -3/8) and (1/8, -1/8)")
    gradients["output_weight"].equals(torch.tensor([[-1 / 8], [1 / 8]]), note="those, times the tanh of -1/2 and 1/2")
    gradients["hidden_bias"].equals(torch.tensor([-3 / 4 * LN3]), note="-9/16 ln 3 - 3/16 ln 3")
    gradients["hidden_weight"].equals(torch.tensor([[-3 / 16 * LN3]]), note="-3/16 ln 3 times the input 1")


def _compare_gradients(check: Check, *names: str) -> None:
    width, hidden, classes = check.draw.size(), check.draw.size(), check.draw.size()
    weights = _weights(check.draw, width, hidden, classes, torch.float64)
    network = _network(check, weights)
    for batch in (check.draw.size(), 1):
        inputs = check.draw.strided(batch, width, dtype=torch.float64)
        targets = check.draw.integers(0, classes, batch)
        expected = _oracle_gradients(weights, inputs, targets)
        gradients = _gradients(check, network, inputs, targets)
        for name in names:
            gradients[name].equals(expected[name], note="by autograd")


def test_backward_output_layer(check: Check) -> None:
    """The gradients of the output layer's weights and biases, against autograd; autograd is off for yours."""
    _compare_gradients(check, "output_weight", "output_bias")


def test_backward_hidden_layer(check: Check) -> None:
    """The gradients of the hidden layer's weights and biases, against autograd; autograd is off for yours."""
    _compare_gradients(check, "hidden_weight", "hidden_bias")


def test_half_precision(check: Check) -> None:
    """Where the parameters are in bfloat16, so are the logits and every gradient."""
    width, hidden, classes, batch = (check.draw.size() for _ in range(4))
    weights = _weights(check.draw, width, hidden, classes, torch.bfloat16)
    network = _network(check, weights)
    inputs = check.draw.normal(batch, width, dtype=torch.bfloat16)
    check(network.forward, inputs).has(shape=(batch, classes), dtype=torch.bfloat16)
    for name, answer in _gradients(check, network, inputs, check.draw.integers(0, classes, batch)).items():
        answer.has(shape=weights[name].shape, dtype=torch.bfloat16)


def test_backward_numerically(check: Check) -> None:
    """Nudge each parameter up and down: the loss of your own forward pass changes as your gradient says."""
    weights = _weights(check.draw, 2, 2, 3, torch.float64)
    network = _network(check, weights)
    inputs, targets = check.draw.normal(3, 2, dtype=torch.float64), check.draw.integers(0, 3, 3)
    gradients = _gradients(check, network, inputs, targets)
    nudge = 1e-5
    for name, weight in weights.items():
        slopes = []
        for index in range(weight.numel()):
            losses = []
            for sign in (1, -1):
                nudged = weight.clone()
                nudged.view(-1)[index] += sign * nudge
                setattr(network, name, nudged)
                with torch.inference_mode():
                    logits = check(network.forward, inputs).has(shape=(3, 3), dtype=torch.float64).value
                    losses.append(functional.cross_entropy(logits, targets).item())
            slopes.append((losses[0] - losses[1]) / (2 * nudge))
        setattr(network, name, weight)
        expected = torch.tensor(slopes, dtype=torch.float64).reshape(weight.shape)
        # Central differences are off by a third derivative times nudge^2 / 6, below 1e-9 here, and by the rounding
        # of the losses over the nudge, about 1e-16 / 1e-5.
        gradients[name].equals(expected, rtol=0, atol=1e-7, note="by central differences of your forward pass")


def test_backward_of_a_mean(check: Check) -> None:
    """A batch twice over has the batch's own gradients; they are finite for logits of 1e4."""
    weights = _weights(check.draw, 3, 4, 3)
    network = _network(check, weights)
    inputs, targets = check.draw.normal(5, 3), check.draw.integers(0, 3, 5)
    expected = _oracle_gradients(weights, inputs, targets)
    twice = _gradients(check, network, torch.cat([inputs, inputs]), torch.cat([targets, targets]))
    for name in NAMES:
        twice[name].equals(expected[name], note="as for the batch once")
    weights = {
        "hidden_weight": torch.tensor([[100.0, 0.0], [0.0, 1.0]]),
        "hidden_bias": torch.zeros(2),
        "output_weight": torch.tensor([[1e4, 0.0], [-1e4, 0.0]]),
        "output_bias": torch.zeros(2),
    }
    extreme = _gradients(check, _network(check, weights), torch.tensor([[1.0, 0.0]]), torch.tensor([1]))
    extreme["output_bias"].equals(torch.tensor([1.0, -1.0]))
    extreme["output_weight"].equals(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    extreme["hidden_weight"].equals(torch.zeros(2, 2), note="the first unit is saturated, the second unheard")


def test_backward_again(check: Check) -> None:
    """Called again it gives the same; after another forward it speaks of that one; the parameters stay."""
    weights = _weights(check.draw, 3, 4, 3)
    network = _network(check, weights)
    for batch in (4, 2):
        inputs, targets = check.draw.normal(batch, 3), check.draw.integers(0, 3, batch)
        expected = _oracle_gradients(weights, inputs, targets)
        first = _gradients(check, network, inputs, targets)
        for name in NAMES:
            first[name].equals(expected[name], note="the gradients of the last forward, and of no other")
        with torch.inference_mode():
            again = check(network.backward, targets)
        again.equals(expected, note="as the first time")
    for name, weight in weights.items():
        # Nothing is computed of it, so nothing is rounded.
        _parameter(check, network, name, " after backward").equals(weight, rtol=0, atol=0)


def test_forward_refuses(check: Check) -> None:
    """Inputs of another width, or of another number of axes, are refused with the shape that was got."""
    network = _network(check, _weights(check.draw, 7, 4, 3))
    check.raises(ValueError, network.forward, torch.zeros(5, 6), naming=("(5, 6)|[5, 6]", "7"))
    check.raises(ValueError, network.forward, torch.zeros(7), naming=("(7,)|[7]", "7"))
    check.raises(ValueError, network.forward, torch.zeros(2, 5, 7), naming=("(2, 5, 7)|[2, 5, 7]", "7"))


def test_backward_refuses(check: Check) -> None:
    """Backward before forward, and targets that are no class or of another shape, are refused by name."""
    network = _network(check, _weights(check.draw, 2, 4, 5))
    check.raises(RuntimeError, network.backward, torch.tensor([0]), naming="forward")
    logits = check(network.forward, check.draw.normal(2, 2)).has(shape=(2, 5)).value.clone()
    for function, before in ((network.backward, ()), (cross_entropy, (logits,))):
        check.raises(ValueError, function, *before, torch.tensor([0, 8]), naming=("8", "5"))
        check.raises(ValueError, function, *before, torch.tensor([0, 5]), naming="5")
        check.raises(ValueError, function, *before, torch.tensor([-7, 0]), naming=("-7", "5"))
        check.raises(ValueError, function, *before, torch.tensor([0, 1, 2]), naming="(3,)|[3]")
        check.raises(ValueError, function, *before, torch.tensor([[0], [1]]), naming="(2, 1)|[2, 1]")


def test_initial_scale(check: Check) -> None:
    """Independent normal weights of mean 0 and deviation 1 / sqrt(fan_in), biases of 0, no requires_grad."""
    width, hidden, classes = 50, 400, 50
    generator = torch.Generator().manual_seed(check.draw.seed())
    network = check.build(OneHiddenLayerNetwork, width, hidden, classes, generator=generator)
    for name, shape in (("hidden_weight", (hidden, width)), ("output_weight", (classes, hidden))):
        answer = _parameter(check, network, name).has(shape=shape, dtype=torch.float32)
        scale, fan_in = shape[1] ** -0.5, shape[1]
        mean, deviation = float(answer.value.mean()), float(answer.value.std())
        # Of n = 20000 normal numbers the standard deviation has a relative error of 1 / sqrt(2 n) = 0.5 %, and the
        # mean one of scale / sqrt(n) = 0.7 % of the scale: ten and seven times that happen once in 1e11 runs or less.
        answer.satisfies(
            abs(deviation - scale) < 0.05 * scale,
            got=f"standard deviation {deviation:.4f}",
            expected=f"about {scale:.4f} = 1 / sqrt({fan_in}), each unit adding up {fan_in} numbers",
        )
        answer.satisfies(abs(mean) < 0.05 * scale, got=f"mean {mean:.4f}", expected="about 0")
        # 4.55 % of normal numbers lie beyond two deviations, with a standard error of 0.15 % for 20000 of them; of uniform
        # numbers none does. A few of them may be equal by chance: float32 has 8 million numbers between 1/2 and 1.
        far = float((answer.value.abs() > 2 * scale).double().mean())
        answer.satisfies(
            abs(far - 0.0455) < 0.0105,
            got=f"{far:.1%} of the weights beyond two standard deviations",
            expected="about 4.6%, as normal numbers have it",
        )
        different = answer.value.unique().numel()
        answer.satisfies(
            different > 0.95 * answer.value.numel(),
            got=f"{different} different numbers in {answer.value.numel()} weights",
            expected="independent numbers, hardly two of them alike",
        )
    for name, size in (("hidden_bias", hidden), ("output_bias", classes)):
        _parameter(check, network, name).equals(torch.zeros(size))
    for name in NAMES:
        answer = _parameter(check, network, name).has()
        answer.satisfies(not answer.value.requires_grad, got="requires_grad is True", expected="requires_grad False")


def test_initial_generator(check: Check) -> None:
    """The same seed gives the same weights, another seed others, whatever torch's global seed is."""
    seed = check.draw.seed()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(check.draw.seed())  # so that a wrong answer is the same in every run
        networks = [
            check.build(OneHiddenLayerNetwork, 3, 4, 2, generator=torch.Generator().manual_seed(number))
            for number in (seed, seed, seed + 1)
        ]
    for name in ("hidden_weight", "output_weight"):
        first, again, other = (_parameter(check, network, name) for network in networks)
        shape = {"hidden_weight": (4, 3), "output_weight": (2, 4)}[name]
        weight = first.has(shape=shape, dtype=torch.float32).value
        # The same operations on the same numbers round in the same way.
        again.equals(weight.clone(), rtol=0, atol=0, note="as in the first network of that seed")
        other.has(shape=shape).satisfies(
            not bool((other.value == weight).any()), got="the weights of another seed", expected="weights of its own"
        )


def test_parameters(check: Check) -> None:
    """All four parameters by name: the tensors themselves, so that writing into one changes the network."""
    weights = _weights(check.draw, 3, 4, 2)
    network = _network(check, weights)
    parameters = check(network.parameters).equals(weights).value
    if type(parameters) is dict and set(parameters) == set(weights):
        for name, weight in weights.items():
            parameters[name].add_(1)
            _parameter(check, network, name, " once 1 was added to what parameters() gave").equals(weight + 1)
        network.output_bias = torch.tensor([5.0, 7.0])
        answer = check.run(
            "parameters()['output_bias'] once another tensor was put in its place",
            lambda: network.parameters()["output_bias"],
        )
        answer.equals(network.output_bias, note="the new one")


def test_train_follows_the_gradient(check: Check) -> None:
    """Three steps move every parameter as descent by autograd does, and give the loss before each."""
    rate = float(check.draw.uniform(0.2, 0.8, 1))
    weights = _weights(check.draw, 3, 4, 3, torch.float64)
    network = _network(check, weights)
    inputs, targets = check.draw.normal(5, 3, dtype=torch.float64), check.draw.integers(0, 3, 5)
    losses = []
    for _ in range(3):
        losses.append(functional.cross_entropy(_oracle(weights, inputs), targets).item())
        gradients = _oracle_gradients(weights, inputs, targets)
        weights = {name: weight - rate * gradients[name] for name, weight in weights.items()}
    check(train, network, inputs, targets, steps=0, learning_rate=rate).equals([], note="no step, no loss")
    answer = check(train, network, inputs, targets, steps=3, learning_rate=rate)
    for name, weight in weights.items():
        after = _parameter(check, network, name, " after three steps of train")
        after.equals(weight, note=f"less {rate:.3g} times the gradient that autograd finds, three times over")
    answer.equals(losses, note="the loss before each step")


def _spiral(draw: Draw, points: int) -> tuple[Tensor, Tensor]:
    """Three arms of three quarters of a turn, drawn here, so that an edited `spiral` makes nothing easier."""
    arm = torch.arange(3).repeat_interleave(points)
    radius = draw.uniform(0.4, 2.0, len(arm))
    angle = 2 * math.pi * (arm / 3 + 0.75 * radius / 2)
    return torch.stack([angle.cos(), angle.sin()], dim=1) * radius[:, None] + draw.normal(len(arm), 2, scale=0.04), arm


def test_given_spiral(check: Check) -> None:
    """The spiral that you were given is still as its docstring says, and a network takes its points."""
    generator = torch.Generator().manual_seed(check.draw.seed())
    network = check.build(OneHiddenLayerNetwork, 2, 4, 3, generator=generator)
    positions, _ = _drawn(check, 5, 3, check.draw.seed())
    check(network.forward, positions.value).has(shape=(15, 3))

    turns, noise = float(check.draw.uniform(0.3, 1.2, 1)), float(check.draw.uniform(0.01, 0.03, 1))
    cases: list[dict[str, float]] = [{"noise": 0.0}, {"noise": 0.0, "turns": turns}, {}, {"noise": noise}]
    for options in cases:
        points, arms, seed = check.draw.size(400, 500), check.draw.size(2, 6), check.draw.seed()
        (positions, arm), (again, _) = (_drawn(check, points, arms, seed, **options) for _ in range(2))
        arm.equals(torch.arange(arms).repeat_interleave(points), note="the points of one arm after those of another")
        # The same operations on the same numbers round in the same way.
        again.equals(positions.value, rtol=0.0, atol=0.0, note="as drawn before from the same seed")
        wound, spread = options.get("turns", 0.75), options.get("noise", 0.04)
        x, y = positions.value.double().unbind(dim=1)
        radius = (x.square() + y.square()).sqrt()
        ahead = torch.atan2(y, x) - 2 * math.pi * (arm.value / arms + wound * radius / 2)
        # Noise n along the radius leads off the arm too: at that radius the arm is n times this further around.
        slope = math.pi * wound * radius
        beside = radius * torch.atan2(ahead.sin(), ahead.cos()) / (1 + slope.square()).sqrt()
        found = float(beside.square().mean().sqrt())
        # Of 800 numbers or more the deviation has a relative error of 2.5 % at most, and the arm's bend adds less than
        # that; without noise, what is left are the roundings of the coordinates, about 1e-7 each.
        positions.satisfies(
            abs(found - spread) <= 0.25 * spread + 1e-5,
            got=f"points that lie beside their arms with a standard deviation of {found:.3g}",
            expected=f"{spread:.3g}, around arms of {wound:.3g} turns for each 2 of the radius",
        )
        low, high = float(radius.min()), float(radius.max())
        # That none of 800 lies in the first or the last 24th of the radii has a probability of (23 / 24)^800 = 2e-15,
        # and that one is off by more than 7 deviations of the noise 1e-9.
        positions.satisfies(
            max(abs(low - 0.4), abs(high - 2.0)) < 1.6 / 24 + 7 * spread,
            got=f"radii from {low:.3g} to {high:.3g}",
            expected="from 0.4 to 2, up to the noise",
        )


def _drawn(check: Check, points: int, arms: int, seed: int, **options: float) -> tuple[Answer, Answer]:
    """Positions and arms of the learner's spiral; ends the check where they are none."""
    generator = torch.Generator().manual_seed(seed)
    answer = check(spiral, points, arms, generator=generator, **options)
    both = answer.value
    pair = type(both) is tuple and len(both) == 2
    answer.satisfies(pair, got=describe(both), expected="a pair of positions and arms")
    if not pair:
        raise Stop
    positions = check.run(f"the positions of {answer.call}", lambda: both[0])
    arm = check.run(f"the arms of {answer.call}", lambda: both[1])
    return positions.has(shape=(points * arms, 2), dtype=torch.float32), arm.has(shape=(points * arms,))


def test_train_separates_a_spiral(check: Check) -> None:
    """From its own weights, 150 steps on 120 points get at least four fifths of 300 fresh points right."""
    inputs, targets = _spiral(check.draw, 40)
    fresh, arm = _spiral(check.draw, 100)
    generator = torch.Generator().manual_seed(check.draw.seed())
    network = check.build(OneHiddenLayerNetwork, 2, 32, 3, generator=generator)
    losses = check(train, network, inputs, targets, steps=150, learning_rate=1.0).value
    answer = check(network.forward, fresh).has(shape=(300, 3), dtype=torch.float32)
    share = float((answer.value.argmax(dim=1) == arm).double().mean())
    told = f", losses from {losses[0]:.3g} to {losses[-1]:.3g}" if type(losses) is list and losses else ""
    # With the reference's weights the worst of 500 seeds got 91 %. No untrained network got beyond 73 %, and no linear
    # one (without the tanh) beyond 64 %. More points or steps would take a loop over the examples too long.
    answer.satisfies(
        share >= 0.8,
        got=f"{share:.1%} of fresh points right{told}",
        expected="at least 80%",
    )
