//! The architecture's invariants, checked on the source text, so that the documents cannot drift from it.
//!
//! Reads files only, each test on its own thread; sources are parsed into tokens first, so that comments and strings may
//! say what they like.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The rooms of `src`, bottom first, and how high each stands. An import names a room that stands lower.
const ROOMS: &[(&str, u8)] = &[
    ("primitive", 0),
    ("task", 1),
    ("event_loop", 2),
    ("scheduler", 3),
    ("runtime", 4),
    ("context", 5),
    ("io", 5),
    ("time", 5),
    ("net", 5),
    ("signal", 5),
    ("cancel", 6),
    ("future", 6),
    ("process", 6),
    ("streams", 6),
    ("sync", 6),
    ("hyper", 7),
];

/// What rooms of the same height may import from each other: who, from whom.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("net", "io"),        // streams implement its traits
    ("net", "time"),      // a listener without descriptors pauses
    ("signal", "net"),    // a signal arrives through a pipe
    ("future", "cancel"), // a task group obeys a scope
];

/// The height from which on a room sees public items alone: those of the crate's root and those of the top layer's rooms.
const INTEGRATIONS: u8 = 7;

/// Where `epicycle_loom` and the crate `loom` may be named. Everywhere, unit tests may be left out under it.
const LOOM: &[&str] = &["src/lib.rs", "src/primitive/"];

const UNIT_TESTS: &str = "#[cfg(all(test, not(epicycle_loom)))]";

/// Where `unsafe` may be written.
const UNSAFE: &[&str] = &["src/task/cell.rs", "src/task/cell/", "src/task/waker.rs", "src/primitive/"];

/// Lines from `fn` to the closing brace.
const FUNCTION_LINES: usize = 70;
/// Lines that bear code, in a file without its `mod tests`; comments are not discouraged.
const FILE_LINES: usize = 400;
/// Functions (`file::name`) and files that may be longer.
const LONGER: &[&str] = &[
    "src/task/cell.rs", // to keep what is unsafe about tasks in one file
];

struct Source {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn tokens(&self) -> Vec<TokenTree> {
        let tokens: TokenStream = self.text.parse().unwrap_or_else(|error| panic!("{}: {error}", self.path));
        tokens.into_iter().collect()
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| if place.ends_with('/') { self.path.starts_with(place) } else { self.path == *place })
    }

    /// The module's path below the crate: `["task", "cell"]`.
    fn module(&self) -> Vec<&str> {
        let path = self.path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")).expect("a file of src");
        let mut module: Vec<&str> = path.split('/').collect();
        if matches!(module.last(), Some(&"mod" | &"lib")) {
            module.pop();
        }
        module
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All `.rs` files below a folder of the repository.
fn sources(folder: &str) -> Vec<Source> {
    let mut folders = vec![root().join(folder)];
    let mut files: Vec<PathBuf> = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let source = |path: PathBuf| Source {
        text: fs::read_to_string(&path).expect("a readable file"),
        path: path.strip_prefix(root()).expect("a file of ours").to_str().expect("plain names").replace('\\', "/"),
    };
    assert!(!files.is_empty(), "no source in {folder}");
    files.into_iter().map(source).collect()
}

/// Fails with all complaints at once.
fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn height(room: &str) -> Option<u8> {
    ROOMS.iter().find(|(name, _)| *name == room).map(|(_, height)| *height)
}

// ------------------------------------------------------------------------------------------------ reading tokens

fn is_ident(token: Option<&TokenTree>, name: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == name)
}

fn ident(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_path_separator(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Punct(one), TokenTree::Punct(two), ..] if one.as_char() == ':' && two.as_char() == ':')
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

/// Calls `visit` with the tokens from each position on, in every group, and how many inline modules stand around it.
fn walk(tokens: &[TokenTree], depth: usize, visit: &mut impl FnMut(&[TokenTree], usize)) {
    for at in 0..tokens.len() {
        visit(&tokens[at..], depth);
        if let TokenTree::Group(group) = &tokens[at] {
            let is_module = group.delimiter() == Delimiter::Brace && at >= 2 && is_ident(tokens.get(at - 2), "mod");
            let inner: Vec<TokenTree> = group.stream().into_iter().collect();
            walk(&inner, depth + usize::from(is_module), visit);
        }
    }
}

