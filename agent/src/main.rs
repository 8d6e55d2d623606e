//! `isocast-agent`: parses the command line and starts the library.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use isocast_agent::{
    commands,
    options::{Command, Options},
};

/// Decisions make and drop thousands of small things beside a few large ones; glibc's allocator spends a
/// fifth of a decision on tidying up between them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A page of 2 MiB stays whole for one object in it. It goes on without, where the kernel is too old.
    nix::sys::prctl::set_thp_disable(true).ok();
    let options = Options::parse();
    let outcome = match options.command {
        Command::Run(options) => commands::run(options),
        Command::Speaker(options) => commands::speaker(&options),
        Command::Preflight(options) => return commands::preflight(&options),
        Command::Status(options) => commands::status(&options),
        Command::Explain(options) => commands::explain(&options),
        Command::Trace(options) => commands::trace(&options),
        Command::Detach(options) => commands::detach(&options),
        Command::Dataplane(options) => commands::dataplane(&options),
        Command::Completion { shell } => {
            let mut command = Options::command();
            clap_complete::generate(shell, &mut command, "isocast-agent", &mut std::io::stdout());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the one place where the program gives up")]
            {
                eprintln!("isocast-agent: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}
