//! The rules of `docs/development.md` that a program can check, over all files of the repository.
//!
//! The table of layers is read from `docs/architecture.md`, so the page and the gate are one.

#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rules::Offence;
use source::Source;

/// Folders with Rust files of ours.
const FOLDERS: [&str; 5] = ["src", "tests", "benches", "fuzz", "examples"];

/// All files below `folder` with this ending, by path from the top.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<Source> {
    let paths = FOLDERS.iter().flat_map(|folder| files(folder, "rs"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source is text");
        Source::new(path, text)
    };
    paths.map(read).collect()
}

/// Which layers each layer may import, as `docs/architecture.md` says.
fn import_table() -> BTreeMap<String, Vec<String>> {
    let page = fs::read_to_string("docs/architecture.md").expect("the page is there");
    let rows = page.lines().skip_while(|line| !line.starts_with("| layer | may import"));
    let mut table = BTreeMap::new();
    for row in rows.skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let names = |cell: &str| -> Vec<String> {
            source::words(cell).map(|(_, word)| word.to_owned()).collect()
        };
        for layer in names(cells[1]) {
            table.insert(layer, names(cells[2]));
        }
    }
    assert!(table.len() >= 10, "the table of layers was not found: {table:?}");
    table
}

/// Names by which code uses our dependencies, but for the one that only derives.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string("Cargo.toml").expect("the manifest is there");
    let is_section = |line: &&str| !line.starts_with("[dependencies]");
    let lines = manifest.lines().skip_while(is_section).skip(1);
    let names: Vec<_> = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_")))
        .filter(|name| name != "thiserror")
        .collect();
    assert!(names.len() >= 10, "the dependencies were not found: {names:?}");
    names
}

/// Fails with every offence that `rule` finds.
fn enforce(rule: impl Fn(&Source, &mut Vec<Offence>)) {
    let mut report = String::new();
    for source in sources() {
        let mut offences = Vec::new();
        rule(&source, &mut offences);
        for (line, what) in offences {
            report += &format!("\n{}:{line}: {what}", source.path.display());
        }
    }
    assert!(report.is_empty(), "{report}\n");
}

#[test]
fn layers_import_what_the_table_allows() {
    let table = import_table();
    enforce(|source, offences| {
        let may = |layer: &str, imported: &str| {
            table.get(layer).is_some_and(|allowed| allowed.iter().any(|name| name == imported))
        };
        // Each program has a row of its own.
        let layer = match source.path.iter().nth(2).and_then(|part| part.to_str()) {
            Some("madrigald.rs") => Some("madrigald"),
            Some("madrigal") if source.layer() == Some("bin") => Some("madrigal"),
            _ => None,
        };
        rules::imports(source, |folder, imported| may(layer.unwrap_or(folder), imported), offences);
    });
}

#[test]
fn every_layer_is_in_the_table() {
    let table = import_table();
    for entry in fs::read_dir("src").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(["lib", "bin"].contains(&name.as_str()) || table.contains_key(&name), "{name}");
    }
}

#[test]
fn pure_layers_stay_pure() {
    let dependencies = dependencies();
    enforce(|source, offences| rules::purity(source, &dependencies, offences));
}

#[test]
fn sizes_are_kept() {
    enforce(rules::sizes);
}

#[test]
fn unsafe_stands_where_it_may_and_says_why() {
    enforce(rules::unsafety);
}

#[test]
fn nothing_is_unfinished_or_silenced() {
    enforce(rules::excuses);
}

#[test]
fn words_are_the_agreed_ones() {
    enforce(rules::vocabulary);
}

#[test]
fn state_machines_have_no_wildcard_arms() {
    enforce(rules::wildcards);
}

#[test]
fn every_file_is_compiled() {
    let sources = sources();
    let mut orphans = String::new();
    for source in sources.iter().filter(|source| source.path.starts_with("src")) {
        let Some((name, parents)) = module_of(&source.path) else { continue };
        let declares = |parent: &Source| {
            parents.contains(&parent.path) && parent.code.contains(&format!("mod {name};"))
        };
        if !sources.iter().any(declares) {
            orphans += &format!("\n{}:1: no `mod {name};` leads here", source.path.display());
        }
    }
    assert!(orphans.is_empty(), "{orphans}\n");
}

