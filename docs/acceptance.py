#!/usr/bin/env python3
"""Writes docs/ACCEPTANCE.md: which test shows which statement about asyncio's behaviour.

    python3 docs/acceptance.py            write the table
    python3 docs/acceptance.py --check    write nothing; fail if the table is stale

Both fail if src/coming_from_asyncio.md does not name one of asyncio's names (rows/asyncio_names.txt), or a row is missing, that is if no test carries its id and no reason is given, and if a test or a reason carries an
id that no row has. A test carries an id in its name: `s3_20_n02_what_it_shows` is for S3-20 and N02. The rows are
rows/statements.tsv: id, statement, and a verdict if there is more to say; rows/*.md hold more verdicts, as lines
`- N83: Python-only: why`. Needs Python's standard library only.
"""

import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
TABLE = DOCS / "ACCEPTANCE.md"

ROW = re.compile(r"(S\d-\d\d|N\d\d|T-01\.\.T-27|H-\w+)\Z")
VERDICT = re.compile(r"- ((?:S\d-\d\d|N\d\d)(?:, (?:S\d-\d\d|N\d\d))*): (.+)")
# What a verdict may begin with, and the status it gives to a row that no test shows.
ALONE = {
    "Python-only": "Python-only",
    "not carried over": "not carried over",
    "by type": "the compiler's",
    "a compile error": "the compiler's",
    "scope": "nothing to test",
}
# A function that the harness runs: after #[test], or in the body of one of the macros that make tests of it.
FUNCTION = re.compile(r"(?P<test>#\[test\]\s*(?:#\[[^\]]*\]\s*)*)?^(?P<indent> *)(?:pub )?(?:async )?fn (?P<name>\w+)", re.M)
MACRO = re.compile(r"^(?:[\w:]*::)?(\w+)! \{$", re.M)
TEST_MACROS = {"flavours", "one_loop", "on_one_loop", "one_loop_tests"}

SECTIONS = [
    ("S0-", "Notes on one run of asyncio (seed 000)"),
    ("S1-", "Learning from asyncio (seed 001)"),
    ("S2-", "A loop rewritten in 27 steps (seed 002)"),
    ("S3-", "A walk through asyncio's source (seed 003)"),
    ("S4-", "A primer in tables (seed 004)"),
    ("N", "What asyncio's own tests pin down"),
    ("T", "The golden trace"),
    ("H", "Numbers of turns, with one loop"),
]


def statements():
    """Rows in order: {id: (statement, [verdict])}."""
    rows = {}
    for line in (DOCS / "rows/statements.tsv").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        row, statement, *verdict = line.split("\t")
        if not ROW.match(row) or row in rows:
            fail(f"statements.tsv: {row} is no id, or there twice")
        rows[row] = (statement, [text for text in verdict if text])
    for first, last in (("S0", 16), ("S1", 13), ("S2", 18), ("S3", 35), ("S4", 16), ("N", 88)):
        for number in range(1, last + 1):
            row = f"N{number:02}" if first == "N" else f"{first}-{number:02}"
            if row not in rows:
                fail(f"statements.tsv: no row {row}")
    return rows


def add_verdicts(rows):
    for path in sorted((DOCS / "rows").glob("*.md")):
        for line in path.read_text(encoding="utf-8").splitlines():
            verdict = VERDICT.match(line)
            if not verdict:
                continue
            for row in verdict[1].split(", "):
                if row not in rows:
                    fail(f"{path.name}: there is no row {row}")
                rows[row][1].append(verdict[2])


def ids_of(name):
    """The rows that a test's name says it shows."""
    found = []
    rest = name
    while part := re.match(r"(?:s(\d)_(\d\d)|n(\d\d)|[bcr]\d+|gh_\d+|s\d|ctx|tokio|trio|curio|golden|hops)(?:_|\Z)", rest):
        if part[1]:
            found.append(f"S{part[1]}-{part[2]}")
        elif part[3]:
            found.append(f"N{part[3]}")
        elif part[0].startswith("golden"):
            found.append("T-01..T-27")
        elif part[0].startswith("hops"):
            found.append(hops(name))
        rest = rest[part.end() :]
    return found


def hops(name):
    """`hops_2_..`, or what the end says: `.._takes_two`."""
    words = {"none": "0", "no": "0", "one": "1", "two": "2", "three": "3"}
    if number := re.search(r"hops_(\d)_", name):
        return f"H-{number[1]}"
    if "hops_eager" in name:
        return "H-eager"
    if taken := re.search(r"_takes?_(?:at_most_)?(none|no|one|two|three)(?:_|\Z)", name):
        return f"H-{words[taken[1]]}"
    return None


