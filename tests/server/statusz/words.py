"""Figures as the page writes them, written down once more (server/statusz/statusz/format.js), so that a test
can hold what stands on the page against the answer's own numbers.
"""
NB = "\u00a0"
NONE = "–"


def odd(value):
    return "NaN" if value != value else "∞" if value > 0 else "-∞"


def finite(value):
    return value == value and abs(value) != float("inf")


def half_up(value, places=0):
    """As JavaScript rounds: Python rounds halves to even."""
    from decimal import ROUND_HALF_UP, Decimal
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-places), rounding=ROUND_HALF_UP):f}"


def count(value):
    return f"{int(half_up(value)):,}" if finite(value) else odd(value)


def digits(value):
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return count(value)
    return half_up(value, 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2)


def rate(value):
    return digits(value) if finite(value) else odd(value)


def ratio(value):
    if not finite(value):
        return odd(value)
    return "<0.001" if value != 0 and abs(value) < 0.001 else half_up(value, 3)


def seconds(value):
    if not finite(value):
        return odd(value)
    if value < 0:
        return "-" + seconds(-value)
    for limit, factor, unit in ((0.9995e-3, 1e6, "µs"), (0.9995, 1e3, "ms"), (59.95, 1, "s")):
        if value == 0:
            return f"0{NB}s"
        if value < limit:
            return digits(value * factor) + NB + unit
    rest = int(half_up(value))
    units = [("d", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    first = next(i for i, (_, size) in enumerate(units) if rest >= size)
    parts = []
    for unit, size in units[first:first + 2]:
        n, rest = divmod(rest, size)
        if n:
            parts.append(f"{n}{NB}{unit}")
    return NB.join(parts)


def ago(value):
    if not finite(value):
        return odd(value)
    return f"<1{NB}s" if value < 1 else f"{half_up(value)}{NB}s" if value < 59.5 else seconds(value)


def percent(part, all_):
    if not all_ > 0:
        return NONE
    value = 100 * part / all_
    if value == 0:
        return f"0{NB}%"
    if value < 0.1:
        return f"<0.1{NB}%"
    if value < 9.95:
        return half_up(value, 1) + NB + "%"
    if value < 99.5:
        return half_up(value) + NB + "%"
    return f">99{NB}%" if value < 100 else f"100{NB}%"
