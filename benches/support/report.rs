//! Collects the samples and prints them: Markdown for people, JSON for programs.
//!
//! Owner-only: the parent process's one thread.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::epicycle_rt::Epicycle;
use super::machine::Machine;
use super::measure::median;
use super::workloads::{Figures, Goal, Metric, Workload};

const OURS: &str = "epicycle";
const BARE: &str = "bare";
/// The peers as they come: goals are ratios to the best of these.
const PEERS: [&str; 3] = ["tokio", "smol", "nio"];
const MOVABLE_PEERS: [&str; 2] = ["tokio", "smol"];
/// The same peers with `block_on`'s caller as a worker, which is faster in some rows and slower in others.
const TUNED_PEERS: [&str; 5] = ["tokio", "smol", "smol-run", "nio", "nio-local"];

/// A worst round over so many medians says that the row has two states.
const BIMODAL: f64 = 2.0;

/// The outcome of one sample.
pub enum Cell {
    Figures(Figures),
    Failed,
    Hung,
}

#[derive(Default)]
struct Samples {
    values: Vec<f64>,
    trouble: Option<&'static str>,
}

struct Row {
    key: &'static str,
    metric: Metric,
    samples: HashMap<String, Samples>,
}

pub struct Report {
    machine: Machine,
    rows: Vec<Row>,
    rounds: usize,
    quick: bool,
    runtimes: Vec<String>,
}

impl Report {
    pub fn new(workloads: &[Workload<Epicycle>], runtimes: &[String], rounds: usize, quick: bool) -> Report {
        let row = |key, metric: &Metric| Row { key, metric: *metric, samples: HashMap::new() };
        let rows =
            |each: &Workload<Epicycle>| each.metrics.iter().map(|metric| row(each.key, metric)).collect::<Vec<_>>();
        let rows = workloads.iter().flat_map(rows).collect();
        Report { machine: Machine::look(), rows, rounds, quick, runtimes: runtimes.to_vec() }
    }

    pub fn add(&mut self, key: &str, runtime: &str, cell: Cell) {
        for (index, row) in self.rows.iter_mut().filter(|row| row.key == key).enumerate() {
            let samples = row.samples.entry(runtime.to_string()).or_default();
            match &cell {
                Cell::Figures(figures) => samples.values.extend(figures.get(index).copied().flatten()),
                Cell::Failed => samples.trouble = Some("failed"),
                Cell::Hung => samples.trouble = Some("hung"),
            }
        }
    }

    pub fn failed(&self) -> bool {
        self.rows.iter().any(|row| row.samples.values().any(|samples| samples.trouble.is_some()))
    }

    pub fn markdown(&self) -> String {
        let mut text = self.preamble();
        let shown: Vec<&str> = self.runtimes.iter().map(String::as_str).filter(|name| self.has(name)).collect();
        let _ = writeln!(
            text,
            "| row | unit | {} | spread | / Tokio | / best peer | / best set-up | best rounds | goal |",
            shown.join(" | ")
        );
        let _ = writeln!(text, "|---|---|{}--:|--:|--:|--:|--:|---|", "--:|".repeat(shown.len()));
        for row in &self.rows {
            let cells: Vec<_> = shown.iter().map(|name| row.cell(name)).collect();
            let Metric { title, unit, .. } = row.metric;
            let _ = writeln!(text, "| {title} | {unit} | {} | {} |", cells.join(" | "), row.ratios());
        }
        text + &self.speed_up() + &self.summary()
    }

    fn preamble(&self) -> String {
        format!(
            "{}\n\nMedians of {} interleaved rounds{}; less is better. Two workers unless the row says otherwise. Spread: \
             epicycle's worst round over its median, bold above {BIMODAL}. Best peer: of Tokio, smol and nio as they \
             come; best set-up: also of smol-run and nio-local, where block_on's caller is a worker. Best rounds: as \
             best peer, of everybody's best round instead of the median.\n\n",
            self.machine.markdown(),
            self.rounds,
            if self.quick { " at a fourth of the work" } else { "" },
        )
    }

    fn has(&self, runtime: &str) -> bool {
        self.rows.iter().any(|row| row.samples.contains_key(runtime))
    }

    /// What the second worker brings to CPU-bound tasks, if both rows were run.
    fn speed_up(&self) -> String {
        let median_of = |key, runtime: &str| self.rows.iter().find(|row| row.key == key)?.median(runtime);
        let ratio =
            |runtime: &str| Some(median_of("cpu-one-worker", runtime)? / median_of("cpu-two-workers", runtime)?);
        let show = |runtime: &String| ratio(runtime).map(|ratio| format!("{runtime} {ratio:.2}"));
        let ratios: Vec<String> = self.runtimes.iter().filter_map(show).collect();
        match ratios.is_empty() {
            true => String::new(),
            false => format!("\nSpeed-up of CPU-bound tasks from one worker to two: {}.\n", ratios.join(", ")),
        }
    }

    /// How many goals were met, and which rows fail: a goal missed, or two states of which a run catches either.
    fn summary(&self) -> String {
        let titles = |wanted: &dyn Fn(&Row) -> bool| {
            let found: Vec<_> = self.rows.iter().filter(|row| wanted(row)).map(|row| row.metric.title).collect();
            if found.is_empty() { "none".to_string() } else { found.join("; ") }
        };
        let count = |outcome| self.rows.iter().filter(|row| row.met() == Some(outcome)).count();
        let bimodal = |row: &Row| row.samples.get(OURS).and_then(Samples::spread).is_some_and(|it| it > BIMODAL);
        let (met, missed) = (count(true), count(false));
        format!(
            "\nGoals met: {met} of {}. Missed: {}.\nWorst round over {BIMODAL} times the median: {}.\n",
            met + missed,
            titles(&|row| row.met() == Some(false)),
            titles(&bimodal),
        )
    }

