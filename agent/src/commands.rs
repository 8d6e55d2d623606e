//! What the commands of `isocast-agent` do.

mod ask;
mod dataplane;
mod flow;
mod run;
mod speaker;
mod status;

use std::process::ExitCode;

use anyhow::Context;

pub use self::{
    dataplane::dataplane,
    flow::{explain, trace},
    run::run,
    speaker::speaker,
    status::status,
};
use crate::options::{DetachOptions, OutputFormat, PreflightOptions};

/// Lists every kernel need; fails if one is missing.
#[must_use]
pub fn preflight(options: &PreflightOptions) -> ExitCode {
    let needs = isocast_dataplane::preflight();
    let text = match options.output {
        OutputFormat::Json => as_json(&needs),
        OutputFormat::Table => as_table(&needs),
    };
    #[expect(clippy::print_stdout, reason = "the command's answer")]
    {
        print!("{text}");
    }
    if needs.iter().all(|need| need.ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Takes the data plane out of the kernel.
///
/// # Errors
/// Pins that cannot be removed.
pub fn detach(options: &DetachOptions) -> anyhow::Result<()> {
    isocast_dataplane::detach(&options.bpffs)
        .with_context(|| format!("detach {}", options.bpffs.display()))
}

fn as_json(needs: &[isocast_dataplane::Need]) -> String {
    let list: Vec<_> = needs
        .iter()
        .map(|need| {
            serde_json::json!({
                "name": need.name,
                "ok": need.ok,
                "detail": need.detail,
                "costIfMissing": need.cost_if_missing,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::from(list))
}

fn as_table(needs: &[isocast_dataplane::Need]) -> String {
    let line = |need: &isocast_dataplane::Need| {
        if need.ok {
            format!("ok       {:<28} {}\n", need.name, need.detail)
        } else {
            let cost = &need.cost_if_missing;
            format!("MISSING  {:<28} {} (costs: {cost})\n", need.name, need.detail)
        }
    };
    needs.iter().map(line).collect()
}
