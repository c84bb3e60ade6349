//! The rules of the house, held by reading the files.
//!
//! - Every Rust file opens with `//!`, is named by a `mod` line, and is of a readable length.
//! - Imports point one way: [`LAYERS`] says what each part must not know (DESIGN, section 9).
//! - Only `src/live` asks the wall clock (and examples, which nobody ships); the pure core asks
//!   no clock and opens nothing.
//! - No unfinished work, no test that is switched off or sleeps, no `unwrap` outside tests.
//! - No path of a machine and no host of a registry in what is committed.
//! - Links between Markdown pages lead somewhere.
//!
//! A rule is a function from one [`File`] to what is wrong with it, line by line. The last test
//! plants a violation of each and sees it found: a checker that finds nothing proves nothing.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// One file of the repository.
struct File {
    /// Its path from the root, with `/` between its parts.
    path: String,
    text: String,
}

/// What is wrong, as `path:line: what`.
type Findings = Vec<String>;

/// Longest Rust file in lines: what one reads in a sitting.
const LINES_MAX: usize = 1_200;

/// What each part must not know, as `(folder or file without .rs, forbidden modules)`.
const LAYERS: [(&str, &[&str]); 16] = [
    ("engine/src/leb128", &["*"]),
    ("engine/src/model", &["*"]),
    ("engine/src/short", &["*"]),
    ("engine/src/time", &["*"]),
    ("engine/src/slo", &["*", "+model", "+time"]),
    ("engine/src/delta", &["*", "+time"]),
    ("engine/src/decode", &["*", "+model", "+short", "+time"]),
    ("engine/src/source", &["state", "table", "query", "report", "pipeline"]),
    ("engine/src/state", &["*", "+failpoint", "+leb128", "+model", "+short", "+time", "+slo"]),
    ("engine/src/table", &["state", "query", "report", "pipeline", "source", "decode", "config"]),
    ("engine/src/audit", &["*", "+table", "+delta", "+model", "+time", "+slo"]),
    ("engine/src/query", &["source", "decode", "pipeline"]),
    ("engine/src/report", &["source", "decode", "pipeline"]),
    ("engine/src/notify", &["source", "decode", "state", "table", "pipeline", "report"]),
    ("engine/src/config", &["state", "query", "pipeline"]),
    ("api/src", &["state", "table", "decode", "source", "slo"]),
];

/// Parts of the engine that take time and bytes as arguments.
const PURE: [&str; 7] = [
    "engine/src/leb128",
    "engine/src/model",
    "engine/src/short",
    "engine/src/time",
    "engine/src/slo",
    "engine/src/delta",
    "engine/src/decode",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository; builds, tables and what git ignores aside.
fn files() -> Vec<File> {
    let mut files = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let ignored = ["target", ".git", "ninefold-data", "d"].contains(&&*name);
            if path.is_dir() && !ignored {
                folders.push(path);
            } else if !ignored && let Ok(text) = std::fs::read_to_string(&path) {
                files.push(File { path: name, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_under(&self, part: &str) -> bool {
        let rest = self.path.strip_prefix(part);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || rest == ".rs")
    }

    fn is_any(&self, parts: &[&str]) -> bool {
        parts.iter().any(|part| self.is_under(part))
    }

    /// Whether it holds tests only.
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.ends_with("/tests.rs")
    }

    /// The numbered lines of code, comments cut off; without the tests at the end of a module.
    fn code(&self) -> Vec<(usize, &str)> {
        let tests = self.text.find("#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        self.text[..tests].lines().map(without_comment).enumerate().collect()
    }

    fn finding(&self, index: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, index + 1)
    }

    /// A finding for each line of code that holds one of the `words`.
    fn code_with(&self, words: &[&str], what: &str) -> Findings {
        let code = self.code().into_iter();
        let hit = |line: &str| words.iter().find(|word| line.contains(**word)).copied();
        code.filter_map(|(index, line)| Some((index, hit(line)?)))
            .map(|(index, word)| self.finding(index, &format!("{word}: {what}")))
            .collect()
    }

    /// A finding for each line of text, comments and tests included, that holds a word.
    fn text_with(&self, words: &[&str], what: &str) -> Findings {
        let lines = self.text.lines().enumerate();
        let hit = |line: &str| words.iter().find(|word| line.contains(**word)).copied();
        lines
            .filter_map(|(index, line)| Some((index, hit(line)?)))
            .map(|(index, word)| self.finding(index, &format!("{word}: {what}")))
            .collect()
    }
}

/// The line up to `//`, where that does not stand in a string such as `"http://…"`.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let bytes = line.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' if at == 0 || (bytes[at - 1] != b'\\' && bytes[at - 1] != b'\'') => {
                quoted = !quoted
            }
            b'/' if !quoted && bytes.get(at + 1) == Some(&b'/') => return &line[..at],
            _ => {}
        }
    }
    line
}