/// The first names of what follows `crate::`: one, or those of a list in braces.
fn first_names(tokens: &[TokenTree]) -> Vec<String> {
    match tokens.first() {
        Some(TokenTree::Group(list)) if list.delimiter() == Delimiter::Brace => {
            let list: Vec<TokenTree> = list.stream().into_iter().collect();
            list.split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ','))
                .filter_map(|entry| entry.first().map(ToString::to_string))
                .collect()
        }
        Some(token) => vec![token.to_string()],
        None => vec![],
    }
}

/// What a file imports or names from the crate's root: the first name below it, and the line.
fn root_paths(source: &Source) -> Vec<(String, usize)> {
    let module_depth = source.module().len();
    let mut found = Vec::new();
    walk(&source.tokens(), 0, &mut |tokens, inline_depth| {
        let supers = tokens
            .chunks(3)
            .take_while(|chunk| is_ident(chunk.first(), "super") && is_path_separator(&chunk[1..]))
            .count();
        let rest = if is_ident(tokens.first(), "crate") && is_path_separator(&tokens[1..]) {
            &tokens[3..]
        } else if supers > 0 && supers == module_depth + inline_depth {
            &tokens[3 * supers..]
        } else {
            return;
        };
        // A macro has no room: it stands at the root.
        if matches!(rest.get(1), Some(TokenTree::Punct(bang)) if bang.as_char() == '!') {
            return;
        }
        found.extend(first_names(rest).into_iter().map(|name| (name, line(&tokens[0]))));
    });
    found
}

// ------------------------------------------------------------------------------------------------ the invariants

#[test]
fn the_checks_themselves_see_what_they_should() {
    let text = r##"
        //! crate::in_a_comment
        use crate::{a::b, c, d as e};
        use super::super::f::g;
        use super::not_from_the_root;
        pub(crate) fn one(_: &crate::h::I) -> crate::j::K {
            crate::a_macro!(crate::j::K);
            let string = "crate::in_a_string";
            mod inner { use super::super::super::l; use super::super::not_either; }
        }
    "##;
    let source = Source { path: "src/room/file.rs".into(), text: text.into() };
    let names: Vec<String> = root_paths(&source).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "c", "d", "f", "h", "j", "j", "l"]);
    let mut functions = Vec::new();
    walk(&source.tokens(), 0, &mut |tokens, _| functions.extend(function(tokens)));
    assert_eq!(functions, [("one".to_owned(), 5)]);
    assert!(source.is_in(&["src/room/"]) && source.is_in(&["src/room/file.rs"]) && !source.is_in(&["src/room"]));
}

#[test]
fn imports_point_down() {
    let mut complaints = Vec::new();
    for source in sources("src").iter().filter(|source| source.path != "src/lib.rs") {
        let room = source.module()[0];
        let Some(ours) = height(room) else {
            complaints.push(format!("{}: the room `{room}` has no height yet: add it to ROOMS", source.path));
            continue;
        };
        for (name, line) in root_paths(source) {
            let problem = match height(&name) {
                _ if name == room => continue,
                None if ours >= INTEGRATIONS => continue,
                None => "from the crate's root: name the room where it lives",
                Some(theirs)
                    if ours >= INTEGRATIONS && theirs < height("runtime").expect("a room") && name != "task" =>
                {
                    "which is not public"
                }
                Some(theirs) if theirs < ours || NEIGHBOURS.contains(&(room, &name)) => continue,
                Some(_) => "which does not stand lower",
            };
            complaints.push(format!("{}:{line}: `{room}` imports `{name}`, {problem}", source.path));
        }
    }
    report(complaints);
}

#[test]
fn mod_lines_stand_bottom_up() {
    let lib = sources("src").into_iter().find(|source| source.path == "src/lib.rs").expect("src/lib.rs");
    let mut modules = Vec::new();
    let tokens = lib.tokens();
    for at in 0..tokens.len() {
        if is_ident(tokens.get(at), "mod")
            && let Some(name) = ident(tokens.get(at + 1))
            && let Some(height) = height(&name)
        {
            modules.push((height, name));
        }
    }
    assert!(modules.len() > 5, "{modules:?}");
    assert!(modules.is_sorted_by_key(|(height, _)| *height), "not in the order of their heights: {modules:?}");
}

#[test]
fn loom_is_confined() {
    let mut complaints = Vec::new();
    for source in sources("src").iter().filter(|source| !source.is_in(LOOM)) {
        walk(&source.tokens(), 0, &mut |tokens, _| {
            let names_loom = is_ident(tokens.first(), "epicycle_loom")
                || is_ident(tokens.first(), "loom") && is_path_separator(&tokens[1..]);
            if names_loom && source.text.lines().nth(line(&tokens[0]) - 1) != Some(UNIT_TESTS) {
                complaints.push(format!("{}:{}: loom belongs to `primitive`", source.path, line(&tokens[0])));
            }
        });
    }
    report(complaints);
}

