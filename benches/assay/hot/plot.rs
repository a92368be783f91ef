//! A bar chart of the hot benchmarks as SVG.

use super::WorkloadResult;
use crate::sample::Sample;

/// Bars in proportion to the bare command's time, cut at twice of it.
pub fn bars(results: &[WorkloadResult], docker: Option<&(Sample, Sample)>) -> String {
    let (left, width, bar, gap) = (290.0, 420.0, 16.0, 30.0);
    let mut body = String::new();
    let mut y = 48.0;
    let max_ratio = 2.0;
    for result in results {
        body += &format!(
            "<text x='{}' y='{}' text-anchor='end'>{}</text>\n",
            left - 10.0,
            y + bar * 1.4,
            result.workload.title.replace('&', "&amp;")
        );
        let hot = if result.workload.is_hot { "hot" } else { "warm" };
        for (n, (name, sample, color)) in
            [("bare", &result.bare, "#b8bfc9"), (hot, &result.hot, "#d9480f")].into_iter().enumerate()
        {
            let ratio = sample.p50() / result.bare.p50();
            let length = (ratio.min(max_ratio) / max_ratio * width).max(2.0);
            let at = y + n as f64 * bar;
            body += &format!(
                "<rect x='{left}' y='{at}' width='{length:.1}' height='{}' fill='{color}'/><text x='{:.1}' y='{}' class='n'>{name} {:.1} ms</text>\n",
                bar - 3.0,
                left + length + 6.0,
                at + 11.0,
                sample.p50()
            );
        }
        y += 2.0 * bar + gap / 2.0;
    }
    if let (Some((run, _)), Some(first)) = (docker, results.first()) {
        body += &format!(
            "<text x='{left}' y='{}' class='n'>docker run, Python print(1): {:.0} ms, {:.0} times assay</text>\n",
            y + 12.0,
            run.p50(),
            run.p50() / first.hot.p50()
        );
        y += 24.0;
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='820' height='{y}' viewBox='0 0 820 {y}' font-family='sans-serif' font-size='13'>\n\
         <style>.n {{ font-size: 11px; fill: #444 }}</style>\n<rect width='820' height='{y}' fill='white'/>\n\
         <text x='20' y='26' font-size='15' font-weight='bold'>Time to a verdict, and of the same command executed bare (median)</text>\n{body}</svg>\n"
    )
}
