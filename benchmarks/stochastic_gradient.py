#!/usr/bin/env python3
"""Steps of SGD with one sample on the squared diagonal net, d = 1000, N = 100, as published code makes them.

numpy: the gradient written down, weights of d numbers each.  pytorch: autograd and torch.optim.SGD, in double.
Prints microseconds per step on one thread, the best of some rounds.  richflow_bench_stochastic_gradient has the same
steps of richflow (ours_ns).

    python3 benchmarks/stochastic_gradient.py [steps]
"""

import os
import sys
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np

try:
    import torch
except ImportError:
    torch = None

D, N = 1000, 100
STEP = 1e-5
ALPHA = 0.1
ROUNDS = 5


def problem():
    random = np.random.default_rng(1)
    X = random.standard_normal((N, D))
    beta = np.zeros(D)
    beta[:5] = 1 / np.sqrt(5)
    return X, X @ beta + 0.1 * random.standard_normal(N)


def numpy_sgd(X, y, order):
    p = np.full(D, ALPHA)
    m = np.full(D, ALPHA)
    for n in order:
        x = X[n]
        r = x @ (p**2 - m**2) - y[n]
        g = 4 * r * x
        p, m = p - STEP * g * p, m + STEP * g * m
    return p**2 - m**2


def pytorch_sgd(X, y, order):
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    p = torch.full((D,), ALPHA, dtype=torch.float64, requires_grad=True)
    m = torch.full((D,), ALPHA, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([p, m], lr=STEP)
    for n in order:
        optimizer.zero_grad()
        loss = (X[n] @ (p**2 - m**2) - y[n]) ** 2
        loss.backward()
        optimizer.step()
    return (p**2 - m**2).detach().numpy()


def main():
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    X, y = problem()
    random = np.random.default_rng(2)
    order = [int(n) for n in np.concatenate([random.permutation(N) for _ in range(-(-steps // N))])[:steps]]
    loops = {"numpy": numpy_sgd}
    if torch is None:
        print("pytorch: not installed (Debian package python3-torch), skipped")
    else:
        torch.set_num_threads(1)
        loops["pytorch"] = pytorch_sgd
    best = dict.fromkeys(loops, float("inf"))
    ends = {}
    for _ in range(ROUNDS):  # in turn
        for name, loop in loops.items():
            begin = time.process_time()
            ends[name] = loop(X, y, order)
            best[name] = min(best[name], time.process_time() - begin)
    for name, seconds in best.items():
        difference = np.linalg.norm(ends[name] - ends["numpy"]) / np.linalg.norm(ends["numpy"])
        print(f"{name}: {1e6 * seconds / steps:.2f} us per step, difference {difference:.1e}")


if __name__ == "__main__":
    main()