fn opens_with_its_purpose(file: &File) -> Findings {
    let opens = !file.is_rust() || file.text.starts_with("//! ");
    if opens { vec![] } else { vec![file.finding(0, "a file opens with //! and its purpose")] }
}

fn is_of_readable_length(file: &File) -> Findings {
    let lines = file.text.lines().count();
    if !file.is_rust() || lines <= LINES_MAX {
        return vec![];
    }
    vec![file.finding(lines - 1, &format!("{lines} lines; takes at most {LINES_MAX}, one idea"))]
}

/// The modules that a file names: after `crate::`, after `ninefold_engine::` and after as many
/// `super::` as lead to the root of the crate.
fn imports(file: &File) -> Vec<(usize, String)> {
    let code = file.code();
    let mut found = Vec::new();
    for (index, line) in &code {
        let supers = "super::".repeat(depth(&file.path));
        for prefix in ["crate::", "ninefold_engine::", &supers] {
            for (at, _) in line.match_indices(prefix) {
                let before = line[..at].chars().next_back();
                let is_whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
                if is_whole && !prefix.is_empty() {
                    let rest: String = std::iter::once(&line[at + prefix.len()..])
                        .chain(code[index + 1..].iter().map(|(_, line)| *line))
                        .take(30)
                        .collect();
                    found.extend(first_names(&rest).into_iter().map(|name| (*index, name)));
                }
            }
        }
    }
    found
}

/// How many `super::` lead from a module to the root of its crate; 0 for the root itself.
fn depth(path: &str) -> usize {
    let Some((_, inside)) = path.split_once("src/") else { return 0 };
    let module = inside.trim_end_matches(".rs").trim_end_matches("/mod");
    if ["lib", "main"].contains(&module) { 0 } else { module.split('/').count() }
}

