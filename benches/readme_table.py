#!/usr/bin/env python3
"""Turns the figures of the benches into README.md's tables.

    cargo bench --bench compare                    # writes target/compare.json
    cargo bench --bench compare -- --syscalls      # writes target/syscalls.json
    benches/readme_table.py [--print] [COMPARE.JSON [SYSCALLS.JSON]]

Replaces what stands between `<!-- numbers: begin -->` and `What to make of it:`; what is made of it is for people to
write. Rows with a goal are shown, and those in EXTRA. --print changes nothing and prints the text.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- numbers: begin -->\n", "What to make of it:"
# Rows without a goal that a reader asks for, by their titles' beginnings.
EXTRA = (
    "TCP echo, 1 connection, a request", "TCP echo, 1 connection, p99", "TCP echo, 64 connections, p99",
    "TCP echo, 1000 connections", "HTTP/1.1 keep-alive", "CPU-bound tasks",
)
PEERS = ("tokio", "smol", "nio")
# What a goal is a ratio to, by its key in the JSON.
RIVALS = {"of_tokio_smol_nio": PEERS, "of_tokio_smol": ("tokio", "smol"), "of_bare": ("bare",)}


def main():
    arguments = sys.argv[1:]
    only_print = "--print" in arguments
    paths = [Path(each) for each in arguments if not each.startswith("--")]
    compare = json.loads((paths[0] if paths else ROOT / "target/compare.json").read_text())
    syscalls = paths[1] if len(paths) > 1 else ROOT / "target/syscalls.json"
    text = heading(compare) + table(compare["rows"])
    if syscalls.exists():
        text += "\n" + calls(json.loads(syscalls.read_text()))
    if only_print:
        print(text)
        return
    readme = ROOT / "README.md"
    old = readme.read_text()
    before, rest = old.split(BEGIN, 1)
    after = rest[rest.index(END):]
    readme.write_text(f"{before}{BEGIN}{text}\n{after}")


def heading(compare):
    machine = compare["machine"]
    peers = ", ".join(f"{name} {version}" for name, version in machine["peers"].items() if name != "mio")
    quick = ", a fourth of the work" if compare["quick"] else ""
    return f"""\
{machine["cpu"]}, {machine["cpus"]} CPUs, two workers; {machine["kernel"]}; {machine["rustc"].split(" (")[0]}; {machine["date"]}.
{peers}.

Medians of {compare["rounds"]} interleaved rounds in one run{quick}; less is better. The same closures on every runtime, each with its own
sockets and timers, at its usual settings. In brackets epicycle's best and worst round. The goal is a ratio to the best of
Tokio, smol and nio; with M only to Tokio and smol, whose tasks, timers and sockets may move between threads, with B to a bare
epoll loop, with = a figure. Everything, with more rows and set-ups of the peers: `cargo bench --bench compare` (about ten
minutes; `-- --list` names the rows).

"""


def table(rows):
    lines = [
        "| what | unit | epicycle | Tokio | smol | nio | bare | ratio | goal | |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        goal = row["goal"]
        if "epicycle" in row["runtimes"] and (goal or row["title"].startswith(EXTRA)):
            lines.append(line(row, goal))
    met = [row["goal"]["met"] for row in rows if row["goal"] and row["goal"].get("met") is not None]
    wide = [row["title"] for row in rows if row["runtimes"].get("epicycle", {}).get("bimodal")]
    lines.append("")
    lines.append(f"Goals met: {sum(met)} of {len(met)}. Worst round over twice the median (!): {'; '.join(wide) or 'none'}.")
    return "\n".join(lines) + "\n"


def line(row, goal):
    ours = row["runtimes"]["epicycle"]
    own = "-"
    if ours["median"] is not None:
        mark = " !" if ours["bimodal"] else ""
        own = f"{figure(ours['median'])} ({figure(ours['least'])}-{figure(ours['worst'])}){mark}"
    others = [figure(median(row, name)) for name in (*PEERS, "bare")]
    cells = [row["title"], row["unit"], own, *others, *standing(row, goal)]
    return "| " + " | ".join(cells) + " |"


def standing(row, goal):
    """Ratio, goal, and whether it is met."""
    if not goal:
        return ratio(row, PEERS), "", ""
    mark = {True: "met", False: "**missed**", None: ""}[goal.get("met")]
    if "at_most" in goal:
        return "", f"= {goal['at_most']:g}", mark
    kind = next(key for key in goal if key in RIVALS)
    letter = {"of_tokio_smol": " M", "of_bare": " B"}.get(kind, "")
    return ratio(row, RIVALS[kind]), f"{goal[kind]:g}{letter}", mark


def ratio(row, rivals):
    ours = median(row, "epicycle")
    best = min((value for value in (median(row, name) for name in rivals) if value is not None), default=None)
    return f"{ours / best:.2f}" if ours is not None and best else "-"


def median(row, runtime):
    return row["runtimes"].get(runtime, {}).get("median")


def figure(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def calls(syscalls):
    """System calls: all of an echo request, and those that wake or lock of 10k spawns."""
    names = ("epicycle", "tokio", "smol", "nio", "bare")
    lines = [
        "| system calls (`cargo bench --bench compare -- --syscalls`) | epicycle | Tokio | smol | nio | bare | goal | |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in syscalls["rows"]:
        if "epicycle" not in row["runtimes"]:
            continue
        waking = row["key"].startswith("spawn")
        counts = [count(row["runtimes"].get(name), waking) for name in names]
        goal = row["goal"] or {}
        verdict = {True: "met", False: "**missed**"}.get(goal.get("met"), "")
        under = f"< {goal['under']:.4g}" if goal else ""
        title = ("futex and eventfd calls, " if waking else "all, ") + row["per"]
        lines.append("| " + " | ".join([title, *counts, under, verdict]) + " |")
    return "\n".join(lines) + "\n"


def count(runtime, waking):
    if runtime is None:
        return "-"
    kinds = ("futex", "eventfd", "malloc")
    value = sum(runtime["calls"][kind] for kind in kinds) if waking else runtime["all"]
    return f"{value:.1f}" if waking else f"{value:.3f}"


if __name__ == "__main__":
    main()
