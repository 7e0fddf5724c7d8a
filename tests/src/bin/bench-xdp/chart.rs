//! A picture of the run: bars by program and traffic.
//!
//! On a background of its own, so that it reads alike in a light and in a dark page.

use std::{fs, path::Path};

use plotters::{
    chart::SeriesLabelPosition,
    prelude::{
        ChartBuilder, IntoDrawingArea as _, IntoFont as _, RGBColor, Rectangle, SVGBackend, Text,
        WHITE,
    },
    style::{
        Color, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};
use portcullis_tests::loaded::Failure;

use crate::{
    report::Report,
    throughput::{Kind, program},
};

const WIDTH_PX: u32 = 960;
const ROW_PX: u32 = 78;
/// Title above the rows, axis and caption below them.
const FRAME_PX: u32 = 170;
const CAPTION_PX: u32 = 34;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(38, 38, 38);
const FAINT: RGBColor = RGBColor(222, 222, 222);

/// Colours that stay apart for the colour-blind (Okabe and Ito, 2008).
const fn colour(kind: Kind) -> RGBColor {
    match kind {
        Kind::Clean => RGBColor(0, 114, 178),
        Kind::Blocked => RGBColor(213, 94, 0),
        Kind::Spoofed => RGBColor(0, 158, 115),
        Kind::Mixed => RGBColor(204, 121, 167),
    }
}

/// One program with one list.
struct Row {
    label: String,
    program: &'static str,
    entries: usize,
    version: u8,
}

/// Writes the picture.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn draw(path: &Path, report: &Report) -> Result<(), Failure> {
    let rows = rows(report);
    let mut svg = String::new();
    render(&mut svg, &rows, report)?;
    fs::write(path, svg).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The rows that were run, best first but for the ceiling.
fn rows(report: &Report) -> Vec<Row> {
    let most = report.entries;
    let row = |program, entries: usize, version| Row {
        label: match entries {
            0 if program == program::CEILING => "no look-up: the ceiling".to_owned(),
            0 => format!("{program}, empty list, IPv{version}"),
            _ => format!("{program}, IPv{version}"),
        },
        program,
        entries,
        version,
    };
    let mut rows = vec![
        row(program::CEILING, 0, 4),
        row(program::OURS, 0, 4),
        row(program::OURS, most, 4),
        row(program::OURS, most, 6),
        row(program::NFT_EXACT, most, 4),
        row(program::IPSET, most, 4),
        row(program::NFT_INTERVAL, most, 4),
        row(program::TEXTBOOK, most, 4),
    ];
    rows.retain(|row| mpps(report, row, Kind::Clean) > 0.0);
    rows
}

fn mpps(report: &Report, row: &Row, kind: Kind) -> f64 {
    report.mpps(row.program, row.entries, row.version, kind)
}

fn render(svg: &mut String, rows: &[Row], report: &Report) -> Result<(), Failure> {
    let height = FRAME_PX + ROW_PX * rows.len() as u32;
    let root = SVGBackend::with_string(svg, (WIDTH_PX, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (area, caption) = root.split_vertically(height - CAPTION_PX);
    caption.draw(&Text::new(
        conditions(report),
        (24, 4),
        text(13, INK.mix(0.75)),
    ))?;
    let fastest = rows
        .iter()
        .flat_map(|row| Kind::ALL.map(|kind| mpps(report, row, kind)))
        .fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "Packets that one core judges and drops",
            text(20, INK.to_rgba()),
        )
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(210)
        .build_cartesian_2d(0.0..fastest * 1.12, 0.0..rows.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_desc("million packets a second")
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .axis_style(FAINT)
        .label_style(text(13, INK.to_rgba()))
        .draw()?;

    let bar = 0.8 / Kind::ALL.len() as f64;
    for (index, kind) in (0_u8..).zip(Kind::ALL) {
        let bars: Vec<(f64, f64)> = (0..rows.len())
            .map(|at| {
                // The axis goes up, the rows go down.
                let top = (rows.len() - at) as f64 - 0.1 - f64::from(index) * bar;
                (top, mpps(report, &rows[at], kind))
            })
            .filter(|(_, mpps)| *mpps > 0.0)
            .collect();
        let style = ShapeStyle::from(colour(kind)).filled();
        let drawn = bars
            .iter()
            .map(|&(top, mpps)| Rectangle::new([(0.0, top), (mpps, top - bar * 0.88)], style));
        chart
            .draw_series(drawn)?
            .label(legend(kind))
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], style));
        let value = text(12, INK.to_rgba()).pos(Pos::new(HPos::Left, VPos::Center));
        chart.draw_series(bars.iter().map(|&(top, mpps)| {
            let at = (mpps + fastest * 0.008, top - bar * 0.44);
            Text::new(format!("{mpps:.2}"), at, value.clone())
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(text(13, INK.to_rgba()))
        .background_style(WHITE)
        .border_style(FAINT)
        .draw()?;

    let name = text(14, INK.to_rgba()).pos(Pos::new(HPos::Right, VPos::Center));
    for (at, row) in rows.iter().enumerate() {
        let middle = (rows.len() - at) as f64 - 0.5;
        let (_, y) = chart.backend_coord(&(0.0, middle));
        let (left, _) = chart.backend_coord(&(0.0, 0.0));
        area.draw(&Text::new(row.label.clone(), (left - 10, y), name.clone()))?;
    }
    root.present()?;
    Ok(())
}

const fn legend(kind: Kind) -> &'static str {
    match kind {
        Kind::Clean => "clean: random sources",
        Kind::Blocked => "blocked: 65,536 sources of the list",
        Kind::Spoofed => "spoofed: a million sources",
        Kind::Mixed => "mixed: half random, half of the list",
    }
}

fn text(size: u32, colour: impl Color) -> TextStyle<'static> {
    (FONT, size).into_font().color(&colour)
}

/// What the figures depend on.
fn conditions(report: &Report) -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unnamed CPU", |(_, model)| model);
    let kernel = rustix::system::uname();
    format!(
        "Lists of {} entries. 60-byte frames (IPv6: 80) over a veth pair, sent and received by one core \
         of {model}; Linux {}.",
        thousands(report.entries),
        version_of(&kernel.release().to_string_lossy())
    )
}

/// `1000000` as `1,000,000`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A kernel's release without what its builder has added.
fn version_of(release: &str) -> &str {
    release.split('-').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn digits_stand_in_threes() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(50_000), "50,000");
        assert_eq!(thousands(1_000_000), "1,000,000");
    }
}
