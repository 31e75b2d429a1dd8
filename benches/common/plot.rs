//! One plot as SVG: shares over growth rates, on a logarithmic axis.

use std::fmt::Write;

const WIDTH: f64 = 700.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 310.0;
const TOP: f64 = 50.0;
const RIGHT: f64 = 470.0;
/// MiB/s at both ends.
const FROM: f64 = 8.0;
const TO: f64 = 8192.0;
/// Distinct in print, too, and to the colour-blind.
const STROKES: [(&str, &str); 4] =
    [("#0072b2", "none"), ("#d55e00", "8 4"), ("#009e73", "2 4"), ("#555555", "12 4 2 4")];

/// Draws lines of (MiB/s, share).
pub fn svg(title: &str, lines: &[(&str, Vec<(f64, f64)>)]) -> String {
    let x = |rate: f64| LEFT + (rate / FROM).ln() / (TO / FROM).ln() * (RIGHT - LEFT);
    let y = |share: f64| BOTTOM - share * (BOTTOM - TOP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>{title}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{title}</text>\n"
    );
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = y(share);
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{:.0} %</text>",
            LEFT - 6.0,
            at + 4.0,
            share * 100.0
        );
    }
    for rate in [16, 64, 256, 1024, 4096] {
        let at = x(f64::from(rate));
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{rate}</text>", BOTTOM + 18.0);
    }
    let middle = (LEFT + RIGHT) / 2.0;
    let _ = writeln!(out, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">growth, MiB/s</text>", BOTTOM + 38.0);
    for (i, ((name, points), (colour, dash))) in lines.iter().zip(STROKES).enumerate() {
        let mut points = points.clone();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let path: Vec<_> = points.iter().map(|(rate, share)| format!("{:.1},{:.1}", x(*rate), y(*share))).collect();
        let at = TOP + 10.0 + 22.0 * i as f64;
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\
             <line x1=\"{}\" x2=\"{}\" y1=\"{at}\" y2=\"{at}\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"/>\
             <text x=\"{}\" y=\"{}\">{name}</text>",
            path.join(" "),
            RIGHT + 10.0,
            RIGHT + 40.0,
            RIGHT + 46.0,
            at + 4.0
        );
    }
    out.push_str("</svg>\n");
    out
}
