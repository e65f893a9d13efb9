//! Pictures of measurements: charts as SVG, readable in black and white. Pure.

use std::fmt::Write;

/// A bar of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// What it is.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// The least of the samples.
    pub low: f64,
    /// The largest of the samples.
    pub high: f64,
    /// A goal, marked by a triangle.
    pub mark: Option<f64>,
    /// Drawn as an outline, to tell it from the others.
    pub hollow: bool,
}

/// Bars that share a scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// What the bars measure, with its unit.
    pub heading: String,
    /// One below the other, in this order.
    pub bars: Vec<Bar>,
}

const WIDTH: f64 = 960.0;
const LABEL_WIDTH: f64 = 300.0;
/// Room for the number behind the longest bar.
const RIGHT: f64 = 80.0;
const TITLE: f64 = 36.0;
const HEADING: f64 = 26.0;
const ROW: f64 = 22.0;
const BAR: f64 = 13.0;
/// Room for the numbers of a scale.
const SCALE: f64 = 28.0;
const NOTE: f64 = 30.0;
/// Lines of the scale at most.
const TICKS: f64 = 8.0;

/// A chart of one panel.
pub fn bars(title: &str, unit: &str, note: &str, bars: &[Bar]) -> String {
    chart(title, note, &[Panel { heading: unit.to_owned(), bars: bars.to_vec() }])
}

/// A chart of panels that lie one below the other, each with a scale of its own from 0 on.
pub fn chart(title: &str, note: &str, panels: &[Panel]) -> String {
    let height = panels.iter().map(panel_height).sum::<f64>() + TITLE + NOTE;
    let mut lines = vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\" role=\"img\">"
        ),
        format!("<title>{}</title>", escaped(title)),
        "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>".to_owned(),
        format!("<text x=\"12\" y=\"26\" font-size=\"17\">{}</text>", escaped(title)),
    ];
    let mut top = TITLE;
    for panel in panels {
        draw_panel(panel, top, &mut lines);
        top += panel_height(panel);
    }
    lines.push(format!("<text x=\"12\" y=\"{:.1}\" fill=\"#444\">{}</text>", height - 12.0, escaped(note)));
    lines.push("</svg>\n".to_owned());
    lines.join("\n")
}

fn panel_height(panel: &Panel) -> f64 {
    HEADING + ROW * panel.bars.len() as f64 + SCALE
}

fn draw_panel(panel: &Panel, top: f64, lines: &mut Vec<String>) {
    let values = panel.bars.iter().flat_map(|bar| [bar.value, bar.high, bar.mark.unwrap_or(0.0)]);
    let most = values.fold(0.0, f64::max);
    let step = step(most);
    let end = (most / step).ceil().max(1.0) * step;
    let x = |value: f64| LABEL_WIDTH + value * (WIDTH - LABEL_WIDTH - RIGHT) / end;
    let first = top + HEADING;
    let bottom = first + ROW * panel.bars.len() as f64;
    lines.push(format!(
        "<text x=\"12\" y=\"{:.1}\" font-weight=\"bold\">{}</text>",
        top + 16.0,
        escaped(&panel.heading)
    ));
    for tick in 0..=(end / step).round() as u32 {
        let value = f64::from(tick) * step;
        let at = x(value);
        lines.push(format!(
            "<line x1=\"{at:.1}\" y1=\"{first:.1}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\" stroke=\"#ccc\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444\">{}</text>",
            bottom + 14.0,
            short(value)
        ));
    }
    for (i, bar) in panel.bars.iter().enumerate() {
        lines.push(one_bar(bar, first + ROW * i as f64, &x));
    }
}

fn one_bar(bar: &Bar, top: f64, x: &impl Fn(f64) -> f64) -> String {
    let y = top + (ROW - BAR) / 2.0;
    let middle = top + ROW / 2.0;
    let fill = if bar.hollow { "white" } else { "#777" };
    let (low, high) = (x(bar.low), x(bar.high));
    let mut out = format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
         <rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{fill}\" stroke=\"black\"/>\
         <path d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {:.1}v6M{high:.1} {:.1}v6\" stroke=\"black\" fill=\"none\"/>",
        LABEL_WIDTH - 8.0,
        middle + 4.0,
        escaped(&bar.label),
        x(0.0),
        x(bar.value) - x(0.0),
        middle - 3.0,
        middle - 3.0,
    );
    if let Some(mark) = bar.mark {
        let at = x(mark);
        // Writing to a string does not fail.
        let _ = write!(out, "<path d=\"M{at:.1} {y:.1}l-4 -6h8z\" fill=\"black\"/>");
    }
    let end = x(bar.value.max(bar.high));
    // Not across the mark.
    let taken = bar.mark.map(x).filter(|at| (end..end + RIGHT).contains(at)).map_or(end, |at| at + 4.0);
    let _ =
        write!(out, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", taken + 8.0, middle + 4.0, short(bar.value));
    out
}

/// The distance of two lines of the scale: 1, 2 or 5 times a power of ten.
fn step(most: f64) -> f64 {
    if most <= 0.0 || !most.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf((most / TICKS).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|times| times * power)
        .find(|step| most / step <= TICKS)
        .unwrap_or(power)
}

/// A number with as many digits as a reader wants: three, and `k`, `M` or `G` behind large ones.
pub fn short(value: f64) -> String {
    let (value, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Text as it stands between the tags and in the attributes of SVG and HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64) -> Bar {
        Bar { label: label.to_owned(), value, low: value, high: value, mark: None, hollow: false }
    }

    #[test]
    fn the_scale_is_round() {
        assert_eq!([0.0, 1.0, 8.0, 9.0, 137.0, 4_000.0].map(step), [1.0, 0.2, 1.0, 2.0, 20.0, 500.0]);
        assert_eq!(step(f64::NAN), 1.0);
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.0, 1.5, 12.34, 137.0, 9_999.0, 27_700.0, 1_234_567.0, 32e9].map(short);
        assert_eq!(texts, ["0", "1.5", "12.3", "137", "9999", "27.7k", "1.23M", "32G"]);
    }

    #[test]
    fn a_chart_is_well_formed_and_holds_every_bar() {
        let marked = Bar { mark: Some(40.0), hollow: true, high: 60.0, ..bar("a < b & \"c\"", 50.0) };
        let panel = Panel { heading: "ns".to_owned(), bars: vec![marked, bar("other", 20.0)] };
        let chart = chart("title", "note", &[panel.clone(), panel]);
        assert!(chart.starts_with("<svg ") && chart.ends_with("</svg>\n"));
        assert!(chart.contains("a &lt; b &amp; &quot;c&quot;") && chart.contains(">other<"));
        assert_eq!(chart.matches("<rect").count(), 5, "the background and two bars in each panel");
        assert_eq!(chart.matches("fill=\"white\"").count(), 3, "the background and the hollow bars");
        let opened = chart.matches('<').count();
        let closed = chart.matches("/>").count() + 2 * chart.matches("</").count();
        assert_eq!(opened, closed, "every element is closed");
    }

    #[test]
    fn a_chart_of_nothing_is_a_chart() {
        assert!(chart("t", "n", &[]).ends_with("</svg>\n"));
        let panel = Panel { heading: "h".to_owned(), bars: vec![bar("zero", 0.0)] };
        assert!(chart("t", "n", &[panel]).contains("zero"));
    }
}
