//! Builds the eBPF object that this crate carries.

#[path = "../xtask/src/ebpf.rs"]
mod ebpf;

use std::{env, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=../dataplane-common/src");
    println!("cargo::rerun-if-changed=../dataplane-ebpf/Cargo.lock");
    println!("cargo::rerun-if-changed=../dataplane-ebpf/Cargo.toml");
    println!("cargo::rerun-if-changed=../dataplane-ebpf/src");
    println!("cargo::rerun-if-changed=../xtask/src/ebpf.rs");
    match object() {
        Ok(path) => println!("cargo::rustc-env=ISOCAST_EBPF_OBJECT={path}"),
        Err(text) => {
            for line in text.lines() {
                println!("cargo::error={line}");
            }
        }
    }
}

fn object() -> Result<String, String> {
    let variable = |name| env::var(name).map_err(|error| format!("{name}: {error}"));
    let manifest_dir = variable("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&manifest_dir).parent().ok_or("the crate has no parent folder")?;
    let object = ebpf::build(root, &Path::new(&variable("OUT_DIR")?).join("ebpf"))?;
    object.into_os_string().into_string().map_err(|path| format!("{path:?} is not UTF-8"))
}
