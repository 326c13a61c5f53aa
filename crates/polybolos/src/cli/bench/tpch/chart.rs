//! The ratios as a picture: a line for each query, a dot for each engine, on a logarithmic scale.

use std::fmt::Write;

use super::super::report::{Ratio, Report};

const ROW: f64 = 18.0;
const LEFT: f64 = 70.0;
const WIDTH: f64 = 720.0;
const TOP: f64 = 64.0;
/// Told apart by those who don't see all colours (Okabe and Ito's).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

pub(super) fn svg(report: &Report) -> String {
    let others = 1..report.engines.len();
    let ratios = report.rows.iter().flat_map(|row| others.clone().filter_map(|at| row.ratio(at)));
    let (low, high) =
        ratios.fold((0.5_f64, 2.0_f64), |(low, high), ratio| (low.min(ratio.least), high.max(ratio.most)));
    let scale = Scale { low: low.log2().floor(), high: high.log2().ceil() };
    let height = TOP + ROW * (report.rows.len() as f64 + 2.0) + 10.0;
    let first = report.engines.first().map_or("", String::as_str);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"14\">TPC-H: time of {first} divided by that of others</text>\n",
        LEFT + WIDTH + 20.0
    );
    scale.draw(&mut svg, height);
    for (at, name) in report.engines.iter().enumerate().skip(1) {
        let (x, colour) = (LEFT + 120.0 * (at as f64 - 1.0), colour(at));
        let _ = writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"34\" r=\"4\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"38\">{name}</text>",
            x + 8.0
        );
    }
    for (number, row) in report.rows.iter().enumerate() {
        let y = TOP + ROW * (number as f64 + 0.5);
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">q{}</text>",
            LEFT - 10.0,
            y + 4.0,
            row.query
        );
        for at in others.clone() {
            if let Some(ratio) = row.ratio(at) {
                scale.dot(&mut svg, y, ratio, colour(at), 4.0);
            }
        }
    }
    let y = TOP + ROW * (report.rows.len() as f64 + 1.0);
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" font-weight=\"bold\">mean</text>",
        LEFT - 10.0,
        y + 4.0
    );
    for at in others {
        if let Some((middle, _)) = report.geometric_mean(at) {
            scale.dot(&mut svg, y, Ratio { middle, least: middle, most: middle }, colour(at), 6.0);
        }
    }
    svg + "</svg>\n"
}

fn colour(at: usize) -> &'static str {
    COLOURS[(at + COLOURS.len() - 1) % COLOURS.len()]
}

/// From `2^low` to `2^high`.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    fn x(&self, ratio: f64) -> f64 {
        LEFT + WIDTH * (ratio.log2() - self.low) / (self.high - self.low)
    }

    fn draw(&self, svg: &mut String, height: f64) {
        let mut power = self.low;
        while power <= self.high {
            let (ratio, x) = (power.exp2(), self.x(power.exp2()));
            let colour = if ratio == 1.0 { "#333" } else { "#ddd" };
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.0}\" stroke=\"{colour}\"/><text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"#555\">{ratio}</text>",
                height - 10.0,
                TOP - 6.0
            );
            power += 1.0;
        }
    }

    /// With a line as far as the runs were apart.
    fn dot(&self, svg: &mut String, y: f64, ratio: Ratio, colour: &str, radius: f64) {
        let [least, middle, most] = [ratio.least, ratio.middle, ratio.most].map(|one| self.x(one));
        let _ = writeln!(
            svg,
            "<line x1=\"{least:.1}\" x2=\"{most:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\"/><circle cx=\"{middle:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::report::tests::report, *};

    #[test]
    fn each_ratio_is_a_dot() {
        let drawn = svg(&report());
        // Two queries, their mean, and one in the legend.
        assert_eq!(drawn.matches("<circle").count(), 4, "{drawn}");
        // From half to twice: one is in the middle.
        let middle = format!("{:.1}", LEFT + WIDTH / 2.0);
        assert!(drawn.contains(&format!("cx=\"{middle}\"")), "{drawn}");
        assert!(drawn.contains("time of a divided") && drawn.ends_with("</svg>\n"));
    }
}
