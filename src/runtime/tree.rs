//! Who is there, and who waits for whom, as text: asyncio's `ps` and `pstree`.
//!
//! *Invariant.* Looking stops nobody: each task's line is true of one moment, not all of the same one; the tree has each task
//! once, whatever circles there are in what it is made from. *Threads.* Any. *Ordering.* None of its own.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::panic::Location;
use std::time::{Duration, Instant};

use crate::scheduler::Shared;
use crate::task::{FutureId, Id, Phase, TaskInfo, TaskKind, TaskState, Tracked};

/// Levels of the tree; what is deeper is left to `ps`.
const DEEPEST: usize = 100;

/// One task.
struct Line {
    name: String,
    state: String,
    kind: &'static str,
    location: &'static Location<'static>,
    /// Only of a task that is kept track of.
    tracked: Option<Tracked>,
    /// What it waits for that is no task.
    others: String,
    /// The tasks it awaits, directly or through a future that stands for them.
    awaits: Vec<Id>,
}

type Lines = BTreeMap<Id, Line>;

fn collect(shared: &Shared, infos: impl FnOnce() -> Vec<TaskInfo>) -> Lines {
    let tracker = shared.options.observer.tracker();
    let tracked = tracker.map(|tracker| tracker.snapshot()).unwrap_or_default();
    // After the snapshot: who is in that and not here has ended, unless it is in no loop's list.
    let mut infos: HashMap<Id, TaskInfo> = infos().into_iter().map(|info| (info.id, info)).collect();
    let is_listed = |kind| !matches!(kind, TaskKind::Job | TaskKind::Root);
    let mut lines = Lines::new();
    for (id, tracked) in tracked {
        let info = infos.remove(&id);
        if info.is_some() || !is_listed(tracked.kind) || tracked.polls == 0 {
            lines.insert(id, Line::of_tracked(id, tracked, info));
        }
    }
    lines.extend(infos.into_iter().map(|(id, info)| (id, Line::of_info(info))));
    if let Some(tracker) = tracker {
        for line in lines.values_mut() {
            line.others = others(line.waits_for(), |timer| tracker.due(timer));
        }
    }
    find_awaits(&mut lines);
    lines
}

impl Line {
    fn of_info(info: TaskInfo) -> Self {
        let state = match info.state {
            TaskState::Waiting => "waiting",
            TaskState::Ready => "ready",
        };
        let kind = if info.pinned { "pinned" } else { "task" };
        Self {
            name: info.name,
            state: state.into(),
            kind,
            location: info.location,
            tracked: None,
            others: String::new(),
            awaits: Vec::new(),
        }
    }

    fn of_tracked(id: Id, tracked: Tracked, info: Option<TaskInfo>) -> Self {
        let state = match tracked.phase {
            Phase::Queued => "queued".into(),
            Phase::Waiting => "waiting".into(),
            Phase::Running { on: usize::MAX, since } => format!("running for {:.1?}", since.elapsed()),
            Phase::Running { on, since } => format!("running on loop {on} for {:.1?}", since.elapsed()),
        };
        let kind = match tracked.kind {
            TaskKind::Root => "root",
            TaskKind::Stealable => "task",
            TaskKind::Pinned => "pinned",
            TaskKind::Job => "job",
        };
        let name = info.map_or_else(|| format!("Task-{id}"), |info| info.name);
        Self {
            name,
            state,
            kind,
            location: tracked.location,
            tracked: Some(tracked),
            others: String::new(),
            awaits: Vec::new(),
        }
    }

    fn waits_for(&self) -> &[FutureId] {
        self.tracked.as_ref().map_or(&[], |tracked| &tracked.waits_for)
    }

    fn place(&self) -> String {
        format!("{}:{}", self.location.file(), self.location.line())
    }
}

/// Names what a task waits for beside tasks.
fn others(waits_for: &[FutureId], due: impl Fn(FutureId) -> Option<Instant>) -> String {
    let others = waits_for.iter().filter(|future| future.task().is_none());
    let name = |future: &FutureId| match due(*future) {
        Some(when) => format!("{future} in {:.1?}", when.saturating_duration_since(Instant::now())),
        None => future.to_string(),
    };
    others.map(name).collect::<Vec<_>>().join(", ")
}

/// Default names say the id already.
fn label(id: Id, line: &Line) -> String {
    let plain = format!("Task-{id}");
    if line.name == plain { plain } else { format!("{} ({plain})", line.name) }
}

