//! Plots as SVG 1.1: [`bars`] compare figures, [`panels`] show values over time.

pub mod bars;
pub mod panels;

use std::fmt::{self, Write as _};

/// An SVG document that is being written.
struct Svg(String);

impl Svg {
    /// Starts a document with a white background; `attributes` are further ones of its root.
    fn new(width: f64, height: f64, attributes: &str) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\"{attributes}>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        ))
    }

    /// Adds an element without content.
    fn element(&mut self, element: fmt::Arguments<'_>) {
        let _ = writeln!(self.0, "<{element}/>");
    }

    /// Adds a text at a point; `style` are further attributes.
    fn text(&mut self, (x, y): (f64, f64), style: &str, content: &str) {
        let content = content.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let space = if style.is_empty() { "" } else { " " };
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        let (x, y) = (tenths(x), tenths(y));
        let _ = writeln!(self.0, "<text x=\"{x}\" y=\"{y}\"{space}{style}>{content}</text>");
    }

    /// Ends the document.
    fn finish(self) -> String {
        self.0 + "</svg>\n"
    }
}
