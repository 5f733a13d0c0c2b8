//! What the terminal shows: colours where there is one, aligned columns, progress.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A meaning, and the colour it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Blue,
    Magenta,
    Cyan,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "0",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Blue => "34",
            Self::Magenta => "35",
            Self::Cyan => "36",
        }
    }
}

fn coloured(terminal: bool, colour: Colour, text: &str) -> String {
    let wanted = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    if !wanted || colour == Colour::Plain || text.is_empty() {
        return text.to_owned();
    }
    format!("\x1b[{}m{text}\x1b[0m", colour.code())
}

/// Text for stdout.
pub(crate) fn paint(colour: Colour, text: &str) -> String {
    coloured(std::io::stdout().is_terminal(), colour, text)
}

/// Text for stderr.
pub(crate) fn paint_err(colour: Colour, text: &str) -> String {
    coloured(std::io::stderr().is_terminal(), colour, text)
}

/// A line to stdout. A reader that went away (`| head`) ends the program quietly.
pub(crate) fn line(text: &str) {
    if writeln!(std::io::stdout().lock(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// A note to stderr.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}

/// A value as JSON to stdout.
pub(crate) fn json(value: &serde_json::Value) {
    line(&format!("{value:#}"));
}

/// Rows of cells in aligned columns; each cell with its colour. `right` says which columns are numbers.
pub(crate) fn table(rows: &[Vec<(String, Colour)>], right: &[usize]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|(text, _)| text.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let show = |row: &Vec<(String, Colour)>| {
        let mut out = String::new();
        for (column, (text, colour)) in row.iter().enumerate() {
            let space = " ".repeat(widths[column].saturating_sub(text.chars().count()));
            let painted = paint(*colour, text);
            if right.contains(&column) {
                out.push_str(&space);
                out.push_str(&painted);
            } else {
                out.push_str(&painted);
                out.push_str(&space);
            }
            out.push_str("  ");
        }
        out.trim_end().to_owned()
    };
    rows.iter().map(show).collect()
}

/// A spinner on stderr, if there is a terminal; otherwise nothing.
pub(crate) fn spinner(text: impl Into<String>) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}") {
        bar.set_style(style);
    }
    bar.set_message(text.into());
    bar.enable_steady_tick(Duration::from_millis(90));
    bar
}

/// A question with a default of no.
pub(crate) fn confirm(question: &str) -> bool {
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// A duration of so many microseconds, in the unit that reads best.
pub(crate) fn duration(us: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let us_f = us as f64;
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.2} ms", us_f / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", us_f / 1e3),
        _ => format!("{:.2} s", us_f / 1e6),
    }
}