/// The first name of a path, or of each path in braces: `{decode::Line, time::{a, b}}`.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(inside) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let mut names = vec![name(inside)];
    let mut open = 1;
    for (at, c) in inside.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            ',' if open == 1 => names.push(name(&inside[at + 1..])),
            _ => {}
        }
        if open == 0 {
            break;
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The modules of the engine, from the files there are.
fn engine_modules(files: &[File]) -> BTreeSet<String> {
    let inside = |file: &File| {
        let rest = file.path.strip_prefix("engine/src/")?;
        let name = rest.split('/').next()?.trim_end_matches(".rs");
        (name != "lib").then(|| name.to_owned())
    };
    files.iter().filter_map(inside).collect()
}

fn imports_point_one_way(file: &File, modules: &BTreeSet<String>) -> Findings {
    let layer = LAYERS.iter().find(|(part, _)| file.is_rust() && file.is_under(part));
    let Some((part, forbidden)) = layer else { return vec![] };
    let own = part.rsplit('/').next().unwrap();
    let is_forbidden = |name: &str| {
        let excepted = forbidden.iter().any(|rule| rule.strip_prefix('+') == Some(name));
        let named = forbidden.iter().any(|rule| *rule == "*" || *rule == name);
        modules.contains(name) && named && !excepted && name != own
    };
    imports(file)
        .into_iter()
        .filter(|(_, name)| is_forbidden(name))
        .map(|(index, name)| file.finding(index, &format!("{part} must not know {name}")))
        .collect()
}

fn engine_never_sees_the_api(file: &File) -> Findings {
    if !file.is_rust() || !file.is_under("engine/src") {
        return vec![];
    }
    file.code_with(&["ninefold_api", "axum::"], "the engine knows no HTTP")
}

fn only_live_asks_the_wall_clock(file: &File) -> Findings {
    let may_ask = ["/examples/", "/tests/"].iter().any(|folder| file.path.contains(folder));
    if !file.is_rust() || file.is_under("src/live") || file.is_test() || may_ask {
        return vec![];
    }
    let clocks = ["SystemTime::now", "Timestamp::now", "Zoned::now"];
    file.code_with(&clocks, "time is an argument; only src/live asks the clock")
}

fn the_core_is_pure(file: &File) -> Findings {
    if !file.is_rust() || !file.is_any(&PURE) || file.is_test() {
        return vec![];
    }
    let world = [
        "std::fs",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "std::thread",
        "std::process",
        "Instant::now",
        "tokio::",
    ];
    file.code_with(&world, "the core opens nothing, asks no clock and starts no thread")
}

fn no_unwrap_outside_tests(file: &File) -> Findings {
    let shipped = ["engine/src", "api/src", "src"];
    if !file.is_rust() || !file.is_any(&shipped) || file.is_test() {
        return vec![];
    }
    file.code_with(&[".unwrap()", ".expect(\"\")"], "name the invariant with expect")
}

fn no_unfinished_work(file: &File) -> Findings {
    // Written in two parts, so that this file does not find itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimpl", "emented!("),
        concat!("dbg", "!("),
    ];
    file.text_with(&words, "finish it, or file an issue")
}

fn no_test_is_switched_off_or_sleeps(file: &File) -> Findings {
    if !file.is_rust() {
        return vec![];
    }
    let mut found = file.text_with(&[concat!("#[ign", "ore")], "a test runs or does not exist");
    let in_test = |file: &File| file.is_test() || file.text.contains("#[cfg(test)]");
    if in_test(file) {
        let start = if file.is_test() { 0 } else { file.code().len() };
        let sleeps = file.text_with(
            &[concat!("thread::", "sleep"), concat!("time::", "sleep")],
            "wait for the thing, not for a while",
        );
        let line = |finding: &String| finding.split(':').nth(1).and_then(|line| line.parse().ok());
        found.extend(sleeps.into_iter().filter(|finding| line(finding) > Some(start)));
    }
    found
}

fn no_machine_and_no_registry(file: &File) -> Findings {
    let words = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/home", "/"),
        concat!("crates", ".io/"),
        concat!("pypi", ".org"),
        concat!("npmjs", ".org"),
        concat!("debian", ".org"),
    ];
    // Cargo writes the name of the registry into its lock file; logs may hold any path.
    if file.path.ends_with("Cargo.lock") || file.is_under("fixtures") {
        return vec![];
    }
    file.text_with(&words, "belongs to one machine or workplace")
}

fn links_lead_somewhere(file: &File) -> Findings {
    if !file.path.ends_with(".md") {
        return vec![];
    }
    let folder = root().join(&file.path).parent().unwrap().to_owned();
    let mut found = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap();
            let is_file = !target.is_empty() && !target.contains(':');
            if is_file && !exists(&folder.join(target)) {
                found.push(file.finding(index, &format!("the link to {target} leads nowhere")));
            }
        }
    }
    found
}

/// Whether a path exists inside the repository, its `..` resolved by name.
fn exists(path: &Path) -> bool {
    let mut resolved = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                resolved.pop();
            }
            part => resolved.push(part),
        }
    }
    resolved.starts_with(root()) && resolved.exists()
}