fn find_awaits(lines: &mut Lines) {
    let mut members: HashMap<FutureId, Vec<Id>> = HashMap::new();
    for (id, line) in &*lines {
        let joined_by = line.tracked.iter().flat_map(|tracked| &tracked.joined_by);
        joined_by.for_each(|future| members.entry(*future).or_default().push(*id));
    }
    let alive: Vec<Id> = lines.keys().copied().collect();
    let is_alive = |id: &Id| alive.binary_search(id).is_ok();
    for line in lines.values_mut() {
        let direct = line.waits_for().iter().filter_map(|future| future.task()).filter(is_alive);
        let through = line.waits_for().iter().filter_map(|future| members.get(future)).flatten().copied();
        let mut awaits: Vec<Id> = direct.chain(through).collect();
        awaits.sort();
        awaits.dedup();
        line.awaits = awaits;
    }
}

fn awaited_by(lines: &Lines) -> HashMap<Id, Vec<Id>> {
    let mut awaiters: HashMap<Id, Vec<Id>> = HashMap::new();
    for (id, line) in lines {
        line.awaits.iter().for_each(|awaited| awaiters.entry(*awaited).or_default().push(*id));
    }
    awaiters
}

// ---- the table ---------------------------------------------------------------------------------------------------------

pub(super) fn ps(shared: &Shared, infos: impl FnOnce() -> Vec<TaskInfo>) -> String {
    let lines = collect(shared, infos);
    let awaiters = awaited_by(&lines);
    let list = |ids: &[Id]| ids.iter().map(|id| format!("Task-{id}")).collect::<Vec<_>>().join(", ");
    let mut rows = vec![
        ["TASK", "NAME", "KIND", "STATE", "POLLS", "BUSY", "SPAWNED AT", "BY", "WAITS FOR", "AWAITED BY"]
            .map(String::from),
    ];
    for (id, line) in &lines {
        let tracked = line.tracked.as_ref();
        let waits =
            [list(&line.awaits), line.others.clone()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        rows.push([
            id.to_string(),
            line.name.clone(),
            line.kind.into(),
            line.state.clone(),
            tracked.map_or(String::new(), |tracked| tracked.polls.to_string()),
            tracked.map_or(String::new(), |tracked| format_busy(tracked.busy)),
            line.place(),
            tracked.and_then(|tracked| tracked.parent).map_or(String::new(), |parent| format!("Task-{parent}")),
            waits.join(", "),
            awaiters.get(id).map_or(String::new(), |ids| list(ids)),
        ]);
    }
    let mut text = format_table(&rows);
    if shared.options.observer.tracker().is_none() {
        text.push_str(UNTRACKED);
    }
    text
}

const UNTRACKED: &str = "(tasks are not kept track of: Builder::track_tasks(true) shows who waits for whom)\n";

fn format_busy(time: Duration) -> String {
    format!("{time:.1?}")
}

fn format_table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{:width$}  ", if cell.is_empty() { "-" } else { cell });
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

// ---- the tree ----------------------------------------------------------------------------------------------------------

pub(super) fn pstree(shared: &Shared, infos: impl FnOnce() -> Vec<TaskInfo>) -> String {
    let lines = collect(shared, infos);
    let mut text = String::new();
    for cycle in find_cycles(&lines) {
        let names: Vec<_> = cycle.iter().chain(cycle.first()).map(|id| label(*id, &lines[id])).collect();
        let _ = writeln!(text, "CYCLE: {}: they wait for each other", names.join(" awaits "));
    }
    text.push_str(&Tree::new(&lines).draw());
    if shared.options.observer.tracker().is_none() {
        text.push_str(UNTRACKED);
    }
    text
}

/// The circles in who awaits whom, each from its first task on. A task that waits for several may be in more than are found.
fn find_cycles(lines: &Lines) -> Vec<Vec<Id>> {
    #[derive(PartialEq)]
    enum Seen {
        OnPath,
        Done,
    }
    let mut seen: HashMap<Id, Seen> = HashMap::new();
    let mut cycles = Vec::new();
    for start in lines.keys() {
        // The path from `start`, each with how many of its awaited ones were gone through.
        let mut path: Vec<(Id, usize)> = Vec::new();
        if !seen.contains_key(start) {
            seen.insert(*start, Seen::OnPath);
            path.push((*start, 0));
        }
        while let Some((id, next)) = path.last_mut() {
            let Some(awaited) = lines[id].awaits.get(*next).copied() else {
                seen.insert(*id, Seen::Done);
                path.pop();
                continue;
            };
            *next += 1;
            match seen.get(&awaited) {
                None => {
                    seen.insert(awaited, Seen::OnPath);
                    path.push((awaited, 0));
                }
                Some(Seen::OnPath) => {
                    let from = path.iter().position(|(id, _)| *id == awaited).expect("it is on the path");
                    cycles.push(path[from..].iter().map(|(id, _)| *id).collect());
                }
                Some(Seen::Done) => {}
            }
        }
    }
    cycles
}

/// How a task stands below another in the tree.
#[derive(Clone, Copy)]
enum Edge {
    Awaits,
    /// Nobody awaits it; it stands with who spawned it.
    Spawned,
    /// It stands elsewhere, since somebody else awaits it, too.
    AwaitsElsewhere,
}

struct Tree<'a> {
    lines: &'a Lines,
    tops: Vec<Id>,
    below: HashMap<Id, Vec<(Edge, Id)>>,
}

