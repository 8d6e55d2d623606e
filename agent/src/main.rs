//! `isocast-agent`: parses the command line and starts the library.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use isocast_agent::{
    commands,
    options::{Command, Options},
};

fn main() -> ExitCode {
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