/// Rust files below `src` that no `mod` line names: they would be compiled by nobody.
fn every_module_is_named(files: &[File]) -> Findings {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.path.starts_with("tests/")) {
        let Some((crate_root, inside)) = file.path.split_once("src/") else { continue };
        let module = inside.trim_end_matches(".rs").trim_end_matches("/mod");
        if ["lib", "main"].contains(&module) || module.starts_with("bin/") {
            continue;
        }
        let (parent, name) = module.rsplit_once('/').unwrap_or(("", module));
        let parents = match parent {
            "" => vec!["lib.rs".to_owned(), "main.rs".to_owned()],
            parent => vec![format!("{parent}.rs"), format!("{parent}/mod.rs")],
        };
        let named = files.iter().any(|other| {
            let path = other.path.strip_prefix(&format!("{crate_root}src/"));
            let is_parent = path.is_some_and(|path| parents.iter().any(|parent| parent == path));
            is_parent && other.code_with_module(name)
        });
        if !named {
            found.push(file.finding(0, &format!("no `mod {name};` names this file")));
        }
    }
    found
}

impl File {
    fn code_with_module(&self, name: &str) -> bool {
        self.text.lines().any(|line| line.trim_end().ends_with(&format!("mod {name};")))
    }
}

/// How many faults `docs/faults.md` has to answer for.
const FAULTS: usize = 63;

/// `docs/faults.md` has one row for each fault, and every test that a row names exists: a column
/// of names in back quotes, each `file::test`. "Not yet" is for what needs an object store.
fn every_fault_has_its_test(files: &[File]) -> Findings {
    let Some(page) = files.iter().find(|file| file.path == "docs/faults.md") else {
        return vec!["docs/faults.md is missing".to_owned()];
    };
    let mut found = Vec::new();
    let mut numbers = BTreeSet::new();
    for (number, line) in page.text.lines().enumerate() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, fault, .., tests, _] = cells.as_slice() else { continue };
        let Ok(fault) = fault.parse::<usize>() else { continue };
        numbers.insert(fault);
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        let not_yet = tests.contains("not yet") && line.contains("object store");
        if names.is_empty() && !not_yet {
            found.push(page.finding(number, &format!("fault {fault} names no test")));
        }
        for name in names.iter().filter(|name| !has_test(files, name)) {
            found.push(page.finding(number, &format!("there is no test {name}")));
        }
    }
    if numbers != (1..=FAULTS).collect() {
        found.push(page.finding(0, &format!("has {} faults, not 1 to {FAULTS}", numbers.len())));
    }
    found
}

/// Whether `file::test` is a function of a file of that name, or of a file in that folder.
fn has_test(files: &[File], name: &str) -> bool {
    let Some((place, test)) = name.rsplit_once("::") else { return false };
    let begin = format!("fn {test}(");
    let here = |file: &&File| file.path == format!("{place}.rs") || file.path == place;
    files.iter().filter(here).any(|file| file.text.contains(&begin))
}

/// Every rule on every file.
fn all_findings(files: &[File]) -> Findings {
    let rules: [fn(&File) -> Findings; 10] = [
        opens_with_its_purpose,
        is_of_readable_length,
        engine_never_sees_the_api,
        only_live_asks_the_wall_clock,
        the_core_is_pure,
        no_unwrap_outside_tests,
        no_unfinished_work,
        no_test_is_switched_off_or_sleeps,
        no_machine_and_no_registry,
        links_lead_somewhere,
    ];
    let modules = engine_modules(files);
    let mut found = every_module_is_named(files);
    found.extend(every_fault_has_its_test(files));
    for file in files {
        found.extend(rules.iter().flat_map(|rule| rule(file)));
        found.extend(imports_point_one_way(file, &modules));
    }
    found
}

