//! The profile as an SVG: one bar per kind of operation, the shapes inside of it.

use super::Line;

const WIDTH: f64 = 900.0;
const ROW: f64 = 34.0;
const LABEL: f64 = 150.0;
/// Fills that can be told apart, also by people who see few colours (Okabe and Ito 2008).
const FILLS: [&str; 7] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999",
];

/// Draws stacked bars; the whole run is as wide as the picture.
pub fn bars(title: &str, lines: &[Line]) -> String {
    let mut ops: Vec<(&str, f64)> = Vec::new();
    for line in lines {
        match ops.iter_mut().find(|(op, _)| *op == line.op) {
            Some((_, share)) => *share += line.share,
            None => ops.push((&line.op, line.share)),
        }
    }
    ops.sort_by(|a, b| b.1.total_cmp(&a.1));
    let height = 60.0 + ROW * ops.len() as f64;
    let longest = ops.first().map_or(1.0, |(_, share)| share.max(1e-9));
    let scale = (WIDTH - LABEL - 80.0) / longest;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"28\" font-size=\"16\" font-weight=\"600\">{}</text>\n",
        escaped(title)
    );
    for (row, (op, share)) in ops.iter().enumerate() {
        let y = 48.0 + ROW * row as f64;
        let fill = FILLS[row % FILLS.len()];
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
            LABEL - 8.0,
            y + 16.0,
            escaped(op)
        ));
        let mut x = LABEL;
        for line in lines.iter().filter(|line| line.op == *op) {
            let width = line.share * scale;
            svg.push_str(&format!(
                "<rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"22\" fill=\"{fill}\" stroke=\"#ffffff\" stroke-width=\"0.5\"><title>{} {}: {:.3} s, {:.1} %, {:.1} GFLOP/s</title></rect>\n",
                escaped(&line.op),
                escaped(&line.shape),
                line.seconds,
                100.0 * line.share,
                line.gflop_per_s
            ));
            x += width;
        }
        svg.push_str(&format!(
            "<text x=\"{:.2}\" y=\"{}\">{:.1} %</text>\n",
            x + 6.0,
            y + 16.0,
            100.0 * share
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_has_a_bar_and_its_share() {
        let line = |op: &str, shape: &str, share: f64| Line {
            op: op.into(),
            shape: shape.into(),
            count: 1,
            seconds: share,
            share,
            gflop_per_s: 1.0,
        };
        let lines = [
            line("linear", "a<b", 0.5),
            line("conv2d", "c", 0.3),
            line("linear", "d", 0.2),
        ];
        let svg = bars("a & b", &lines);
        assert_eq!(svg.matches("<rect x=").count(), 3);
        assert!(svg.contains("70.0 %") && svg.contains("30.0 %"), "{svg}");
        assert!(svg.contains("a &amp; b") && svg.contains("a&lt;b"));
    }
}