/// The name of a file's module, and the files that may declare it. `None` for the root of a crate.
fn module_of(path: &Path) -> Option<(&str, Vec<PathBuf>)> {
    let stem = path.file_stem()?.to_str()?;
    let folder = path.parent()?;
    let is_root = ["lib", "main"].contains(&stem) || folder.ends_with("src/bin");
    if is_root {
        return None;
    }
    // `a/mod.rs` is declared where `a.rs` would be.
    let (name, folder) = match stem {
        "mod" => (folder.file_name()?.to_str()?, folder.parent()?),
        _ => (stem, folder),
    };
    let inside = ["mod.rs", "lib.rs", "main.rs"].map(|parent| folder.join(parent));
    let beside = folder.with_extension("rs");
    Some((name, inside.into_iter().chain([beside]).collect()))
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    let pages = [vec![PathBuf::from("README.md")], files("docs", "md"), files("tuning", "md")];
    let mut broken = String::new();
    for page in pages.concat() {
        let text = fs::read_to_string(&page).expect("a page is text");
        for (i, line) in text.lines().enumerate() {
            for link in links(line) {
                let target = page.parent().unwrap_or(Path::new("")).join(&link);
                if !link.contains("://") && !target.exists() {
                    broken += &format!("\n{}:{}: {link}", page.display(), i + 1);
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken}\n");
}

/// Targets of the Markdown links on a line that lead to files.
fn links(line: &str) -> Vec<String> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    files.filter(|file| !file.is_empty()).map(str::to_owned).collect()
}

/// Proof that each rule can fail, and does not where it should not.
mod scanner {
    use super::*;

    /// What `rule` says of a file, as `line: offence`.
    fn offences(path: &str, text: &str, rule: impl Fn(&Source, &mut Vec<Offence>)) -> Vec<String> {
        let mut offences = Vec::new();
        rule(&Source::new(path, text), &mut offences);
        offences.into_iter().map(|(line, what)| format!("{line}: {what}")).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "let a = \"un\\\"safe\"; // unsafe\n\
                    /* unsafe /* nested */ */ 'u' b\"x\" r#\"un\"safe\"#";
        let source = Source::new("src/base/x.rs", text);
        assert_eq!(source.code.len(), text.len());
        assert!(!source.code.contains("unsafe") && !source.code.contains("un\""));
        assert!(source.code.starts_with("let a = \""));
        assert_eq!(source.comments.matches("unsafe").count(), 2);
    }

    #[test]
    fn lifetimes_are_no_literals() {
        let source = Source::new("src/base/x.rs", "fn f<'a>(x: &'a str) -> char { 'x' } fn g() {}");
        assert!(source.code.contains("fn g() {}"));
        assert!(source.code.contains("<'a>"));
    }

    #[test]
    fn tests_are_found() {
        let text = "fn f() {}\n#[cfg(test)]\nmod tests {\n fn g() { {} }\n}\nfn h() {}";
        let source = Source::new("src/base/x.rs", text);
        let is_test = |what: &str| source.is_test(text.find(what).unwrap());
        assert!(!is_test("fn f") && is_test("fn g") && !is_test("fn h"));
        assert!(Source::new("src/base/x/tests.rs", "fn f() {}").is_test(0));
    }

    #[test]
    fn imports_are_seen_in_every_form() {
        let only_base = |_: &str, imported: &str| imported == "base";
        let check =
            |path, text| offences(path, text, |source, out| rules::imports(source, only_base, out));
        let path = "src/wire/session/frame.rs";
        assert_eq!(check(path, "use crate::base::Seq;\nuse super::x;\nuse super::super::y;"), NONE);
        assert_eq!(check(path, "use crate::sys;"), ["1: wire imports sys"]);
        assert_eq!(check(path, "\nlet a = crate::sys::clock::read();"), ["2: wire imports sys"]);
        assert_eq!(
            check(path, "use crate::{\n  base::{mem, Seq},\n  sys::{a, b},\n  mem,\n};"),
            ["3: wire imports sys", "4: wire imports mem"]
        );
        assert_eq!(check(path, "use super::super::super::mem::pool;"), ["1: wire imports mem"]);
        assert_eq!(check("src/wire/mod.rs", "use super::mem;"), ["1: wire imports mem"]);
        assert_eq!(check("src/bin/madrigald.rs", "use madrigal::sys;"), ["1: bin imports sys"]);
        assert_eq!(check("src/bin/madrigal/send.rs", "use crate::sys; use super::mem;"), NONE);
        assert_eq!(check(path, "// crate::sys\n#[cfg(test)]\nmod tests { use crate::sys; }"), NONE);
    }

    #[test]
    fn impure_things_are_seen() {
        let dependencies = ["slab".to_owned()];
        let check = |path, text| {
            offences(path, text, |source, out| rules::purity(source, &dependencies, out))
        };
        let path = "src/protocol/mod.rs";
        assert_eq!(check(path, "use std::net::IpAddr;"), ["1: protocol uses net"]);
        assert_eq!(check(path, "use std::time::SystemTime;"), ["1: protocol uses SystemTime"]);
        assert_eq!(
            check(path, "use std::{a, collections::HashMap};"),
            ["1: protocol uses HashMap"]
        );
        assert_eq!(check(path, "use slab::Slab;"), ["1: protocol uses slab"]);
        assert_eq!(
            check(path, "use std::collections::BTreeMap; let io = 1; self.slab.len()"),
            NONE
        );
        assert_eq!(check("src/runtime/mod.rs", "use std::net::IpAddr; use slab::Slab;"), NONE);
    }

    #[test]
    fn sizes_are_measured() {
        let check = |text: &str| offences("src/base/x.rs", text, rules::sizes);
        let long = format!("fn f(a: [u8; 3]) {{{}}}", "\n".repeat(70));
        assert_eq!(check(&long), ["1: function of 71 lines"]);
        assert_eq!(check(&long.replacen('\n', "", 1)), NONE);
        assert_eq!(check(&format!("#[cfg(test)]\nmod tests {{\n{long}\n}}")), NONE);
        assert_eq!(check(&"x\n".repeat(601)), ["1: file of 601 lines without tests"]);
        assert_eq!(check(&"ü".repeat(100)), NONE);
        assert_eq!(check(&"ü".repeat(101)), ["1: line of 101 characters"]);
    }

    #[test]
    fn unsafe_is_seen() {
        let check = |path, text| offences(path, text, rules::unsafety);
        let documented =
            "fn f() {\n  // SAFETY: the slot is ours.\n  let x = g(\n    unsafe { h() });\n}";
        assert_eq!(check("src/mem/x.rs", documented), NONE);
        assert_eq!(check("src/wire/x.rs", documented), ["4: unsafe outside of mem and sys"]);
        let bare = "// SAFETY: of another.\nlet a = 1;\nunsafe { h() };";
        assert_eq!(check("src/mem/x.rs", bare), ["3: unsafe without a SAFETY comment"]);
        assert_eq!(check("src/sys/x.rs", "unsafe impl Send for X {}").len(), 1);
    }

    #[test]
    fn excuses_are_seen() {
        let check = |path, text| offences(path, text, rules::excuses);
        let path = "src/base/x.rs";
        assert_eq!(check(path, "fn f() { todo!() }"), ["1: todo! is not finished work"]);
        assert_eq!(check(path, "#[ignore = \"slow\"]"), ["1: #[ignore is not finished work"]);
        assert_eq!(check(path, "#[allow(dead_code)]"), ["1: allow(..) without a reason"]);
        assert_eq!(check(path, "#[allow(dead_code, reason = \"kept\")]\nx.expect(\"a\")"), NONE);
        assert_eq!(check("src/sys/mod.rs", "#![allow(unsafe_code)]"), NONE);
        assert_eq!(check(path, "#![allow(unsafe_code)]"), ["1: allow(..) without a reason"]);
    }

    #[test]
    fn words_are_taken_apart() {
        let check = |text| offences("src/base/x.rs", text, rules::vocabulary);
        assert_eq!(check("struct ServerName;"), ["1: \"server\": say daemon"]);
        assert_eq!(check("// all\n// nodes"), ["2: \"nodes\": say daemons"]);
        assert_eq!(check("let nodelay = observer;"), NONE);
    }

    #[test]
    fn missing_wildcard_lint_is_seen() {
        assert_eq!(offences("src/session/mod.rs", "", rules::wildcards).len(), 1);
        assert_eq!(offences("src/session/credit.rs", "", rules::wildcards), NONE);
    }

    #[test]
    fn modules_are_named_by_their_place() {
        let name = |path| module_of(Path::new(path)).map(|(name, _)| name.to_owned());
        assert_eq!(name("src/lib.rs"), None);
        assert_eq!(name("src/bin/madrigald.rs"), None);
        assert_eq!(name("src/mem/mod.rs").as_deref(), Some("mem"));
        let (name, parents) = module_of(Path::new("src/mem/pool/tests.rs")).unwrap();
        assert_eq!(name, "tests");
        assert!(parents.contains(&"src/mem/pool.rs".into()));
        assert!(parents.contains(&"src/mem/pool/mod.rs".into()));
    }

    #[test]
    fn links_are_found() {
        assert_eq!(links("[a](b.md#c) and [d](#e), [f](https://g.h)"), ["b.md", "https://g.h"]);
    }
}

/// Every check and test that the page of promises names is there.
#[test]
fn promises_name_checks_that_exist() {
    let page = fs::read_to_string("docs/semantics.md").expect("the page is there");
    let code: String = sources().into_iter().map(|source| source.text).collect();
    let named = page.split('`').skip(1).step_by(2);
    let is_check = |name: &&str| {
        let mut chars = name.chars();
        matches!(chars.next(), Some('d' | 'g' | 'l'))
            && chars.next().is_some_and(|digit| digit.is_ascii_digit())
    };
    let mut found = 0;
    for name in named.filter(|name| is_check(name) || name.starts_with("tests::")) {
        let name = name.trim_start_matches("tests::");
        // The page says what such names stand for.
        if name != "…" {
            assert!(code.contains(&format!("fn {name}(")), "{name} is no check");
            found += 1;
        }
    }
    assert!(found > 30, "{found} checks are named");
}