#[test]
fn the_house_is_in_order() {
    let files = files();
    assert!(files.iter().any(|file| file.path == "engine/src/lib.rs"), "the files are found");
    let found = all_findings(&files);
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_planted_violation_of_each_rule_is_found() {
    let check = |path: &str, text: &str, expect: &str| {
        let modules = ["model", "time", "slo", "decode", "state", "table", "source", "query"];
        let planted = File { path: path.to_owned(), text: text.to_owned() };
        let mut files = vec![planted];
        for module in modules {
            files.push(File {
                path: format!("engine/src/{module}/mod.rs"),
                text: "//! A module.\nmod x;\nmod json;\n".to_owned(),
            });
        }
        let named: String = modules.map(|module| format!("mod {module};\n")).concat();
        files.push(File { path: "engine/src/lib.rs".into(), text: format!("//! Root.\n{named}") });
        let found = all_findings(&files);
        let found: Vec<&String> = found.iter().filter(|found| found.starts_with(path)).collect();
        match expect {
            "" => assert!(found.is_empty(), "{found:?}"),
            _ => assert!(found.iter().any(|found| found.contains(expect)), "{expect}: {found:?}"),
        }
    };
    let rust =
        |path: &str, code: &str, expect: &str| check(path, &format!("//! It.\n{code}"), expect);
    check("src/a.rs", "fn main() {}", "opens with //!");
    check("src/a.rs", &"//! x\n".repeat(LINES_MAX + 1), "lines; takes at most");
    rust("engine/src/nobody.rs", "", "no `mod nobody;`");
    rust(
        "engine/src/decode/x.rs",
        "use crate::state::Series;",
        "x.rs:2: engine/src/decode must not know state",
    );
    rust(
        "engine/src/decode/x.rs",
        "use crate::{\n    model::Event,\n    source::File,\n};",
        "must not know source",
    );
    rust("engine/src/decode/x.rs", "use super::super::state;", "must not know state");
    rust("engine/src/decode/x.rs", "fn f() { crate::table::open() }", "must not know table");
    rust("engine/src/table/x.rs", "use crate::state;", "engine/src/table must not know state");
    rust("engine/src/slo/x.rs", "use crate::decode::Line;", "engine/src/slo must not know decode");
    rust("engine/src/model.rs", "use crate::time::Minute;", "engine/src/model must not know time");
    rust(
        "api/src/x.rs",
        "use ninefold_engine::state::series::Series;",
        "api/src must not know state",
    );
    rust("engine/src/query/x.rs", "use axum::Router;", "knows no HTTP");
    rust("engine/src/query/x.rs", "let now = SystemTime::now();", "only src/live");
    rust("engine/src/slo/x.rs", "use std::fs::File;", "opens nothing");
    rust("src/x.rs", "let a = b.unwrap();", "name the invariant");
    rust("src/x.rs", concat!("// TO", "DO: later"), "file an issue");
    rust("src/x.rs", concat!("dbg", "!(a);"), "file an issue");
    rust("tests/x.rs", concat!("#[ign", "ore]\nfn a() {}"), "does not exist");
    rust("tests/x.rs", concat!("std::thread::", "sleep(SECOND);"), "wait for the thing");
    rust(
        "engine/src/slo/x.rs",
        concat!("#[cfg(test)]\nmod tests {\nstd::thread::", "sleep(S);\n}"),
        "wait for the thing",
    );
    check("docs/faults.md", "| 1 | a | b | `tests/a::b` |", "there is no test tests/a::b");
    check("docs/faults.md", "| 7 | a | b | |", "fault 7 names no test");
    check("docs/a.md", concat!("see /wo", "rk/main"), "belongs to one machine");
    check("docs/a.md", "see [there](nowhere.md#part)", "leads nowhere");
    // What is allowed stays so.
    rust("engine/src/decode/x.rs", "use crate::model::Event; // not crate::state::X", "");
    rust("engine/src/decode/x.rs", "use super::json; // \"a\"", "");
    rust("engine/src/table/x.rs", "#[cfg(test)]\nmod tests {\n    a.unwrap();\n}", "");
    check("docs/a.md", "see [the rules](../Cargo.toml) and [us](https://example.org)", "");
}