def tests():
    """{id: [(file, test)]}, from the sources."""
    found = {}
    for folder in ("tests", "src", "loom_tests"):
        for path in sorted((ROOT / folder).rglob("*.rs")):
            text = path.read_text(encoding="utf-8", errors="replace")
            for name in functions(text):
                for row in ids_of(name):
                    if row:
                        found.setdefault(row, []).append((path.relative_to(ROOT).as_posix(), name))
    return found


def functions(text):
    """The names of the tests in a source file."""
    inside = []
    for macro in MACRO.finditer(text):
        if macro[1] in TEST_MACROS:
            inside.append((macro.end(), text.find("\n}", macro.end())))
    for function in FUNCTION.finditer(text):
        start = function.start("name")
        in_macro = any(begin < start < end for begin, end in inside) and function["indent"] == "    "
        if function["test"] or in_macro:
            yield function["name"]


def table(rows, shown):
    missing = []
    lines = [
        "# What carries over from asyncio, and the tests that show it",
        "",
        "Written by `python3 docs/acceptance.py` from `docs/rows` and the names of the tests; not by hand. Rows S come from five",
        "documents about asyncio that the project began with, rows N from what asyncio's own tests pin down.",
        "",
    ]
    counts = {}
    body = []
    for prefix, title in SECTIONS:
        body += ["", f"## {title}", "", "| id | statement | status | tests |", "|---|---|---|---|"]
        for row, (statement, verdicts) in rows.items():
            if not row.startswith(prefix):
                continue
            names = shown.get(row, [])
            status = status_of(names, verdicts)
            if status == "MISSING":
                missing.append(row)
            counts[status] = counts.get(status, 0) + 1
            body.append(f"| {row} | {cell(statement, verdicts)} | {status} | {cells_of(names)} |")
    order = ["tested", "the compiler's", "Python-only", "not carried over", "nothing to test", "MISSING"]
    lines.append("; ".join(f"{status}: {counts[status]}" for status in order if status in counts) + ".")
    return "\n".join(lines + body) + "\n", missing


def status_of(names, verdicts):
    if names:
        return "tested"
    for verdict in verdicts:
        for begin, status in ALONE.items():
            if verdict.startswith(begin):
                return status
    return "MISSING"


def unnamed():
    """asyncio's names that the page for those who come from there does not say, in code."""
    page = (ROOT / "src/coming_from_asyncio.md").read_text(encoding="utf-8")
    said = {word for code in re.findall(r"`([^`\n]+)`", page) for word in re.findall(r"\w+", code)}
    for line in (DOCS / "rows/asyncio_names.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            owner, names = line.split(":")
            yield from (f"{owner}.{name}" for name in names.split() if name not in said)


def cell(statement, verdicts):
    return "<br>".join([statement] + [f"*{capital(verdict)}*" if "*" not in verdict else capital(verdict) for verdict in verdicts]).replace("|", "\\|")


def capital(text):
    return text[0].upper() + text[1:]


def cells_of(names):
    by_file = {}
    for file, name in names:
        by_file.setdefault(file, []).append(name)
    return "<br>".join(f"{file}: " + ", ".join(f"`{name}`" for name in sorted(set(found))) for file, found in sorted(by_file.items()))


def fail(text):
    print(f"acceptance: {text}", file=sys.stderr)
    sys.exit(1)


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        fail("takes nothing, or --check")
    rows = statements()
    add_verdicts(rows)
    if names := list(unnamed()):
        fail(f"src/coming_from_asyncio.md does not name {', '.join(names)}")
    shown = tests()
    if strange := sorted(set(shown) - set(rows)):
        fail(f"tests carry ids that no row has: {', '.join(f'{row} ({shown[row][0][1]})' for row in strange)}")
    text, missing = table(rows, shown)
    if sys.argv[1:] == ["--check"]:
        if not TABLE.exists() or TABLE.read_text(encoding="utf-8") != text:
            fail("docs/ACCEPTANCE.md is stale: run python3 docs/acceptance.py")
    else:
        TABLE.write_text(text, encoding="utf-8")
    if missing:
        fail(f"no test and no reason: {', '.join(missing)}")


if __name__ == "__main__":
    main()
