//! The HorizontalPodAutoscaler on our metrics.

use std::sync::Arc;

use e2e::Result;
use e2e::scenario::{Group, Needs, Stand, Suite};
use e2e::wait::Pending;

use super::{LOAD, PATIENCE};

pub fn add(suite: &mut Suite, group: &Arc<Group>) {
    suite.add(group, "an_hpa_scales_a_busy_deployment", Needs::OurCluster, an_hpa_scales_a_busy_deployment);
}

fn an_hpa_scales_a_busy_deployment(stand: &Stand) -> Result<()> {
    stand.client.wait_for("the HPA scaled the busy Deployment to 2", PATIENCE, |client| {
        let hpa = client.get(&["-n", LOAD, "hpa", "busy"])?;
        let deployment = client.get(&["-n", LOAD, "deployment", "busy"])?;
        match (deployment["status"]["readyReplicas"].as_u64(), &hpa["status"]["currentMetrics"]) {
            (Some(2), metrics) if metrics.is_array() => Ok(()),
            (ready, _) => Err(Pending(format!("{ready:?} ready; {}", hpa["status"]))),
        }
    })
}
