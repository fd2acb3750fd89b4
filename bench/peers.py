#!/usr/bin/env python3
"""Rows of numpy, scipy and torch beside those of the benchmarks in C++: the same problems, names, switches and JSON.

    peers.py [--benchmark_list_tests] [--benchmark_filter=REGEX] [--benchmark_repetitions=N]
             [--benchmark_min_time=SECONDS] [--benchmark_out=FILE]

What is not installed has no rows. Each row is <problem>/<who>/threads:<n>; repetitions of those that are run together
take turns in a random order.
"""
import datetime
import json
import math
import os
import random
import re
import sys
import time

try:
    import numpy
except ImportError:
    numpy = None
try:
    import scipy
    import scipy.fft
except ImportError:
    scipy = None
try:
    import torch
except ImportError:
    torch = None

ROWS = {}  # name: (threads, function that prepares and gives (run, counters))


def row(problem, who, prepare):
    for threads in (1, 2) if (os.cpu_count() or 1) > 1 else (1,):
        ROWS[f"{problem}/{who}/threads:{threads}"] = (threads, prepare)


# -- optimizers --------------------------------------------------------------------------------------------------------


def adamw(rows, columns):
    def prepare(threads):
        weight = torch.nn.Parameter(torch.randn(rows, columns))
        weight.grad = torch.randn(rows, columns)
        optimizer = torch.optim.AdamW([weight], lr=1e-3, weight_decay=0.0, fused=True)
        optimizer.step()
        return optimizer.step, {}

    return prepare


# -- bases -------------------------------------------------------------------------------------------------------------


def gradient(n, seed):
    """Singular values that fall like i^-0.8 and 2 % of noise, as in bench/refresh.cpp; other random numbers."""
    torch.manual_seed(seed)
    left = torch.randn(n, n) * torch.arange(1, n + 1).pow(-0.8)
    g = left @ torch.randn(n, n).T
    noise = torch.randn(n, n)
    g += 0.02 * g.norm() / noise.norm() * noise
    return g / g.norm()


KEPT = {}


def second_gradient(n):
    """0.9 G + 0.1 F and the squares of its singular values."""
    if n not in KEPT:
        KEPT.clear()
        g = 0.9 * gradient(n, 1) + 0.1 * gradient(n, 2)
        wide = g.double()
        KEPT[n] = g, torch.linalg.eigvalsh(wide @ wide.T).flip(0)
    return KEPT[n]


def captured(basis, g, squares):
    return 100 * float((basis.T @ g).norm() ** 2 / squares[: basis.shape[1]].sum())


def svd_lowrank(n, r, iterations):
    def prepare(threads):
        g, squares = second_gradient(n)
        basis = torch.svd_lowrank(g, q=r, niter=iterations)[0]
        return lambda: torch.svd_lowrank(g, q=r, niter=iterations), {"captured_%": captured(basis, g, squares)}

    return prepare


def exact_svd(n, r):
    def prepare(threads):
        g, _ = second_gradient(n)
        return lambda: torch.linalg.svd(g, full_matrices=False), {}

    return prepare


def orthonormal(d, r):
    def prepare(threads):
        y = torch.randn(d, r)
        return lambda: torch.linalg.qr(y), {}

    return prepare


# -- cosine transforms -------------------------------------------------------------------------------------------------

SIGNALS = 2048


def cosine_transform(kind, n, contiguous):
    """A signal is a row when contiguous, a column otherwise; numpy's arrays are row-major."""

    def prepare(threads):
        x = numpy.random.default_rng(1).standard_normal((SIGNALS, n) if contiguous else (n, SIGNALS)).astype(numpy.float32)
        axis = 1 if contiguous else 0
        return lambda: scipy.fft.dct(x, type=kind, axis=axis, norm="ortho", workers=threads), {}

    return prepare


# -- adapters: features x samples, without autograd, in the order of products that has the fewest flops -----------------


def adapter(method, direction, m, n, r, samples):
    def prepare(threads):
        torch.manual_seed(1)
        w, x, dy = torch.randn(m, n) / math.sqrt(n), torch.randn(n, samples), torch.randn(m, samples)
        b, a = torch.randn(m, r), torch.randn(r, n)
        places = torch.randperm(m * n)[: int(0.03 * m * n)].sort().values
        values = torch.randn(len(places))
        y, dx, dw, merged = torch.empty(m, samples), torch.empty(n, samples), torch.empty(m, n), torch.empty(m, n)

        def merge():
            torch.mm(b, a, out=merged)
            return merged.view(-1).index_add_(0, places, values).view(m, n)

        def dense_forward():
            torch.mm(w, x, out=y)

        def dense_backward():
            torch.mm(w.T, dy, out=dx)
            torch.mm(dy, x.T, out=dw)

        def lora_forward():
            torch.mm(w, x, out=y)
            y.addmm_(b, a @ x)

        def lora_backward():
            t = b.T @ dy
            torch.mm(w.T, dy, out=dx)
            dx.addmm_(a.T, t)
            return t @ x.T, dy @ hidden.T

        def sltrain_forward():
            torch.mm(merge(), x, out=y)

        def sltrain_backward():
            torch.mm(merge().T, dy, out=dx)
            torch.mm(dy, x.T, out=dw)
            return b.T @ dw, dw @ a.T, dw.view(-1)[places]

        hidden = a @ x
        return locals()[f"{method}_{direction}"], {}

    return prepare


