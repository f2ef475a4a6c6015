"""Whether what stands on the page is the answer's own: every <data data-of="..."> is looked up in the last
answers that the page was given.
"""
import words

# How a field is written, by the end of its name.
FORMATS = {
    "ended_s": words.ago, "heard_s": words.ago, "measured_s": None, "rounds_per_s": words.rate, "shift": words.ratio,
    "spread": words.ratio, "open_bytes": None, "kept_bytes": None, "rank": lambda v: f"rank{words.NB}{words.count(v)}",
}


def written(of, value):
    name = of.rsplit(".", 1)[-1]
    if name in FORMATS:
        return FORMATS[name](value) if FORMATS[name] else None
    return words.seconds(value) if name.endswith("_s") else words.count(value)


def lookup(of, answer, groups):
    """The figure that `of` names, and None where the answer has none."""
    head, *path = of.split(".")
    details = answer["groups"][-1] if answer["groups"] else None  # the latest epoch
    if head == "group":  # of the list, by its name, which may have dots
        name, section, field = of[len("group."):].rsplit(".", 2)
        at = next(g for g in reversed(groups) if g["name"] == name)
        path = [section, field]
    elif head == "member":
        rank = int(path.pop(0))
        at = next(m for m in details["members"] if m["rank"] == rank)
    elif head in ("status", "security", "failures") or of == "up_s":
        at, path = answer, of.split(".")
    elif of.startswith("layers.other."):
        at, path = details["other_layers"], path[1:]
    else:
        at, path = details, of.split(".")
    for key in path:
        at = at[int(key)] if isinstance(at, list) else at.get(key)
        if at is None:
            return None
    return at


READ = """[...document.querySelectorAll("data[data-of]")].filter((d) => d.dataset.of !== "" && d.checkVisibility())
  .map((d) => [d.dataset.of, d.getAttribute("value"), d.textContent, d.dataset.in ?? null])"""


def wrong(page):
    """What on the page is not the answers': texts; and the fields that were looked at."""
    read = page.evaluate(f"""({{ read: {READ}, answers: watched.answers, asked: watched.requests }})""")
    answers = read["answers"]
    listed = answers["statusz.json"]
    last = [url for _, url in read["asked"] if "?group=" in url][-1:]
    details = answers[last[0]] if last else listed
    findings, seen = [], set()
    for of, value, text, whole in read["read"]:
        seen.add(of)
        figure = lookup(of, details, listed["groups"])
        if figure is None:
            if text != words.NONE:
                findings.append(f"{of}: {text!r} is shown, and the answer has none")
            continue
        if value is None:
            # A mean of no round is no figure.
            if text != words.NONE or float(figure) != 0:
                findings.append(f"{of}: {text!r} is shown, the answer has {figure}")
            continue
        if float(value) != float(figure):
            findings.append(f"{of}: {value} is shown, the answer has {figure}")
            continue
        expected = words.percent(float(figure), float(whole)) if whole is not None else written(of, float(figure))
        if expected is not None and text != expected:
            findings.append(f"{of}: {text!r} is written, {figure} is {expected!r}")
        if whole is not None and float(whole) != float(lookup(of.replace("last", "rounds"), details, listed["groups"])):
            findings.append(f"{of}: a share of {whole}")
    return findings, seen
