#!/usr/bin/env python3
"""argmin Q_alpha over X beta = y by SciPy's L-BFGS-B on the dual, beside MirrorPath on the same data.

    scipy_argmin_q.py build/bench/benchmarks/richflow_bench_argmin_q

Minimizes sum_i 2 alpha^2 cosh z_i - <y, nu>, z = X^T nu, with its gradient, from nu = 0 or by way of larger
alpha, with several sizes of the memory; each scale's fastest is printed, and its error against the certified limit.
Processor time of one thread, the best of several runs in turn. NumPy's time is that of its BLAS: with the reference
BLAS (Debian without libopenblas0) it takes twice as long as with OpenBLAS.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
from scipy.optimize import minimize  # noqa: E402

REPETITIONS = 7


def read_problem(file):
    """log alpha, X, y and the limit, as the benchmark writes them."""
    with open(file, encoding="ascii") as lines:
        log_alpha = float(next(lines))
        limit = np.array(next(lines).split(","), dtype=float)
        rows = np.loadtxt(lines, delimiter=",")
    return log_alpha, np.ascontiguousarray(rows[:, 1:]), rows[:, 0].copy(), limit


def dual_lbfgs(X, y, log_alphas, memory):
    """beta at the last of log_alphas, each solved from the solution of the one before."""
    nu = np.zeros(len(y))
    for k, log_alpha in enumerate(log_alphas):
        square = np.exp(2 * log_alpha)

        def dual(nu, square=square):
            e = np.exp(nu @ X)
            inverse = 1 / e
            value = square * (e + inverse).sum() - y @ nu
            return value, X @ (square * (e - inverse)) - y

        is_last = k + 1 == len(log_alphas)
        options = {
            "maxcor": memory,
            "ftol": 1e-16 if is_last else 1e-6,
            "gtol": 1e-10 if is_last else 1e-3,
            "maxiter": 15000,
            "maxfun": 100000,
            "maxls": 50,
        }
        nu = minimize(dual, nu, jac=True, method="L-BFGS-B", options=options).x
    return 2 * np.exp(2 * log_alphas[-1]) * np.sinh(nu @ X)


def seconds(run):
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def mirror_path(program, scale, file):
    """Milliseconds of MirrorPath at a scale; the program leaves the problem in the file."""
    run = subprocess.run(
        [
            program,
            f"--benchmark_filter=^from_scratch/noisy/{scale}$",
            "--benchmark_format=json",
            "--benchmark_min_time=0.05",
        ],
        env={**os.environ, "RICHFLOW_PROBLEM_FILE": file},
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(run.stdout)["benchmarks"][0]["cpu_time"]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("log_alpha  richflow/ms  SciPy/ms  ratio  error of SciPy  its road")
    with tempfile.TemporaryDirectory() as directory:
        for scale in range(1, 4):
            file = os.path.join(directory, "problem.csv")
            ours = mirror_path(sys.argv[1], scale, file)
            log_alpha, X, y, limit = read_problem(file)
            best = (np.inf, None, None)
            roads = [[log_alpha]] + ([[log_alpha / 2, log_alpha]] if log_alpha < 0 else [])
            for _ in range(REPETITIONS):
                ours = min(ours, mirror_path(sys.argv[1], scale, file))
                for road in roads:
                    for memory in (10, 20, 40):
                        took, beta = seconds(lambda: dual_lbfgs(X, y, road, memory))
                        error = np.linalg.norm(beta - limit) / np.linalg.norm(limit)
                        best = min(best, (1e3 * took, error, f"{len(road)} scales, memory {memory}"))
            print(f"{log_alpha:9.4f}  {ours:11.3f}  {best[0]:8.2f}  {best[0] / ours:5.1f}  {best[1]:14.1e}  {best[2]}")


if __name__ == "__main__":
    main()
