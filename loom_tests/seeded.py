#!/usr/bin/env python3
"""Shows that each loom model can fail: puts one bug at a time into a copy of the tree and requires the model to find it.

    loom_tests/seeded.py            all of them
    loom_tests/seeded.py park       those of one or more models

A bug is a list of exact replacements. Each must match in exactly one place of src/ and loom_tests/, or this script fails: a
bug that no longer matches has to be written anew. The tree with the bug must compile, and the model must then fail by
itself: running out of time counts as not caught. Wants nothing but Python's standard library and cargo.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS = 300

BUGS = [
    ("biased_arc", "the bias's end forgets what its owner counted", [
        ("let change = local.cast_unsigned().wrapping_sub(BIAS);", "let change = (local * 0).cast_unsigned().wrapping_sub(BIAS);"),
    ]),
    ("biased_arc", "the bias does not end for its thread", [
        ("        inner.owner.end();\n", ""),
    ]),
    ("biased_arc", "others can bring the count to zero during a bias", [
        ("const BIAS: u64 = 1 << 62;", "const BIAS: u64 = 0;"),
    ]),
    ("biased_arc", "giving up a reference releases nothing", [
        ("if inner.shared.fetch_sub(1, Ordering::AcqRel) == 1 {", "if inner.shared.fetch_sub(1, Ordering::Acquire) == 1 {"),
    ]),
    ("biased_arc", "who gives up the last reference acquires nothing", [
        ("if inner.shared.fetch_sub(1, Ordering::AcqRel) == 1 {", "if inner.shared.fetch_sub(1, Ordering::Release) == 1 {"),
    ]),
    ("biased_arc", "the bias's end releases nothing", [
        ("if inner.shared.fetch_add(change, Ordering::AcqRel)", "if inner.shared.fetch_add(change, Ordering::Acquire)"),
    ]),
    ("biased_arc", "the bias's end acquires nothing", [
        ("if inner.shared.fetch_add(change, Ordering::AcqRel)", "if inner.shared.fetch_add(change, Ordering::Release)"),
    ]),
    ("biased_arc", "the next owner does not acquire", [
        (".fetch_update(Ordering::Acquire, Ordering::Relaxed,", ".fetch_update(Ordering::Relaxed, Ordering::Relaxed,"),
    ]),
    ("biased_mutex", "the owner's fence is missing", [
        ("        asymmetric::light();\n", ""),
    ]),
    ("biased_mutex", "the revoker's fence is missing", [
        ("        asymmetric::heavy();\n", ""),
    ]),
    ("biased_mutex", "the revoker does not wait for the owner", [
        ("        while self.busy.load(Ordering::Acquire) {", "        while n > 0 && self.busy.load(Ordering::Acquire) {"),
    ]),
    ("biased_mutex", "the owner's unlocking releases nothing", [
        ("None => self.mutex.busy.store(false, Ordering::Release)", "None => self.mutex.busy.store(false, Ordering::Relaxed)"),
    ]),
    ("biased_mutex", "the owner's backing off releases nothing", [
        ("        self.busy.store(false, Ordering::Release);\n        false", "        self.busy.store(false, Ordering::Relaxed);\n        false"),
    ]),
    ("biased_mutex", "another makes it biased again", [
        ("            self.revoke();\n        }\n        self.witness", "            self.revoke();\n            *others = UNOPPOSED;\n        }\n        self.witness"),
    ]),
    ("biased_mutex", "the owner does not look whether it was revoked", [
        ("        if !self.revoked.load(Ordering::Relaxed) {\n            return true;", "        if true {\n            return true;"),
    ]),
    # model, what is wrong, replacements
    ("task_wake", "suspend goes idle although a wake came", [
        ("if now.wakes() != seen.wakes() || now.0 & RENOTIFY != 0 {", "if now.0 & RENOTIFY != 0 {"),
    ]),
    ("task_wake", "start does not acquire", [
        ("let now = Snapshot(self.0.load(Ordering::Acquire));\n        if now.0 & (RENOTIFY | UNBUILT)",
         "let now = Snapshot(self.0.load(Ordering::Relaxed));\n        if now.0 & (RENOTIFY | UNBUILT)"),
    ]),
    ("task_wake", "transitions do not release", [
        ("compare_exchange_weak(now, next, Ordering::AcqRel, Ordering::Acquire)",
         "compare_exchange_weak(now, next, Ordering::Acquire, Ordering::Acquire)"),
    ]),
    ("task_wake", "fold does not tell the runner", [
        ("(now.0 & !WAKES) | WAKE | RENOTIFY)", "(now.0 & !WAKES) | WAKE)"),
    ]),
    ("task_wake", "completing overlooks a cancel", [
        ("            if now.is_cancelled() {\n                return None;\n            }\n            // With an owner",
         "            // With an owner"),
    ]),
    ("task_wake", "queued again, but counted as idle", [
        ("return Some((now.0 & !(WAKES | RENOTIFY)) | WAKE);", "return Some(now.0 & !(WAKES | RENOTIFY));"),
    ]),
    ("task_wake", "who woke itself goes idle, and is queued", [
        ("        if self.load().is_cancelled() { Suspend::Cancelled } else { Suspend::Reschedule }",
         "        self.0.fetch_and(!WAKES, Ordering::AcqRel);\n"
         "        if self.load().is_cancelled() { Suspend::Cancelled } else { Suspend::Reschedule }"),
    ]),
    ("task_wake", "who woke itself is not queued", [
        ("{ Suspend::Cancelled } else { Suspend::Reschedule }", "{ Suspend::Cancelled } else { Suspend::Idle }"),
    ]),
    ("task_wake", "who woke itself does not see a cancel", [
        ("if self.load().is_cancelled() { Suspend::Cancelled } else",
         "if self.0.fetch_and(!CANCELLED, Ordering::AcqRel) == 0 { Suspend::Cancelled } else"),
    ]),
    ("task_wake", "the note of a self-wake is everybody's", [
        ("crate::primitive::thread_local! {\n    static CURRENT", "std::thread_local! {\n    static CURRENT"),
    ]),
    ("task_wake", "a self-wake by value keeps its reference", [
        ("        if id::wake_polled(self) {\n            return self.drop_ref();\n        }\n",
         "        if id::wake_polled(self) {\n            return;\n        }\n"),
    ]),
    ("join", "complete overlooks the join waker", [
        ("now.0 & (JOIN_WAKER | CALLBACKS) == 0", "now.0 & CALLBACKS == 0"),
    ]),
    ("join", "the Task leaves its waker with a task that is complete", [
        ("(!now.is_complete()).then_some(now.0 | JOIN_WAKER)", "Some(now.0 | JOIN_WAKER)"),
    ]),
    ("join", "the Task takes the slot back after completion", [
        ("(!now.is_complete()).then_some(now.0 & !JOIN_WAKER)", "Some(now.0 & !JOIN_WAKER)"),
    ]),
    ("join", "the completer drops an output that has an owner", [
        ("if !now.has_join() {", "if now.is_complete() {"),
    ]),
    ("join", "who registers a callback does not look for completion", [
        ("if header.state.set_callbacks() {", "if header.state.set_callbacks() && false {"),
    ]),
    ("join", "who gives up the last reference but one frees the cell", [
        ("if self.load().refs() == 1 {", "if self.load().refs() <= 2 {"),
    ]),
    ("join", "a runner takes a task for forgotten that has a Task", [
        ("now.refs() == 1 && now.0 & (CALLBACKS | CANCELLED) == 0", "now.refs() <= 2 && now.0 & (CALLBACKS | CANCELLED) == 0"),
    ]),
    ("join", "a runner takes a task with callbacks for forgotten", [
        ("now.refs() == 1 && now.0 & (CALLBACKS | CANCELLED) == 0", "now.refs() == 1 && now.0 & CANCELLED == 0"),
    ]),
    ("join", "who gives up the last reference has not acquired the others'", [
        ("if self.load().refs() == 1 {", "if Snapshot(self.0.load(Ordering::Relaxed)).refs() == 1 {"),
    ]),
    ("live", "a thief does not return its key", [
        ("            keys.push(key);\n", ""),
    ]),
    ("live", "a list is followed with the side door open", [
        ("let _reaped = self.reap(&mut inner);\n        let tasks = inner.tasks.iter()",
         "drop(self.reap(&mut inner));\n        drop(self.returned.keys.lock());\n        let tasks = inner.tasks.iter()"),
    ]),
    ("live", "a list is cancelled with the side door open", [
        ("let _reaped = self.reap(&mut inner);\n            inner.tasks", "drop(self.reap(&mut inner));\n            drop(self.returned.keys.lock());\n            inner.tasks"),
    ]),
    ("live", "a bind does not reap", [
        ("            drop(self.reap(&mut inner));\n        }\n        let key", "        }\n        let key"),
    ]),
    ("one_shot", "a cancel counts no wake, so the timer queues it", [
        ("Some((now.0 | CANCELLED | claim) + WAKE - released)", "Some((now.0 | CANCELLED | claim) - released)"),
    ]),
    ("one_shot", "a canceller gives up a queued handle's reference", [
        ("let released = if claims && !now.is_ready() { REF } else { 0 };", "let released = if claims { REF } else { 0 };"),
    ]),
    ("one_shot", "a canceller keeps the reference of a handle that is not there", [
        ("let released = if claims && !now.is_ready() { REF } else { 0 };", "let released = 0;"),
    ]),
    ("one_shot", "a cancelled callback gives up its reference and is not complete", [
        ("CLAIMED | if unawaited { COMPLETE } else { 0 }", "CLAIMED | if unawaited { 0 } else { 0 }"),
    ]),
    ("one_shot", "a dropped callback gives up its reference and is not complete", [
        ("self.0.fetch_add(COMPLETE.wrapping_sub(REF), Ordering::AcqRel)", "self.0.fetch_sub(REF, Ordering::AcqRel)"),
    ]),
    ("one_shot", "a run does not see the cancel", [
        ("(false, true) => Claim::Drop,", "(false, true) => Claim::Run,"),
    ]),
    ("one_shot", "a loop builds a post that a canceller has taken", [
        ("if first_run_of_post && seen.is_claimed() {", "if first_run_of_post && seen.is_claimed() && false {"),
    ]),
    ("one_shot", "a canceller takes a post that its loop is building", [
        ("let before = self.0.fetch_and(!(RENOTIFY | UNBUILT), Ordering::AcqRel);",
         "let before = self.0.fetch_and(!RENOTIFY, Ordering::AcqRel);"),
    ]),
    ("one_shot", "a handle is given up elsewhere as if at home", [
        ("header.kind == Kind::Callback && header.pinned && unsafe { (header.vtable.is_driven_here)(self) }",
         "header.kind == Kind::Callback && header.pinned && unsafe { (header.vtable.is_driven_here)(self) || true }"),
    ]),
    ("one_shot", "a handle is given up at home as if there were no waker", [
        ("if now.refs() == 2 && now.0 & COMPLETE == 0 && is_driven_here() {",
         "if now.refs() >= 2 && now.0 & COMPLETE == 0 && is_driven_here() {"),
    ]),
    ("one_shot", "a handle is given up at home as if a waker were the runtime's reference", [
        ("now.refs() == 2 && now.0 & COMPLETE == 0 && is_driven_here()", "now.refs() == 2 && is_driven_here()"),
    ]),
    ("one_shot", "a run overlooks that there is a handle", [
        ("let before = if hidden && now.refs() == 1 {", "let before = if hidden && now.refs() <= 2 {"),
    ]),
    ("one_shot", "a run overlooks that it is in a list", [
        ("header.state.claim(header.kind == Kind::Callback)", "header.state.claim(true)"),
    ]),
    ("steal", "who woke itself goes idle, and is queued", [
        ("        if self.load().is_cancelled() { Suspend::Cancelled } else { Suspend::Reschedule }",
         "        self.0.fetch_and(!WAKES, Ordering::AcqRel);\n"
         "        if self.load().is_cancelled() { Suspend::Cancelled } else { Suspend::Reschedule }"),
    ]),
    ("inject_sleep", "no SleepFence", [
        ("        fence(Ordering::SeqCst); // SleepFence, pairs with GiveFence in `unpark`.\n", ""),
    ]),
    ("inject_sleep", "no GiveFence", [
        ("        fence(Ordering::SeqCst); // GiveFence, pairs with SleepFence and with the fence in `close`\n", ""),
    ]),
    ("inject_sleep", "the last look leaves out the injector", [
        ("            || !self.fleet.injector.is_empty()\n            || self.fleet.idle.is_invited(self.index)\n",
         "            || self.fleet.idle.is_invited(self.index)\n"),
    ]),
    ("inject_sleep", "the last look leaves out the invitation", [
        ("            || self.fleet.idle.is_invited(self.index)\n", ""),
    ]),
    ("inject_sleep", "the last searcher hands nothing over", [
        ("if self.fleet.idle.end_search() && !self.fleet.injector.is_empty() {",
         "if self.fleet.idle.end_search() && false {"),
    ]),
    ("inject_sleep", "no FoundFence", [
        ("        fence(Ordering::SeqCst); // FoundFence, pairs with GiveFence of who saw us searching and invited nobody.\n", ""),
    ]),
    ("park", "no GiveFence", [
        ("        fence(Ordering::SeqCst); // GiveFence, pairs with SleepFence in `publish`.\n", ""),
    ]),
    ("park", "no SleepFence", [
        ("        fence(Ordering::SeqCst); // SleepFence, pairs with GiveFence in `unpark`.\n", ""),
    ]),
    ("park", "looks before it publishes", [
        ("        own.parker.publish(); // SleepFence\n        if self.has_gift(last_searcher) {",
         "        let has_gift = self.has_gift(last_searcher);\n        own.parker.publish();\n        if has_gift {"),
    ]),
    ("park", "every unpark is a system call", [
        ("if won.is_ok() {\n            unblock.unblock();\n        }", "unblock.unblock();"),
    ]),
    ("eaten_edge", "the adopter polls without the lock", [
        ("        let Some(_poll) = self.selector.poll.try_lock() else { return false };\n", ""),
    ]),
    ("eaten_edge", "PARKED is published before the lock is held", [
        ("        let poll = own.selector.poll.lock();\n        own.parker.publish(); // SleepFence\n",
         "        own.parker.publish(); // SleepFence\n        let poll = own.selector.poll.lock();\n"),
    ]),
    ("watcher", "a watcher that wakes appoints no successor", [
        ("Woken { invited, new_watcher: set.appoint() }", "Woken { invited, new_watcher: None }"),
    ]),
    ("watcher", "a watcher that wakes does not resign", [
        ("        if set.watcher == Some(index) {\n            set.watcher = None;\n        }\n        Woken", "        Woken"),
    ]),
    ("watcher", "who enters appoints nobody", [
        ("self.change(RUNNING, 0);\n        set.appoint()", "self.change(RUNNING, 0);\n        let _ = &mut set;\n        None"),
    ]),
    ("watcher", "who parks while others run does not watch", [
        ("if before.running > 1 && set.watcher.is_none() {", "if before.running > 9 && set.watcher.is_none() {"),
    ]),
    ("watcher", "a tick gives the watch up while others run", [
        ("if watches && may_resign && self.census().running == 0 {", "if watches && may_resign && self.census().running <= 1 {"),
    ]),
    ("watcher", "asks whether it watches before it has the lock", [
        ("            let poll = self.poll.lock();\n            self.parker.publish();\n"
         "            let watches = self.idle.keep_watch(0, false);\n",
         "            let watches = self.idle.keep_watch(0, false);\n            let poll = self.poll.lock();\n"
         "            self.parker.publish();\n"),
    ]),
    ("loop0", "the leaver keeps its role as the last searcher", [
        ("if last_searcher || !fleet.injector.is_empty() {", "if last_searcher && !fleet.injector.is_empty() {"),
    ]),
    ("loop0", "leaving does not tell who was the last searcher", [
        ("let before = self.change(0, RUNNING + if searching { SEARCHING } else { 0 });\n        searching && before.searching == 1\n",
         "let before = self.change(0, RUNNING + if searching { SEARCHING } else { 0 });\n        searching && before.searching == 9\n"),
    ]),
    ("loop0", "unpark overwrites ABSENT", [
        ("let won = self.state.compare_exchange(PARKED, NOTIFIED, Ordering::Relaxed, Ordering::Relaxed);",
         "let won: Result<u32, u32> = Ok(self.state.swap(NOTIFIED, Ordering::Relaxed));"),
    ]),
    ("loop0", "later posts are put before earlier ones", [
        ("older.append(&mut posts.queue);\n            std::mem::swap(&mut posts.queue, &mut older);",
         "posts.queue.append(&mut older);"),
    ]),
    ("guest", "the guests are woken before the loop is vacant", [
        ("inner.vacant = Some(queue);\n            inner.guests.clone()", "inner.guests.clone()"),
        ("            guest.unpark();\n        }\n    }\n\n    pub(crate) fn is_free",
         "            guest.unpark();\n        }\n        self.0.lock().vacant = Some(queue);\n    }\n\n    pub(crate) fn is_free"),
        ("let mut inner = self.0.lock();\n            inner.guests.clone()", "let inner = self.0.lock();\n            inner.guests.clone()"),
    ]),
    ("guest", "the guest looks before it publishes itself", [
        ("self.remote.parker().publish();\n            let may_drive = runtime.tenancy.is_free();",
         "let may_drive = runtime.tenancy.is_free();\n            self.remote.parker().publish();"),
    ]),
    ("guest", "only the first guest is woken", [
        ("            inner.guests.clone()\n        };\n        for guest in guests {",
         "            inner.guests.clone()\n        };\n        for guest in guests.into_iter().take(1) {"),
    ]),
    ("guest", "a guest that drives is not woken in its selector", [
        ("if let Some(carrier) = carrier {\n                    carrier.unpark();", "if let Some(carrier) = carrier {\n                    drop(carrier);"),
    ]),
    ("readiness", "a clear does not compare ticks", [
        ("(word / TICK == event.word / TICK && word & bits != 0)", "(word & bits != 0)"),
    ]),
    ("readiness", "the reader in the slot does not look again", [
        ("        // After the entry, the second look: see the file header.\n        match self.event(direction) {\n"
         "            Some(event) => Poll::Ready(event),\n            None => Poll::Pending,\n        }",
         "        Poll::Pending"),
    ]),
    ("readiness", "a listed reader does not look again", [
        ("        drop(old);\n        match self.event(direction) {\n"
         "            Some(event) => Poll::Ready(event),\n            None => Poll::Pending,\n        }",
         "        drop(old);\n        Poll::Pending"),
    ]),
    ("readiness", "a waiter that goes away stays in the list", [
        ("if self.id != 0 {\n            self.readiness.unlist(self.id);", "if self.id == u64::MAX {\n            self.readiness.unlist(self.id);"),
    ]),
    ("timer", "an entry is known by its slot alone", [
        ("(entry.sequence == key.sequence).then(||", "(entry.sequence != u64::MAX).then(||"),
    ]),
    ("timer", "an armed timer unparks nobody", [
        ("if earliest && !here {", "if earliest && here {"),
    ]),
    ("timer", "an update keeps the old waker", [
        ("            Some(kept) => std::mem::swap(kept, &mut waker),", "            Some(_) => drop(waker),"),
    ]),
    ("timer", "the spare is woken like any other", [
        ("spare.filter(|spare| spare.deadline <= now)", "spare.filter(|spare| spare.deadline > NEVER - 1)"),
    ]),
    ("timer", "a second spare takes the place of the first", [
        ("if self.spare.key().is_some() || self.observer.is_on() {", "if self.observer.is_on() {"),
    ]),
    ("timer", "a helper wakes what is pinned to the loop", [
        ("if !own && only_loop(&waker) == Some(self.index) {", "if !own && only_loop(&waker) == Some(usize::MAX) {"),
    ]),
    ("timer", "a loop forgets what was left for it", [
        ("if own && !inner.left.is_empty() {", "if own && inner.left.len() > 1 {"),
    ]),
    ("timer", "a late sweep takes back what an earlier one noted", [
        ("!self.observer.is_on() && self.swept.until.load(Ordering::Relaxed) <= now", "!self.observer.is_on()"),
    ]),
    ("shutdown", "a pusher does not look whether it is closed", [
        ("if !open {\n            self.drain();", "if !open && false {\n            self.drain();"),
    ]),
    ("shutdown", "a pusher looks without a fence", [
        ("        fence(Ordering::SeqCst); // GiveFence, pairs with SleepFence and with the fence in `close`\n", ""),
    ]),
    ("shutdown", "the closer drains without a fence", [
        ("        fence(Ordering::SeqCst); // pairs with the fence in `push`\n", ""),
    ]),
    ("shutdown", "a closed live list takes tasks", [
        ("        if inner.closed {\n            return false;\n        }\n", ""),
    ]),
]


def sources(tree):
    return [path for folder in ("src", "loom_tests") for path in sorted((tree / folder).rglob("*.rs"))]


def put_in(tree, replacements):
    """Applies one bug; returns what the files were before."""
    before = {}
    for old, new in replacements:
        found = [path for path in sources(tree) if old in path.read_text()]
        places = sum(path.read_text().count(old) for path in found)
        if places != 1:
            restore(before)
            sys.exit(f"seeded.py: {places} places match, not one:\n{old}")
        text = found[0].read_text()
        before.setdefault(found[0], text)
        found[0].write_text(text.replace(old, new))
    return before


def restore(before):
    for path, text in before.items():
        path.write_text(text)


def cargo(tree, env, *arguments, seconds=None):
    command = ["cargo", "test", "--release", "--lib", *arguments]
    return subprocess.run(command, cwd=tree, env=env, text=True, errors="replace", timeout=seconds,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def symptom(output):
    """The first thing that the model said."""
    said = re.search(r"panicked at [^\n]*\n([^\n]+)", output)
    return said.group(1).strip()[:60] if said else "no text"


def try_bug(tree, env, model, replacements):
    """How the bug showed itself; None if it did not."""
    before = put_in(tree, replacements)
    try:
        built = cargo(tree, env, "--no-run")
        if built.returncode != 0:
            sys.exit(f"seeded.py: a bug of {model} does not compile:\n{built.stdout}")
        try:
            ran = cargo(tree, env, f"loom_tests::{model}::", "--", "--test-threads", "1", seconds=SECONDS)
        except subprocess.TimeoutExpired:
            return None
        if f"loom_tests::{model}::" not in ran.stdout:
            sys.exit(f"seeded.py: there is no model {model}:\n{ran.stdout}")
        return symptom(ran.stdout) if ran.returncode != 0 else None
    finally:
        restore(before)


def main():
    wanted = sys.argv[1:]
    unknown = set(wanted) - {model for model, _, _ in BUGS}
    if unknown:
        sys.exit(f"seeded.py: no bugs for {', '.join(sorted(unknown))}")
    env = dict(os.environ)
    env["RUSTFLAGS"] = "--cfg epicycle_loom -C debug_assertions " + env.get("RUSTFLAGS", "")
    # Its own: cargo tells trees apart by their times only, and would take what is built here for the real one.
    env["CARGO_TARGET_DIR"] = str(pathlib.Path(env.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "loom-seeded")
    env.setdefault("CARGO_INCREMENTAL", "1")
    missed = 0
    with tempfile.TemporaryDirectory(prefix="epicycle-seeded-") as folder:
        tree = pathlib.Path(folder)
        for name in ("src", "loom_tests", "benches", "examples", "tests", "Cargo.toml", "Cargo.lock", "README.md"):
            origin = ROOT / name
            if origin.is_dir():
                shutil.copytree(origin, tree / name)
            elif origin.exists():
                shutil.copy2(origin, tree / name)
        print(f"{'model':13} {'bug':56} {'caught':7} how")
        for model, bug, replacements in BUGS:
            if wanted and model not in wanted:
                continue
            began = time.monotonic()
            how = try_bug(tree, env, model, replacements)
            missed += how is None
            took = time.monotonic() - began
            print(f"{model:13} {bug:56} {'NO' if how is None else 'yes':7} {how or ''} ({took:.0f} s)", flush=True)
    if missed:
        sys.exit(f"seeded.py: {missed} not caught")


if __name__ == "__main__":
    main()
