#!/usr/bin/env python3
"""Epochs of SGD per minute on images of MNIST's size beside PyTorch, on one machine in turn.

784-W-10 ReLU network without biases, W = 500 and 5000, float, cross-entropy, batches of 256 out of 60 000 images, as in
`mnist_sgd` of richflow_bench_training, with 1 and 2 threads.  pytorch: torch.nn.Linear, autograd and torch.optim.SGD;
numpy: the same steps in whole products, from the same weights on the same batches, which tells that both compute them.
zeros: richflow on images of which 81 % are zero, as those of MNIST are, which it leaves out; the others take the same
time.

    python3 benchmarks/mnist_epochs.py [BINARY]

BINARY is build/bench/benchmarks/richflow_bench_training; without it the other two run alone.  `epochs/min` is by the
wall clock and wants an idle machine, `epochs/core-min` by the time of all cores; both of the best of some rounds, each
road once a round.  `difference` is that of the first layer's change from NumPy's.  PyTorch's and NumPy's products are those of the BLAS that they find: `Gflops` is the
rate of one of the network's products alone, by which a BLAS that does not know the processor shows (then install
libopenblas0-pthread, or set OPENBLAS_CORETYPE).
"""

import json
import os
import subprocess
import sys
import time

if __name__ == "__main__" and len(sys.argv) > 1 and sys.argv[1].isdigit():
    # Read by NumPy's BLAS and by PyTorch when they are loaded.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = sys.argv[1]

import numpy as np

try:
    import torch
except ImportError:
    torch = None

D, CLASSES, BATCH, IMAGES = 784, 10, 256, 60_000
BATCHES = 20  # of an epoch: a round
STEP = 0.01
ROUNDS = 5


class Problem:
    def __init__(self, width):
        random = np.random.default_rng(1)
        self.X = random.standard_normal((BATCHES * BATCH, D), dtype=np.float32)
        self.labels = np.arange(BATCHES * BATCH) % CLASSES
        self.W = random.standard_normal((D, width), dtype=np.float32) * np.float32(np.sqrt(2 / D))
        self.V = random.standard_normal((width, CLASSES), dtype=np.float32) * np.float32(np.sqrt(2 / width))


class NumpyRoad:
    def __init__(self, problem):
        self.problem, self.W, self.V = problem, problem.W.copy(), problem.V.copy()

    def epoch(self, order):
        for k in range(BATCHES):
            chosen = order[k * BATCH : (k + 1) * BATCH]
            X, labels = self.problem.X[chosen], self.problem.labels[chosen]
            A = np.maximum(X @ self.W, 0)
            F = A @ self.V
            F = np.exp(F - F.max(axis=1, keepdims=True))
            F /= F.sum(axis=1, keepdims=True)
            F[np.arange(BATCH), labels] -= 1
            F *= np.float32(STEP / BATCH)
            B = (F @ self.V.T) * (A > 0)
            self.V -= A.T @ F
            self.W -= X.T @ B

    def weights(self):
        return self.W

    def product(self):
        self.problem.X[:BATCH] @ self.problem.W


class TorchRoad:
    def __init__(self, problem):
        self.X, self.labels = torch.from_numpy(problem.X), torch.from_numpy(problem.labels)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(D, problem.W.shape[1], bias=False),
            torch.nn.ReLU(),
            torch.nn.Linear(problem.W.shape[1], CLASSES, bias=False),
        )
        with torch.no_grad():
            self.net[0].weight.copy_(torch.from_numpy(problem.W.T))
            self.net[2].weight.copy_(torch.from_numpy(problem.V.T))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=STEP)
        self.loss = torch.nn.CrossEntropyLoss()

    def epoch(self, order):
        order = torch.from_numpy(order)
        for k in range(BATCHES):
            chosen = order[k * BATCH : (k + 1) * BATCH]
            self.optimizer.zero_grad()
            self.loss(self.net(self.X[chosen]), self.labels[chosen]).backward()
            self.optimizer.step()

    def weights(self):
        return self.net[0].weight.detach().numpy().T

    def product(self):
        with torch.no_grad():
            self.X[:BATCH] @ self.net[0].weight.T


def richflow_seconds(binary, width, threads, zeros):
    """Of one batch: of the wall clock, and of all cores. `zeros` is the percentage of them in the images."""
    command = [binary, f"--benchmark_filter=^mnist_sgd/{threads}/{width}/{zeros}/", "--benchmark_format=json"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["benchmarks"][0]
    return np.array([BATCH / report["images_per_s"], 1e-3 * report["cpu_time"] / BATCHES])


def timed(function, *arguments):
    begin = np.array([time.perf_counter(), time.process_time()])
    function(*arguments)
    return np.array([time.perf_counter(), time.process_time()]) - begin


def run(threads, binary):
    for width in (500, 5000):
        problem = Problem(width)
        roads = {"numpy": NumpyRoad(problem)}
        if torch is not None:
            torch.set_num_threads(threads)
            roads["pytorch"] = TorchRoad(problem)
        zeros = {"richflow": 0, "zeros": 81} if binary is not None else {}
        best = {name: np.full(2, np.inf) for name in [*zeros, *roads]}
        rate = dict.fromkeys(roads, 0.0)
        random = np.random.default_rng(2)
        for _ in range(ROUNDS):  # in turn
            order = random.permutation(BATCHES * BATCH)
            for name, part in zeros.items():
                best[name] = np.minimum(best[name], richflow_seconds(binary, width, threads, part))
            for name, road in roads.items():
                best[name] = np.minimum(best[name], timed(road.epoch, order) / BATCHES)
                rate[name] = max(rate[name], 2e-9 * BATCH * D * width / timed(road.product)[0])
        moved = np.linalg.norm(roads["numpy"].weights() - problem.W)
        for name, seconds in best.items():
            by_clock, by_cores = 60 * BATCH / IMAGES / seconds
            line = f"{name:10} {width:6} {threads:8} {by_clock:11.2f} {by_cores:16.2f}"
            if name in roads:
                difference = np.linalg.norm(roads[name].weights() - roads["numpy"].weights()) / moved
                line += f" {rate[name]:8.0f} {difference:11.1e}"
            print(line, flush=True)


def main():
    arguments = sys.argv[1:]
    if arguments and arguments[0].isdigit():
        run(int(arguments[0]), arguments[1] if len(arguments) == 2 else None)
        return
    if len(arguments) > 1:
        sys.exit(__doc__)
    if torch is None:
        print("pytorch: not installed (Debian package python3-torch), skipped")
    print(f"{'':10} {'width':>6} {'threads':>8} {'epochs/min':>11} {'epochs/core-min':>16} {'Gflops':>8} {'difference':>11}", flush=True)
    for threads in (1, 2):
        subprocess.run([sys.executable, __file__, str(threads), *arguments], check=True)


if __name__ == "__main__":
    main()
