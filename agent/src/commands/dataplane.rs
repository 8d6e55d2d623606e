//! `isocast-agent dataplane`: the program, apart from what this host does.

use std::path::Path;

use anyhow::Context as _;
use isocast_dataplane::fixture::{self, Fixture};

use crate::options::{DataplaneCommand, DataplaneOptions, FixtureOptions, OutputFormat};

/// Does what is asked for with the program.
///
/// # Errors
/// The kernel refuses.
pub fn dataplane(options: &DataplaneOptions) -> anyhow::Result<()> {
    match &options.command {
        DataplaneCommand::Fixture(options) => fixture(options),
    }
}

fn fixture(options: &FixtureOptions) -> anyhow::Result<()> {
    let FixtureOptions { pin, services, backends, output } = options;
    let Fixture { program, outer_header_len, .. } =
        fixture::edge(pin, (*services).into(), (*backends).into())
            .with_context(|| format!("fixture in {}", pin.display()))?;
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    {
        print!("{}", answer(&program, outer_header_len, *output));
    }
    Ok(())
}

fn answer(program: &Path, outer_header_len: usize, form: OutputFormat) -> String {
    match form {
        OutputFormat::Json => {
            let answer = serde_json::json!({
                "program": program,
                "outerHeaderBytes": outer_header_len,
            });
            format!("{answer:#}\n")
        }
        OutputFormat::Table => {
            format!("program       {}\nouter header  {outer_header_len} bytes\n", program.display())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_names_the_program_and_the_length_of_the_outer_header() {
        let program = Path::new("/sys/fs/bpf/f/program");
        let text = answer(program, 40, OutputFormat::Table);
        assert_eq!(text, "program       /sys/fs/bpf/f/program\nouter header  40 bytes\n");

        let json = answer(program, 40, OutputFormat::Json);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["program"], "/sys/fs/bpf/f/program");
        assert_eq!(json["outerHeaderBytes"], 40);
    }
}