#[test]
fn unsafe_is_confined() {
    let mut complaints = Vec::new();
    for source in sources("src").iter().filter(|source| !source.is_in(UNSAFE)) {
        walk(&source.tokens(), 0, &mut |tokens, _| {
            if is_ident(tokens.first(), "unsafe") {
                complaints.push(format!("{}:{}: `unsafe` outside {UNSAFE:?}", source.path, line(&tokens[0])));
            }
        });
    }
    report(complaints);
}

#[test]
fn every_file_says_what_it_is() {
    let folders = ["src", "tests", "benches", "examples", "loom_tests"];
    let all = folders.iter().flat_map(|folder| sources(folder));
    report(all.filter(|source| !source.text.starts_with("//! ")).map(|source| source.path).collect());
}

#[test]
fn every_example_starts_with_its_own_command() {
    let mut complaints = Vec::new();
    for example in sources("examples") {
        let name = Path::new(&example.path).file_stem().and_then(|stem| stem.to_str()).expect("plain names");
        let first = example.text.lines().next().unwrap_or_default();
        if !(first.starts_with("//! `cargo run ") && first.contains(&format!("--example {name}"))) {
            complaints.push(format!("{}: {first:?} is not the command that runs it", example.path));
        }
    }
    report(complaints);
}

#[test]
fn functions_fit_a_screen_and_files_a_few() {
    let mut complaints = Vec::new();
    for source in sources("src") {
        let mut code = BTreeSet::new();
        walk(&source.tokens(), 0, &mut |tokens, _| {
            let span = tokens[0].span();
            code.extend([span.start().line, span.end().line]);
            if let Some((name, length)) = function(tokens)
                && length > FUNCTION_LINES
                && !LONGER.contains(&&*format!("{}::{name}", source.path))
            {
                complaints.push(format!("{}:{}: {name} has {length} lines", source.path, line(&tokens[0])));
            }
        });
        // To the parser a doc comment is an attribute.
        let lines: Vec<&str> = source.text.lines().collect();
        let end = lines.iter().position(|line| *line == "mod tests {").unwrap_or(lines.len());
        code.retain(|line| *line <= end && !lines[line - 1].trim_start().starts_with("//"));
        if code.len() > FILE_LINES && !LONGER.contains(&&*source.path) {
            complaints.push(format!("{}: {} lines of code", source.path, code.len()));
        }
    }
    report(complaints);
}

/// The name of the function that starts here, and its lines; none if it has no body.
fn function(tokens: &[TokenTree]) -> Option<(String, usize)> {
    let name = ident(tokens.get(1)).filter(|_| is_ident(tokens.first(), "fn"))?;
    let body = tokens
        .iter()
        .take_while(|token| !matches!(token, TokenTree::Punct(end) if end.as_char() == ';'))
        .find_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
            _ => None,
        })?;
    Some((name, body.span_close().end().line + 1 - line(&tokens[0])))
}

// ------------------------------------------------------------------------------------------------ the documents

#[test]
fn every_dependency_is_named() {
    let document = read("ARCHITECTURE.md");
    let manifest = read("Cargo.toml");
    let mut section = "";
    let mut missing = String::new();
    for line in manifest.lines().map(str::trim) {
        let dependency = if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']');
            section.split_once("dependencies.").map(|(_, name)| name)
        } else if section.ends_with("dependencies") && !line.starts_with('#') {
            line.split_once('=').map(|(name, _)| name.trim().trim_end_matches(".workspace"))
        } else {
            None
        };
        if let Some(name) = dependency.filter(|name| !document.contains(&format!("`{name}`"))) {
            writeln!(missing, "`{name}`").expect("a string takes everything");
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md does not say what these are for:\n{missing}");
}

#[test]
fn the_readme_gives_the_commands_that_are_checked() {
    let readme = read("README.md");
    let checks = read(".ci/run");
    for command in ["cargo run --release --example http_server --features hyper", "cargo test --all-features"] {
        assert!(readme.lines().any(|line| line == command), "README.md does not give {command:?} on a line of its own");
    }
    assert!(checks.lines().any(|line| line.contains("cargo test --all-features")), ".ci/run tests something else");
}
