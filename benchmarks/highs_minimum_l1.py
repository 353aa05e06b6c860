"""SciPy's HiGHS beside ours and CLP on the minimum-l1 problems of richflow_bench_minimum_l1, in one run.

Usage: python3 highs_minimum_l1.py build/bench/benchmarks/richflow_bench_minimum_l1 [repetitions]

Needs NumPy and SciPy (Debian package python3-scipy). The benchmark writes its problems, and its own times are taken in
the same run; times are those of the processor, for SciPy the
best of the repetitions.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from scipy.optimize import linprog


def ours(program, folder):
    """The CPU times in ms and objectives that the benchmark program reports, by name; it leaves its problems in folder."""
    environment = dict(os.environ, RICHFLOW_PROBLEM_DIR=folder)
    command = [program, "--benchmark_filter=/(noisy|noise_free)$", "--benchmark_format=json"]
    report = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    return {run["name"]: (run["cpu_time"], run["objective"]) for run in report["benchmarks"]}


def highs(method, X, y, repetitions):
    """The best CPU time in ms of that many runs of linprog, and the objective."""
    cost = np.ones(2 * X.shape[1])
    equations = np.hstack([X, -X])
    best = np.inf
    for _ in range(repetitions):
        start = time.process_time()
        result = linprog(cost, A_eq=equations, b_eq=y, method=method)
        best = min(best, time.process_time() - start)
        if not result.success:
            sys.exit(f"linprog with {method} failed: {result.message}")
    return 1000 * best, result.fun


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    repetitions = int(sys.argv[2]) if len(sys.argv) == 3 else 5
    with tempfile.TemporaryDirectory() as folder:
        runs = ours(sys.argv[1], folder)
        problems = {
            kind: (np.load(f"{folder}/{kind}_X.npy"), np.load(f"{folder}/{kind}_y.npy").ravel())
            for kind in ("noisy", "noise_free")
        }
    for kind, (X, y) in problems.items():
        for method in ("highs", "highs-ds", "highs-ipm"):
            runs[f"scipy_{method}/{kind}"] = highs(method, X, y, repetitions)
    print(f"{'road':34} {'ms':>10} {'times ours':>11} {'objective / ours - 1':>22}")
    for name, (milliseconds, objective) in runs.items():
        reference = runs["richflow_min_l1/" + name.rsplit("/", 1)[1]]
        print(f"{name:34} {milliseconds:10.3f} {milliseconds / reference[0]:11.1f} {objective / reference[1] - 1:22.1e}")


if __name__ == "__main__":
    main()