impl<'a> Tree<'a> {
    /// Each task below the first that awaits it, else below its parent; unless that would close a circle.
    fn new(lines: &'a Lines) -> Self {
        let awaiters = awaited_by(lines);
        let mut tree = Self { lines, tops: Vec::new(), below: HashMap::new() };
        let mut tops = Tops::default();
        for (id, line) in lines {
            let mut placed = false;
            for awaiter in awaiters.get(id).into_iter().flatten() {
                let edge = if !placed && tops.hang(*id, *awaiter) { Edge::Awaits } else { Edge::AwaitsElsewhere };
                placed |= matches!(edge, Edge::Awaits);
                tree.below.entry(*awaiter).or_default().push((edge, *id));
            }
            let parent = line.tracked.as_ref().and_then(|tracked| tracked.parent);
            if let Some(parent) = parent.filter(|parent| !placed && lines.contains_key(parent))
                && tops.hang(*id, parent)
            {
                placed = true;
                tree.below.entry(parent).or_default().push((Edge::Spawned, *id));
            }
            if !placed {
                tree.tops.push(*id);
            }
        }
        tree
    }

    fn draw(&self) -> String {
        let mut text = String::new();
        for top in &self.tops {
            // What is still to be drawn, the next one last.
            let mut rest = vec![(String::new(), String::new(), None, *top)];
            while let Some((first, indent, edge, id)) = rest.pop() {
                self.draw_line(&mut text, &first, edge, id);
                if matches!(edge, Some(Edge::AwaitsElsewhere)) {
                    continue;
                }
                let below = self.below.get(&id).map_or(&[][..], Vec::as_slice);
                if indent.chars().count() >= 4 * DEEPEST && !below.is_empty() {
                    let _ = writeln!(text, "{indent}└── (deeper than can be drawn; see ps)");
                    continue;
                }
                for (at, (edge, id)) in below.iter().enumerate().rev() {
                    let last = at + 1 == below.len();
                    let first = format!("{indent}{}", if last { "└── " } else { "├── " });
                    let indent = format!("{indent}{}", if last { "    " } else { "│   " });
                    rest.push((first, indent, Some(*edge), *id));
                }
            }
        }
        text
    }

    fn draw_line(&self, text: &mut String, first: &str, edge: Option<Edge>, id: Id) {
        let line = &self.lines[&id];
        let label = label(id, line);
        let _ = match edge {
            Some(Edge::AwaitsElsewhere) => {
                text.push_str(&format!("{first}awaits {label}, shown elsewhere\n"));
                return;
            }
            Some(Edge::Awaits) => write!(text, "{first}awaits {label}"),
            Some(Edge::Spawned) => write!(text, "{first}spawned {label}"),
            None => write!(text, "{first}{label}"),
        };
        let _ = write!(text, ": {}, {}", line.kind, line.state);
        if !line.others.is_empty() && line.state == "waiting" {
            let _ = write!(text, " for {}", line.others);
        }
        let _ = writeln!(text, " [{}]", line.place());
    }
}

/// Which top each task hangs from: a forest that is only asked for its tops (union-find).
#[derive(Default)]
struct Tops(HashMap<Id, Id>);

impl Tops {
    fn top_of(&mut self, id: Id) -> Id {
        let mut path = Vec::new();
        let mut top = id;
        while let Some(above) = self.0.get(&top) {
            path.push(top);
            top = *above;
        }
        for id in path {
            self.0.insert(id, top);
        }
        top
    }

    /// Hangs `id`, a top so far, below `above`; false if that is below `id` itself.
    fn hang(&mut self, id: Id, above: Id) -> bool {
        let top = self.top_of(above);
        let fits = top != id;
        if fits {
            self.0.insert(id, top);
        }
        fits
    }
}
