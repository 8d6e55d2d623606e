//! Builds the eBPF object.
//!
//! The bpf target has no prebuilt core library, so it takes a compiler with its source beside it:
//! Debian's rustc-web packages, or a rustup nightly with rust-src. Whichever is there is used;
//! when none is, the error says in one line what is missing. The standard library alone: this
//! module is part of `dataplane/build.rs` as well as of the `xtask` binary.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

const CRATE: &str = "isocast-dataplane-ebpf";
const TARGET: &str = "bpfel-unknown-none";

/// Builds `dataplane-ebpf` of the repository at `root` below `target_dir`; returns the object.
pub(crate) fn build(root: &Path, target_dir: &Path) -> Result<PathBuf, String> {
    let toolchain = Toolchain::find()?;
    let path = path_with_linker()?;
    let mut cargo = Command::new(&toolchain.cargo);
    clear_cargo_environment(&mut cargo);
    cargo
        .current_dir(root.join("dataplane-ebpf"))
        .env("PATH", path)
        .env("RUSTC", &toolchain.rustc)
        // Unstable options of a stable compiler: the core library is built from source.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags())
        .args(["build", "--quiet", "--release", "--locked", "-Zbuild-std=core"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(target_dir);

    let output = cargo.output().map_err(|error| format!("{:?}: {error}", toolchain.cargo))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(target_dir.join(TARGET).join("release").join(CRATE))
}

/// A compiler that has the source of its core library.
struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
}

impl Toolchain {
    fn find() -> Result<Self, String> {
        let debian = Self { rustc: "/usr/bin/rustc".into(), cargo: "/usr/bin/cargo".into() };
        [Some(debian), Self::rustup_nightly()]
            .into_iter()
            .flatten()
            .find(Self::has_core_source)
            .ok_or_else(|| {
                "no compiler for eBPF: install rustc-web, cargo-web and rust-web-src (Debian), or \
                 run `rustup toolchain install nightly --component rust-src`"
                    .to_owned()
            })
    }

    fn rustup_nightly() -> Option<Self> {
        let which = |tool| {
            let path =
                stdout(Command::new("rustup").args(["which", "--toolchain", "nightly", tool]));
            path.map(PathBuf::from)
        };
        Some(Self { rustc: which("rustc")?, cargo: which("cargo")? })
    }

    fn has_core_source(&self) -> bool {
        let mut rustc = Command::new(&self.rustc);
        rustc.args(["--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN");
        let core = "lib/rustlib/src/rust/library/core/Cargo.toml";
        self.cargo.exists()
            && stdout(&mut rustc).is_some_and(|sysroot| Path::new(&sysroot).join(core).exists())
    }
}

/// Trimmed standard output of a command that succeeds.
fn stdout(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// The search path, with cargo's folder of installed programs at its end.
fn path_with_linker() -> Result<OsString, String> {
    let mut folders: Vec<_> = env::var_os("PATH").iter().flat_map(env::split_paths).collect();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    folders.extend(cargo_home.map(|home| home.join("bin")));
    if !folders.iter().any(|folder| folder.join("bpf-linker").exists()) {
        return Err("no bpf-linker: run `cargo install bpf-linker`, with the llvm-NN feature \
                    that `rustc -vV` of the eBPF compiler names"
            .to_owned());
    }
    env::join_paths(folders).map_err(|error| error.to_string())
}

/// A build script inherits what cargo and clippy set for the outer compiler.
fn clear_cargo_environment(command: &mut Command) {
    const KEPT: [&str; 5] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "RUSTUP_HOME"];
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let foreign = name.starts_with("CARGO") || name.starts_with("RUST");
        if foreign && !KEPT.iter().any(|kept| name.starts_with(kept)) {
            command.env_remove(name);
        }
    }
}

fn rustflags() -> String {
    let architecture = format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH);
    // Debug information is what the linker makes BTF from; instruction set v3 has 32-bit jumps.
    ["-Cdebuginfo=2", "-Ctarget-cpu=v3", "-Clink-arg=--btf", &architecture].join("\x1f")
}
