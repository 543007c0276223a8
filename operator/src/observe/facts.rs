//! The facts that follow from what was read. They are computed once a round; every later step uses the same ones.

use crds::NodesWithCause;

use super::{Coverage, FailingNodes, FaultySamples, Observed, Served, Symptoms, kubelets, samples};
use crate::common::ManagedObject;
use crate::common::ownership::is_ours;

/// The facts of one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The symptoms of a fault.
    pub symptoms: Symptoms,
    /// The node counts that the replicas report; `None` when no replica reports.
    pub coverage: Option<Coverage>,
    /// The nodes that can't be scraped, by cause.
    pub failing: Vec<FailingNodes>,
    /// The nodes whose samples are incomplete or wrong, by cause.
    pub faulty_samples: Vec<FaultySamples>,
    /// Nodes with metrics, of all nodes: as the replicas report them, or else as the Metrics API shows them.
    pub nodes: Option<(usize, usize)>,
}

impl Facts {
    /// Derives the facts from everything else that was observed.
    #[must_use]
    pub(crate) fn derive(observed: &Observed) -> Self {
        let coverage = kubelets::coverage(observed);
        Self {
            symptoms: Symptoms::read(observed),
            coverage,
            failing: kubelets::failing(observed),
            faulty_samples: samples::faulty(observed),
            nodes: nodes(observed, coverage),
        }
    }

    /// Returns all causes with their nodes, those of most nodes first. One code may be both why scrapes fail and what is
    /// wrong with samples; its nodes are different ones, as a node whose scrape fails has no new samples.
    #[must_use]
    pub(crate) fn causes(&self) -> Vec<NodesWithCause> {
        let mut causes: Vec<_> = self.failing.iter().map(FailingNodes::status).collect();
        for samples in &self.faulty_samples {
            let new = samples.status();
            match causes.iter_mut().find(|known| known.cause == new.cause) {
                Some(known) => kubelets::join(known, new),
                None => causes.push(new),
            }
        }
        causes.sort_by_key(|nodes| std::cmp::Reverse(nodes.count));
        causes
    }
}

/// Counts the nodes of the Metrics API only when our server responds there.
fn nodes(observed: &Observed, coverage: Option<Coverage>) -> Option<(usize, usize)> {
    if let Some(nodes) = coverage {
        return Some((nodes.covered, nodes.total));
    }
    let ours = observed.object(ManagedObject::ApiServiceV1beta1).is_some_and(is_ours);
    let covered = match observed.served {
        Served::Succeeded { nodes } if ours => nodes,
        _ => 0,
    };
    // A node that was just removed may have metrics a moment longer.
    observed.nodes.map(|total| (covered.min(total), total))
}
