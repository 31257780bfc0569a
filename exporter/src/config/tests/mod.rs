//! Whole files: what they give, and each form of error.

mod errors;
mod good;
mod signals_errors;
mod signals_good;
mod variables;

use super::{Config, Loaded, MapEnv};

fn load(text: &str) -> Loaded {
    load_with(text, &MapEnv::default())
}

fn load_with(text: &str, env: &MapEnv) -> Loaded {
    match Config::parse("test.yaml", text, env) {
        Ok(loaded) => loaded,
        Err(error) => panic!("{error}"),
    }
}
