//! A progress line on standard error: live on a terminal, a plain line every so often elsewhere.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::observer::{Observer, Progress};

/// Shows phase, calls, effective points, log Z, bounds, pace and time left on standard error.
pub struct ProgressLine {
    bar: Option<ProgressBar>,
    interval: Duration,
    last: Option<(Instant, &'static str)>,
}

impl ProgressLine {
    /// On a terminal one line that is redrawn; elsewhere a plain line every ten seconds and when the phase changes.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            // A fixed template: it cannot fail to parse.
            bar.set_style(
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar
        });
        Self { bar, interval: Duration::from_secs(10), last: None }
    }

    /// Time between plain lines, where there is no terminal.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }
}

impl Default for ProgressLine {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer for ProgressLine {
    fn progress(&mut self, progress: &Progress) -> ControlFlow<()> {
        let line = line(progress);
        if let Some(bar) = &self.bar {
            bar.set_message(line);
            bar.tick();
        } else {
            let due =
                self.last.is_none_or(|(at, phase)| at.elapsed() >= self.interval || phase != progress.status.phase);
            if due {
                self.last = Some((Instant::now(), progress.status.phase));
                eprintln!("{line}");
            }
        }
        ControlFlow::Continue(())
    }

    fn finished(&mut self, progress: &Progress) {
        match &self.bar {
            Some(bar) => bar.finish_with_message(line(progress)),
            None => eprintln!("{}", line(progress)),
        }
    }
}

fn line(p: &Progress) -> String {
    let s = &p.status;
    let target = match s.phase {
        "exploration" => format!("f_live {:.3}", s.f_live),
        _ => format!("N_eff {:.0}/{:.0}", s.n_eff, s.n_eff_target),
    };
    let left = p.time_left.map_or(String::new(), |t| format!(" | {} left", seconds(t)));
    format!(
        "{} | {} calls | {target} | log Z {:.3} +- {:.3} | {} bounds | {:.0} calls/s | {}{left}",
        s.phase,
        s.n_like,
        s.log_z,
        s.log_z_error,
        s.n_bounds,
        p.calls_per_s,
        seconds(p.elapsed)
    )
}

fn seconds(t: Duration) -> String {
    let s = t.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{}:{:02} min", s / 60, s % 60),
        _ => format!("{}:{:02} h", s / 3600, s / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::SamplerStatus;

    #[test]
    fn the_line_says_what_matters() {
        let status = SamplerStatus {
            phase: "sampling",
            n_like: 12345,
            n_like_exploration: 8000,
            n_bounds: 9,
            f_live: 0.01,
            log_z: -3.21,
            log_z_error: 0.012,
            n_eff: 5000.0,
            n_eff_target: 10_000.0,
            train_s: 1.0,
            device: None,
            train_bytes_uploaded: 0,
        };
        let progress = Progress {
            status,
            elapsed: Duration::from_secs(75),
            calls_per_s: 164.6,
            time_left: Some(Duration::from_secs(30)),
        };
        assert_eq!(
            line(&progress),
            "sampling | 12345 calls | N_eff 5000/10000 | log Z -3.210 +- 0.012 | 9 bounds | 165 calls/s | 1:15 min | 30 s left"
        );
    }
}
