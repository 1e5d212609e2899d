"""Step by step with `os`, the file made in memory first; no types, and names of files of another form."""

# ruff: noqa: PTH100, PTH103, PTH104, PTH112, PTH105, PTH107, PTH110, PTH118, PTH120, PTH123, PTH208

import io
import os
import random
import warnings
import zipfile
from collections import OrderedDict
from math import isfinite
from pathlib import Path

import numpy as np
import torch

SIMPLE = {bool, int, float, str, bytes, type(None), torch.Tensor, torch.nn.Parameter, torch.dtype}


def check(value, where):
    t = type(value)
    if t in SIMPLE:
        return
    if t in (dict, OrderedDict):
        for k in value:
            check(k, where + ", a key")
            check(value[k], where + "[" + repr(k) + "]")
    elif t in (list, tuple, set):
        for i, v in enumerate(value):
            check(v, where + "[" + str(i) + "]")
    else:
        raise TypeError("cannot save %s: it has the type %s" % (where, t.__name__))


def save_state(path, state):
    state = dict(state)
    check(state, "state")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = os.path.abspath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = path + ".new"
    try:
        f = open(temporary, "wb", buffering=0)
        try:
            data = buffer.getbuffer()
            while len(data) > 0:
                data = data[f.write(data) :]
            os.fsync(f.fileno())
        finally:
            f.close()
        os.rename(temporary, path)
    except:  # noqa: E722
        if os.path.exists(temporary):
            os.remove(temporary)
        raise


def load_state(path):
    with open(path, "rb") as f:
        data = f.read()
    try:
        assert zipfile.ZipFile(io.BytesIO(data)).testzip() is None, "bad checksum"
        state = torch.load(io.BytesIO(data), weights_only=True, map_location=torch.device("cpu"))
        assert type(state) is dict, "not a dict"
    except Exception as e:
        raise ValueError("cannot read %s (%s)" % (path, e))
    return state


def random_state():
    kind, keys, pos, has_gauss, gauss = np.random.get_state()
    result = {
        "py": random.getstate(),
        "np": [kind, [int(k) for k in keys], pos, has_gauss, gauss],
        "cpu": torch.random.get_rng_state(),
        "gpus": [],
    }
    for i in range(torch.cuda.device_count()):
        result["gpus"].append(torch.cuda.get_rng_state(i))
    return result


def set_random_state(state):
    random.setstate(state["py"])
    kind, keys, pos, has_gauss, gauss = state["np"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), pos, has_gauss, gauss))
    torch.random.set_rng_state(state["cpu"])
    for i in range(min(len(state["gpus"]), torch.cuda.device_count())):
        torch.cuda.set_rng_state(state["gpus"][i], "cuda:%d" % i)


class CheckpointStore:
    def __init__(self, folder, *, keep_last=2):
        if keep_last <= 0:
            raise ValueError("keep_last = %d" % keep_last)
        self.folder = str(folder)
        self.keep_last = keep_last
        self.bad = []

    def list(self):
        """[(step, loss or None, path)], sorted by step."""
        result = []
        if os.path.isdir(self.folder):
            for name in os.listdir(self.folder):
                if name.startswith("ckpt_") and name.endswith(".pth"):
                    path = Path(self.folder, name)
                    if path not in self.bad:
                        step, loss = name[len("ckpt_") : -len(".pth")].split("_")
                        result.append((int(step), float.fromhex(loss) if loss else None, path))
        result.sort(key=lambda entry: entry[0])
        return result

    def save(self, state, step, loss=None):
        if step < 0:
            raise ValueError("step = %d is negative" % step)
        text = ""
        if loss is not None and isfinite(loss):
            text = float(loss).hex()
        path = Path(os.path.join(self.folder, "ckpt_%d_%s.pth" % (step, text)))
        save_state(path, state)
        if path in self.bad:
            self.bad.remove(path)
        for s, _, other in self.list():
            if s == step and other != path:
                os.remove(other)
        keep = [path, self.best()]
        for entry in self.list()[-self.keep_last :]:
            keep.append(entry[2])
        for _, _, other in self.list():
            if other not in keep:
                os.remove(other)
        return path

    def latest(self):
        entries = self.list()
        if len(entries) == 0:
            return None
        return entries[-1][2]

    def best(self):
        best_path = None
        best_loss = None
        for step, loss, path in self.list():
            if loss is not None and (best_loss is None or loss <= best_loss):
                best_loss = loss
                best_path = path
        return best_path

    def load_latest(self):
        for step, loss, path in reversed(self.list()):
            try:
                return load_state(path)
            except ValueError as e:
                warnings.warn("skipping a damaged file: %s" % e)
                self.bad.append(path)
        return None
