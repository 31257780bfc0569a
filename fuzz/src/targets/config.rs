//! The configuration file.

use synspan::config::{Config, MapEnv, Problem};

/// Parses the bytes as a file, with a few variables set.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let env = MapEnv::from([("A", "a"), ("N", "7"), ("E", ""), ("Y", "[a, {b: c}]"), ("D", "${env:A}")]);
    let found = Config::parse("f.yaml", text, &env);
    let problems = match &found {
        Ok(loaded) => &loaded.warnings,
        Err(error) => {
            assert!(!error.problems.is_empty(), "refused without a reason");
            &error.problems
        }
    };
    // Of what a YAML parser takes for the end of a line, only these are counted alike by all.
    let lines = text.split(['\n', '\r']).count();
    problems.iter().for_each(|problem| check(problem, lines));
    assert_eq!(found, Config::parse("f.yaml", text, &env), "the same file, another answer");
}

fn check(problem: &Problem, lines: usize) {
    assert!(!problem.what.is_empty(), "{problem:?}");
    assert!(problem.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{problem:?} of {lines} lines");
}
