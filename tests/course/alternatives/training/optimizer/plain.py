"""The formulas as they stand in the paper, without types; the state is made as soon as a parameter is known."""

import torch
from torch.optim import Optimizer


class AdamW(Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        if not lr >= 0:
            raise ValueError("invalid learning rate: {}".format(lr))
        for i in range(2):
            if not (betas[i] >= 0 and betas[i] < 1):
                raise ValueError("invalid beta{}: {}".format(i + 1, betas[i]))
        if not eps >= 0:
            raise ValueError("invalid eps: {}".format(eps))
        if not weight_decay >= 0:
            raise ValueError("invalid weight decay: {}".format(weight_decay))
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        super(AdamW, self).__init__(params, defaults)

    def add_param_group(self, param_group):
        super(AdamW, self).add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            self.prepare(p)

    def prepare(self, p):
        s = self.state[p]
        if "step" not in s:
            s["step"] = torch.zeros((), dtype=torch.float32)
            s["exp_avg"] = torch.zeros_like(p.data)
            s["exp_avg_sq"] = torch.zeros_like(p.data)
        return s

    def step(self, closure=None):
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()

        for group in self.param_groups:
            b1 = group["betas"][0]
            b2 = group["betas"][1]
            for p in group["params"]:
                g = p.grad
                if g is None:
                    continue
                if g.layout != torch.strided:
                    raise RuntimeError("a gradient is sparse, which this optimizer cannot use")
                g = g.detach()
                s = self.prepare(p)
                s["step"].add_(1)
                t = int(s["step"])

                p.data = self.shrunk(p.data, group)
                s["exp_avg"].copy_(b1 * s["exp_avg"] + (1 - b1) * g)
                s["exp_avg_sq"].copy_(b2 * s["exp_avg_sq"] + (1 - b2) * g**2)
                m_hat = s["exp_avg"] / (1 - b1**t)
                v_hat = s["exp_avg_sq"] / (1 - b2**t)
                p.data -= group["lr"] * m_hat / (torch.sqrt(v_hat) + group["eps"])
        return result

    @staticmethod
    def shrunk(data, group):
        data -= group["lr"] * group["weight_decay"] * data
        return data


def weight_decay_groups(model, weight_decay):
    if not weight_decay >= 0:
        raise ValueError("invalid weight decay: {}".format(weight_decay))
    decay = []
    no_decay = []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        if len(p.shape) > 1:
            decay.append(p)
        else:
            no_decay.append(p)
    return [
        {"params": decay, "weight_decay": weight_decay},
        {"params": no_decay, "weight_decay": 0.0},
    ]
