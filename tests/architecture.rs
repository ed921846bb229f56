//! The import table of ARCHITECTURE.md, held to the code: which room may name which.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms of the library and the rooms each may import from.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("math", &["rng"]),
    ("rng", &[]),
    ("samples", &["math"]),
    ("backend", &["math", "rng", "samples"]),
    ("batch", &["math", "rng", "samples", "backend"]),
    ("nn", &["math", "rng", "backend", "batch"]),
    ("live_points", &["math", "samples"]),
    ("evidence", &["math", "rng", "samples"]),
    ("posterior", &["math", "rng", "samples"]),
    ("diagnostics", &["math", "rng", "samples"]),
    ("kernel", &["math", "rng", "backend", "batch"]),
    ("prior", &["math", "rng", "backend", "batch", "kernel"]),
    ("likelihood", &["math", "rng", "backend", "batch", "kernel", "prior"]),
    ("bound", &["math", "rng", "backend", "batch", "kernel", "nn", "evidence", "samples"]),
    ("sampler", &["math", "rng", "backend", "batch", "nn", "live_points", "evidence", "samples", "bound"]),
    (
        "run",
        &[
            "math",
            "rng",
            "backend",
            "batch",
            "evidence",
            "samples",
            "posterior",
            "diagnostics",
            "prior",
            "likelihood",
            "sampler",
        ],
    ),
];

/// Crates that only these rooms may name.
const CRATES: &[(&str, &[&str])] = &[
    ("indicatif", &["run"]),
    ("rayon", &["backend", "likelihood"]),
    ("csv", &["run"]),
    ("nalgebra", &["bound", "likelihood"]),
    ("wgpu", &["backend", "kernel"]),
    ("naga", &["kernel"]),
    ("bytemuck", &["kernel"]),
    ("pollster", &["backend"]),
    ("burn", &["backend", "likelihood"]),
];

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The code of a file without comments and without items under `#[cfg(test)]`, and the modules in files of their own among those.
fn without_tests(text: &str) -> (String, Vec<String>) {
    let (mut code, mut modules) = (Vec::new(), Vec::new());
    let mut lines = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim() != "#[cfg(test)]" {
            code.push(line);
            continue;
        }
        // The item: one line that ends it, or everything up to the brace that closes it, which rustfmt puts below its first letter.
        let item = lines.by_ref().find(|l| !l.trim_start().starts_with("#[")).unwrap_or_default();
        if let Some(name) = item.trim().strip_prefix("mod ").and_then(|l| l.strip_suffix(';')) {
            modules.push(name.to_owned());
        } else if item.ends_with(['{', '(', '[']) {
            lines.by_ref().find(|l| l.starts_with(indent) && l[indent.len()..].starts_with(['}', ')', ']']));
        }
    }
    (code.join("\n"), modules)
}

/// Room and text, comments and tests cut away, of every file of the library; files that only tests are compiled with are left out.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    let (mut sources, mut test_only) = (Vec::new(), Vec::new());
    for path in paths {
        let relative = path.strip_prefix(&root).unwrap();
        let room =
            relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let (code, modules) = without_tests(&fs::read_to_string(&path).unwrap());
        // `mod x;` in a/mod.rs is a/x.rs or a/x/, in a/b.rs it is a/b/x.rs or a/b/x/.
        let folder = if path.ends_with("mod.rs") || path.ends_with("lib.rs") {
            path.parent().unwrap().to_owned()
        } else {
            path.with_extension("")
        };
        for name in modules {
            test_only.extend([folder.join(format!("{name}.rs")), folder.join(name)]);
        }
        sources.push((room, path, code));
    }
    sources.retain(|(_, path, _)| !test_only.iter().any(|test| path.starts_with(test)));
    sources
}

/// Rooms that `text` names in `crate::room` or `crate::{room, ..}` paths.
fn rooms_named(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    for part in text.split("crate::").skip(1) {
        let names = part
            .strip_prefix('{')
            .map_or_else(|| vec![part], |list| list.split('}').next().unwrap_or("").split(',').collect());
        for name in names {
            let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            out.push(name);
        }
    }
    out
}

/// Every import that the table forbids, as `file: room -> room`.
fn forbidden(sources: &[(String, PathBuf, String)]) -> Vec<String> {
    let table: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut out = Vec::new();
    for (room, path, text) in sources {
        if room == "lib" || room == "testing" {
            continue;
        }
        let Some(allowed) = table.get(room.as_str()) else {
            out.push(format!("{}: room {room} is not in the table", path.display()));
            continue;
        };
        for named in rooms_named(text) {
            let is_room = table.contains_key(named.as_str()) || named == "testing";
            if is_room && named != *room && !allowed.contains(&named.as_str()) {
                out.push(format!("{}: {room} -> {named}", path.display()));
            }
        }
        for (name, rooms) in CRATES {
            let uses = text.contains(&format!("use {name}::"))
                || text.contains(&format!("{name}::")) && !text.contains(&format!("_{name}::"));
            if uses && !rooms.contains(&room.as_str()) {
                out.push(format!("{}: {room} names the crate {name}", path.display()));
            }
        }
    }
    out
}

#[test]
fn imports_run_one_way() {
    let found = forbidden(&sources());
    assert!(found.is_empty(), "forbidden imports:\n{}", found.join("\n"));
}

#[test]
fn a_forbidden_import_is_noticed() {
    let wrong = |room: &str, text: &str| forbidden(&[(room.into(), PathBuf::from("x.rs"), text.into())]).len();
    assert_eq!(wrong("sampler", "use crate::likelihood::Likelihood;"), 1);
    assert_eq!(wrong("evidence", "use crate::{math, backend::CpuPool};"), 1);
    assert_eq!(wrong("sampler", "use indicatif::ProgressBar;"), 1);
    assert_eq!(wrong("sampler", "use crate::bound::Union;"), 0);
}

#[test]
fn samplers_do_not_print_or_touch_files() {
    for (room, path, text) in sources() {
        if ["run", "testing", "lib"].contains(&room.as_str()) {
            continue;
        }
        for word in ["println!", "eprintln!", "std::fs", "File::"] {
            assert!(!text.contains(word), "{}: {word} belongs in run/", path.display());
        }
    }
}

#[test]
fn every_file_opens_with_one_sentence() {
    let mut paths = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} does not say what lives in it", path.display());
    }
}

#[test]
fn only_what_is_under_cfg_test_is_cut_away() {
    let text = "use crate::math;\n#[cfg(test)]\nmod bench;\nuse crate::rng;\nstruct S {\n    #[cfg(test)]\n    n: usize,\n    m: usize,\n}\n\
                #[cfg(test)]\nmod tests {\n    fn f() {\n    }\n    use crate::run;\n}\nuse crate::nn;";
    let (code, modules) = without_tests(text);
    assert_eq!(modules, ["bench"]);
    assert_eq!(rooms_named(&code), ["math", "rng", "nn"]);
    assert!(code.contains("m: usize") && !code.contains(" n: usize"), "{code}");
    // Files that the library itself is built from are all there.
    let paths: Vec<PathBuf> = sources().into_iter().map(|(_, path, _)| path).collect();
    let here = |name: &str| paths.iter().any(|p| p.ends_with(name));
    assert!(here("nn/mod.rs") && here("nn/network.rs") && here("lib.rs") && !here("likelihood/tests.rs"));
}