    pub fn write_json(&self, path: &Path) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let all = json!({
            "machine": self.machine.json(), "rounds": self.rounds, "quick": self.quick, "runtimes": self.runtimes,
            "rows": rows,
        });
        std::fs::write(path, format!("{all:#}\n"))
    }
}

impl Row {
    fn median(&self, runtime: &str) -> Option<f64> {
        median(&self.samples.get(runtime)?.values)
    }

    fn least(&self, runtime: &str) -> Option<f64> {
        self.samples.get(runtime)?.least()
    }

    fn cell(&self, runtime: &str) -> String {
        let trouble = self.samples.get(runtime).and_then(|samples| samples.trouble);
        match (self.median(runtime), trouble) {
            (Some(value), None) => figure(value),
            (Some(value), Some(trouble)) => format!("{} ({trouble} once)", figure(value)),
            (None, trouble) => trouble.unwrap_or("-").to_string(),
        }
    }

    /// Our median over the best median of `runtimes`.
    fn over(&self, runtimes: &[&str]) -> Option<f64> {
        self.over_by(Self::median, runtimes)
    }

    fn over_by(&self, of: fn(&Self, &str) -> Option<f64>, runtimes: &[&str]) -> Option<f64> {
        let best = runtimes.iter().filter_map(|runtime| of(self, runtime)).min_by(f64::total_cmp);
        let ratio = of(self, OURS)? / best?;
        ratio.is_finite().then_some(ratio)
    }

    /// Spread, the four ratios, and what became of the goal.
    fn ratios(&self) -> String {
        let spread = match self.samples.get(OURS).and_then(Samples::spread) {
            Some(spread) if spread > BIMODAL => format!("**{spread:.2}**"),
            spread => ratio(spread),
        };
        let best_rounds = self.over_by(Self::least, &PEERS);
        let all = [self.over(&["tokio"]), self.over(&PEERS), self.over(&TUNED_PEERS), best_rounds];
        format!("{spread} | {} | {}", all.map(ratio).join(" | "), self.verdict())
    }

    /// The goal, what it is measured against, and how far we came; `None` without a goal.
    fn standing(&self) -> Option<(f64, &'static str, Option<f64>)> {
        Some(match self.metric.goal? {
            Goal::OfPeers(goal) => (goal, "", self.over(&PEERS)),
            Goal::OfMovable(goal) => (goal, " of tokio, smol", self.over(&MOVABLE_PEERS)),
            Goal::OfBare(goal) => (goal, " of bare", self.over(&[BARE])),
            Goal::AtMost(goal) => (goal, "", self.median(OURS)),
        })
    }

    fn met(&self) -> Option<bool> {
        let (goal, _, ours) = self.standing()?;
        ours.map(|ours| ours <= goal)
    }

    fn verdict(&self) -> String {
        match self.standing() {
            None => String::new(),
            Some((goal, of, Some(ours))) if ours <= goal => format!("{goal}{of}: met, {ours:.2}"),
            Some((goal, of, Some(ours))) => format!("{goal}{of}: **missed, {ours:.2}**"),
            Some((goal, of, None)) => format!("{goal}{of}"),
        }
    }

    fn json(&self) -> Value {
        let runtimes: serde_json::Map<_, _> =
            self.samples.iter().map(|(name, samples)| (name.clone(), samples.json())).collect();
        let Metric { title, unit, goal } = self.metric;
        let mut goal = match goal {
            None => Value::Null,
            Some(Goal::OfPeers(ratio)) => json!({ "of_tokio_smol_nio": ratio }),
            Some(Goal::OfMovable(ratio)) => json!({ "of_tokio_smol": ratio }),
            Some(Goal::OfBare(ratio)) => json!({ "of_bare": ratio }),
            Some(Goal::AtMost(figure)) => json!({ "at_most": figure }),
        };
        if let Some((_, _, ours)) = self.standing() {
            goal["ours"] = ours.into();
            goal["met"] = self.met().into();
        }
        json!({ "key": self.key, "title": title, "unit": unit, "goal": goal, "runtimes": runtimes })
    }
}

impl Samples {
    fn worst(&self) -> Option<f64> {
        self.values.iter().copied().max_by(f64::total_cmp)
    }

    fn least(&self) -> Option<f64> {
        self.values.iter().copied().min_by(f64::total_cmp)
    }

    /// The worst over the median, where there is a median to speak of.
    fn spread(&self) -> Option<f64> {
        let spread = self.worst()? / median(&self.values)?;
        spread.is_finite().then_some(spread)
    }

    fn json(&self) -> Value {
        let spread = self.spread();
        let mut all = json!({
            "median": median(&self.values), "least": self.least(), "worst": self.worst(), "spread": spread,
            "bimodal": spread.is_some_and(|spread| spread > BIMODAL), "samples": self.values,
        });
        if let Some(trouble) = self.trouble {
            all["trouble"] = trouble.into();
        }
        all
    }
}

fn ratio(value: Option<f64>) -> String {
    value.filter(|value| value.is_finite()).map_or("-".into(), |value| format!("{value:.2}"))
}

fn figure(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
