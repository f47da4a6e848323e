//! The arrows between the modules of a crate: those of the daemon as the README draws them, and no circle anywhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::readme;
use crate::sources::{Source, none, sources};

/// A graph: which module uses which.
type Arrows = BTreeMap<String, BTreeSet<String>>;

/// The crates whose modules name each other by `crate::`, with the folder of their sources.
const CRATES: [&str; 3] = ["backend/core/src/", "backend/daemon/src/", "provider/src/"];

#[test]
fn the_daemons_modules_use_each_other_as_the_readme_says() {
    let used = arrows("backend/daemon/src/");
    let drawn = readme::table("### Modules of the daemon");
    let mut findings = Vec::new();
    for (module, uses) in &used {
        let said = drawn.get(module).cloned().unwrap_or_default();
        if *uses != said {
            findings.push(format!("{module}: uses {uses:?}, and the README says {said:?}"));
        }
    }
    findings.extend(
        drawn.keys().filter(|name| !used.contains_key(*name)).map(|name| format!("{name}: is no module")),
    );
    none(findings);
}

#[test]
fn no_modules_form_a_circle() {
    let mut findings = Vec::new();
    for folder in CRATES {
        let arrows = arrows(folder);
        for module in arrows.keys() {
            if reach(&arrows, module).contains(module) {
                findings.push(format!("{folder}{module}: uses itself through other modules"));
            }
        }
    }
    none(findings);
}

#[test]
fn a_circle_is_found() {
    let arrow =
        |from: &str, to: &[&str]| (from.to_owned(), to.iter().map(|name| (*name).to_owned()).collect());
    let arrows: Arrows =
        [arrow("a", &["b"]), arrow("b", &["c"]), arrow("c", &["a"]), arrow("d", &["a"])].into();
    assert!(reach(&arrows, "a").contains("a") && !reach(&arrows, "d").contains("d"));
}

/// Everything a module uses, and what that uses.
fn reach(arrows: &Arrows, from: &str) -> BTreeSet<String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(module) = open.pop() {
        for next in arrows.get(&module).into_iter().flatten() {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

/// The modules of a crate, and which other modules each of them names. Tests are left out.
fn arrows(folder: &str) -> Arrows {
    let sources = sources();
    let own: Vec<_> = sources.iter().filter(|source| source.path.starts_with(folder)).collect();
    let module_of = |source: &Source| {
        let name = source.path[folder.len()..].split(['/', '.']).next().unwrap_or_default().to_owned();
        (!["lib", "main", "test_home"].contains(&name.as_str())).then_some(name)
    };
    let modules: BTreeSet<_> = own.iter().filter_map(|source| module_of(source)).collect();
    assert!(modules.len() > 4, "{folder}: only {modules:?} found");
    let mut arrows: Arrows = modules.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
    for source in own.iter().filter(|source| !source.is_test()) {
        let Some(module) = module_of(source) else { continue };
        let named = named(source).into_iter().filter(|name| *name != module && modules.contains(name));
        arrows.entry(module.clone()).or_default().extend(named);
    }
    arrows
}

/// The names that follow `crate::`, singly or in braces.
fn named(source: &Source) -> BTreeSet<String> {
    let code = source.code().lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = code.map(|line| format!("{line}\n")).collect();
    let identifier =
        |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let whole_word = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let after = &code[at + "crate::".len()..];
        if !whole_word {
            continue;
        }
        match after.strip_prefix('{') {
            Some(list) => {
                let mut depth = 0_usize;
                let mut item = String::new();
                for c in list.chars() {
                    match c {
                        '}' if depth == 0 => break,
                        ',' if depth == 0 => names.insert(identifier(std::mem::take(&mut item).trim())),
                        '{' => {
                            depth += 1;
                            false
                        }
                        '}' => {
                            depth -= 1;
                            false
                        }
                        _ if depth == 0 => {
                            item.push(c);
                            false
                        }
                        _ => false,
                    };
                }
                names.insert(identifier(item.trim()));
            }
            None => {
                names.insert(identifier(after));
            }
        }
    }
    names
}