# -- all of them -------------------------------------------------------------------------------------------------------


def add_rows():
    if torch is not None:
        for rows, columns in ((1024, 1024), (4096, 4096), (2048, 5461), (4096, 11008)):
            for order in ("rows", "columns"):  # elementwise, the same in both
                row(f"adamw/{rows}x{columns}/{order}", "torch_fused", adamw(rows, columns))
        for n in (1024, 2048, 4096):
            for r in (128, 256):
                for iterations in (1, 2):
                    row(f"cold_r{r}/{n}x{n}", f"torch_svd_lowrank_{iterations}", svd_lowrank(n, r, iterations))
                row(f"warm_r{r}/{n}x{n}", "torch_svd_lowrank_1", svd_lowrank(n, r, 1))
            if n < 4096:
                row(f"exact_r128/{n}x{n}", "torch_linalg_svd", exact_svd(n, 128))
        for d, r in ((1024, 128), (4096, 128), (4096, 256)):
            row(f"orth_r{r}/{d}x{r}", "torch_linalg_qr", orthonormal(d, r))
        for direction in ("forward", "backward"):
            for samples in (64, 512, 4096):
                row(f"dense_{direction}/1024x1024/N{samples}", "torch", adapter("dense", direction, 1024, 1024, 16, samples))
                row(f"lora_r16_{direction}/1024x1024/N{samples}", "torch", adapter("lora", direction, 1024, 1024, 16, samples))
            for n in (512, 1376):
                row(f"dense_{direction}/512x{n}/N4096", "torch", adapter("dense", direction, 512, n, 16, 4096))
                row(f"sltrain_r128_{direction}/512x{n}/N4096", "torch", adapter("sltrain", direction, 512, n, 128, 4096))
    if scipy is not None and numpy is not None:
        for n in (512, 768, 1024, 1365, 1376, 2048, 2736, 4096, 5461, 11008):
            for axis in ("contiguous", "strided"):
                for kind in (2, 3):
                    row(f"dct{kind}/{n}/{axis}", "scipy", cosine_transform(kind, n, axis == "contiguous"))


def versions():
    found = [f"{m.__name__} {m.__version__}" for m in (numpy, scipy, torch) if m is not None]
    return ", ".join(found) + f" (Python {sys.version.split()[0]})"


class Case:
    def __init__(self, name):
        self.name = name
        self.threads, prepare = ROWS[name]
        self.set_threads()
        self.run, self.counters = prepare(self.threads)
        self.run()
        self.iterations = 1

    def set_threads(self):
        if torch is not None:
            torch.set_num_threads(self.threads)

    def time(self):
        begin = time.perf_counter()
        for _ in range(self.iterations):
            self.run()
        return time.perf_counter() - begin

    def measure(self, index, min_time):
        """As many iterations as take min_time, found at the first repetition."""
        self.set_threads()
        seconds = self.time()
        while index == 0 and seconds < min_time:
            self.iterations = max(self.iterations + 1, int(1.2 * min_time / max(seconds, 1e-9) * self.iterations))
            seconds = self.time()
        return {"name": self.name, "run_type": "iteration", "repetition_index": index, "iterations": self.iterations,
                "real_time": 1e3 * seconds / self.iterations, "time_unit": "ms", **self.counters}


def main(arguments):
    options = {"filter": ".", "repetitions": "1", "min_time": "0.1", "out": "", "list_tests": "false"}
    for argument in arguments:
        match = re.fullmatch(r"--benchmark_(\w+)(?:=(.*))?", argument)
        if match and match[1] in options:
            options[match[1]] = match[2] if match[2] is not None else "true"
    add_rows()
    names = [name for name in ROWS if re.search(options["filter"], name)]
    if options["list_tests"] == "true":
        print("\n".join(names))
        return
    context = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "python": versions()}
    if torch is not None:
        torch.set_grad_enabled(False)
    cases = [Case(name) for name in names]
    turns = [(case, index) for case in cases for index in range(int(options["repetitions"]))]
    random.shuffle(turns)
    done, results = {case.name: 0 for case in cases}, []
    for case, _ in turns:
        results.append(case.measure(done[case.name], float(options["min_time"])))
        done[case.name] += 1
        print(f"{case.name:60} {results[-1]['real_time']:12.4f} ms", flush=True)
    if options["out"]:
        with open(options["out"], "w", encoding="utf-8") as file:
            json.dump({"context": context, "benchmarks": results}, file, indent=1)


if __name__ == "__main__":
    main(sys.argv[1:])
