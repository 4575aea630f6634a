#!/usr/bin/env python3
"""asyncio and uvloop against one loop of epicycle, as one Markdown table: `python3 benches/asyncio/run.py [--rounds N] [--seconds S] [ROW..]`.

Builds the bench, makes a virtual environment with uvloop in a temporary folder (without pip or a network: asyncio alone), and
runs every row on everyone in turn, each time in a process of its own; a figure is the median over the rounds. Needs Python 3
and cargo. Ratios are rates: 10 x means ten times as many operations in the same time.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ROWS = {
    "call_soon": "`call_soon`, a callback",
    "yield": "`sleep(0)`, a switch between 100 tasks",
    "spawn_join": "a task spawned and awaited",
    "queue": "an item through `Queue(1)`",
    "timer": "`call_later` and `cancel`",
    "threadsafe": "`call_soon_threadsafe` on its own loop",
    "threadsafe_foreign": "`call_soon_threadsafe` from another thread",
    "echo": "1 KiB echoed through streams, 1 connection",
    "echo_20": "1 KiB echoed through streams, 20 connections",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="per row and round")
    parser.add_argument("--uvloop", metavar="PYTHON", help="a Python that has uvloop, instead of a new environment")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    options = parser.parse_args()
    rows = options.rows or list(ROWS)
    if unknown := set(rows) - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    bench = build()
    with tempfile.TemporaryDirectory(prefix="epicycle-bench-") as folder:
        python = options.uvloop or uvloop_in(pathlib.Path(folder))
        script = str(HERE / "rows.py")
        commands = {"asyncio": [python or sys.executable, script, "asyncio", str(options.seconds)]}
        if python:
            commands["uvloop"] = [python, script, "uvloop", str(options.seconds)]
        commands["epicycle"] = [bench, str(options.seconds)]
        rates = {row: {who: [] for who in commands} for row in rows}
        floor = []
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for row in rows:
                for who, command in commands.items():
                    rates[row][who].append(sample(command, row))
            if "echo" in rows:
                floor.append(sample(commands["epicycle"], "echo_floor"))
        print(versions(python or sys.executable, bool(python)))
        print(table(rates))
        if floor:
            print(f"\nThe same echo through two blocking sockets, four system calls and no loop: {short(statistics.median(floor))}.")


def build():
    """The bench's executable."""
    print("building", file=sys.stderr)
    command = ["cargo", "bench", "--bench", "asyncio", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if built.returncode != 0:
        sys.exit("the bench cannot be built")
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    return [message["executable"] for message in messages if message.get("executable")][-1]


def uvloop_in(folder):
    """A Python that has uvloop, or None."""
    try:
        venv.create(folder, with_pip=True)
        python = str(folder / "bin/python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uvloop"], check=True)
        subprocess.run([python, "-c", "import uvloop"], check=True)
        return python
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"uvloop cannot be installed, so the table is without it: {error}", file=sys.stderr)
        return None


def sample(command, row):
    ran = subprocess.run([*command, row], stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return json.loads(ran.stdout)["per_second"]


def versions(python, has_uvloop):
    code = "import sys; print('Python', sys.version.split()[0], end='')"
    if has_uvloop:
        code += "; import uvloop; print(', uvloop', uvloop.__version__, end='')"
    return subprocess.run([python, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout + ". One loop each.\n"


def table(rates):
    contestants = list(next(iter(rates.values())))
    others = [who for who in contestants if who != "epicycle"]
    lines = ["| a second | " + " | ".join(contestants + [f"against {who}" for who in others]) + " |"]
    lines.append("|---|" + "---:|" * (len(contestants) + len(others)))
    for row, by in rates.items():
        medians = {who: statistics.median(by[who]) for who in contestants}
        cells = [short(medians[who]) for who in contestants]
        cells += [f"{medians['epicycle'] / medians[who]:.1f} x" for who in others]
        lines.append(f"| {ROWS[row]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def short(rate):
    return f"{rate / 1e6:.1f} M" if rate >= 1e6 else f"{rate / 1e3:.0f} k"


if __name__ == "__main__":
    main()
