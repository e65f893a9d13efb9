//! How the time of a connection grows with the offered load: a small picture for each mode, side by side, with the same
//! logarithmic scales. Lines are told apart by dashes and marks, so that black and white is enough. Pure.

use super::figures::{AtRate, LIMIT_MS};
use crate::commands::svg::{escaped, short};

const COLUMNS: usize = 3;
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 22.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 34.0;
/// Scale of the rates, connections a second.
const RATES: (f64, f64) = (100.0, 51_200.0);
/// Scale of the times, ms.
const TIMES_MS: (f64, f64) = (0.05, 10_000.0);

/// The pictures of all modes: name and what came of each rate.
pub fn draw(modes: &[(String, Vec<AtRate>)]) -> String {
    let rows = modes.len().div_ceil(COLUMNS).max(1);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\" role=\"img\">\n<title>Time of a connection at rising offered load</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, (name, rates)) in modes.iter().enumerate() {
        let (column, row) = (number % COLUMNS, number / COLUMNS);
        let (left, top) = (WIDTH * column as f64, HEIGHT * row as f64);
        out += &format!("<g transform=\"translate({left} {top})\">\n{}</g>\n", panel(name, rates));
    }
    out + "</svg>\n"
}

/// A place between `from` and `to` on a logarithmic scale; what is beyond the scale is at its end.
fn on_scale(value: f64, (least, most): (f64, f64), from: f64, to: f64) -> f64 {
    let share = (value.clamp(least, most) / least).ln() / (most / least).ln();
    from + share * (to - from)
}

fn x(rate: f64) -> f64 {
    on_scale(rate, RATES, LEFT, WIDTH - RIGHT)
}

fn y(time_ms: f64) -> f64 {
    on_scale(time_ms, TIMES_MS, HEIGHT - BOTTOM, TOP)
}

fn panel(name: &str, rates: &[AtRate]) -> String {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut out = format!("<text x=\"{LEFT}\" y=\"16\" font-weight=\"bold\">{}</text>\n", escaped(name));
    for time_ms in [0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0] {
        let at = y(time_ms);
        let dash = if time_ms == LIMIT_MS { " stroke-dasharray=\"2 2\"" } else { "" };
        let line = if time_ms == LIMIT_MS { "#000" } else { "#ddd" };
        out += &format!(
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"{line}\"{dash}/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#444\">{}</text>\n",
            LEFT - 4.0,
            at + 4.0,
            time_text(time_ms)
        );
    }
    for rate in [100.0, 800.0, 6400.0, 51_200.0] {
        let at = x(rate);
        out += &format!(
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444\">{}</text>\n",
            bottom + 14.0,
            short(rate)
        );
    }
    out += &format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#444\">connections offered a second</text>\n",
        (LEFT + right) / 2.0,
        bottom + 28.0
    );
    out += &line(rates, |at| at.p50_ms, " stroke-dasharray=\"5 3\"");
    out += &line(rates, |at| at.p99_ms, "");
    for at in rates {
        out += &marks(at);
    }
    out
}

fn time_text(time_ms: f64) -> String {
    if time_ms >= 1000.0 { format!("{} s", time_ms / 1000.0) } else { format!("{time_ms} ms") }
}

fn line(rates: &[AtRate], time: impl Fn(&AtRate) -> Option<f64>, dash: &str) -> String {
    let points: Vec<String> = rates
        .iter()
        .filter_map(|at| Some(format!("{:.1},{:.1}", x(f64::from(at.rate)), y(time(at)?))))
        .collect();
    if points.is_empty() {
        return String::new();
    }
    format!("<polyline points=\"{}\" fill=\"none\" stroke=\"black\"{dash}/>\n", points.join(" "))
}

/// A full dot at the 99th percentile and a hollow one at the median; a cross where the load was not borne.
fn marks(at: &AtRate) -> String {
    let x = x(f64::from(at.rate));
    let mut out = String::new();
    if let Some(p50) = at.p50_ms {
        out += &format!(
            "<circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"2.5\" fill=\"white\" stroke=\"black\"/>",
            y(p50)
        );
    }
    // What completed nothing is at the top.
    let top = y(at.p99_ms.unwrap_or(TIMES_MS.1));
    if at.is_good() {
        out += &format!("<circle cx=\"{x:.1}\" cy=\"{top:.1}\" r=\"3\" fill=\"black\"/>\n");
    } else {
        out += &format!(
            "<path d=\"M{:.1} {:.1}l9 9m0 -9l-9 9\" stroke=\"black\" stroke-width=\"2\"/>\n",
            x - 4.5,
            top - 4.5
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_logarithmic_and_have_ends() {
        assert_eq!(on_scale(100.0, (1.0, 10_000.0), 0.0, 100.0), 50.0);
        assert_eq!(on_scale(0.0, (1.0, 100.0), 5.0, 10.0), 5.0);
        assert_eq!(on_scale(1e9, (1.0, 100.0), 5.0, 10.0), 10.0);
    }

    #[test]
    fn what_was_borne_has_a_dot_and_what_was_not_a_cross() {
        let at = |rate, completed, p99_ms| AtRate { rate, completed, p50_ms: Some(1.0), p99_ms };
        let good = marks(&at(100, 1.0, Some(99.0)));
        assert!(good.contains("fill=\"black\"") && !good.contains("<path"));
        for bad in [at(100, 0.98, Some(1.0)), at(100, 1.0, Some(101.0)), at(100, 0.0, None)] {
            assert!(marks(&bad).contains("<path"), "{bad:?}");
        }
    }
}
