//! addon-resizer 1.8: counts nodes every 5 min, and sets the result of its formula if that differs from the current
//! size by more than 5 %.

use crate::Run;
use crate::cluster::Cluster;

/// Runs addon-resizer with the parameters of the nanny's formulas.
pub(crate) fn run(name: &'static str, is_exponential: bool, cluster: &Cluster) -> Run {
    let mut run = Run::new(name);
    let mut set = formula(is_exponential, cluster.nodes[0]);
    for second in 0..cluster.seconds() {
        if second % 300 == 0 {
            let expected = formula(is_exponential, cluster.nodes[second]);
            let quotient = (set / expected * 100.0).trunc() / 100.0;
            if !(0.95..=1.05).contains(&quotient) {
                set = expected;
            }
        }
        run.record(second, set, cluster);
    }
    run
}

/// Returns memory in MiB.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "as the original"
)]
fn formula(is_exponential: bool, nodes: u64) -> f64 {
    let mut n = nodes;
    if is_exponential {
        n = 5;
        while n < nodes {
            n = (n as f64 * 1.5 + 0.01) as u64;
        }
    }
    64.0 + 0.125 * n as f64
}
