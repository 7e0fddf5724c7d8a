//! The figures that a requirement stands on, and their arithmetic.

use std::fmt;

/// The middle value, or the mean of the middle two; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// The smallest value that at least this share of all values don't exceed; 0 of none.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.clamp(1, sorted.len().max(1)) - 1)
        .copied()
        .unwrap_or_default()
}

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Required {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Less than this.
    Below(f64),
    /// Nothing is required of it.
    Nothing,
}

impl Required {
    /// Whether a value does.
    pub fn met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
            Self::Below(bound) => value < bound,
            Self::Nothing => true,
        }
    }
}

/// One figure of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// Its key in the JSON object, unit included.
    pub key: &'static str,
    /// Its value; `None` where it couldn't be measured.
    pub value: Option<f64>,
    /// What it must reach.
    pub required: Required,
}

impl Figure {
    /// A measured figure.
    pub const fn new(key: &'static str, value: f64, required: Required) -> Self {
        Self {
            key,
            value: Some(value),
            required,
        }
    }

    /// `ok`, `missed`, or nothing where nothing is required or known.
    pub fn verdict(&self) -> &'static str {
        match (self.value, self.required) {
            (None, _) | (_, Required::Nothing) => "",
            (Some(value), required) if required.met_by(value) => "ok",
            _ => "missed",
        }
    }
}

impl fmt::Display for Figure {
    /// A line of a table: key, what is required, value, verdict.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let required = match self.required {
            Required::AtLeast(bound) => format!(">= {bound}"),
            Required::AtMost(bound) => format!("<= {bound}"),
            Required::Below(bound) => format!("< {bound}"),
            Required::Nothing => String::new(),
        };
        let value = self
            .value
            .map_or_else(|| "not measured".to_owned(), |value| format!("{value:.4}"));
        let (key, verdict) = (self.key, self.verdict());
        write!(f, "{key:<30}{required:>12}{value:>12}  {verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_of_what_was_measured() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), 3.0);
    }

    #[test]
    fn the_99th_of_a_hundred_leaves_one_above_it() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantile(&values, 0.99), 99.0);
        assert_eq!(quantile(&values, 1.0), 100.0);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert_eq!(quantile(&[], 0.99), 0.0);
    }

    #[test]
    fn a_bound_itself_does_unless_the_value_must_lie_below() {
        assert!(Required::AtLeast(0.7).met_by(0.7));
        assert!(!Required::AtLeast(0.7).met_by(0.69));
        assert!(Required::AtMost(2.0).met_by(2.0));
        assert!(!Required::Below(0.001).met_by(0.001));
    }

    #[test]
    fn a_figure_that_was_not_measured_is_neither_met_nor_missed() {
        let figure = Figure {
            key: "kernel_mib_ipsum",
            value: None,
            required: Required::AtMost(32.0),
        };
        assert_eq!(figure.verdict(), "");
        assert_eq!(
            Figure::new("x", 33.0, Required::AtMost(32.0)).verdict(),
            "missed"
        );
    }
}
