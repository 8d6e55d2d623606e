//! Repository chores.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Parser, Subcommand};

mod ebpf;

#[derive(Parser)]
#[command(about = "Repository chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Builds the eBPF object and prints its path.
    Ebpf {
        /// Build folder.
        #[arg(long, default_value = "target/ebpf")]
        target_dir: PathBuf,
    },
}

#[expect(clippy::print_stdout, reason = "the path is the result")]
fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
    match Arguments::parse().chore {
        Chore::Ebpf { target_dir } => {
            let object = ebpf::build(root, &root.join(target_dir)).map_err(|text| anyhow!(text))?;
            println!("{}", object.display());
        }
    }
    Ok(())
}
