//! Builds the eBPF object that this crate carries, and that of its benchmark.

#[path = "../xtask/src/ebpf.rs"]
mod ebpf;

use std::{
    env,
    path::{Path, PathBuf},
};

fn main() {
    println!("cargo::rerun-if-changed=../dataplane-common/src");
    println!("cargo::rerun-if-changed=../dataplane-ebpf/Cargo.lock");
    println!("cargo::rerun-if-changed=../dataplane-ebpf/Cargo.toml");
    println!("cargo::rerun-if-changed=../dataplane-ebpf/src");
    println!("cargo::rerun-if-changed=../xtask/src/ebpf.rs");
    match objects() {
        Ok([programs, bench]) => {
            println!("cargo::rustc-env=ISOCAST_EBPF_OBJECT={programs}");
            println!("cargo::rustc-env=ISOCAST_BENCH_OBJECT={bench}");
        }
        Err(text) => {
            for line in text.lines() {
                println!("cargo::error={line}");
            }
        }
    }
}

fn objects() -> Result<[String; 2], String> {
    let variable = |name| env::var(name).map_err(|error| format!("{name}: {error}"));
    let manifest_dir = variable("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&manifest_dir).parent().ok_or("the crate has no parent folder")?;
    let programs = ebpf::build(root, &Path::new(&variable("OUT_DIR")?).join("ebpf"))?;
    let bench = programs.with_file_name("isocast-dataplane-bench");
    let text = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|path| format!("{path:?} is not UTF-8"))
    };
    Ok([text(programs)?, text(bench)?])
}
