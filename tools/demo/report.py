"""The demo's tables."""
import csv


def read_csv(path):
    """Steps, losses, and (step, accuracy) where there is one."""
    steps, losses, accuracies = [], [], []
    with open(path, encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f):
            steps.append(int(row["step"]))
            losses.append(float(row["loss"]))
            if row["test_accuracy"]:
                accuracies.append((steps[-1], float(row["test_accuracy"])))
    return steps, losses, accuracies


def smoothed_loss(path, window=40):
    """The mean over the last `window` steps (fewer at the start): batches are small."""
    steps, losses, _ = read_csv(path)
    means = []
    for i in range(len(losses)):
        part = losses[max(0, i + 1 - window):i + 1]
        means.append(sum(part) / len(part))
    return steps, means


def print_table(rows):
    titles = ["run", "workers x local batch", "final train loss", "test accuracy", "time",
              "largest parameter difference to whole"]
    cells = []
    for row in rows:
        difference = row.get("difference")
        cells.append([row["run"], f"{row['workers']} x {row['local_batch']}",
                      f"{row['loss']:.4f}", f"{100 * row['accuracy']:.2f} %",
                      f"{row['seconds']:.1f} s",
                      "(is it)" if difference is None else f"{difference:.2e}"])
    widths = [max(len(line[i]) for line in [titles] + cells) for i in range(len(titles))]
    print()
    for line in [titles, ["-" * width for width in widths]] + cells:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())
    print()


def difference_lines(rows):
    if not rows:
        return []
    lines = ["sync beside whole (max |a - b| / max |b| of the worst tensor):"]
    for step, tensor, value in rows:
        lines.append(f"  after {step:5} steps  {value:.2e}  in {tensor}")
    return lines
