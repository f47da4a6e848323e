//! How far long work has come, on a terminal; nothing is shown where nobody looks.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on standard error, if that is a terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Begins; `what` is counted.
    pub(super) fn begin(what: &'static str) -> Self {
        // The target hides itself where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} {msg}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        Self(bar)
    }

    /// So many are done, of so many.
    pub(super) fn at(&mut self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// Takes the bar away.
    pub(super) fn end(self) {
        self.0.finish_and_clear();
    }
}
