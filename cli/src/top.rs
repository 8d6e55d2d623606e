//! `isocast top`: the busiest services, backends and tenants of one edge or of all, and what they
//! drop.

mod rates;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    thread,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use isocast_api::{
    agent::local::dataplane::{COUNTERS_PATH, CountersView},
    text::Duration,
};

use self::rates::{Line, Pair, Rates};
use crate::{
    bgp::{Connect, clean, dash},
    fleet::{Fleet, Reply},
    local::At,
    options::StatusOutput,
    output,
};

#[derive(Debug, Args)]
pub(crate) struct TopArguments {
    #[command(flatten)]
    pub(crate) at: At,
    /// Time between two readings
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Show one table and end
    #[arg(long)]
    pub(crate) once: bool,
    /// What comes first
    #[arg(long, value_enum, default_value_t)]
    pub(crate) sort: Sort,
    /// Show no more of each
    #[arg(long, default_value_t = 15, value_name = "NUMBER")]
    pub(crate) limit: usize,
    /// Form of the answer; json: an object a line
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: StatusOutput,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sort {
    /// Most packets a second
    #[default]
    Packets,
    /// Most bits a second
    Bits,
    /// Most dropped packets a second
    Drops,
    /// By name
    Name,
}

/// Nodes are not asked more often.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

fn interval(text: &str) -> Result<Duration, String> {
    let interval: Duration = text.parse().map_err(|error| format!("{error}"))?;
    if interval.get() < INTERVAL_MIN.get() {
        return Err(format!("must be {INTERVAL_MIN} or more"));
    }
    Ok(interval)
}

pub(crate) fn run(
    connect: Connect<'_>,
    arguments: &TopArguments,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let fleet = Fleet::of(&arguments.at, || Ok(connect()?.0))?;
    let mut before = read(&fleet)?;
    loop {
        pause(arguments.interval);
        let after = read(&fleet)?;
        let pairs = after.iter().filter_map(|(node, after)| {
            let after = after.as_ref().ok()?;
            let before = before.get(node)?.as_ref().ok()?;
            Some(Pair { before, after })
        });
        let mut rates = Rates::of(pairs);
        for lines in [&mut rates.services, &mut rates.backends, &mut rates.tenants] {
            sort(lines, arguments.sort);
        }
        show(arguments, &rates, &after, out)?;
        if arguments.once {
            return Ok(());
        }
        before = after;
    }
}

type Readings = BTreeMap<String, Result<CountersView, String>>;

/// Reads every node; fails if none answers.
fn read(fleet: &Fleet<'_>) -> anyhow::Result<Readings> {
    let replies = fleet.ask::<CountersView>(COUNTERS_PATH, &[]);
    if let Some(Reply { answer: Err(error), node }) = replies.first()
        && replies.iter().all(|reply| reply.answer.is_err())
    {
        bail!("no node answers; {}: {error:#}", clean(node));
    }
    let reading = |reply: Reply<CountersView>| {
        (reply.node, reply.answer.map_err(|error| format!("{error:#}")))
    };
    Ok(replies.into_iter().map(reading).collect())
}

fn sort(lines: &mut [Line], by: Sort) {
    let most = |of: fn(&Line) -> f64| move |a: &Line, b: &Line| of(b).total_cmp(&of(a));
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    match by {
        Sort::Packets => lines.sort_by(most(|line| line.rate.packets_per_s)),
        Sort::Bits => lines.sort_by(most(|line| line.rate.bits_per_s)),
        Sort::Drops => lines.sort_by(most(Line::drops)),
        Sort::Name => {}
    }
}

fn show(
    arguments: &TopArguments,
    rates: &Rates,
    readings: &Readings,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let screen = if arguments.output == StatusOutput::Json {
        serde_json::to_string(rates).context("cannot encode the answer")? + "\n"
    } else {
        let mut screen = Vec::new();
        if !arguments.once && io::stdout().is_terminal() {
            // Home, and clear what is below (ECMA-48 CUP and ED).
            screen.extend(b"\x1b[H\x1b[2J");
        }
        write_tables(arguments, rates, readings, &mut screen)?;
        String::from_utf8_lossy(&screen).into_owned()
    };
    // At once, so that nothing flickers.
    out.write_all(screen.as_bytes()).and_then(|()| out.flush()).context("cannot write")
}

fn write_tables(
    arguments: &TopArguments,
    rates: &Rates,
    readings: &Readings,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    writeln!(out, "{} of {} nodes, over {}", rates.nodes, readings.len(), arguments.interval)
        .context("cannot write")?;
    for (node, reading) in readings {
        if let Err(error) = reading {
            writeln!(out, "! {}: {}", clean(node), clean(error)).context("cannot write")?;
        }
    }
    for (title, lines) in
        [("SERVICE", &rates.services), ("BACKEND", &rates.backends), ("TENANT", &rates.tenants)]
    {
        let mut headings = vec![title, "PACKETS/S", "BITS/S"];
        if title != "BACKEND" {
            headings.extend(["DROPS/S", "MOSTLY"]);
        }
        let rows: Vec<_> = lines.iter().take(arguments.limit).map(|it| row(it, title)).collect();
        writeln!(out).context("cannot write")?;
        output::table(out, &headings.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>(), &rows)?;
        if lines.len() > rows.len() {
            writeln!(out, "… and {} more", lines.len() - rows.len()).context("cannot write")?;
        }
    }
    let rows: Vec<_> = (rates.drops_per_s.iter())
        .filter(|(_, rate)| **rate > 0.0)
        .map(|(reason, rate)| vec![clean(reason), amount(*rate)])
        .collect();
    writeln!(out).context("cannot write")?;
    output::table(out, &["DROPPED", "PACKETS/S"].map(str::to_owned), &rows)
}

fn row(line: &Line, title: &str) -> Vec<String> {
    let mut row =
        vec![clean(&line.name), amount(line.rate.packets_per_s), amount(line.rate.bits_per_s)];
    if title != "BACKEND" {
        let mostly = line.drops_per_s.iter().filter(|(_, rate)| **rate > 0.0);
        let mostly = mostly.max_by(|a, b| a.1.total_cmp(b.1));
        row.extend([amount(line.drops()), mostly.map_or_else(dash, |(reason, _)| clean(reason))]);
    }
    row
}

/// A number with the prefix that leaves it three digits before the point.
fn amount(number: f64) -> String {
    let prefixes = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match prefixes.iter().find(|(unit, _)| number >= *unit) {
        Some((unit, prefix)) => format!("{:.1} {prefix}", number / unit),
        None if number > 0.0 && number < 10.0 => format!("{number:.1}"),
        None => format!("{number:.0}"),
    }
}

#[expect(clippy::disallowed_methods, reason = "counters are read at this pace")]
fn pause(interval: Duration) {
    thread::sleep(interval.get());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::rates::Rate;

    #[test]
    fn amounts_are_short() {
        let shown = [0.0, 0.25, 42.0, 1234.0, 5.5e6, 2e9].map(amount);
        assert_eq!(shown, ["0", "0.2", "42", "1.2 k", "5.5 M", "2.0 G"]);
    }

    #[test]
    fn lines_are_sorted_by_what_is_asked_for() {
        let line = |name: &str, packets_per_s, bits_per_s, drops: f64| Line {
            name: name.to_owned(),
            rate: Rate { packets_per_s, bits_per_s },
            drops_per_s: [("no_backend".to_owned(), drops)].into(),
            ..Line::default()
        };
        let mut lines =
            vec![line("a", 1.0, 9.0, 5.0), line("b", 3.0, 1.0, 6.0), line("c", 2.0, 5.0, 7.0)];
        for (by, order) in
            [(Sort::Packets, "bca"), (Sort::Bits, "acb"), (Sort::Drops, "cba"), (Sort::Name, "abc")]
        {
            sort(&mut lines, by);
            let names: String = lines.iter().map(|line| line.name.as_str()).collect();
            assert_eq!(names, order, "{by:?}");
        }
    }

    #[test]
    fn nodes_are_not_asked_without_a_pause() {
        assert!(interval("200ms").is_ok());
        assert!(interval("199ms").is_err());
    }
}
