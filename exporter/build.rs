//! Builds the eBPF object for the feature `live`; a build without it needs nothing.
//!
//! Two toolchains can do it, and whichever is there is taken: Debian's, whose packages have a core
//! library made for BPF, or rustup's nightly, which builds its own from `rust-src`.
//! `SYNSPAN_EBPF_TOOLCHAIN=debian|nightly` takes the choice away.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FORCE: &str = "SYNSPAN_EBPF_TOOLCHAIN";

const NOTHING_THERE: &str = "cannot build the eBPF programs (feature `live`): no toolchain for BPF was found.
Install one of these:
  Debian:  apt install rustc-web cargo-web libstd-rust-web-dev-bpf llvm-22-dev libpolly-22-dev
           LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --no-default-features --features llvm-22
  rustup:  rustup toolchain install nightly --component rust-src
           cargo install bpf-linker
or build without live capture: cargo build --no-default-features";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_LIVE").is_none() {
        return Ok(());
    }
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let root = manifest_dir.parent().ok_or("the crate is not in the workspace")?;
    let source = root.join("exporter-ebpf");
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-env-changed={FORCE}");
    println!("cargo:rerun-if-env-changed=PATH");

    let target = match env::var("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let path = search_path()?;
    if !find_program(&path, "bpf-linker") {
        return Err(format!("bpf-linker is neither on PATH nor in ~/.cargo/bin\n{NOTHING_THERE}").into());
    }
    let mut cargo = match env::var(FORCE).ok().as_deref() {
        Some("debian") => debian(target).ok_or_else(|| {
            format!("{FORCE}=debian, but /usr/bin/rustc has no core library for {target}: apt install libstd-rust-web-dev-bpf")
        })?,
        Some("nightly") => nightly(&path).ok_or_else(|| {
            format!("{FORCE}=nightly, but `rustup run nightly` has no rust-src: rustup toolchain install nightly --component rust-src")
        })?,
        Some(other) => return Err(format!("{FORCE}={other}: expected debian or nightly").into()),
        None => debian(target).or_else(|| nightly(&path)).ok_or(NOTHING_THERE)?,
    };

    // A target directory of its own: the outer cargo holds the lock of the usual one.
    let target_dir = out_dir.join("ebpf");
    cargo
        .args(["build", "--release", "--locked", "--bin", "synspan-ebpf", "--target", target])
        .arg("--manifest-path")
        .arg(source.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target_dir)
        .env("PATH", &path)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(root).join("\x1f"));
    let status = cargo.status().map_err(|e| format!("cannot run {cargo:?}: {e}"))?;
    if !status.success() {
        return Err(format!("building the eBPF programs failed ({status}): {cargo:?}").into());
    }
    let object = target_dir.join(target).join("release/synspan-ebpf");
    fs::copy(&object, out_dir.join("synspan.bpf.o"))
        .map_err(|e| format!("cannot copy the eBPF object {}: {e}", object.display()))?;
    Ok(())
}

/// The compiler's flags for the object. Sources have the same names in its debug information wherever they
/// lie, so that no path of this machine is in the program and the same sources give the same bytes.
fn flags(root: &Path) -> Vec<String> {
    let mut flags: Vec<String> = ["-Clinker=bpf-linker", "-Clink-arg=--btf", "-Cdebuginfo=2"].map(str::to_owned).into();
    flags.push(format!("--remap-path-prefix={}=/synspan", root.display()));
    let registries = cargo_home().and_then(|home| fs::read_dir(home.join("registry/src")).ok());
    for registry in registries.into_iter().flatten().flatten() {
        flags.push(format!("--remap-path-prefix={}=/crates", registry.path().display()));
    }
    flags
}

fn cargo_home() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| env::var_os("HOME").map(|h| Path::new(&h).join(".cargo")))
}

/// PATH, with ~/.cargo/bin at its end: bpf-linker is often there and the directory is often not on PATH.
fn search_path() -> Result<OsString, Box<dyn Error>> {
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(env::split_paths(&path).chain(cargo_home().map(|h| h.join("bin"))))?)
}

fn find_program(path: &OsStr, name: &str) -> bool {
    env::split_paths(path).any(|dir| dir.join(name).is_file())
}

/// Debian's compiler, if it has the core library for BPF.
fn debian(target: &str) -> Option<Command> {
    let (rustc, cargo) = (Path::new("/usr/bin/rustc"), Path::new("/usr/bin/cargo"));
    if !rustc.is_file() || !cargo.is_file() {
        return None;
    }
    let output = clean(Command::new(rustc)).args(["--print", "sysroot"]).output().ok()?;
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    if !sysroot.join("lib/rustlib").join(target).is_dir() {
        return None;
    }
    let mut command = clean(Command::new(cargo));
    // The target's linker arguments and debug information for BTF are not stable options.
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", rustc);
    Some(command)
}

/// rustup's nightly, if it has the sources of the core library.
fn nightly(path: &OsStr) -> Option<Command> {
    let mut rustc = clean(Command::new("rustup"));
    let output = rustc.env("PATH", path).args(["run", "nightly", "rustc", "--print", "sysroot"]).output().ok()?;
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    if !output.status.success() || !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
        return None;
    }
    let mut command = clean(Command::new("rustup"));
    command.args(["run", "nightly", "cargo", "-Z", "build-std=core"]);
    Some(command)
}

/// Takes away what the outer cargo set for its own build: another compiler, its flags and wrappers.
fn clean(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let kept = matches!(text, "CARGO_HOME" | "CARGO_NET_OFFLINE" | "CARGO_TERM_COLOR" | "RUSTUP_HOME")
            || text.starts_with("CARGO_HTTP_")
            || text.starts_with("CARGO_NET_")
            || text.starts_with("CARGO_REGISTR");
        if !kept && (text.starts_with("CARGO") || text.starts_with("RUST") || text == "TARGET") {
            command.env_remove(&name);
        }
    }
    command
}
