#!/usr/bin/env python3
"""Draws OUT_DIR/loss.png from the demo's CSV files.   usage: plot.py OUT_DIR"""
import os
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from report import read_csv, smoothed_loss  # noqa: E402

# Colours that colour-blind readers tell apart (Okabe and Ito), and a line style each: "sync"
# lies on "whole", so it is dashed over a broad line.
RUNS = [
    ("whole", "one process, whole batches", dict(color="#56B4E9", linewidth=5, alpha=0.8)),
    ("sync", "workers with syncnorm", dict(color="#000000", linewidth=1.4, linestyle="--")),
    ("local", "workers with local statistics",
     dict(color="#D55E00", linewidth=1.8, linestyle="-.")),
]


def main(folder):
    figure, (loss, accuracy) = plt.subplots(1, 2, figsize=(11, 4.5), dpi=130)
    for run, label, style in RUNS:
        path = os.path.join(folder, run + ".csv")
        if not os.path.exists(path):
            continue
        loss.plot(*smoothed_loss(path), label=label, **style)
        points = read_csv(path)[2]
        accuracy.plot([step for step, _ in points], [100 * value for _, value in points],
                      marker="o", markersize=4, label=label, **style)
    loss.set_title("Training loss of the global batch (mean of 40 steps)", fontsize=10)
    loss.set_ylabel("cross entropy")
    accuracy.set_title("Test accuracy (on the way: on some of the images)", fontsize=10)
    accuracy.set_ylabel("per cent")
    for axes in (loss, accuracy):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
    figure.suptitle("Fashion-MNIST: batch norm by local, synchronised and whole-batch statistics",
                    fontsize=11)
    figure.tight_layout()
    path = os.path.join(folder, "loss.png")
    figure.savefig(path)
    print(path)


if __name__ == "__main__":
    main(sys.argv[1])
